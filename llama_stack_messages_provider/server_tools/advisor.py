"""Anthropic's advisor: another model of the stack reads the conversation and gives advice, in the middle of a message.

It is asked as any client would ask it, with the access of the current user. It gets the tools to know them and may call
none, so that no advice asks for advice.

Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.config import AdvisorConfig
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.server_tools.one_name import OneName, check_definition, custom_tool, is_of_kind
from llama_stack_messages_provider.server_tools.tool import Block, PlainResult
from llama_stack_messages_provider.server_tools.usage import iteration
from llama_stack_messages_provider.wire.types import wire_type

__all__ = ["Advisor", "Ask", "advice_request"]

type Ask = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

logger = get_logger(name=__name__, category="providers")

_NAME, _KIND, _RESULT = "advisor", "advisor_", "advisor_tool_result"
_TYPE = wire_type("AdvisorTool20260301Param")
_THINKING = frozenset({"thinking", "redacted_thinking"})
_TASK = (
    "You are asked for advice as a senior advisor of the assistant above, who goes on with the task and reads what you "
    "write. Look at the whole conversation and say what matters most now: the plan, the next steps, what is wrong or "
    "was overlooked. Be brief and concrete. Call no tools, and do not do the task yourself."
)
_CUT = "\n\n[The advice was cut off here.]"
_CODES = {
    "not_found_error": "model_not_found",
    "permission_error": "model_not_found",
    "rate_limit_error": "too_many_requests",
    "overloaded_error": "overloaded",
    "timeout_error": "execution_time_exceeded",
    "request_too_large": "prompt_too_long",
}


class Advisor:
    """The stack's models as advisors: a `ServerToolType`.

    Args:
        config: Its bounds.

    Attributes:
        ask: Asks a model of the stack; set once there is who does that.
    """

    def __init__(self, config: AdvisorConfig) -> None:
        self._config = config
        self.ask: Ask | None = None

    def defines(self, definition: Block) -> bool:
        """Whether a tool of a request is Anthropic's advisor, of any version."""
        return is_of_kind(definition, _KIND)

    async def available(self) -> bool:
        """Whether models may be asked for advice."""
        return self._config.enabled and self.ask is not None

    async def open(self, definition: Block, path: str, dropped: DroppedFields) -> "_Advice":
        """The advisor of a request."""
        # A version that is not known yet has not been looked at.
        check_definition(_TYPE, {**definition, "type": "advisor_20260301", "name": _NAME}, path)
        assert self.ask is not None
        return _Advice(self.ask, self._config, definition)


class _Advice(OneName):
    """The advisor of one request: a `ServerTool`."""

    name = _NAME
    usage_field = "advisor_requests"

    def __init__(self, ask: Ask, config: AdvisorConfig, definition: Block) -> None:
        self._ask = ask
        self._seconds = config.seconds
        self._model = definition["model"]
        self._max_uses = definition.get("max_uses")
        self._max_tokens = definition.get("max_tokens") or config.max_tokens
        self._strict = definition.get("strict") is True
        self._iterations: list[dict[str, Any]] = []

    @property
    def definitions(self) -> Sequence[dict[str, Any]]:
        """The custom tool that the model is offered."""
        text = (
            "Asks a more experienced model for advice. It reads the whole conversation: nothing has to be explained. "
            "Ask before you commit to a plan, when you are stuck, and before you say that you are done."
        )
        return [custom_tool(_NAME, text, {}, strict=self._strict)]

    def refusal(self, call: Block, uses: int) -> dict[str, Any] | None:
        """The result of a question that is not asked."""
        too_many = self._max_uses is not None and uses >= self._max_uses
        return _failed(call, "max_uses_exceeded") if too_many else None

    async def run(self, call: Block, request: Mapping[str, Any]) -> dict[str, Any]:
        """The advice; a failure is a result with an error code."""
        try:
            async with asyncio.timeout(self._seconds):
                message = await self._ask(advice_request(request, self._model, self._max_tokens))
        except TimeoutError:
            return _failed(call, "execution_time_exceeded")
        except MessagesError as exc:
            logger.warning("No advice", model=self._model, error=exc.message)
            return _failed(call, _code_of(exc))
        except Exception as exc:  # no advice ends a message
            logger.warning("No advice", model=self._model, error=repr(exc))
            return _failed(call, "unavailable")
        self._iterations.append(iteration(message.get("usage") or {}, "advisor_message", model=self._model))
        text = "\n\n".join(block["text"] for block in message["content"] if block["type"] == "text").strip()
        if not text:
            return _failed(call, "unavailable")
        return _block(call, {"type": "advisor_result", "text": text, "stop_reason": message.get("stop_reason")})

    def take_iterations(self) -> list[dict[str, Any]]:
        """What advice has cost since this was asked last."""
        taken, self._iterations = self._iterations, []
        return taken

    def plain_result(self, block: Block, path: str, dropped: DroppedFields) -> PlainResult | None:
        """The advice, if a block holds some."""
        content = block.get("content")
        if block.get("type") != _RESULT or not isinstance(content, Mapping):
            return None
        if isinstance(code := content.get("error_code"), str):
            return PlainResult(f"There is no advice: {code}", is_error=True)
        if isinstance(text := content.get("text"), str):
            return PlainResult(text + _CUT if content.get("stop_reason") == "max_tokens" else text)
        dropped.drop(f"{path}.content", "only the server that made it can read it")
        return PlainResult("The advice of then cannot be read any more.")


def advice_request(request: Mapping[str, Any], model: str, max_tokens: int) -> dict[str, Any]:
    """What an advisor is asked: the conversation of a plain request, and then for advice.

    The prompt begins as the assistant's does, so that an engine which has one cached has both.
    """
    asked: dict[str, Any] = {name: request[name] for name in ("system", "tools") if request.get(name)}
    if "tools" in asked:
        asked["tool_choice"] = {"type": "none"}
    turns = [turn for message in request["messages"] if (turn := _without_thinking(message)) is not None]
    task = {"type": "text", "text": _TASK}
    if turns and turns[-1]["role"] == "user":
        content = turns[-1]["content"]
        said = [{"type": "text", "text": content}] if isinstance(content, str) else content
        turns[-1] = {**turns[-1], "content": [*said, task]}
    else:
        turns.append({"role": "user", "content": [task]})
    return {"model": model, "max_tokens": max_tokens, "messages": turns, **asked}


def _without_thinking(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """A turn without what only its model's own upstream can read; None if nothing is left."""
    content = message.get("content")
    if message["role"] != "assistant" or not isinstance(content, list):
        return dict(message)
    kept = [block for block in content if block["type"] not in _THINKING]
    return {**message, "content": kept} if kept else None


def _code_of(exc: MessagesError) -> str:
    if exc.error_type == "invalid_request_error" and "too long" in exc.message:
        return "prompt_too_long"
    return _CODES.get(exc.error_type, "unavailable")


def _failed(call: Block, code: str) -> dict[str, Any]:
    return _block(call, {"type": "advisor_tool_result_error", "error_code": code})


def _block(call: Block, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": _RESULT, "tool_use_id": call["id"], "content": content}
