"""Cases of tools, their fields, and choices among them."""

from tests.fidelity.cases import LOOK, Case, Json, answer
from tests.fidelity.matching import ABSENT, ANY, Has
from tests.support.upstream import RecordedRequest, Reply, call

__all__ = ["TOOL_CASES"]

LONG: Json = {**LOOK, "name": "a_tool_whose_name_is_far_longer_than_any_server_of_chat_completions_takes"}
EDIT: Json = {"command": "view", "path": "/a"}
SINGLE: dict[str, tuple[str, Json, str]] = {
    "bash_20241022": ("bash", {"command": "ls"}, "command"),
    "bash_20250124": ("bash", {"command": "ls"}, "command"),
    "text_editor_20241022": ("str_replace_editor", EDIT, "path"),
    "text_editor_20250124": ("str_replace_editor", EDIT, "path"),
    "text_editor_20250429": ("str_replace_based_edit_tool", EDIT, "path"),
    "text_editor_20250728": ("str_replace_based_edit_tool", EDIT, "path"),
    "memory_20250818": ("memory", EDIT, "path"),
    "computer_20241022": ("computer", {"action": "screenshot"}, "action"),
    "computer_20250124": ("computer", {"action": "screenshot"}, "action"),
    "computer_20251124": ("computer", {"action": "screenshot"}, "action"),
}
"""A call's name and input, and a property that its schema must describe."""
SCREEN: Json = {"display_width_px": 1024, "display_height_px": 768}


def tool(kind: str) -> Json:
    """The tool as a client declares it."""
    return {"type": kind, "name": SINGLE[kind][0], **(SCREEN if kind.startswith("computer") else {})}


def offers(name: str, prop: str) -> Json:
    """The upstream's request with this one function."""
    schema = {"type": "object", "properties": {prop: ANY}}
    return {"tools": [{"type": "function", "function": {"name": name, "description": ANY, "parameters": schema}}]}


def tool_use(name: str, given: Json, **more: str) -> Json:
    return {"stop_reason": "tool_use", "content": [{"type": "tool_use", "name": name, "input": given, **more}]}


def calls_what_is_offered(request: RecordedRequest) -> Reply:
    """A call of the first function, by the name that it has upstream."""
    name = request.json["tools"][0]["function"]["name"]
    assert len(name) <= 64
    reply = answer(tool_calls=[call(name, {"at": "sky"})])
    return reply(request) if callable(reply) else reply


TOOLS = [
    Case(
        "tool",
        "custom",
        {"tools": [LOOK]},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "look", "description": "Look around.", "parameters": LOOK["input_schema"]},
                }
            ]
        },
        answer(tool_calls=[call("look", {"at": "sky"}), call("look", {"at": "sea"}, id="call_2")]),
        {
            "stop_reason": "tool_use",
            "content": [
                {"type": "tool_use", "name": "look", "input": {"at": "sky"}},
                {"type": "tool_use", "id": "call_2", "name": "look", "input": {"at": "sea"}},
            ],
        },
    ),
    Case(
        "tool",
        "custom",
        {"tools": [LONG]},
        {"tools": [{"function": {"name": Has("a_tool_whose_name_is_far")}}]},
        calls_what_is_offered,
        tool_use(LONG["name"], {"at": "sky"}),
        note="a long name",
    ),
    *(
        Case(
            "tool",
            kind,
            {"tools": [tool(kind)]},
            offers(name, prop),
            answer(tool_calls=[call(name, given)]),
            tool_use(name, given),
        )
        for kind, (name, given, prop) in SINGLE.items()
    ),
    *(
        Case(
            "tool",
            f"{family}_toolset_20260801",
            {"tools": [{"type": f"{family}_toolset_20260801"}]},
            {"tools": ANY},
            answer(tool_calls=[call(f"{family}_{member}", given)]),
            tool_use(member, given, toolset_name=family),
        )
        for family, member, given in (
            ("browser", "navigate", {"tab_id": "t", "url": "https://o.test"}),
            ("computer", "screenshot", {}),
        )
    ),
]

TOOL_FIELDS = [
    Case("tool field", "type", {"tools": [{**LOOK, "type": "custom"}]}, {"tools": [{"function": {"name": "look"}}]}),
    Case("tool field", "description", {"tools": [LOOK]}, {"tools": [{"function": {"description": "Look around."}}]}),
    Case("tool field", "strict", {"tools": [{**LOOK, "strict": True}]}, {"tools": [{"function": {"strict": True}}]}),
    Case("tool field", "strict", {"tools": [LOOK]}, {"tools": [{"function": {"strict": ABSENT}}]}, note="not said"),
    Case(
        "tool field",
        "input_examples",
        {"tools": [{**LOOK, "input_examples": [{"at": "sky"}]}]},
        {"tools": [{"function": {"description": Has("Look around.", '{"at":"sky"}')}}]},
    ),
    Case(
        "tool field",
        "defer_loading",
        {"tools": [LOOK, {**LOOK, "name": "hear", "defer_loading": True}]},
        {"tools": [{"function": {"name": "look"}}]},
    ),
    Case(
        "tool field",
        "enable_zoom",
        {"tools": [{**tool("computer_20251124"), "enable_zoom": True}]},
        {"tools": [{"function": {"parameters": {"properties": {"region": ANY}}}}]},
    ),
    Case(
        "tool field",
        "enable_zoom",
        {"tools": [tool("computer_20251124")]},
        {"tools": [{"function": {"parameters": {"properties": {"region": ABSENT}}}}]},
        note="not said",
    ),
    Case(
        "tool field",
        "configs",
        {
            "tools": [
                {
                    "type": "computer_toolset_20260801",
                    "configs": {
                        name: {"enabled": name == "wait"}
                        for name in (
                            "screenshot",
                            "zoom",
                            "left_click",
                            "right_click",
                            "middle_click",
                            "double_click",
                            "triple_click",
                            "mouse_move",
                            "left_click_drag",
                            "left_mouse_down",
                            "left_mouse_up",
                            "cursor_position",
                            "scroll",
                            "type",
                            "key",
                            "hold_key",
                            "wait",
                        )
                    },
                }
            ]
        },
        {"tools": [{"function": {"name": "computer_wait"}}]},
    ),
]

TOOL_CHOICES = [
    Case("tool choice", "auto", {"tools": [LOOK], "tool_choice": {"type": "auto"}}, {"tool_choice": "auto"}),
    Case("tool choice", "any", {"tools": [LOOK], "tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
    Case(
        "tool choice",
        "none",
        {"tools": [LOOK], "tool_choice": {"type": "none"}},
        {"tool_choice": "none", "tools": [ANY]},
    ),
    Case(
        "tool choice",
        "tool",
        {"tools": [LOOK], "tool_choice": {"type": "tool", "name": "look"}},
        {"tool_choice": {"type": "function", "function": {"name": "look"}}},
        answer(tool_calls=[call("look", {"at": "sky"})]),
        tool_use("look", {"at": "sky"}),
    ),
    Case(
        "tool choice",
        "tool",
        {"tools": [{"type": "computer_toolset_20260801"}, LOOK], "tool_choice": {"type": "tool", "name": "computer"}},
        {"tool_choice": "required", "tools": ANY},
        note="a whole toolset",
    ),
]

TOOL_CASES = [*TOOLS, *TOOL_FIELDS, *TOOL_CHOICES]
