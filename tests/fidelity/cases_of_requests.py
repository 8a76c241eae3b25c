"""Cases of parameters and their fields."""

import hashlib

from tests.fidelity.cases import CALL, HELLO, LOOK, Case, Json, answer, asks, says
from tests.fidelity.matching import ABSENT, ANY, Has
from tests.support.upstream import call

__all__ = ["REQUEST_CASES"]

SCHEMA: Json = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
FORMAT: Json = {"type": "json_schema", "schema": SCHEMA}
RESPONSE_FORMAT: Json = {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}}
ON: Json = {"enable_thinking": True, "thinking": True}
OFF: Json = {"enable_thinking": False, "thinking": False}
THOUGHT = answer("Done.", reasoning_content="Hm, let me see.")


def text(words: str, **more: object) -> Json:
    return {"type": "text", "text": words, **more}


def user(content: object) -> Json:
    """The upstream's request with this one user message."""
    return {"messages": [{"role": "user", "content": content}]}


PARAMETERS = [
    Case(
        "parameter",
        "model",
        model="claude-of-my-dreams",
        sent={"model": "openai-model"},
        upstream="openai",
        returned={"model": "claude-of-my-dreams"},
    ),
    Case("parameter", "max_tokens", {"max_tokens": 77}, {"max_tokens": 77}),
    Case("parameter", "max_tokens", {"max_tokens": 0}, {"max_tokens": 1}, note="none"),
    Case(
        "parameter",
        "messages",
        says(text("Hello.")),
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": "Go on"},
            ]
        },
    ),
    Case(
        "parameter",
        "messages",
        says(CALL),
        {
            "messages": [
                ANY,
                {"role": "assistant", "tool_calls": [{"id": "toolu_1"}]},
                {"role": "tool", "tool_call_id": "toolu_1", "content": Has("interrupted")},
                {"role": "user", "content": "Go on"},
            ]
        },
        note="a call without a result",
    ),
    Case(
        "parameter",
        "messages",
        asks({"type": "tool_result", "tool_use_id": "toolu_9", "content": "Blue."}),
        user(Has("toolu_9", "Blue.")),
        note="a result without a call",
    ),
    Case(
        "parameter",
        "messages",
        {"messages": [HELLO, {"role": "user", "content": "Anybody?"}]},
        user("Hi\n\nAnybody?"),
        note="two turns of the user",
    ),
    Case(
        "parameter",
        "messages",
        {"messages": [HELLO, {"role": "assistant", "content": "The answer is"}]},
        {
            "messages": [ANY, {"role": "assistant", "content": "The answer is"}],
            "continue_final_message": True,
            "add_generation_prompt": False,
        },
        note="a beginning to go on with",
    ),
    Case(
        "parameter", "system", {"system": "Be brief."}, {"messages": [{"role": "system", "content": "Be brief."}, ANY]}
    ),
    Case(
        "parameter",
        "system",
        {"system": [text("Be brief."), text("Be kind.")]},
        {"messages": [{"role": "system", "content": "Be brief.\n\nBe kind."}, ANY]},
        note="in blocks",
    ),
    Case("parameter", "stop_sequences", {"stop_sequences": ["END", "."]}, {"stop": ["END", "."]}),
    Case("parameter", "temperature", {"temperature": 0.3}, {"temperature": 0.3}),
    Case("parameter", "top_p", {"top_p": 0.4}, {"top_p": 0.4}),
    Case("parameter", "top_k", {"top_k": 7}, {"top_k": 7}),
    Case(
        "parameter",
        "tools",
        {"tools": [LOOK]},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "look", "description": "Look around.", "parameters": LOOK["input_schema"]},
                }
            ]
        },
        answer(tool_calls=[call("look", {"at": "sky"})]),
        {"stop_reason": "tool_use", "content": [{"type": "tool_use", "name": "look", "input": {"at": "sky"}}]},
    ),
    Case(
        "parameter",
        "tool_choice",
        {"tools": [LOOK], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        {"tool_choice": "required", "parallel_tool_calls": False},
    ),
    Case(
        "parameter",
        "thinking",
        {"thinking": {"type": "adaptive"}},
        {"chat_template_kwargs": ON},
        THOUGHT,
        {"content": [{"type": "thinking", "thinking": "Hm, let me see."}, {"type": "text", "text": "Done."}]},
    ),
    Case(
        "parameter",
        "output_config",
        {"output_config": {"effort": "low", "format": FORMAT}},
        {"reasoning_effort": "low", "response_format": RESPONSE_FORMAT},
    ),
    Case(
        "parameter",
        "output_format",
        {"output_format": FORMAT},
        {"response_format": RESPONSE_FORMAT},
        answer('{"ok":true}'),
        {"content": [{"type": "text", "text": '{"ok":true}'}]},
    ),
    Case("parameter", "metadata", {"metadata": {"user_id": "u-1"}}, {"user": "u-1"}),
]

SETTINGS = [
    Case(
        "setting",
        "thinking.type: enabled",
        {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        {"chat_template_kwargs": ON, "thinking_token_budget": 2048},
        THOUGHT,
        {"content": [{"type": "thinking", "thinking": "Hm, let me see."}, ANY]},
    ),
    Case(
        "setting",
        "thinking.type: adaptive",
        {"thinking": {"type": "adaptive"}},
        {"chat_template_kwargs": ON, "reasoning_effort": ABSENT},
        upstream="sglang",
    ),
    Case("setting", "thinking.type: disabled", {"thinking": {"type": "disabled"}}, {"chat_template_kwargs": OFF}),
    Case(
        "setting",
        "thinking.type: disabled",
        {"thinking": {"type": "disabled"}},
        {"reasoning_effort": "none", "chat_template_kwargs": ABSENT},
        upstream="openai",
        note="without templates",
    ),
    Case(
        "setting",
        "thinking.type: between_tools",
        {"thinking": {"type": "between_tools"}},
        {"chat_template_kwargs": OFF},
    ),
    Case(
        "setting",
        "thinking.budget_tokens",
        {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        {"thinking_token_budget": 2048},
    ),
    Case(
        "setting",
        "thinking.budget_tokens",
        {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        {"thinking_budget_tokens": 2048},
        upstream="llamacpp",
        note="llama.cpp's",
    ),
    Case(
        "setting",
        "thinking.budget_tokens",
        {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        {"thinking_token_budget": ABSENT, "reasoning_effort": "low"},
        upstream="ollama",
        note="small",
    ),
    Case(
        "setting",
        "thinking.budget_tokens",
        {"thinking": {"type": "enabled", "budget_tokens": 31999}},
        {"reasoning_effort": "high"},
        upstream="ollama",
        note="large",
    ),
    Case(
        "setting",
        "thinking.display",
        {"thinking": {"type": "adaptive", "display": "omitted"}},
        {},
        THOUGHT,
        {
            "content": [
                {"type": "thinking", "thinking": "", "signature": Has("lsm2.")},
                {"type": "text", "text": "Done."},
            ]
        },
    ),
    Case(
        "setting",
        "thinking.display",
        {"thinking": {"type": "adaptive", "display": "updates"}},
        {},
        THOUGHT,
        {"content": [{"type": "thinking", "thinking": "Hm, let me see."}, ANY]},
        note="updates",
    ),
    Case("setting", "output_config.effort", {"output_config": {"effort": "medium"}}, {"reasoning_effort": "medium"}),
    Case(
        "setting",
        "output_config.effort",
        {"output_config": {"effort": "max"}},
        {"reasoning_effort": "high"},
        note="max",
    ),
    Case(
        "setting", "output_config.format", {"output_config": {"format": FORMAT}}, {"response_format": RESPONSE_FORMAT}
    ),
    Case("setting", "metadata.user_id", {"metadata": {"user_id": "u-2"}}, {"user": "u-2"}),
    Case(
        "setting",
        "metadata.user_id",
        {"metadata": {"user_id": "u" * 65}},
        {"user": hashlib.sha256(b"u" * 65).hexdigest()},
        note="a long one",
    ),
    Case(
        "setting",
        "tool_choice.disable_parallel_tool_use",
        {"tools": [LOOK], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        {"tool_choice": "auto", "parallel_tool_calls": False},
    ),
    Case(
        "setting",
        "tool_choice.name",
        {"tools": [LOOK], "tool_choice": {"type": "tool", "name": "look"}},
        {"tool_choice": {"type": "function", "function": {"name": "look"}}},
    ),
    Case(
        "setting",
        "message.system",
        {"system": "A.", "messages": [HELLO, {"role": "system", "content": [text("Now in French.")]}, HELLO]},
        {
            "messages": [
                {"role": "system", "content": "A."},
                {"role": "user"},
                {"role": "system", "content": "Now in French."},
                {"role": "user"},
            ]
        },
    ),
    Case(
        "setting",
        "message.output_config",
        {
            "output_config": {"effort": "high"},
            "messages": [
                HELLO,
                {"role": "system", "output_config": {"effort": "medium"}},
                HELLO,
                {"role": "system", "output_config": {"effort": "low"}},
            ],
        },
        {"reasoning_effort": "low"},
    ),
    Case(
        "setting",
        "message.clear_at",
        {"messages": [HELLO, {"role": "system", "content": "Whisper.", "clear_at": "next_user_message"}, HELLO]},
        {"messages": [{"role": "user", "content": "Hi\n\nHi"}]},
    ),
    Case(
        "setting",
        "message.clear_at",
        {"messages": [HELLO, {"role": "system", "content": "Whisper.", "clear_at": "next_user_message"}]},
        {"messages": [ANY, {"role": "system", "content": "Whisper."}]},
        note="while it holds",
    ),
]

REQUEST_CASES = [*PARAMETERS, *SETTINGS]
