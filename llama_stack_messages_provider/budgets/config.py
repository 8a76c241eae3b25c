"""The settings of budgets."""

from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Budget", "BudgetsConfig"]


class Budget(BaseModel):
    """What one user may ask of one model. A limit that is null is none."""

    model_config = ConfigDict(extra="forbid")

    principals: str = Field(default="*", description="Whose: a glob pattern of principals.")
    models: str = Field(default="*", description="Of which models: a glob pattern of identifiers.")
    requests_per_minute: int | None = Field(default=None, ge=1, le=2**31, description="Messages in a minute.")
    requests_per_day: int | None = Field(default=None, ge=1, le=2**31, description="Messages in a day of UTC.")
    tokens_per_minute: int | None = Field(default=None, ge=1, le=2**53, description="Tokens in a minute.")
    tokens_per_day: int | None = Field(default=None, ge=1, le=2**53, description="Tokens in a day of UTC.")

    def is_for(self, principal: str, model: str) -> bool:
        """Whether it is this user's for this model."""
        return fnmatchcase(principal, self.principals) and fnmatchcase(model, self.models)


class BudgetsConfig(BaseModel):
    """Limits of what users may ask, counted in the stack's SQL storage. Off, unless there are rules."""

    model_config = ConfigDict(extra="forbid")

    rules: list[Budget] = Field(
        default_factory=list,
        max_length=1000,
        description="What each user may ask of each model: `principals`, `models` (glob patterns, `*` by default; the "
        "first rule that matches holds), `requests_per_minute`, `requests_per_day`, `tokens_per_minute`, "
        "`tokens_per_day`.",
    )
    backend: str = Field(
        default="sql_default",
        description="The SQL backend in `storage.backends` that counts: replicas that share it share budgets.",
    )
