"""The drift guard: all that the installed `anthropic` SDK can say is known here and has a row."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, Required, get_args

import pytest
from anthropic.types import (
    BrowserMemberName,
    ComputerMemberName,
    Message,
    RawMessageStreamEvent,
    message_count_tokens_params,
    message_create_params,
)
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from anthropic.types.beta import message_count_tokens_params as beta_count_params
from anthropic.types.beta import message_create_params as beta_create_params
from anthropic.types.beta.messages import batch_create_params as beta_batch_params
from anthropic.types.beta.messages import batch_list_params as beta_list_params
from anthropic.types.messages import (
    batch_create_params,
    batch_list_params,
)
from anthropic.types.shared import ErrorResponse, ErrorType
from pydantic import BaseModel
from typing_extensions import TypedDict

from llama_stack_messages_provider.api_support import OBSERVED, SUPPORT, Kind
from llama_stack_messages_provider.errors import ErrorType as OurErrorType
from llama_stack_messages_provider.rewriting.toolset_schemas import TOOLSETS
from llama_stack_messages_provider.wire.schemas import schemas
from scripts.docs import feature_table
from scripts.generate_schemas import ROOTS, generate
from scripts.sdk_requests import ADDED
from tests.support.answers import tags as answer_tags
from tests.support.sdk_types import fields, literals, required, unknown_to, variants

CREATE = (
    message_create_params.MessageCreateParamsNonStreaming,
    message_create_params.MessageCreateParamsStreaming,
    beta_create_params.MessageCreateParamsNonStreaming,
    beta_create_params.MessageCreateParamsStreaming,
)
COUNT = (message_count_tokens_params.MessageCountTokensParams, beta_count_params.MessageCountTokensParams)
CREATE_BATCH = (batch_create_params.BatchCreateParams, beta_batch_params.BatchCreateParams)
LIST_BATCHES = (batch_list_params.BatchListParams, beta_list_params.BatchListParams)
MESSAGES = (Message, BetaMessage)
STREAMS = (RawMessageStreamEvent, BetaRawMessageStreamEvent)

HEADERS = frozenset({"betas", "user_profile_id", "workspace_id"})
"""Parameters that the SDK sends as headers."""

PAIRS = [
    *((beta, stable) for stable, beta in zip(CREATE[:2], CREATE[2:], strict=True)),
    (COUNT[1], COUNT[0]),
    (CREATE_BATCH[1], CREATE_BATCH[0]),
]
"""The types that our schemas are made from, and those beside them."""


def name_of(kind: Any) -> str:
    return getattr(kind, "__name__", "union")


@pytest.mark.parametrize(("beta", "stable"), PAIRS, ids=name_of)
def test_the_beta_types_have_all_that_the_others_have_but_what_is_added(beta: Any, stable: Any) -> None:
    added = {name for fields in ADDED.values() for name in fields}
    assert [
        line for line in unknown_to(beta, stable) if line.split(".")[-1] not in {f"{name}: field" for name in added}
    ] == []


def at(kinds: Iterable[Any], name: str) -> Iterator[tuple[str, Any]]:
    """Tag and type of each object that a field of the kinds may hold."""
    for kind in kinds:
        for tag, found in variants(fields(kind).get(name, Any)).items():
            yield from ((tag, each) for each in found)


def tags(kinds: Iterable[Any], name: str) -> set[str]:
    return {tag for tag, _ in at(kinds, name)}


def objects(kinds: Iterable[Any], name: str, *only: str) -> list[Any]:
    return [kind for tag, kind in at(kinds, name) if not only or tag in only]


def params(kinds: Iterable[Any]) -> set[str]:
    return {name for kind in kinds for name in fields(kind)}


def optional(kinds: Iterable[Any]) -> set[str]:
    return {name for kind in kinds for name in fields(kind) if name not in required(kind)}


def settings(prompts: Iterable[Any]) -> Iterator[str]:
    yield "message.system"
    for holder in ("thinking", "output_config", "metadata", "tool_choice"):
        kinds = objects(prompts, holder)
        yield from (f"{holder}.{name}" for name in params(kinds) - {"type"})
    yield from (f"thinking.type: {tag}" for tag in tags(prompts, "thinking"))
    yield from (f"message.{name}" for name in params(objects(prompts, "messages")) - {"role", "content"})


def said_by_clients(prompts: Iterable[Any], batches: Iterable[Any] = ()) -> dict[Kind, set[str]]:
    """All that requests can say, in the table's terms."""
    turns = objects(prompts, "messages")
    blocks = objects(turns, "content")
    results = objects(objects(turns, "content", "tool_result"), "content")
    tools = [kind for tag, kind in at(prompts, "tools") if not is_dropped("tool", tag)]
    return {
        "parameter": params(prompts) - HEADERS,
        "batch parameter": params(batches) - HEADERS,
        "setting": set(settings(prompts)),
        "header": params((*prompts, *batches)) & HEADERS,
        "block": tags(turns, "content") | tags(objects(turns, "content", "tool_result"), "content"),
        "block field": optional((*blocks, *results)),
        "source": {
            f"{block} {source}"
            for block in ("image", "document")
            for source in tags(objects(turns, "content", block), "source")
        },
        "tool": tags(prompts, "tools"),
        "tool field": optional(tools),
        "tool choice": tags(prompts, "tool_choice"),
    }


def said_by_servers(
    messages: Iterable[Any], streams: Iterable[Any], errors: Iterable[Any], error_types: Any
) -> dict[Kind, set[str]]:
    """All that answers can say, in the table's terms."""
    events = [(tag, kind) for union in streams for tag, kinds in variants(union).items() for kind in kinds]
    starts = [kind for tag, kind in events if tag == "content_block_start"]
    deltas = [kind for tag, kind in events if tag == "content_block_delta"]
    return {
        "response block": tags(messages, "content") | tags(starts, "content_block"),
        "delta": tags(deltas, "delta"),
        "event": {tag for tag, _ in events},
        "stop reason": {reason for message in messages for reason in literals(fields(message)["stop_reason"])},
        "error": tags(errors, "error") | set(literals(error_types)),
    }


def is_dropped(kind: Kind, name: str) -> bool:
    row = SUPPORT[kind].get(name)
    return row is None or row.translated == "dropped"


PROMPTS = (*CREATE, *COUNT)
BATCHES = (*CREATE_BATCH, *LIST_BATCHES)
SDK = said_by_clients(PROMPTS, BATCHES) | said_by_servers(MESSAGES, STREAMS, (ErrorResponse,), ErrorType)


@pytest.mark.parametrize("kind", SUPPORT)
def test_everything_is_in_the_table_and_nothing_else(kind: Kind) -> None:
    assert set(SUPPORT[kind]) == SDK[kind] | set(OBSERVED.get(kind, ()))


def test_every_row_says_what_and_why() -> None:
    rows = [row for table in SUPPORT.values() for row in table.values()]
    assert {row.translated for row in rows} == {"mapped", "emulated", "dropped", "refused"}
    assert all(row.reason for row in rows)


def test_what_was_observed_is_not_in_the_sdk_and_says_where() -> None:
    for kind, names in OBSERVED.items():
        assert not set(names) & SDK[kind]
        assert all(names.values())


@pytest.mark.parametrize(
    ("toolset", "members"),
    [
        ("browser_toolset_20260801", get_args(BrowserMemberName)),
        ("computer_toolset_20260801", get_args(ComputerMemberName)),
    ],
)
def test_every_member_of_a_toolset_has_a_function(toolset: str, members: tuple[str, ...]) -> None:
    assert set(TOOLSETS[toolset].members) == set(members)


def test_every_error_type_of_ours_has_a_row() -> None:
    assert set(get_args(OurErrorType)) <= set(SUPPORT["error"])
    assert answer_tags("ErrorResponse", "error") <= set(SUPPORT["error"])
    assert {"invalid_request_error", "request_too_large", "api_error"} <= answer_tags("ErrorResponse", "error")


def test_the_feature_table_names_everything() -> None:
    table = feature_table()
    assert all(f"`{name}`" in table for kind in SUPPORT for name in SUPPORT[kind])


# --- the guard itself: types as a later SDK may have them ---


class NewBlock(TypedDict):
    type: Required[Literal["hologram"]]


class NewSource(TypedDict):
    type: Required[Literal["beam"]]


class NewImage(TypedDict):
    type: Required[Literal["image"]]
    source: Required[NewSource]


class NewText(TypedDict):
    type: Required[Literal["text"]]
    text: Required[str]
    font: str


class NewTurn(TypedDict):
    role: Required[Literal["user", "spirit"]]
    content: Required[list[NewBlock | NewText | NewImage]]
    tone: str


class NewOutput(TypedDict):
    effort: Literal["high", "heroic"]


class NewThinking(TypedDict):
    type: Required[Literal["dreaming"]]


class NewTool(TypedDict):
    type: Required[Literal["loom_20270101"]]


class NewBash(TypedDict):
    type: Required[Literal["bash_20250124"]]
    shell: str


class NewChoice(TypedDict):
    type: Required[Literal["some"]]


class NewRequest(TypedDict):
    messages: Required[list[NewTurn]]
    output_config: NewOutput
    thinking: NewThinking
    tools: list[NewTool | NewBash]
    tool_choice: NewChoice
    aura: str


class NewMessage(BaseModel):
    type: Literal["message"]
    content: list[NewBlock]
    stop_reason: Literal["end_turn", "boredom"]


class NewCount(BaseModel):
    input_tokens: int
    aura: str


class NewDelta(TypedDict):
    type: Required[Literal["light_delta"]]


class NewBlockDelta(TypedDict):
    type: Required[Literal["content_block_delta"]]
    delta: Required[NewDelta]


class NewBlockStart(TypedDict):
    type: Required[Literal["content_block_start"]]
    content_block: Required[NewBlock]


class NewEvent(TypedDict):
    type: Required[Literal["message_glow"]]


class NewErrors(TypedDict):
    type: Required[Literal["error"]]
    error: Required[NewEvent]


def test_the_guard_sees_new_parameters_fields_types_and_values() -> None:
    assert unknown_to(CREATE[2], NewRequest) == [
        "aura: field",
        "messages<spirit>: type",
        "messages<user>.content<hologram>: type",
        "messages<user>.content<image>.source<beam>: type",
        "messages<user>.content<text>.font: field",
        "messages<user>.role: values spirit",
        "messages<user>.tone: field",
        "output_config.effort: values heroic",
        "thinking<dreaming>: type",
        "tool_choice<some>: type",
        "tools<bash_20250124>.shell: field",
        "tools<loom_20270101>: type",
    ]


def test_the_schemas_are_those_of_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    assert generate() == schemas()
    monkeypatch.setitem(ROOTS, "MessageTokensCount", NewCount)
    assert generate() != schemas()


def test_the_guard_sees_what_has_no_row() -> None:
    later = said_by_clients([NewRequest]) | said_by_servers(
        [NewMessage], [NewBlockDelta | NewBlockStart | NewEvent], [NewErrors], Literal["api_error", "moon_error"]
    )
    unknown = {kind: names - set(SUPPORT[kind]) for kind, names in later.items()}
    assert {kind: names for kind, names in unknown.items() if names} == {
        "parameter": {"aura"},
        "setting": {"thinking.type: dreaming", "message.tone"},
        "block": {"hologram"},
        "block field": {"font"},
        "source": {"image beam"},
        "tool": {"loom_20270101"},
        "tool field": {"shell"},
        "tool choice": {"some"},
        "response block": {"hologram"},
        "delta": {"light_delta"},
        "event": {"message_glow"},
        "stop reason": {"boredom"},
        "error": {"message_glow", "moon_error"},
    }
    assert set(later) == set(SUPPORT)
