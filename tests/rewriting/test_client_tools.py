"""Client tools against the SDK: its tool unions, its input types, and the runners that execute calls."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from anthropic.lib.tools._toolsets._computer_registry import COMPUTER
from anthropic.lib.tools._toolsets._registry import BROWSER
from anthropic.tools import BetaLocalFilesystemMemoryTool
from anthropic.tools.browser import (
    BetaAbstractBrowserToolset20260801,
    BetaBrowserNavigateResult,
    BetaBrowserState,
    BetaScreenshotResult,
)
from anthropic.tools.computer import BetaAbstractComputerToolset20260801, BetaComputerCursorPositionResult
from anthropic.types import message_count_tokens_tool_param, tool_union_param
from anthropic.types.beta import (
    BetaMemoryTool20250818Command,
    BetaToolsetToolUseBlock,
    BetaToolUseBlock,
    beta_tool_union_param,
    message_count_tokens_params,
)
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from llama_stack_messages_provider.rewriting import client_tool_schemas, client_tools, toolset_schemas
from llama_stack_messages_provider.rewriting.client_tools import ClientTools, client_tool_functions
from llama_stack_messages_provider.wire.schemas import schemas

Json = dict[str, Any]

SERVER_TYPES = {
    "advisor_20260301",
    "code_execution_20250522",
    "code_execution_20250825",
    "code_execution_20260120",
    "code_execution_20260521",
    "mcp_toolset",
    "tool_search_tool_bm25",
    "tool_search_tool_bm25_20251119",
    "tool_search_tool_regex",
    "tool_search_tool_regex_20251119",
    "web_fetch_20250910",
    "web_fetch_20260209",
    "web_fetch_20260309",
    "web_fetch_20260318",
    "web_search_20250305",
    "web_search_20260209",
    "web_search_20260318",
}
DISPLAY = {"display_width_px": 1280, "display_height_px": 800}
SINGLE_TOOLS: list[Json] = [
    {"type": "bash_20241022", "name": "bash"},
    {"type": "bash_20250124", "name": "bash"},
    {"type": "text_editor_20241022", "name": "str_replace_editor"},
    {"type": "text_editor_20250124", "name": "str_replace_editor"},
    {"type": "text_editor_20250429", "name": "str_replace_based_edit_tool"},
    {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
    {"type": "memory_20250818", "name": "memory"},
    {"type": "computer_20241022", "name": "computer", **DISPLAY},
    {"type": "computer_20250124", "name": "computer", **DISPLAY},
    {"type": "computer_20251124", "name": "computer", **DISPLAY, "enable_zoom": True},
]
TOOLSETS: list[Json] = [{"type": "browser_toolset_20260801"}, {"type": "computer_toolset_20260801"}]
REGISTRIES = {"browser": BROWSER, "computer": COMPUTER}
ALL_ON = [
    {**tool, "configs": {name: {"enabled": True} for name in toolset_schemas.TOOLSETS[tool["type"]].members}}
    for tool in TOOLSETS
]


def _id(tool: Json) -> str:
    return str(tool["type"])


def _only(tool: Json) -> Json:
    """The one function of a tool."""
    (function,) = client_tool_functions(tool) or []
    return dict(function["function"])


def _names(functions: list[Json] | None) -> list[str]:
    return [function["function"]["name"] for function in functions or []]


# The SDK's tool unions


def _literals(annotation: Any) -> Iterator[str]:
    for argument in get_args(annotation):
        yield from [argument] if isinstance(argument, str) else _literals(argument)


def _members(annotation: Any) -> Iterator[type]:
    """The TypedDicts of a union, of a list of it, of an optional one."""
    if get_origin(annotation) is None:
        if hasattr(annotation, "__required_keys__"):
            yield annotation
        return
    for argument in get_args(annotation):
        yield from _members(argument)


def _sdk_tool_types() -> set[str]:
    unions = [
        tool_union_param.ToolUnionParam,
        message_count_tokens_tool_param.MessageCountTokensToolParam,
        beta_tool_union_param.BetaToolUnionParam,
        get_type_hints(message_count_tokens_params.MessageCountTokensParams)["tools"],
    ]
    tools = {member for union in unions for member in _members(union)}
    return {kind for tool in tools for kind in _literals(get_type_hints(tool, include_extras=True)["type"])}


def test_every_tool_type_of_the_sdk_is_the_clients_a_servers_or_custom() -> None:
    types = _sdk_tool_types()
    assert len(types) > 25, "the walk over the SDK's unions finds less than it did"
    client = {kind for kind in types if client_tool_functions({"type": kind}) is not None}
    assert types - client - SERVER_TYPES - {"custom"} == set(), "decide who executes these"
    assert client & SERVER_TYPES == set()


def test_every_client_tool_here_is_known_to_the_sdk() -> None:
    here = {*client_tool_schemas.TOOLS, *toolset_schemas.TOOLSETS}
    assert here <= _sdk_tool_types()
    assert here == {tool["type"] for tool in [*SINGLE_TOOLS, *TOOLSETS]}


def test_every_tool_that_a_request_may_have_is_one_of_theirs() -> None:
    tools = schemas()["CreateMessageRequest"]["properties"]["tools"]
    kinds = [schemas()[part["$ref"]]["properties"]["type"] for part in tools["items"]["anyOf"]]
    values = [kind for each in kinds for kind in each.get("anyOf", [each])]
    types = {kind for each in values for kind in each.get("enum", [each.get("const")])} - {None}
    assert types - {"custom"} == {*client_tool_schemas.TOOLS, *toolset_schemas.TOOLSETS} | SERVER_TYPES


@pytest.mark.parametrize(
    "tool",
    [
        {"name": "get_weather", "input_schema": {"type": "object"}},
        {"type": None, "name": "get_weather", "input_schema": {"type": "object"}},
        {"type": "custom", "name": "bash", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "bash_29991231", "name": "bash"},
        {"type": "mcp_toolset", "mcp_server_name": "files"},
    ],
)
def test_what_is_no_known_client_tool_is_none(tool: Json) -> None:
    assert client_tool_functions(tool) is None


# Every schema


def _all_functions() -> list[Json]:
    return [f["function"] for tool in [*SINGLE_TOOLS, *ALL_ON] for f in client_tool_functions(tool) or ()]


def _walk(schema: Any) -> Iterator[Json]:
    if isinstance(schema, dict):
        yield schema
    for value in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _walk(value)


@pytest.mark.parametrize("function", _all_functions(), ids=lambda f: f["name"])
def test_every_schema_is_valid_and_plain(function: Json) -> None:
    parameters = function["parameters"]
    Draft202012Validator.check_schema(parameters)
    assert json.loads(json.dumps(parameters)) == parameters
    assert parameters["type"] == "object"
    assert set(parameters.get("required", ())) <= set(parameters["properties"])
    for schema in _walk(parameters):
        assert not {"$ref", "$defs", "title", "default", "nullable", "oneOf", "allOf"} & set(schema)
        assert schema.get("type") != "null"


@pytest.mark.parametrize("function", _all_functions(), ids=lambda f: f["name"])
def test_every_function_and_parameter_is_described(function: Json) -> None:
    assert function["name"].replace("_", "").isalnum()
    assert len(function["name"]) <= 64
    assert function["description"].endswith(".")
    for schema in function["parameters"]["properties"].values():
        assert schema["description"][-1] in '."'


# Tools that are one function


@pytest.mark.parametrize("tool", SINGLE_TOOLS, ids=_id)
def test_a_single_tool_is_one_function_of_its_documented_name(tool: Json) -> None:
    assert _only(tool)["name"] == tool["name"] == _only({k: v for k, v in tool.items() if k != "name"})["name"]


def test_bash_takes_a_command_or_a_restart() -> None:
    parameters = _only({"type": "bash_20250124", "name": "bash"})["parameters"]
    assert set(parameters["properties"]) == {"command", "restart"}
    assert "required" not in parameters


@pytest.mark.parametrize(
    ("kind", "undo", "inserted"),
    [
        ("text_editor_20241022", True, "new_str"),
        ("text_editor_20250124", True, "new_str"),
        ("text_editor_20250429", False, "insert_text"),
        ("text_editor_20250728", False, "insert_text"),
    ],
)
def test_the_text_editor_has_the_commands_of_its_version(kind: str, undo: bool, inserted: str) -> None:
    parameters = _only({"type": kind})["parameters"]
    commands = ["view", "create", "str_replace", "insert"]
    assert parameters["properties"]["command"]["enum"] == commands + ["undo_edit"] * undo
    texts = {"file_text", "old_str", "new_str", "insert_line", "view_range"}
    assert set(parameters["properties"]) == {"command", "path", *texts, inserted}
    assert "insert:" in parameters["properties"][inserted]["description"]
    assert parameters["required"] == ["command", "path"]


def test_the_text_editor_tells_how_much_of_a_file_is_shown() -> None:
    tool = {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}
    assert "10000 characters" in _only({**tool, "max_characters": 10000})["description"]
    assert "characters" not in _only({**tool, "max_characters": None})["description"]


def test_the_computer_tool_tells_the_size_of_the_screen() -> None:
    tool = {"type": "computer_20250124", "name": "computer", **DISPLAY}
    assert "1280 pixels wide and 800 pixels high" in _only(tool)["description"]
    assert "None" not in _only({"type": "computer_20250124"})["description"]


def test_the_computer_tool_of_2024_has_no_scrolling_and_clicks_where_the_mouse_is() -> None:
    properties = _only({"type": "computer_20241022", **DISPLAY})["parameters"]["properties"]
    assert set(properties) == {"action", "coordinate", "text"}
    assert len(properties["action"]["enum"]) == 10
    assert "scroll" not in properties["action"]["enum"]


def test_the_later_computer_tools_have_all_actions_of_the_toolset() -> None:
    properties = _only({"type": "computer_20251124", **DISPLAY, "enable_zoom": True})["parameters"]["properties"]
    assert set(properties["action"]["enum"]) == set(COMPUTER.names)
    keys = {key for member in COMPUTER.members.values() for key in member.input.model_fields}
    assert set(properties) - {"action"} == keys - {"repeat"}


@pytest.mark.parametrize("kind", ["computer_20250124", "computer_20251124"])
def test_zoom_is_offered_only_where_it_is_switched_on(kind: str) -> None:
    properties = _only({"type": kind, **DISPLAY})["parameters"]["properties"]
    assert "zoom" not in properties["action"]["enum"]
    assert "region" not in properties


def test_the_memory_tool_takes_what_the_sdks_commands_take() -> None:
    properties = _only({"type": "memory_20250818"})["parameters"]["properties"]
    commands = get_args(get_args(BetaMemoryTool20250818Command)[0])
    literals = [get_args(command.model_fields["command"].annotation)[0] for command in commands]
    assert properties["command"]["enum"] == literals
    assert set(properties) == {field for command in commands for field in command.model_fields}


def test_the_sdks_memory_tool_executes_inputs_of_the_schema(tmp_path: Path) -> None:
    tool = BetaLocalFilesystemMemoryTool(str(tmp_path))
    (function,) = client_tool_functions(dict(tool.to_dict())) or []
    validator = Draft202012Validator(function["function"]["parameters"])
    inputs: list[Json] = [
        {"command": "create", "path": "/memories/a.txt", "file_text": "one\ntwo\n"},
        {"command": "insert", "path": "/memories/a.txt", "insert_line": 0, "insert_text": "zero\n"},
        {"command": "str_replace", "path": "/memories/a.txt", "old_str": "two", "new_str": "2"},
        {"command": "rename", "old_path": "/memories/a.txt", "new_path": "/memories/b.txt"},
        {"command": "view", "path": "/memories/b.txt", "view_range": [1, 2]},
        {"command": "delete", "path": "/memories/b.txt"},
    ]
    for tool_input in inputs:
        validator.validate(tool_input)
        answer = str(tool.call(tool_input))
        if tool_input["command"] == "view":
            assert "zero" in answer
    assert function["function"]["name"] == tool.name


# Toolsets


def _bare(schema: Any) -> Any:
    """A schema without words and lengths, as far as the SDK's types tell them."""
    if isinstance(schema, list):
        return [_bare(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    skipped = {"description", "title", "default", "additionalProperties", "minItems", "maxItems", "$defs"}
    bare = {key: _bare(value) for key, value in schema.items() if key not in skipped}
    if "properties" in schema:
        bare["properties"] = {name: _bare(value) for name, value in schema["properties"].items()}
    if "required" in bare:
        bare["required"] = sorted(bare["required"])
    not_null = [item for item in bare.get("anyOf", ()) if item != {"type": "null"}]
    return not_null[0] if len(not_null) == 1 else bare


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}


@pytest.mark.parametrize("toolset", toolset_schemas.TOOLSETS.values(), ids=lambda t: t.name)
def test_the_members_of_a_toolset_have_the_schemas_of_the_sdks_types(
    toolset: toolset_schemas.Toolset,
) -> None:
    registry = REGISTRIES[toolset.name]
    sdk = {name: member.input.model_json_schema(by_alias=True) for name, member in registry.members.items()}
    expected = {name: _bare(_inlined(schema, schema.get("$defs", {}))) for name, schema in sdk.items()}
    assert {name: _bare(member.parameters) for name, member in toolset.members.items()} == expected
    assert list(toolset.members) == registry.names


@pytest.mark.parametrize("toolset", toolset_schemas.TOOLSETS.values(), ids=lambda t: t.name)
def test_the_members_that_are_off_by_default_are_the_sdks(toolset: toolset_schemas.Toolset) -> None:
    off = {name for name, member in toolset.members.items() if not member.enabled}
    assert off == REGISTRIES[toolset.name].default_disabled


def test_points_and_regions_have_as_many_numbers_as_they_need() -> None:
    members = toolset_schemas.TOOLSETS["computer_toolset_20260801"].members
    drag = members["left_click_drag"].parameters["properties"]
    lengths = {name: (drag[name]["minItems"], drag[name]["maxItems"]) for name in ("coordinate", "start_coordinate")}
    assert lengths == {"coordinate": (2, 2), "start_coordinate": (2, 2)}
    assert members["zoom"].parameters["properties"]["region"]["maxItems"] == 4


def test_a_toolset_offers_its_members_under_its_name() -> None:
    names = _names(client_tool_functions({"type": "computer_toolset_20260801"}))
    assert names == [f"computer_{name}" for name in COMPUTER.names]


def test_a_toolset_with_every_member_off_is_a_client_tool_without_functions() -> None:
    configs = {name: {"enabled": False} for name in COMPUTER.names}
    assert client_tool_functions({"type": "computer_toolset_20260801", "configs": configs}) == []


@pytest.mark.parametrize("configs", [None, {}, {"find": None}, {"find": {}}, {"find": {"enabled": None}}])
def test_what_configs_leave_open_is_the_default(configs: Json | None) -> None:
    names = _names(client_tool_functions({"type": "browser_toolset_20260801", "configs": configs}))
    assert names == [f"browser_{name}" for name in BROWSER.names if name not in BROWSER.default_disabled]


CONFIG = st.one_of(
    st.none(),
    st.booleans(),
    st.fixed_dictionaries({"enabled": st.one_of(st.none(), st.booleans(), st.just("true"))}),
)


@given(st.dictionaries(st.sampled_from(BROWSER.names), CONFIG))
def test_configs_switch_the_members_that_they_switch_in_the_sdk(configs: Json) -> None:
    names = _names(client_tool_functions({"type": "browser_toolset_20260801", "configs": configs}))
    assert names == [f"browser_{name}" for name in BROWSER.names if BROWSER.member_enabled(name, configs)]


def functions_of(offered: ClientTools, tools: list[Json]) -> list[Json]:
    return [function for each in tools for function in offered.functions_of(each) or ()]


def test_both_toolsets_at_once_are_told_apart() -> None:
    tools: list[Json] = [*ALL_ON, *SINGLE_TOOLS[:1]]
    offered = ClientTools(tools)
    names = _names(functions_of(offered, tools))
    assert len(set(names)) == len(names) == len(BROWSER.names) + len(COMPUTER.names) + 1
    assert offered.members.get("browser_zoom", {}) == {"name": "zoom", "toolset_name": "browser"}
    assert offered.members.get("computer_zoom", {}) == {"name": "zoom", "toolset_name": "computer"}


def test_a_call_of_a_single_tool_needs_no_further_fields() -> None:
    offered = ClientTools(SINGLE_TOOLS[:1])
    assert offered.members.get("bash", {}) == {}
    assert offered.members.get("nonsense", {}) == {}
    assert offered.function_name({"type": "tool_use", "name": "bash", "toolset_name": None}) == "bash"


@pytest.mark.parametrize("tool", ALL_ON, ids=_id)
def test_names_survive_the_way_out_and_back(tool: Json) -> None:
    tools: list[Json] = [tool]
    offered = ClientTools(tools)
    for name in _names(functions_of(offered, tools)):
        assert offered.function_name(offered.members.get(name, {})) == name


def test_a_members_name_does_not_clash_with_the_clients_own_tool() -> None:
    own = {"name": "browser_find", "input_schema": {"type": "object"}}
    tools: list[Json] = [own, {"type": "browser_toolset_20260801"}]
    offered = ClientTools(tools)
    assert "browser_find" not in _names(functions_of(offered, tools))
    assert "browser__find" in _names(functions_of(offered, tools))
    assert offered.members.get("browser_find", {}) == {}
    assert offered.members.get("browser__find", {}) == {"name": "find", "toolset_name": "browser"}
    assert offered.function_name({"name": "find", "toolset_name": "browser"}) == "browser__find"
    assert offered.function_name({"name": "browser_find"}) == "browser_find"


def test_the_clients_own_tool_may_have_the_name_of_a_member() -> None:
    own = {"name": "find", "input_schema": {"type": "object"}}
    offered = ClientTools([own, {"type": "browser_toolset_20260801"}])
    assert offered.members.get("find", {}) == {}
    assert offered.function_name({"name": "find"}) == "find"


def test_a_call_of_a_disabled_member_still_goes_to_its_toolset() -> None:
    tools: list[Json] = [{"type": "browser_toolset_20260801"}]
    offered = ClientTools(tools)
    assert "browser_javascript_exec" not in _names(functions_of(offered, tools))
    assert offered.members["browser_javascript_exec"]["toolset_name"] == "browser"


def test_history_may_name_a_toolset_that_is_no_longer_declared() -> None:
    assert ClientTools([]).function_name({"name": "find", "toolset_name": "browser"}) == "browser_find"
    assert ClientTools([]).members.get("browser_find", {}) == {}


# The SDK's toolset runners

_PICTURE = BetaScreenshotResult(data="iVBORw0KGgo=")
_TAB: Any = {"tab_id": "1", "title": "LateMessageStart", "url": "https://example.com", "active": True}


class _Computer(BetaAbstractComputerToolset20260801):
    """Executes every member by noting its input."""

    def __init__(self) -> None:
        super().__init__(confirm=lambda _: True)
        self.seen: list[Any] = []

    def execute(self, context: Any, name: Any, input: Any) -> Any:
        self.seen.append(input)
        position = BetaComputerCursorPositionResult(x=1, y=2)
        return {"screenshot": _PICTURE, "zoom": _PICTURE, "cursor_position": position}.get(name)


class _Browser(BetaAbstractBrowserToolset20260801):
    """Executes every member but `file_upload`, which takes a policy, by noting its input."""

    def __init__(self) -> None:
        on: Any = {name: {"enabled": True} for name in ("read_console", "read_network", "javascript_exec")}
        super().__init__(confirm=lambda _: True, configs=on)
        self.seen: list[Any] = []

    def execute(self, context: Any, name: Any, input: Any) -> Any:
        self.seen.append(input)
        results: Json = {
            "navigate": BetaBrowserNavigateResult(url="https://example.com"),
            "list_tabs": [_TAB],
        }
        results |= dict.fromkeys(("screenshot", "zoom"), _PICTURE) | dict.fromkeys(("new_tab", "switch_tab"), _TAB)
        texts = ("read_page", "find", "get_page_text", "read_console", "read_network", "javascript_exec")
        return (results | dict.fromkeys(texts, "text")).get(name)

    def _browser_state(self, context: Any) -> BetaBrowserState:
        return BetaBrowserState(tabs=[_TAB])


def _sample(schema: Json) -> Any:
    """Some value that the schema allows, with every property."""
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if "anyOf" in schema:
        return _sample(schema["anyOf"][0])
    if schema["type"] == "object":
        return {name: _sample(value) for name, value in schema["properties"].items()}
    if schema["type"] == "array":
        return [_sample(schema["items"])] * schema.get("minItems", 1)
    return {"string": "a", "integer": 1, "number": 1.5, "boolean": True}[schema["type"]]


@pytest.mark.parametrize("toolset_class", [_Browser, _Computer])
def test_the_sdks_toolset_executes_calls_of_every_member(
    toolset_class: type[_Browser] | type[_Computer],
) -> None:
    toolset = toolset_class()
    tools: list[Json] = [dict(toolset.to_dict())]
    offered = ClientTools(tools)
    functions = functions_of(offered, tools)
    assert len(functions) == len(REGISTRIES[toolset.toolset_name].names) - (toolset_class is _Browser)
    for function in (item["function"] for item in functions):
        tool_input = _sample(function["parameters"])
        Draft202012Validator(function["parameters"]).validate(tool_input)
        fields = offered.members.get(function["name"], {})
        block = BetaToolUseBlock.model_validate({"type": "tool_use", "id": "toolu_1", "input": tool_input, **fields})
        result = toolset.tool_result(block)
        assert not result.get("is_error"), (function["name"], result)
        assert result.get("toolset_name") == toolset.toolset_name
        assert toolset.seen[-1].to_dict() == tool_input


@pytest.mark.parametrize("tool", ALL_ON, ids=_id)
def test_the_sdk_reads_a_members_call_as_its_own_type(tool: Json) -> None:
    tools: list[Json] = [tool]
    offered = ClientTools(tools)
    read: TypeAdapter[Any] = TypeAdapter(BetaToolsetToolUseBlock)
    for function in (item["function"] for item in functions_of(offered, tools)):
        fields = offered.members.get(function["name"], {})
        block = {"type": "tool_use", "id": "toolu_1", "caller": {"type": "direct"}, **fields}
        parsed = read.validate_python({**block, "input": _sample(function["parameters"])})
        assert type(parsed.input) is REGISTRIES[fields["toolset_name"]].members[fields["name"]].input


def test_the_schemas_do_not_import_the_sdk() -> None:
    """Its types take more than a second to import, which a request would wait for."""
    module = client_tools.__name__
    check = f"import sys, {module}; sys.exit('anthropic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
