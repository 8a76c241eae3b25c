"""The settings of Message Batches: `batches:` in the provider's configuration."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["BatchesConfig"]

MEGABYTE = 1024 * 1024


class BatchesConfig(BaseModel):
    """Message Batches. The defaults are Anthropic's limits and suit one server on one machine."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(
        default=True, description="Serve Message Batches. Without them their routes answer not_found_error."
    )
    backend: str = Field(
        default="sql_default",
        description="The SQL backend in `storage.backends` that keeps batches, requests and results. "
        "SQLite serves the processes of one machine, in a file of its own beside the backend's; "
        "replicas on several machines need PostgreSQL.",
    )
    concurrency: int = Field(
        default=32,
        ge=0,
        description="Requests that one server process runs at once. 0: this process accepts batches and runs "
        "none. Each interactive request in flight takes one of these, down to the last.",
    )
    concurrency_per_batch: int = Field(
        default=128,
        ge=1,
        description="Requests of one batch that all processes together hold at once, so that one batch does "
        "not take a whole upstream. A process holds up to twice its `concurrency`.",
    )
    lease_seconds: float = Field(
        default=10.0,
        ge=0.5,
        description="How long a process may be silent before the others take over its requests. Renewed at a "
        "third of it.",
    )
    max_requests: int = Field(default=100_000, ge=1, description="Most requests in one batch.")
    max_bytes: int = Field(default=256 * MEGABYTE, ge=1, description="Most bytes in the body that creates a batch.")
    max_request_bytes: int = Field(
        default=32 * MEGABYTE,
        ge=1,
        description="Most bytes in one request of a batch; a request is held in memory while it runs.",
    )
    max_depth: int = Field(
        default=200, ge=1, le=250, description="Most levels of nesting in one field of a request, such as its `params`."
    )
    max_values: int = Field(
        default=750_000,
        ge=1,
        description="Most values (list items, fields, lists and objects) in one request of a batch: "
        "each takes up to 300 bytes of memory while the request is read.",
    )
    max_number_length: int = Field(default=1000, ge=20, description="Most characters in one number, its sign aside.")
    max_custom_id_length: int = Field(
        default=64, ge=1, le=64, description="Most characters in a `custom_id`: letters, digits, `_` and `-`."
    )
    expires_after_hours: float = Field(
        default=24.0,
        gt=0,
        description="Hours after its creation at which a batch ends; what has not run by then is `expired`.",
    )
    results_days: float = Field(
        default=29.0,
        gt=0,
        description="Days after its creation at which a batch's requests and results are removed; the batch "
        "itself stays until it is deleted.",
    )
    max_attempts: int = Field(
        default=8,
        ge=1,
        description="A request becomes `errored` after this many failures of its own: upstream 5xx answers, "
        "or the death of the process that ran it. An upstream that is down or asks to wait (429, 503, 529) "
        "is waited for until the batch expires.",
    )
    retry_seconds: float = Field(
        default=1.0,
        gt=0,
        description="Wait before the second try of a request; doubled for each further one.",
    )
    retry_max_seconds: float = Field(
        default=60.0, gt=0, description="Longest such wait, unless the upstream's `retry-after` is longer."
    )
    poll_seconds: float = Field(
        default=4.0, gt=0, description="How often an idle process looks for work that others accepted."
    )
    public_url: str | None = Field(
        default=None,
        description="Where clients reach this server, such as https://stack.example.com. With it, "
        "`results_url` is absolute; without it, it is a path, which the SDKs join to their own base URL.",
    )

    @model_validator(mode="after")
    def _results_outlive_the_run(self) -> Self:
        if self.results_days * 24 < self.expires_after_hours:
            raise ValueError("results_days must not be shorter than expires_after_hours")
        return self
