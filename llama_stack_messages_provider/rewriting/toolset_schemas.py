"""The toolsets: families of client tools that one entry of a request's `tools` declares.

Source: the `anthropic` SDK's `browser_*_input` and `computer_*_input` types, and its registries for what
is on by default; the tests compare this with them.
"""

from collections.abc import Mapping
from typing import NamedTuple

from llama_stack_messages_provider.rewriting.client_tool_schemas import (
    SCROLL_DIRECTION,
    Schema,
    enum,
    integer,
    integers,
    number,
    parameters,
    string,
)

__all__ = ["TOOLSETS", "Member", "Toolset"]


class Member(NamedTuple):
    """One tool of a toolset; `enabled` is what holds where `configs` does not say."""

    description: str
    parameters: Schema
    enabled: bool = True


class Toolset(NamedTuple):
    """A family of tools that one entry of `tools` declares; `name` is the `toolset_name` of their calls."""

    name: str
    members: Mapping[str, Member]


def _strings(description: str) -> Schema:
    return {"type": "array", "items": {"type": "string"}, "description": description}


_THERE = "at a point of the screen, or where the mouse is"
_COORDINATE = integers(2, "[x, y] in pixels of the screenshot, from its top left corner.")
_HELD = string('Keys to hold meanwhile, such as "shift" or "ctrl+shift".')
_SECONDS = integer("How long, in seconds.")


def _click(description: str) -> Member:
    return Member(f"{description} {_THERE}.", parameters(coordinate=_COORDINATE, text=_HELD))


_COMPUTER_MEMBERS: Mapping[str, Member] = {
    "key": Member(
        'Press a key or a combination joined by "+", such as "Return", "ctrl+s" or "alt+Tab".',
        parameters({"text": string("The key or combination.")}, repeat=integer("How many times; once if left out.")),
    ),
    "hold_key": Member(
        "Hold a key or a combination down for a while.",
        parameters({"text": string("The key or combination."), "duration": _SECONDS}),
    ),
    "type": Member("Type text on the keyboard.", parameters({"text": string("The text to type.")})),
    "cursor_position": Member("Get the coordinate of the mouse.", parameters()),
    "mouse_move": Member(
        "Move the mouse without clicking, to hover over something. To click, use a click tool at once.",
        parameters({"coordinate": _COORDINATE}),
    ),
    "left_mouse_down": Member("Press the left mouse button where the mouse is, and keep it down.", parameters()),
    "left_mouse_up": Member("Release the left mouse button.", parameters()),
    "left_click": _click("Click with the left button"),
    "left_click_drag": Member(
        "Drag with the left button from one point of the screen to another.",
        parameters(
            {
                "start_coordinate": {**_COORDINATE, "description": "[x, y]: where the drag starts."},
                "coordinate": {**_COORDINATE, "description": "[x, y]: where the drag ends."},
            },
            text=_HELD,
        ),
    ),
    "right_click": _click("Click with the right button"),
    "middle_click": _click("Click with the middle button"),
    "double_click": _click("Double-click with the left button"),
    "triple_click": _click("Triple-click with the left button"),
    "scroll": Member(
        f"Turn the mouse wheel {_THERE}. Use this to scroll, not the page keys.",
        parameters(
            {
                "scroll_direction": SCROLL_DIRECTION,
                "scroll_amount": integer("How many notches of the wheel."),
            },
            coordinate=_COORDINATE,
            text=_HELD,
        ),
    ),
    "wait": Member("Wait, for something to load for example.", parameters({"duration": _SECONDS})),
    "screenshot": Member("See the screen. All coordinates are pixels of this picture.", parameters()),
    "zoom": Member(
        "See a part of the screen enlarged, to read what is small in the screenshot.",
        parameters({"region": integers(4, "[x0, y0, x1, y1] in pixels of the screenshot.")}),
    ),
}


_TAB = string("The tab to act on; the active tab if left out.")
_THIS_TAB = string("The tab's id.")
_CHORD = string('The key, or keys joined by "+".')
_BROWSER_SECONDS = number("How long, in seconds; 30 at most.")
_POINT: Schema = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "const": "coordinate"},
        "x": integer("Pixels from the left edge of the view."),
        "y": integer("Pixels from the top edge of the view."),
    },
    "required": ["type", "x", "y"],
}
_ELEMENT: Schema = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "const": "ref"},
        "ref": string(
            'Reference of an element, such as "ref_7", from reading the page or finding elements in the same '
            "tab. Navigation makes it invalid."
        ),
    },
    "required": ["type", "ref"],
}
_AT_POINT = {**_POINT, "description": "A point of the view, as in a screenshot."}
_ON_ELEMENT = {**_ELEMENT, "description": "The element."}
_ANYWHERE = {"anyOf": [_POINT, _ELEMENT], "description": "A point of the view, or an element."}


def _in_tab(
    description: str,
    required: Mapping[str, Schema] | None = None,
    *,
    enabled: bool = True,
    **optional: Schema,
) -> Member:
    return Member(description, parameters(required, **optional, tab_id=_TAB), enabled)


def _browser_click(description: str) -> Member:
    return _in_tab(f"{description} at a point or on an element.", {"target": _ANYWHERE}, modifiers=_HELD)


_BROWSER_MEMBERS: Mapping[str, Member] = {
    "navigate": _in_tab(
        "Open an address, or go back, go forward or reload.",
        {"url": string('The address; "https://" may be left out. Or one of "back", "forward" and "reload".')},
    ),
    "list_tabs": Member("List the open tabs with id, title and address.", parameters()),
    "new_tab": Member("Open an empty tab and get its id.", parameters()),
    "switch_tab": Member(
        "Make a tab the active one, which calls without a tab_id act on.", parameters({"tab_id": _THIS_TAB})
    ),
    "close_tab": Member("Close a tab.", parameters({"tab_id": _THIS_TAB})),
    "read_page": _in_tab(
        "Read the page as a tree of its elements, with references that other tools take as their target. At "
        "most 50,000 characters come back: for a larger page, give a ref or a smaller depth.",
        depth=integer("How deep to go into the tree; 15 if left out."),
        filter=enum(
            ("all", "interactive"),
            "interactive: only what can be clicked or filled in; all: also what is out of view; "
            "left out: everything visible.",
        ),
        ref=string("Reference of the element to start from; the whole page if left out."),
    ),
    "get_page_text": _in_tab("Read the visible text of the page. Best for articles and documentation."),
    "read_console": _in_tab("Read what the page wrote to the console since the last read.", enabled=False),
    "read_network": _in_tab(
        "List the page's network requests since the last read: method, address, status, type, timing.",
        enabled=False,
    ),
    "find": _in_tab(
        "Find elements by what they are; up to 20 references come back.",
        {"query": string('What to look for, in plain words, such as "login button".')},
    ),
    "form_input": _in_tab(
        "Fill in a field of a form.",
        {
            "target": _ON_ELEMENT,
            "value": {
                "anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}],
                "description": "The value; for a select an option's value or text, for a checkbox a boolean.",
            },
        },
    ),
    "file_upload": _in_tab(
        "Choose files in a file field of a form. Give paths, document_ids or both.",
        {"target": _ON_ELEMENT},
        enabled=False,
        paths=_strings("Paths of files on the computer that runs the browser."),
        document_ids=_strings("Ids of files that were made ready for the browser."),
    ),
    "scroll_to": _in_tab("Scroll until an element is in view.", {"target": _ON_ELEMENT}),
    "screenshot": _in_tab("See the view of the browser. Points are pixels of this picture."),
    "zoom": _in_tab(
        "See a part of the view enlarged, to read what is small in a screenshot.",
        {"region": integers(4, "[x0, y0, x1, y1] in pixels of the screenshot.")},
    ),
    "left_click": _browser_click("Click with the left button"),
    "right_click": _browser_click("Click with the right button"),
    "middle_click": _browser_click("Click with the middle button"),
    "double_click": _browser_click("Double-click"),
    "triple_click": _browser_click("Triple-click, which mostly selects a line or paragraph,"),
    "hover": _in_tab("Move the mouse over a point or an element without clicking.", {"target": _ANYWHERE}),
    "left_click_drag": _in_tab(
        "Drag with the left button from one point to another.",
        {
            "from": {**_POINT, "description": "The point where the drag starts."},
            "target": {**_POINT, "description": "The point where it ends."},
        },
    ),
    "left_mouse_down": _in_tab("Press the left mouse button at a point and keep it down.", {"target": _AT_POINT}),
    "left_mouse_up": _in_tab("Release the left mouse button at a point.", {"target": _AT_POINT}),
    "mouse_move": _in_tab("Move the mouse to a point without clicking.", {"target": _AT_POINT}),
    "scroll": _in_tab(
        "Turn the mouse wheel at a point.",
        {"target": _AT_POINT, "scroll_direction": SCROLL_DIRECTION},
        scroll_amount=integer("How many notches of the wheel, 1 to 10; 3 if left out."),
    ),
    "type": _in_tab("Type text where the focus is.", {"text": string("The text to type.")}),
    "key": _in_tab(
        'Press a key or a combination joined by "+", such as "Return" or "ctrl+a"; a space between presses.',
        {"text": _CHORD},
        repeat=integer("How many times; once if left out."),
    ),
    "hold_key": _in_tab(
        "Hold a key or a combination down for a while.", {"text": _CHORD, "duration": _BROWSER_SECONDS}
    ),
    "wait": _in_tab("Wait, for a page to load for example.", {"duration": _BROWSER_SECONDS}),
    "javascript_exec": _in_tab(
        "Run JavaScript in the page. The value of the last expression comes back; do not write return.",
        {"text": string("The JavaScript.")},
        enabled=False,
    ),
}

TOOLSETS: Mapping[str, Toolset] = {
    "browser_toolset_20260801": Toolset("browser", _BROWSER_MEMBERS),
    "computer_toolset_20260801": Toolset("computer", _COMPUTER_MEMBERS),
}
"""The toolsets by `type`."""
