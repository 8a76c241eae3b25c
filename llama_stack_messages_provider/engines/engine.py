"""What is known of an engine: the software, or the service, that runs models behind an OpenAI-style address."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llama_stack_messages_provider.engines.refusals import Words

__all__ = ["FOR_OTHERS", "ChatWording", "Engine", "LoadedModels", "NativeProfile", "Recognition", "Tokenizer"]

FOR_OTHERS = frozenset({"attribution", "carried_id", "carried_thinking", "context_edits", "deferred_tool"})
"""What is meant for Anthropic alone, what only Anthropic does, and what earlier translated answers carry."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """How an engine is told from others; what answers counts for more than where it is.

    Args:
        servers: Values of the `server` header.
        owners: Values of `owned_by` in its list of models.
        listed: Whether an entry of its list of models is unmistakable.
        hosts: Hosts of base URLs, and the ends of them behind a dot.
        provider_types: Llama Stack's provider types that are for it alone.
    """

    servers: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    listed: Callable[[Mapping[str, Any]], bool] | None = None
    hosts: frozenset[str] = frozenset()
    provider_types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ChatWording:
    """How chat completions are worded for an engine.

    Args:
        name: The engine's.
        top_k: It takes `top_k`.
        effort: It takes `reasoning_effort`.
        efforts: The efforts it is asked for, weakest first; a stronger one becomes the last. Llama Stack's inference
            API takes no `max`, so that none of these may be it.
        thinking_on: Parameters that make it think.
        thinking_off: Parameters that keep it from thinking.
        budget: The parameter that limits thinking tokens, if it has one.
        reasoning_field: The field of an assistant message that replays its thinking, if it takes one.
        prefill: Parameters that make it continue a trailing assistant message.
        stream_options: What is asked for beside `include_usage`.
        report_prompt_params: Parameters that make a stream begin with the prompt's tokens.
        max_tokens: The name of its output limit.
        max_stops: The number of stop sequences it takes; None if there is no limit.
        report_stop_params: Parameters that make it tell which stop sequence it met.
        schemas: It takes a JSON schema for its answer.
        files: It takes `file` parts.
        images: It takes images; whether its model does, only a refusal tells.
        cache_key: The parameter by which requests of one user, or one session, go where their prompt is cached.
        cache_salt: The parameter that a cached prompt must have been read with; its Messages endpoint has none.
    """

    name: str = "unknown"
    top_k: bool = True
    effort: bool = True
    efforts: tuple[str, ...] = ("low", "medium", "high")
    thinking_on: Mapping[str, Any] = field(default_factory=dict)
    thinking_off: Mapping[str, Any] = field(default_factory=lambda: {"reasoning_effort": "none"})
    budget: str | None = None
    reasoning_field: str | None = None
    prefill: Mapping[str, Any] = field(default_factory=dict)
    stream_options: Mapping[str, Any] = field(default_factory=dict)
    report_prompt_params: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: str = "max_tokens"
    max_stops: int | None = None
    report_stop_params: Mapping[str, Any] = field(default_factory=dict)
    schemas: bool = True
    files: bool = False
    images: bool = True
    cache_key: str | None = None
    cache_salt: str | None = None


@dataclass(frozen=True, slots=True)
class NativeProfile:
    """What an engine's own Messages endpoint is like.

    Args:
        gaps: Features (`features_of`) that it lacks, and what happens to them there.
        rewritten: Features that passes see to wherever a request has them, and that decide on no route.
        repaired: What it breaks in its answers, which are parsed and repaired; None where bytes are relayed.
        patches: What it always gets wrong in bytes that are relayed, and what is right; quotes are escaped in a
            model's text.
        first_party: It is Anthropic's own API, which searches the web, keeps threads, and takes no signature and no
            encrypted content but its own.
    """

    gaps: Mapping[str, str] = field(default_factory=dict)
    rewritten: frozenset[str] = FOR_OTHERS
    repaired: str | None = None
    patches: tuple[tuple[bytes, bytes], ...] = ()
    first_party: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One request to a tokenizer.

    Args:
        path: Where it goes, below the upstream's root.
        request: The body, from the chat completion's parameters and the answer before it.
    """

    path: str
    request: Callable[[Mapping[str, Any], Any], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """How an engine counts a prompt's tokens without generating any: requests in their order.

    Args:
        steps: The requests. An answer that the next one cannot be made of (`KeyError`, `TypeError`) ends the count.
        count: The tokens, from the last answer; a `KeyError` or `TypeError` where there are none.
    """

    steps: tuple[Step, ...]
    count: Callable[[Any], int]


@dataclass(frozen=True, slots=True)
class LoadedModels:
    """Where an engine tells the windows that its models were loaded with, beside its list of models.

    Args:
        path: Where it is asked, below the upstream's root.
        windows: The windows in tokens, by the models' names, from its answer; whatever that is.
    """

    path: str
    windows: Callable[[Any], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything that is known of an engine.

    Args:
        name: Its name, as `doctor` prints it.
        recognition: How it is recognised.
        chat: How chat completions are worded for it.
        native: What its Messages endpoint is like, where it has one.
        tokenizer: How it counts tokens.
        window: Where an entry of its list of models says the context window, as dotted paths.
        loaded: Where it tells the windows of models that are loaded, which its list does not.
        ends_at_window: It takes any output limit, and an answer ends where the window does.
        refusals: Its words.
        session_headers: Headers that name a request's session, for routers in front of its replicas.
        provider: Its `gen_ai.provider.name` in OpenTelemetry's conventions, where it is a service that they name;
            otherwise that of Llama Stack's provider is told.
    """

    name: str
    recognition: Recognition = Recognition()
    chat: ChatWording = ChatWording()
    native: NativeProfile = NativeProfile()
    tokenizer: Tokenizer | None = None
    window: tuple[str, ...] = ()
    loaded: LoadedModels | None = None
    ends_at_window: bool = False
    refusals: tuple[Words, ...] = ()
    session_headers: tuple[str, ...] = ()
    provider: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "chat", replace(self.chat, name=self.name))
