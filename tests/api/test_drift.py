"""The drift guard: all that the installed `anthropic` SDK can say is known here and has a policy."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, Required, get_args

import pytest
from anthropic.types import (
    BrowserMemberName,
    ComputerMemberName,
    Message,
    MessageTokensCount,
    RawMessageStreamEvent,
    message_count_tokens_params,
    message_create_params,
)
from anthropic.types.beta import BetaMessage, BetaMessageTokensCount, BetaRawMessageStreamEvent
from anthropic.types.beta import message_count_tokens_params as beta_count_params
from anthropic.types.beta import message_create_params as beta_create_params
from anthropic.types.beta.messages import (
    BetaDeletedMessageBatch,
    BetaMessageBatch,
    BetaMessageBatchIndividualResponse,
)
from anthropic.types.beta.messages import batch_create_params as beta_batch_params
from anthropic.types.beta.messages import batch_list_params as beta_list_params
from anthropic.types.messages import (
    DeletedMessageBatch,
    MessageBatch,
    MessageBatchIndividualResponse,
    batch_create_params,
    batch_list_params,
)
from anthropic.types.shared import ErrorResponse, ErrorType
from typing_extensions import TypedDict

from llama_stack_messages_provider.api import models
from llama_stack_messages_provider.api.errors import ErrorType as OurErrorType
from llama_stack_messages_provider.policy import POLICIES, Kind, feature_table, policy_of
from llama_stack_messages_provider.translate.toolset_schemas import TOOLSETS
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
    *((models.CreateMessageRequest, theirs) for theirs in CREATE),
    *((models.CountTokensRequest, theirs) for theirs in COUNT),
    *((models.CreateBatchRequest, theirs) for theirs in CREATE_BATCH),
    *((models.Message, theirs) for theirs in MESSAGES),
    *((models.MessageStreamEvent, theirs) for theirs in STREAMS),
    *((models.MessageTokensCount, theirs) for theirs in (MessageTokensCount, BetaMessageTokensCount)),
    *((models.MessageBatch, theirs) for theirs in (MessageBatch, BetaMessageBatch)),
    *((models.DeletedMessageBatch, theirs) for theirs in (DeletedMessageBatch, BetaDeletedMessageBatch)),
    (models.MessageBatchIndividualResponse, MessageBatchIndividualResponse),
    (models.MessageBatchIndividualResponse, BetaMessageBatchIndividualResponse),
]


def name_of(kind: Any) -> str:
    return getattr(kind, "__name__", "union")


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=name_of)
def test_the_wire_types_know_all_that_the_sdk_has(ours: Any, theirs: Any) -> None:
    unknown = unknown_to(ours, theirs)
    assert [line for line in unknown if line not in {f"{name}: field" for name in HEADERS}] == []


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


PROMPTS = (*CREATE, *COUNT)
TURNS = objects(PROMPTS, "messages")
BLOCKS = objects(TURNS, "content")
RESULTS = objects(objects(TURNS, "content", "tool_result"), "content")
CLIENT_TOOLS = [
    kind for tag, kind in at(PROMPTS, "tools") if (policy := policy_of("tool", tag)) and policy.translated != "dropped"
]
EVENTS = {tag: found for union in STREAMS for tag, found in variants(union).items()}


def settings() -> Iterator[str]:
    yield "message.system"
    for holder in ("thinking", "output_config", "metadata", "tool_choice"):
        kinds = objects(PROMPTS, holder)
        yield from (f"{holder}.{name}" for name in params(kinds) - {"type"})
    yield from (f"thinking.{tag}" for tag in tags(PROMPTS, "thinking"))
    yield from (f"message.{name}" for name in params(TURNS) - {"role", "content"})


SDK: dict[Kind, set[str]] = {
    "parameter": params((*PROMPTS, *CREATE_BATCH, *LIST_BATCHES)) - HEADERS,
    "setting": set(settings()),
    "header": params((*PROMPTS, *CREATE_BATCH, *LIST_BATCHES)) & HEADERS,
    "block": tags(TURNS, "content") | tags(objects(TURNS, "content", "tool_result"), "content"),
    "block field": optional((*BLOCKS, *RESULTS)),
    "source": {
        f"{block} {source}"
        for block in ("image", "document")
        for source in tags(objects(TURNS, "content", block), "source")
    },
    "tool": tags(PROMPTS, "tools"),
    "tool field": optional(CLIENT_TOOLS),
    "tool choice": tags(PROMPTS, "tool_choice"),
    "response block": tags(MESSAGES, "content") | tags(EVENTS["content_block_start"], "content_block"),
    "delta": {tag for union in STREAMS for tag in tags(variants(union)["content_block_delta"], "delta")},
    "event": set(EVENTS),
    "stop reason": {reason for message in MESSAGES for reason in literals(fields(message)["stop_reason"])},
    "error": tags((ErrorResponse,), "error") | set(literals(ErrorType)),
}

BEYOND_THE_SDK: dict[Kind, set[str]] = {
    # Documented, and sent as `extra_body` or by older and other clients.
    "parameter": {"temperature", "top_p", "top_k", "output_format"},
    # Sent by Anthropic and read by the SDK, though not among its event types.
    "event": {"ping", "error"},
    # https://platform.claude.com/docs/en/api/errors
    "error": {"request_too_large"},
}


@pytest.mark.parametrize("kind", POLICIES)
def test_everything_has_a_policy_and_every_policy_is_about_something(kind: Kind) -> None:
    assert set(POLICIES[kind]) == SDK[kind] | BEYOND_THE_SDK.get(kind, set())


def test_policies_of_what_is_lost_say_why() -> None:
    assert all(policy.reason for table in POLICIES.values() for policy in table.values())


@pytest.mark.parametrize(
    ("toolset", "members"),
    [
        ("browser_toolset_20260801", get_args(BrowserMemberName)),
        ("computer_toolset_20260801", get_args(ComputerMemberName)),
    ],
)
def test_every_member_of_a_toolset_has_a_function(toolset: str, members: tuple[str, ...]) -> None:
    assert set(TOOLSETS[toolset].members) == set(members)


def test_every_error_type_of_ours_has_a_policy() -> None:
    assert set(get_args(OurErrorType)) <= set(POLICIES["error"])
    assert set(variants(models.ErrorObject)) == set(POLICIES["error"])


def test_the_feature_table_names_everything() -> None:
    table = feature_table()
    assert all(f"`{name}`" in table for kind in POLICIES for name in POLICIES[kind])


class NewBlock(TypedDict):
    type: Required[Literal["hologram"]]


class NewText(TypedDict):
    type: Required[Literal["text"]]
    text: Required[str]
    font: str


class NewTurn(TypedDict):
    role: Required[Literal["user", "spirit"]]
    content: Required[list[NewBlock | NewText]]


class NewOutput(TypedDict):
    effort: Literal["high", "heroic"]


class NewRequest(TypedDict):
    messages: Required[list[NewTurn]]
    output_config: NewOutput
    aura: str


def test_the_guard_sees_new_parameters_fields_types_and_values() -> None:
    assert unknown_to(models.CreateMessageRequest, NewRequest) == [
        "aura: field",
        "messages<spirit>: type",
        "messages<user>.content<hologram>: type",
        "messages<user>.content<text>.font: field",
        "messages<user>.role: values spirit",
        "output_config.effort: values heroic",
    ]
