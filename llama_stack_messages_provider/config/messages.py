"""The settings of `inline::messages`: the `config:` of the provider in a run configuration."""

import secrets
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, SecretStr, model_validator

from llama_stack_messages_provider.batches.config import BatchesConfig
from llama_stack_messages_provider.budgets.config import BudgetsConfig
from llama_stack_messages_provider.config.server_tools import (
    AdvisorConfig,
    CodeExecutionConfig,
    McpConfig,
    WebFetchConfig,
    WebSearchConfig,
)
from llama_stack_messages_provider.shields.config import ShieldsConfig
from llama_stack_messages_provider.status.config import StatusConfig

__all__ = [
    "MAX_FALLBACKS",
    "MAX_REPLICAS",
    "ContextConfig",
    "DocumentsConfig",
    "ImagesConfig",
    "MessagesConfig",
    "PingConfig",
    "ProbeConfig",
    "RequestLimits",
    "SafeguardsConfig",
    "TranslationConfig",
]

Route = Literal["auto", "native", "translation"]

MAX_FALLBACKS: int = 16
"""Models that are asked after the first, for one request."""

MAX_REPLICAS: int = 64
"""Replicas that one name stands for."""


class ProbeConfig(BaseModel):
    """How upstreams are asked what they can do."""

    model_config = ConfigDict(extra="forbid")

    timeout_seconds: float = Field(
        default=5.0, gt=0, description="How long a probe may take. An upstream that takes longer decides nothing."
    )
    yes_seconds: float = Field(
        default=600.0, gt=0, description="How long it is remembered that an upstream speaks the Messages API."
    )
    no_seconds: float = Field(
        default=60.0, gt=0, description="How long it is remembered that it does not: servers are upgraded."
    )


class RequestLimits(BaseModel):
    """How long upstreams may take, and how large requests may be."""

    model_config = ConfigDict(extra="forbid")

    connect_seconds: float = Field(default=10.0, gt=0, description="For an upstream to accept a connection.")
    first_byte_seconds: float = Field(
        default=600.0, gt=0, description="For an upstream to begin its answer: a long prompt on a slow machine."
    )
    idle_seconds: float = Field(default=120.0, gt=0, description="Between two pieces of an upstream's answer.")
    shutdown_seconds: float = Field(
        default=20.0,
        ge=0,
        description="For what runs when the server is told to exit; streams then end with an `error` event.",
    )
    body_bytes: int = Field(
        default=32 * 1024 * 1024, gt=0, description="The largest request body, Anthropic's own limit by default."
    )
    max_answer_bytes: int = Field(
        default=64 * 1024 * 1024, gt=0, description="The largest whole answer of an upstream, decompressed."
    )
    max_event_bytes: int = Field(
        default=16 * 1024 * 1024, gt=0, description="The largest event of an upstream's stream."
    )
    max_stream_bytes: int = Field(
        default=256 * 1024 * 1024, gt=0, description="The longest stream of an upstream, decompressed."
    )
    max_header_bytes: int = Field(default=64 * 1024, gt=0, description="All headers of a request together.")
    max_header_value_bytes: int = Field(
        default=8192, gt=0, description="A header that is handed on to an upstream, such as `anthropic-beta`."
    )
    max_url_bytes: int = Field(default=8192, gt=0, description="Path and query of a request.")
    max_depth: int = Field(default=200, gt=0, le=250, description="Levels of arrays and objects within each other.")
    max_values: int = Field(
        default=1_000_000,
        gt=0,
        description="JSON values in a body, counted before it is parsed: they take a hundred bytes each.",
    )
    max_number_length: int = Field(default=4300, gt=0, description="Digits of a number.")
    max_fields: int = Field(default=1000, gt=0, description="Top-level fields, unknown ones included.")
    max_model_characters: int = Field(default=1024, gt=0, description="The name of a model.")
    max_messages: int = Field(default=100_000, gt=0, description="Messages, Anthropic's own limit by default.")
    max_blocks: int = Field(default=250_000, gt=0, description="Content blocks of all messages together.")
    max_tools: int = Field(default=10_000, gt=0, description="Tools, Anthropic's own limit by default.")
    max_stop_sequences: int = Field(default=8191, gt=0, description="Stop sequences.")


class PingConfig(BaseModel):
    """What keeps a silent stream alive."""

    model_config = ConfigDict(extra="forbid")

    after_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Silence after which a stream gets a ping; also how long an upstream's error can still "
        "become an HTTP status.",
    )


class TranslationConfig(BaseModel):
    """How requests are put into the inference API's terms."""

    model_config = ConfigDict(extra="forbid")

    tool_error_marker: str = Field(
        default="[tool error] ", description="Put before a tool result whose `is_error` is true."
    )
    system_messages: Literal["auto", "keep", "merge"] = Field(
        default="auto",
        description="System messages in mid-conversation: `keep` their place, `merge` them into the system "
        "prompt, or keep them until the model's template refuses them.",
    )
    count_by_inference: bool = Field(
        default=False,
        description="Count tokens by generating one, where the engine has no tokenizer: exact, but the prompt is read "
        "for it. Else they are estimated, by what the model's earlier answers cost.",
    )
    fetch_urls: bool = Field(
        default=False,
        description="Fetch documents that are given by URL. Private addresses never are, but for those of "
        "`fetch_allow`.",
    )
    fetch_allow: list[IPvAnyNetwork] = Field(
        default_factory=list,
        description="Networks that are not of the public internet and are fetched from all the same, such as an "
        "intranet's `10.20.0.0/16`: by all who may send requests.",
    )
    fetch_bytes: int = Field(default=16 * 1024 * 1024, gt=0, description="The largest document that is fetched.")
    fetch_seconds: float = Field(default=20.0, gt=0, description="How long fetching a document may take.")
    file_parts: list[str] = Field(
        default_factory=list,
        description="Providers, by `provider_id`, whose upstreams take PDFs as OpenAI `file` parts; others get their "
        "text. OpenAI itself always gets `file` parts.",
    )


class DocumentsConfig(BaseModel):
    """What the documents of requests may cost, where their text is taken out for the model."""

    model_config = ConfigDict(extra="forbid")

    pdf_processes: int = Field(
        default=2,
        gt=0,
        description="Processes of a server process that read PDFs, one for each request that has some. One user, or "
        "one address of users without a name, never has all of them, unless there is but one.",
    )
    pdf_waiting: int = Field(
        default=64, ge=0, description="Requests that wait for such a process; any more get an overloaded_error."
    )
    pdf_seconds: float = Field(default=20.0, gt=0, description="How long reading the PDFs of a request may take.")
    pdf_memory_bytes: int = Field(
        default=128 * 1024 * 1024, ge=32 * 1024 * 1024, description="Memory that such a process may take."
    )
    pdf_pages: int = Field(
        default=600, gt=0, description="Pages of all PDFs of a request, Anthropic's own limit by default."
    )
    pdf_characters: int = Field(default=4_000_000, gt=0, description="Text of all PDFs of a request.")
    fetched_bytes: int = Field(
        default=32 * 1024 * 1024, gt=0, description="Bytes of all documents that are fetched for a request."
    )


class SafeguardsConfig(BaseModel):
    """How calls are judged for clients that want that before they run them: Claude Code in its auto mode."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(
        default=True,
        description="Judge calls. If not, such clients are told so, and hold back what they think is risky.",
    )
    model: str | None = Field(
        default=None,
        description="The model that judges; users without access to it get no verdicts. Null: the request's own.",
    )
    seconds: float = Field(
        default=30.0, gt=0, description="How long the verdict of one call may take; later it is `unavailable`."
    )
    characters: int = Field(
        default=60_000,
        ge=2000,
        description="What is read to judge one call, less where the model's window is small: at most half of it is the "
        "call, and half the client's rules, or the call is not judged; a quarter the conversation, which is cut.",
    )


class CompactionConfig(BaseModel):
    """How conversations are summarised, for clients that ask for it."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(
        default=None,
        description="The model that summarises; for users without access to it, conversations stay as they are. Null: "
        "the request's own, which has the conversation in its cache.",
    )


class ContextConfig(BaseModel):
    """What engines' caches of prompts have to do with clients, and with each other."""

    model_config = ConfigDict(extra="forbid")

    diagnostics_backend: str | None = Field(
        default="sql_default",
        description="The SQL backend in `storage.backends` where requests with `diagnostics` are remembered for all "
        "processes and replicas: digests and sizes. Null, or where there is none: each process remembers its own.",
    )
    diagnostics_seconds: float = Field(
        default=3600.0, gt=0, le=86_400 * 30, description="How long they are remembered there."
    )
    cache_salt: bool = Field(
        default=False,
        description="Keep users from each other's cached prompts, where the engine can (vLLM, SGLang): requests have a "
        "`cache_salt` made of the user's name with `signing_key`. They are translated where its Messages endpoint "
        "takes none.",
    )
    session_headers: list[Annotated[str, Field(pattern=r"^[Xx]-[A-Za-z0-9-]{1,62}$")]] | None = Field(
        default=None,
        max_length=8,
        description="Headers (`x-...`) that tell routers in front of vLLM, SGLang and llama.cpp the session. Null: "
        "those that these know; an empty list: none.",
    )


class ImagesConfig(BaseModel):
    """Whether images are described for models that see none, and what that may cost."""

    model_config = ConfigDict(extra="forbid")

    describe_with: str | None = Field(
        default=None,
        description="The model that describes them, for users with access to it. Null: the others are told that there "
        "is an image.",
    )
    images: int = Field(default=20, gt=0, description="Images of one request, the first ones.")
    bytes: int = Field(default=5 * 1024 * 1024, gt=0, description="The largest image.")
    characters: int = Field(default=4000, gt=0, description="Text of one description.")
    max_tokens: int = Field(default=1024, gt=0, description="Output tokens of one description.")
    seconds: float = Field(default=30.0, gt=0, description="How long all new descriptions of a request may take.")
    concurrency: int = Field(
        default=4, gt=0, description="Images that a process has described at once; no client has all these places."
    )
    remembered: int = Field(
        default=4096, gt=0, description="Descriptions that a process remembers, shared by all clients."
    )


class MessagesConfig(BaseModel):
    """Every setting has a default that suits most: `config: {}` works."""

    model_config = ConfigDict(extra="forbid")

    model_aliases: dict[str, str | Annotated[list[str], Field(min_length=1, max_length=MAX_REPLICAS)]] = Field(
        default_factory=dict,
        description="Model names that clients use (glob patterns, first match wins) and what they stand for: a model, "
        "or a list of equal replicas of one, each conversation at its own.",
    )
    fallbacks: dict[str, Annotated[list[str], Field(min_length=1, max_length=MAX_FALLBACKS)]] = Field(
        default_factory=dict,
        description="Models to ask, in their order, where one is down, has no room for a request, or refuses it: by "
        "glob patterns of names or identifiers, first match wins. `fallbacks` of a request goes first.",
    )
    route: Route = Field(
        default="auto",
        description="`auto`: native where the upstream speaks the Messages API and lacks nothing the request "
        "needs. `native`: refuse what cannot go that way. `translation`: never native.",
    )
    routes: dict[str, Route] = Field(
        default_factory=dict, description="The same for single providers, by `provider_id`."
    )
    strict: bool = Field(
        default=False,
        description="Refuse requests that would lose something in translation, with a 400 that names it. "
        "A client can ask for it with the header `x-messages-strict: true`.",
    )
    store_completions: bool = Field(
        default=False,
        description="Send translated requests through the host's router, which writes each completion to its "
        "inference store: slower, and listed by `/v1/chat/completions`.",
    )
    signing_key: SecretStr | None = Field(
        default=None,
        description="Key of the signatures on thinking blocks; the same on all replicas. Without one each "
        "process makes its own, and what they carry is lost at a restart.",
    )
    freeze_gc: bool = Field(
        default=True,
        description="Take all that was imported out of the garbage collector's sight when the server starts, and have "
        "it look for the rest less often: a tenth of a request. And keep the heap small.",
    )
    probe: ProbeConfig = Field(default_factory=ProbeConfig, description="See below.")
    limits: RequestLimits = Field(default_factory=RequestLimits, description="See below.")
    ping: PingConfig = Field(default_factory=PingConfig, description="See below.")
    translation: TranslationConfig = Field(default_factory=TranslationConfig, description="See below.")
    documents: DocumentsConfig = Field(default_factory=DocumentsConfig, description="See below.")
    web_search: WebSearchConfig = Field(default_factory=WebSearchConfig, description="See below.")
    mcp: McpConfig = Field(default_factory=McpConfig, description="See below.")
    web_fetch: WebFetchConfig = Field(default_factory=WebFetchConfig, description="See below.")
    advisor: AdvisorConfig = Field(default_factory=AdvisorConfig, description="See below.")
    code_execution: CodeExecutionConfig = Field(default_factory=CodeExecutionConfig, description="See below.")
    safeguards: SafeguardsConfig = Field(default_factory=SafeguardsConfig, description="See below.")
    images: ImagesConfig = Field(default_factory=ImagesConfig, description="See below.")
    compaction: CompactionConfig = Field(default_factory=CompactionConfig, description="See below.")
    context: ContextConfig = Field(default_factory=ContextConfig, description="See below.")
    budgets: BudgetsConfig = Field(default_factory=BudgetsConfig, description="See below.")
    shields: ShieldsConfig = Field(default_factory=ShieldsConfig, description="See below.")
    status: StatusConfig = Field(default_factory=StatusConfig, description="See below.")
    batches: BatchesConfig = Field(default_factory=BatchesConfig, description="See below.")

    @model_validator(mode="after")
    def _salts_have_a_key(self) -> Self:
        if self.context.cache_salt and not self.signing_key:
            raise ValueError("context.cache_salt: set signing_key too: without it anybody can tell another's salt")
        return self

    @classmethod
    def sample_run_config(cls, __distro_dir__: str = "", **kwargs: Any) -> dict[str, Any]:
        """What a generated run configuration starts with."""
        return {}

    def key(self) -> bytes:
        """The signing key, made anew if none is configured."""
        return self.signing_key.get_secret_value().encode() if self.signing_key else secrets.token_bytes(32)
