"""The functions that Anthropic's client tools are to a model: names, descriptions, input schemas.

Anthropic's models know these tools by heart and the API takes no schema for them; any other model needs
one. Sources: https://platform.claude.com/docs/en/agents-and-tools/tool-use/tool-reference and the pages
it names, and the `anthropic` SDK's `*_input` and `*_command` types, which the tests compare this with.
The schemas are written out because importing one of those types imports all of them: 1.7 s and 62 MiB
amid a request.

Schemas have no `$ref`, no null and no union at the top: every upstream's grammar takes them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = [
    "SCROLL_DIRECTION",
    "TOOLS",
    "Function",
    "Schema",
    "enum",
    "integer",
    "integers",
    "number",
    "parameters",
    "string",
]

Schema = dict[str, Any]


class Function(NamedTuple):
    """What is offered for a tool.

    Args:
        name: The documented name, which `tool_use` blocks carry.
        description: For the model.
        parameters: JSON schema of the input.
    """

    name: str
    description: str
    parameters: Schema


def parameters(required: Mapping[str, Schema] | None = None, **optional: Schema) -> Schema:
    schema: Schema = {"type": "object", "properties": {**(required or {}), **optional}}
    return {**schema, "required": list(required)} if required else schema


def string(description: str) -> Schema:
    return {"type": "string", "description": description}


def integer(description: str) -> Schema:
    return {"type": "integer", "description": description}


def number(description: str) -> Schema:
    return {"type": "number", "description": description}


def boolean(description: str) -> Schema:
    return {"type": "boolean", "description": description}


def enum(values: tuple[str, ...], description: str) -> Schema:
    return {"type": "string", "enum": list(values), "description": description}


def integers(count: int, description: str) -> Schema:
    return {
        "type": "array",
        "items": {"type": "integer"},
        "minItems": count,
        "maxItems": count,
        "description": description,
    }


SCROLL_DIRECTION = enum(("up", "down", "left", "right"), "Which way to scroll.")


_BASH = Function(
    "bash",
    "Run a command in a bash session that lasts: directory, variables and files are kept from call to call. "
    "The output comes back; nothing can be typed while a command runs.",
    parameters(
        command=string("The command to run. Needed unless restart is true."),
        restart=boolean("True starts a new session in place of one that hangs or is broken."),
    ),
)


_EDITOR_COMMANDS = ("view", "create", "str_replace", "insert")
_EDITING = (
    "View, create and edit text files. view shows a file with line numbers, or lists a directory; create "
    "writes a whole file; str_replace exchanges old_str, which must occur exactly once, for new_str; insert "
    "adds text after a line"
)
_VIEW_RANGE = integers(2, "view: first and last line to show, from 1; -1 as last is the end of the file.")


def _editor(name: str, more: str, commands: tuple[str, ...], **inserted: Schema) -> Function:
    texts = {
        "file_text": string("create: the whole content of the new file."),
        "old_str": string("str_replace: the text to replace, exact to the space."),
        "new_str": string("str_replace: the new text, empty to delete."),
        "insert_line": integer("insert: the line to insert after; 0 is the start of the file."),
        "view_range": _VIEW_RANGE,
        **inserted,
    }
    required = {"command": enum(commands, "What to do."), "path": string("Path of the file or directory.")}
    return Function(name, f"{_EDITING}{more}.", parameters(required, **texts))


# The text to insert is `new_str` until 20250124 and `insert_text` since 20250429, whatever pages once said:
# https://github.com/anthropics/anthropic-sdk-python/issues/1155
_EDITOR_2024 = _editor(
    "str_replace_editor",
    "; undo_edit takes back the last edit of a file",
    (*_EDITOR_COMMANDS, "undo_edit"),
    new_str=string("str_replace: the new text, empty to delete; insert: the text to insert."),
)
_EDITOR_2025 = _editor(
    "str_replace_based_edit_tool",
    "",
    _EDITOR_COMMANDS,
    insert_text=string("insert: the text to insert."),
)


def _limited_editor(tool: Mapping[str, Any]) -> Function:
    if not (limit := tool.get("max_characters")):
        return _EDITOR_2025
    return _EDITOR_2025._replace(
        description=f"{_EDITOR_2025.description} At most {limit} characters of a file are shown: "
        "use view_range for the rest."
    )


_MEMORY = Function(
    "memory",
    "Keep notes in files under /memories, which outlast this conversation. View /memories before starting on "
    "a task, to find what was noted earlier, and write down what must not be lost.",
    parameters(
        {
            "command": enum(
                ("view", "create", "str_replace", "insert", "delete", "rename"),
                "view shows a file, or lists a directory; create writes a whole file; str_replace and insert "
                "edit one; delete and rename take a file or directory.",
            )
        },
        path=string("Path under /memories. Needed by every command but rename."),
        view_range=_VIEW_RANGE,
        file_text=string("create: the whole content of the file."),
        old_str=string("str_replace: the text to replace, exact to the space; it must occur exactly once."),
        new_str=string("str_replace: the new text, empty to delete."),
        insert_line=integer("insert: the line to insert after; 0 is the start of the file."),
        insert_text=string("insert: the text to insert."),
        old_path=string("rename: the present path."),
        new_path=string("rename: the path it shall have."),
    ),
)


_ACTIONS_2024 = (
    "key",
    "type",
    "mouse_move",
    "left_click",
    "left_click_drag",
    "right_click",
    "middle_click",
    "double_click",
    "screenshot",
    "cursor_position",
)
_ACTIONS_2025 = (
    *_ACTIONS_2024,
    "left_mouse_down",
    "left_mouse_up",
    "triple_click",
    "scroll",
    "hold_key",
    "wait",
)


def _computer(tool: Mapping[str, Any], actions: tuple[str, ...], fields: Mapping[str, Schema]) -> Function:
    width, height = tool.get("display_width_px"), tool.get("display_height_px")
    size = f" The screen is {width} pixels wide and {height} pixels high." if width and height else ""
    description = (
        f"Use a computer by its screen, mouse and keyboard.{size} Coordinates are [x, y] in pixels from the "
        "top left corner. Take a screenshot to see where things are before clicking, and afterwards to see "
        "what happened."
    )
    required = {"action": enum(actions, "What to do.")}
    return Function("computer", description, parameters(required, **fields))


def _computer_20241022(tool: Mapping[str, Any]) -> Function:
    fields = {
        "coordinate": integers(2, "[x, y]: mouse_move and left_click_drag go there. Clicks happen where the mouse is."),
        "text": string('type: the text to type; key: the key or keys, such as "Return" or "ctrl+s".'),
    }
    return _computer(tool, _ACTIONS_2024, fields)


_COMPUTER_FIELDS = {
    "coordinate": integers(2, "[x, y]: where to click, move to, scroll or end a drag; without it, where the mouse is."),
    "start_coordinate": integers(2, "[x, y]: where left_click_drag starts."),
    "text": string(
        'type: the text to type; key and hold_key: the key or keys, such as "Return" or "ctrl+s"; clicks and '
        'scroll: a key to hold meanwhile, such as "shift".'
    ),
    "scroll_direction": SCROLL_DIRECTION,
    "scroll_amount": integer("scroll: how many notches of the wheel."),
    "duration": number("wait and hold_key: how long, in seconds."),
}


def _computer_20250124(tool: Mapping[str, Any]) -> Function:
    return _computer(tool, _ACTIONS_2025, _COMPUTER_FIELDS)


def _computer_20251124(tool: Mapping[str, Any]) -> Function:
    if not tool.get("enable_zoom"):
        return _computer_20250124(tool)
    region = integers(4, "zoom: [x0, y0, x1, y1], the part of the screen to show enlarged.")
    return _computer(tool, (*_ACTIONS_2025, "zoom"), {**_COMPUTER_FIELDS, "region": region})


TOOLS: Mapping[str, Callable[[Mapping[str, Any]], Function]] = {
    "bash_20241022": lambda _: _BASH,
    "bash_20250124": lambda _: _BASH,
    "text_editor_20241022": lambda _: _EDITOR_2024,
    "text_editor_20250124": lambda _: _EDITOR_2024,
    "text_editor_20250429": lambda _: _EDITOR_2025,
    "text_editor_20250728": _limited_editor,
    "memory_20250818": lambda _: _MEMORY,
    "computer_20241022": _computer_20241022,
    "computer_20250124": _computer_20250124,
    "computer_20251124": _computer_20251124,
}
"""The functions of tools that are one function each, by `type`; the argument is the tool as it was sent."""
