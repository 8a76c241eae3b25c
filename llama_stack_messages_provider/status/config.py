"""The settings of the status page."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["StatusConfig"]


class StatusConfig(BaseModel):
    """Who may see what goes on."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(
        default=True,
        description="Serve `/v1/messages/status`: to administrators, or where the host has no authentication to "
        "clients of the server's own machine.",
    )
    who: dict[str, list[str]] = Field(
        default_factory=lambda: {"roles": ["admin"]},
        description="Who is an administrator: attributes of the host's users, each with the values of which one is "
        "enough. `principal` stands for the user's own name.",
    )
