"""The settings of the tools that are run here."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, SecretStr

__all__ = [
    "URL_PATTERN",
    "AdvisorConfig",
    "CodeExecutionConfig",
    "McpConfig",
    "WebFetchConfig",
    "WebSearchConfig",
]


class WebSearchConfig(BaseModel):
    """How the stack's own web search serves requests with a `web_search` tool. Without one they go as before."""

    model_config = ConfigDict(extra="forbid")

    tool: str | None = Field(
        default="web_search",
        description="Name of the tool of the stack's tool runtime that searches. Null: never search.",
    )
    rounds: int = Field(
        default=10,
        gt=0,
        description="How often the model is asked within one message that searches; then it is paused.",
    )
    results: int = Field(default=10, gt=0, description="Pages of one search that the model is shown.")
    characters: int = Field(default=4000, gt=0, description="Text of one page that the model is shown.")
    seconds: float = Field(default=30.0, gt=0, description="How long a search may take.")


URL_PATTERN = r"^(?P<scheme>https?)://(?P<host>[^/:?#@]+|\[[^\]/]+\])(?::(?P<port>[0-9]+|\*))?(?P<path>/[^?#]*)?$"
"""What a pattern of URLs is made of; a star stands for anything within the host or the path, or for any port."""


class McpConfig(BaseModel):
    """Which MCP servers requests may use, and what those may cost."""

    model_config = ConfigDict(extra="forbid")

    allow: list[Annotated[str, Field(pattern=URL_PATTERN)]] = Field(
        default_factory=list,
        description="Servers that clients may name by URL, as patterns such as `https://*.example.com/mcp`: a star "
        "stands for anything within the host or the path. Without one, only the stack's own can be used: tool groups "
        "of `remote::model-context-protocol`, and connectors.",
    )
    networks: list[IPvAnyNetwork] = Field(
        default_factory=list,
        description="Networks that are not of the public internet and where such servers may be all the same.",
    )
    tokens: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Tokens for the stack's own servers, by the id of the tool group or connector; one that a client "
        "brings goes first.",
    )
    servers: int = Field(default=20, gt=0, description="Servers of one request.")
    tools: int = Field(default=1000, gt=0, description="Tools of one server; one that lists more is refused.")
    seconds: float = Field(default=60.0, gt=0, description="How long a call of a tool may take.")
    listing_seconds: float = Field(default=15.0, gt=0, description="How long a server may take to list its tools.")
    listed_seconds: float = Field(
        default=60.0, gt=0, description="How long a listing is remembered, for its server and token."
    )
    answer_bytes: int = Field(default=16 * 1024 * 1024, gt=0, description="The largest answer of a server.")
    characters: int = Field(
        default=100_000, gt=0, description="Text of one result that the model is shown; it is told of the rest."
    )


class WebFetchConfig(BaseModel):
    """Whether requests with a `web_fetch` tool may have pages fetched by this server, and what those may cost."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(
        default=False,
        description="Fetch pages that the conversation names, for all who may send requests. HTML needs the extra "
        "`web`. Private addresses never are fetched, but for those of `allow`.",
    )
    allow: list[IPvAnyNetwork] = Field(
        default_factory=list,
        description="Networks that are not of the public internet and are fetched from all the same.",
    )
    bytes: int = Field(default=8 * 1024 * 1024, gt=0, description="The largest page that is fetched.")
    seconds: float = Field(default=20.0, gt=0, description="How long fetching a page may take, and reading it.")
    characters: int = Field(
        default=100_000, gt=0, description="Text of one page that the model is shown, if the client wants no less."
    )


class AdvisorConfig(BaseModel):
    """Whether requests with an `advisor` tool may have another model of the stack asked, and what that may cost."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(default=True, description="Ask the model that the tool names, if the user has access to it.")
    seconds: float = Field(default=120.0, gt=0, description="How long one advice may take.")
    max_tokens: int = Field(default=4096, gt=0, description="Its output tokens, if the client wants no others.")


class CodeExecutionConfig(BaseModel):
    """What runs the programs of requests with a `code_execution` tool. This server has no sandbox of its own."""

    model_config = ConfigDict(extra="forbid")

    tool: str | None = Field(default=None, description="Name of the tool that runs Python. Null: no code is run.")
    argument: str = Field(default="code", description="The argument of that tool which takes the program.")
    bash: str | None = Field(
        default=None,
        description="Name of a tool beside it that runs shell commands, for `code_execution_20250825` and later.",
    )
    bash_argument: str = Field(default="command", description="The argument of that tool which takes the command.")
    server: str | None = Field(
        default=None,
        description="The MCP server that has these tools: the id of a connector or of a tool group of "
        "`remote::model-context-protocol`. Null: they are tools of another provider of the stack's tool runtime.",
    )
    seconds: float = Field(default=60.0, gt=0, description="How long a program may run.")
    characters: int = Field(default=50_000, gt=0, description="Output of one program that the model is shown.")
