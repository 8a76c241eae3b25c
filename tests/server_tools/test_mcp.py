"""The MCP connector against real MCP servers, and its pure parts."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from anthropic.types.beta import BetaMCPToolListingBlock, BetaMCPToolResultBlock, BetaMCPToolUseBlock
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.config import McpConfig
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.server_tools.mcp.addresses import AllowedServers
from llama_stack_messages_provider.server_tools.mcp.blocks import plain_result, result_texts
from llama_stack_messages_provider.server_tools.mcp.connector import McpConnector, McpTools, openings
from llama_stack_messages_provider.server_tools.mcp.definitions import toolsets_of
from llama_stack_messages_provider.server_tools.mcp.names import MOST, custom_name
from llama_stack_messages_provider.server_tools.plain import plain_request
from llama_stack_messages_provider.server_tools.registry import ServerTools
from tests.server_tools.helpers import ALLOWED_SERVER, server_tools
from tests.support.mcp_server import PIXEL, McpServer
from tests.support.wire import Json
from tests.translation.helpers import assistant, text, tool, tool_use, user

LOCAL = {"allow": ["http://127.0.0.1:*/*"], "networks": ["127.0.0.0/8"]}


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[McpServer, McpServer]]:
    with McpServer("docs", "secret", "other") as docs, McpServer("wiki") as wiki:
        yield docs, wiki


@pytest.fixture
def docs(servers: tuple[McpServer, McpServer]) -> McpServer:
    servers[0].forget()
    return servers[0]


@pytest.fixture
def wiki(servers: tuple[McpServer, McpServer]) -> McpServer:
    servers[1].forget()
    return servers[1]


def named(name: str, url: str, **more: Any) -> Json:
    return {"type": "url", "name": name, "url": url, **more}


def toolset(name: str, **more: Any) -> Json:
    return {"type": "mcp_toolset", "mcp_server_name": name, **more}


def asks(*servers: Json, tools: Any = None, **more: Any) -> Json:
    tools = [toolset(each["name"]) for each in servers] if tools is None else tools
    return {"model": "m", "messages": [user("Otters?")], "mcp_servers": [*servers], "tools": tools, **more}


def connector(**config: Any) -> McpConnector:
    return McpConnector(McpConfig.model_validate({**LOCAL, **config}))


async def opened(request: Json, connecting: McpConnector | None = None) -> dict[str, McpTools]:
    found = await (connecting or connector()).open(request, set(), DroppedFields(strict=True))
    return {path: tools for path, tools in found.items() if tools is not None}


async def called(tools: McpTools, name: str, **arguments: Any) -> Json:
    server = tools.toolset.server.name
    block = {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": name, "server_name": server, "input": arguments}
    BetaMCPToolUseBlock.model_validate(block)
    result = await tools.run(block, {})
    assert set(result) == set(BetaMCPToolResultBlock.model_validate(result).model_dump())
    return result


# --- servers ---


async def test_two_servers_with_tools_of_one_name(docs: McpServer, wiki: McpServer) -> None:
    request = asks(named("docs", docs.url, authorization_token="secret"), named("wiki", wiki.url))
    tools = await opened(request)
    first, second = tools["tools.0"], tools["tools.1"]
    assert first.definitions[0]["name"] == "mcp__docs__search"
    assert first.definitions[0]["description"] == "Searches the docs."
    assert first.definitions[0]["input_schema"]["properties"]["query"]["type"] == "string"
    assert first.call_fields("mcp__docs__search") == {"type": "mcp_tool_use", "name": "search", "server_name": "docs"}
    results = await asyncio.gather(called(first, "search", query="a"), called(second, "search", query="b"))
    assert [each["content"] for each in results] == [[text("docs on a for secret")], [text("wiki on b")]]
    assert docs.calls == [("search", "secret")]
    assert wiki.calls == [("search", None)]
    for each in tools.values():
        await each.close()


async def test_calls_of_one_message_are_of_one_session(wiki: McpServer) -> None:
    for _ in range(2):
        tools = (await opened(asks(named("wiki", wiki.url))))["tools.0"]
        await called(tools, "search", query="a")
        await called(tools, "search", query="b")
        await tools.close()
    first, second, third, fourth = wiki.sessions
    assert (first == second, third == fourth, first == third) == (True, True, False)


async def test_an_answer_is_not_held_against_a_schema_of_the_server_s(wiki: McpServer) -> None:
    """The client of the `mcp` package would: with patterns and links of the server's choice."""
    tools = (await opened(asks(named("wiki", wiki.url))))["tools.0"]
    assert (await called(tools, "broken"))["content"] == [text("not what the schema says")]
    assert wiki.listed == 1
    await tools.close()


async def test_the_older_transport(docs: McpServer) -> None:
    tools = (await opened(asks(named("docs", docs.events_url, authorization_token="secret"))))["tools.0"]
    assert (await called(tools, "search", query="a"))["content"] == [text("docs on a for secret")]
    await tools.close()


async def test_whatever_goes_wrong_is_told_to_the_model(wiki: McpServer) -> None:
    tools = (await opened(asks(named("wiki", wiki.url)), connector(characters=1000)))["tools.0"]
    failed = await called(tools, "fail", why="no otters")
    assert (failed["is_error"], "no otters" in failed["content"][0]["text"]) == (True, True)
    died = await called(tools, "die")
    assert died["is_error"]
    assert "connection broke" in died["content"][0]["text"]
    unknown = await called(tools, "no_such_tool")
    assert unknown["is_error"]
    large = await called(tools, "large", size=5_000_000)
    assert len(large["content"][0]["text"]) == 1000
    assert "has 5000000 characters" in large["content"][1]["text"]
    await tools.close()


async def test_a_tool_that_stalls_is_given_up(wiki: McpServer) -> None:
    tools = (await opened(asks(named("wiki", wiki.url)), connector(seconds=0.5)))["tools.0"]
    stalled = await called(tools, "stall")
    assert stalled["content"][0]["text"] == "The MCP server 'wiki' failed: it did not answer within 0.5 s"
    await tools.close()


async def test_a_session_goes_on_after_a_failure(wiki: McpServer) -> None:
    tools = (await opened(asks(named("wiki", wiki.url))))["tools.0"]
    for name in ("die", "fail"):
        assert (await called(tools, name, why="x"))["is_error"]
        assert (await called(tools, "search", query="still there"))["is_error"] is False
    assert len(set(wiki.sessions)) == 1
    await tools.close()


async def test_an_answer_above_the_limit_is_a_failure(wiki: McpServer) -> None:
    tools = (await opened(asks(named("wiki", wiki.url)), connector(answer_bytes=100_000)))["tools.0"]
    result = await called(tools, "large", size=200_000)
    assert result["is_error"]
    assert "larger than 100000 bytes" in result["content"][0]["text"]
    await tools.close()


async def test_a_server_that_is_gone_in_mid_message() -> None:
    gone = McpServer("gone").__enter__()
    tools = (await opened(asks(named("gone", gone.url))))["tools.0"]
    await asyncio.to_thread(gone.__exit__, None, None, None)
    result = await called(tools, "search", query="a")
    assert (result["is_error"], "no connection" in result["content"][0]["text"]) == (True, True)
    await tools.close()


async def test_a_session_that_the_server_forgot_is_opened_anew(wiki: McpServer) -> None:
    tools = (await opened(asks(named("wiki", wiki.url))))["tools.0"]
    assert (await called(tools, "search", query="a"))["is_error"] is False
    wiki.forget_sessions()
    lost = await called(tools, "search", query="b")
    assert (lost["is_error"], "status 404" in lost["content"][0]["text"]) == (True, True)
    assert (await called(tools, "search", query="c"))["is_error"] is False
    await tools.close()


async def test_images_and_resources_reach_the_model(wiki: McpServer) -> None:
    tools = (await opened(asks(named("wiki", wiki.url))))["tools.0"]
    result = await called(tools, "picture")
    plain = tools.plain_result(result, "messages.1.content.1", DroppedFields())
    assert plain is not None
    assert plain.content == [
        text("Look:"),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        text('<resource uri="file:///notes.txt" type="text/plain">\nNotes.\n</resource>'),
        text('<resource uri="file:///notes.txt" type="application/zip">\n[3 bytes that cannot be shown]\n</resource>'),
    ]
    await tools.close()


async def test_listings_are_kept_for_their_server_and_token(docs: McpServer) -> None:
    connecting = connector()
    for token in ("secret", "secret", "other"):
        await opened(asks(named("docs", docs.url, authorization_token=token)), connecting)
    assert docs.listed == 2
    for token in ("wrong", None):
        with pytest.raises(InvalidRequestError, match=r"mcp_servers\.0\.authorization_token: Invalid authorization"):
            await opened(asks(named("docs", docs.url, authorization_token=token)), connecting)


async def test_a_server_that_does_not_list_its_tools() -> None:
    with pytest.raises(InvalidRequestError, match=r"mcp_servers\.0\.url: MCP server 'gone' does not list its tools"):
        await opened(asks(named("gone", "http://127.0.0.1:1/mcp")))


async def test_listings_are_recorded_and_pinned(wiki: McpServer) -> None:
    request = asks(named("wiki", wiki.url))
    first = (await opened(request))["tools.0"]
    [block] = openings([first])
    BetaMCPToolListingBlock.model_validate(block)
    block = {**block, "tools": block["tools"][:1]}
    for pinned in (
        {**request, "messages": [user("Otters?"), assistant(block, text("So.")), user("And?")]},
        {**request, "tools": [toolset("wiki", tools=block["tools"])]},
    ):
        again = (await opened(pinned))["tools.0"]
        assert [each["name"] for each in again.definitions] == ["mcp__wiki__search"]
        assert openings([again]) == []
    assert wiki.listed == 1


async def test_private_addresses_are_not_connected_to() -> None:
    """Nobody listens there: who tried would say so."""
    with pytest.raises(InvalidRequestError, match="its address is not one that may be connected to"):
        await opened(asks(named("wiki", "http://127.0.0.1:9/mcp")), connector(networks=[]))


async def test_redirects_stay_with_the_server(docs: McpServer, wiki: McpServer) -> None:
    docs.away = wiki.url
    away = named("docs", docs.url.replace("/mcp", "/away"), authorization_token="secret")
    with pytest.raises(InvalidRequestError, match=r"mcp_servers\.0\.url: .* status 307"):
        await opened(asks(away))
    assert wiki.methods == []
    docs.away = docs.url
    tools = (await opened(asks(away)))["tools.0"]
    assert (await called(tools, "search", query="a"))["content"] == [text("docs on a for secret")]
    await tools.close()


async def test_servers_that_may_not_be_named_are_left_out(wiki: McpServer) -> None:
    dropped = DroppedFields()
    request = asks(named("wiki", wiki.url), named("evil", "http://169.254.169.254/mcp"))
    found = await connector().open(request, set(), dropped)
    assert ([*found], found["tools.1"], dropped.names) == (["tools.0", "tools.1"], None, ["mcp_servers.1"])
    plain = plain_request(request, found, dropped)
    assert "mcp_servers" not in plain
    assert {each["name"] for each in plain["tools"]} == {each["name"] for each in found["tools.0"].definitions}  # type: ignore[union-attr]
    assert await connector(allow=[]).open(request, set(), dropped) == {}


async def test_tool_groups_of_the_stack_are_used_by_name_or_address(wiki: McpServer) -> None:
    """The host's routing table shows a user the groups that its policy lets them read."""

    class Groups:
        impls_by_provider_id: Json = {  # noqa: RUF012
            "mcp": SimpleNamespace(__provider_spec__=SimpleNamespace(provider_type="remote::model-context-protocol")),
            "other": SimpleNamespace(),
        }

        async def get_all_with_type(self, kind: str) -> list[Any]:
            assert kind == "tool_group"
            endpoint = SimpleNamespace(uri=wiki.url)
            return [
                SimpleNamespace(identifier="mcp::wiki", provider_id="mcp", mcp_endpoint=endpoint),
                SimpleNamespace(identifier="mcp::other", provider_id="other", mcp_endpoint=endpoint),
                SimpleNamespace(identifier="builtin::websearch", provider_id="mcp", mcp_endpoint=None),
            ]

    runtime = SimpleNamespace(routing_table=Groups())
    config = McpConfig.model_validate({"tokens": {"mcp::wiki": "operator"}})
    connecting = McpConnector(config, runtime)
    for server in ({"type": "url", "name": "mcp::wiki"}, named("mine", wiki.url)):
        tools = (await opened(asks(server), connecting))["tools.0"]
        assert (await called(tools, "search", query="a"))["content"] == [text("wiki on a for operator")]
        await tools.close()
    for server in ({"type": "url", "name": "mcp::other"}, named("mcp::wiki", "https://else.test/mcp")):
        assert await connecting.open(asks(server), set(), DroppedFields()) == {}


async def test_without_a_toolset_all_tools_are_offered_as_before_there_were_any(wiki: McpServer) -> None:
    only = {"tool_configuration": {"allowed_tools": ["search", "fail"]}}
    request = asks(named("wiki", wiki.url, **only), tools=[tool("look")])
    plain = plain_request(request, await opened(request), DroppedFields())
    assert [each["name"] for each in plain["tools"]] == ["look", "mcp__wiki__search", "mcp__wiki__fail"]
    off = asks(named("wiki", wiki.url, tool_configuration={"enabled": False}), tools=[])
    assert plain_request(off, await opened(off), DroppedFields())["tools"] == []


# --- definitions ---

SERVERS = [named("a", "https://a.test/mcp"), named("b", "https://b.test/mcp")]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (asks(*SERVERS, tools=[toolset("a")]), "mcp_servers.1.name: no mcp_toolset in tools uses the server 'b'"),
        (asks(tools=[toolset("c")]), "tools.0.mcp_server_name: there is no server 'c' in mcp_servers"),
        (
            asks(SERVERS[0], tools=[toolset("a"), toolset("a")]),
            "tools.1.mcp_server_name: 'a' has a toolset already",
        ),
        (asks(SERVERS[0], SERVERS[0]), "mcp_servers.1.name: another server has the name 'a'"),
        (asks(named("a", 7)), "mcp_servers.0.url: Input should be a valid string"),  # type: ignore[arg-type]
        (asks(SERVERS[0], tools=[toolset("a", configs={"x": 1})]), "tools.0.configs.x: "),
        (asks(*([SERVERS[0]] * 21)), "mcp_servers: at most 20 servers can be used"),
        ({"mcp_servers": "a"}, "mcp_servers: Input should be a valid array"),
        ({"mcp_servers": [1]}, "mcp_servers.0: Input should be an object"),
    ],
)
def test_what_is_not_as_documented_is_refused_by_its_path(request_: Json, message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        toolsets_of(request_, most_servers=20)
    assert refused.value.message.startswith(message)


SHAPES = st.recursive(
    st.sampled_from([None, True, 5, "a", "b", "url", "mcp_toolset", "https://mcp.test/mcp"]),
    lambda each: (
        st.lists(each, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "name",
                    "url",
                    "mcp_server_name",
                    "configs",
                    "default_config",
                    "tools",
                    "tool_configuration",
                    "a",
                ]
            ),
            each,
            max_size=4,
        )
    ),
    max_leaves=8,
)
SERVER_SHAPES = SHAPES | st.lists(
    st.builds(
        lambda more: {**SERVERS[0], **more},
        st.dictionaries(st.sampled_from(["name", "url", "authorization_token", "tool_configuration"]), SHAPES),
    )
)
TOOL_SHAPES = SHAPES | st.lists(
    st.builds(
        lambda more: {**toolset("a"), **more},
        st.dictionaries(
            st.sampled_from(["mcp_server_name", "configs", "default_config", "tools", "cache_control"]), SHAPES
        ),
    )
)


@given(SERVER_SHAPES, TOOL_SHAPES, SHAPES)
async def test_any_shape_is_read_or_refused_by_its_path(servers: Any, tools: Any, content: Any) -> None:
    request = {"mcp_servers": servers, "tools": tools, "messages": [{"role": "assistant", "content": content}]}
    toolsets, refusal = [], "mcp_servers"
    try:
        toolsets = toolsets_of(request, most_servers=2)
    except InvalidRequestError as exc:
        refusal = exc.message
    assert refusal.startswith(("mcp_servers", "tools."))
    for each in toolsets:
        list(each.offered(each.pinned or LISTING))


LISTING = [{"name": name, "input_schema": {}} for name in ("x", "y", "z", "x")]


@pytest.mark.parametrize(
    ("more", "offered"),
    [
        ({}, {"x": False, "y": False, "z": False}),
        ({"default_config": {"enabled": False}, "configs": {"y": {"enabled": True}}}, {"y": False}),
        ({"configs": {"y": {"enabled": False}, "unknown": {}}}, {"x": False, "z": False}),
        (
            {"default_config": {"defer_loading": True}, "configs": {"x": {"defer_loading": False}}},
            {"x": False, "y": True, "z": True},
        ),
    ],
)
def test_which_tools_are_offered(more: Json, offered: Json) -> None:
    [found] = toolsets_of(asks(SERVERS[0], tools=[toolset("a", **more)]), most_servers=20)
    assert {each["name"]: deferred for each, deferred in found.offered(LISTING)} == offered


def test_the_older_list_and_the_toolset_both_have_to_allow_a_tool() -> None:
    server = {**SERVERS[0], "tool_configuration": {"allowed_tools": ["x", "y"]}}
    [found] = toolsets_of(asks(server, tools=[toolset("a", configs={"y": {"enabled": False}})]), most_servers=20)
    assert [each["name"] for each, _ in found.offered(LISTING)] == ["x"]


def test_a_token_is_not_in_what_is_logged() -> None:
    [found] = toolsets_of(asks(named("a", "https://a.test", authorization_token="secret")), most_servers=20)
    assert "secret" not in repr(found)


# --- names, addresses, blocks ---

ANY = st.text(st.sampled_from("ab_-./é:"), max_size=80)


@given(st.lists(st.tuples(ANY, ANY), min_size=2, max_size=2, unique=True), st.booleans())
def test_names_are_valid_and_never_the_same(pairs: list[tuple[str, str]], is_taken: bool) -> None:
    first, second = (custom_name(*pair) for pair in pairs)
    assert first != second
    taken = {first} if is_taken else set()
    again = custom_name(*pairs[0], taken)
    assert (again == first) is not (is_taken and not first.endswith(again[-11:]))
    for name in (first, again):
        assert 0 < len(name) <= MOST
        assert name.isascii()
        assert name.replace("_", "").replace("-", "").isalnum()


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://a.example.com/mcp", True),
        ("https://a.b.example.com/mcp", True),
        ("https://EXAMPLE.com:443/other/mcp", True),
        ("https://example.com/mcp?key=1", False),
        ("https://evil.test/.example.com/mcp", False),
        ("https://evil.test?.example.com/mcp", False),
        ("https://evil.test#.example.com/mcp", False),
        ("https://a.example.com@evil.test/mcp", False),
        ("https://user:pass@a.example.com/mcp", False),
        ("https://evil.test\\.example.com/mcp", False),
        ("http://a.example.com/mcp", False),
        ("https://a.example.com:8443/mcp", False),
        ("https://example.com/other/../mcp", False),
        ("https://example.com/other/%2e%2e/mcp", False),
        ("http://[::1]:8000/mcp", True),
        ("file:///etc/passwd", False),
        ("http://", False),
        ("", False),
        ("https://exa mple.com/mcp", False),
    ],
)
def test_which_servers_a_client_may_name(url: str, allowed: bool) -> None:
    patterns = ["https://*.example.com/mcp", "https://example.com/other/*", "http://[::1]:*/mcp"]
    assert AllowedServers(patterns).allows(url) is allowed


@pytest.mark.parametrize("pattern", ["*", "example.com", "https://", "https://a@b/", "ftp://a/", "https://a/?b"])
def test_a_pattern_that_is_none_ends_the_start(pattern: str) -> None:
    with pytest.raises(ValueError, match="not a pattern of URLs"):
        AllowedServers([pattern])


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ([], []),
        ([{"type": "text", "text": "a\ud800"}], ["a?"]),
        (
            [{"type": "image", "data": "!", "mimeType": "image/png"}],
            ["[an image of type image/png that cannot be shown]"],
        ),
        ([{"type": "audio", "data": "", "mimeType": "audio/wav"}], ["[audio of type audio/wav that cannot be shown]"]),
        (
            [{"type": "resource_link", "uri": "file:///a", "name": "a", "description": "About."}],
            ['<resource_link uri="file:///a" name="a">\nAbout.\n</resource_link>'],
        ),
    ],
)
def test_what_a_result_says(content: list[Json], texts: list[str]) -> None:
    assert result_texts({"content": content}, most_characters=100) == texts


def test_a_structured_result_without_text_is_told_as_json() -> None:
    assert result_texts({"content": [], "structuredContent": {"a": 1}}, most_characters=100) == ['{"a": 1}']


@given(
    st.recursive(st.none() | st.text() | st.booleans(), lambda each: st.lists(each) | st.dictionaries(st.text(), each))
)
def test_any_history_is_read_or_left(content: Any) -> None:
    plain_result({"type": "mcp_tool_result", "tool_use_id": "a", "content": content})


# --- the history ---


async def test_the_history_reads_as_it_was_said(wiki: McpServer) -> None:
    request = asks(named("wiki", wiki.url), tools=[toolset("wiki"), tool("mcp__wiki__search")])
    use = {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "search", "server_name": "wiki", "input": {"query": "a"}}
    result = {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "content": [text("A"), text("B")]}
    listing = {"type": "mcp_tool_listing", "mcp_server_name": "gone", "tools": []}
    turns = [user("?"), assistant(listing, text("I look."), use, result, text("So.")), assistant(listing), user("!")]
    tools = await ServerTools([], connector()).open({**request, "messages": turns}, DroppedFields())
    plain = plain_request({**request, "messages": turns}, tools, DroppedFields())
    name = custom_name("wiki", "search", {"mcp__wiki__search"})
    assert name != "mcp__wiki__search"
    assert name in [each["name"] for each in plain["tools"]]
    assert plain["messages"] == [
        user("?"),
        assistant(text("I look."), tool_use("mcptoolu_1", name, query="a")),
        user({"type": "tool_result", "tool_use_id": "mcptoolu_1", "content": "A\nB"}),
        assistant(text("So.")),
        user("!"),
    ]


PINNED = [
    toolset("docs", tools=[{"name": "search", "input_schema": {}}, {"name": "read", "input_schema": {}}]),
    toolset("wiki", tools=[{"name": "search", "input_schema": {}}]),
]


async def plain_of(**more: Any) -> Json:
    request = asks(named("docs", ALLOWED_SERVER), named("wiki", ALLOWED_SERVER), tools=PINNED, **more)
    tools = await server_tools().open(request, DroppedFields(strict=True))
    return plain_request(request, tools, DroppedFields(strict=True))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("read", "mcp__docs__read"),
        ("docs_search", "mcp__docs__search"),
        ("wiki_search", "mcp__wiki__search"),
        ("mcp__wiki__search", "mcp__wiki__search"),
        ("search", "search"),
        ("other", "other"),
    ],
)
async def test_a_choice_of_a_tool_of_a_server(name: str, known: str) -> None:
    plain = await plain_of(tool_choice={"type": "tool", "name": name})
    assert plain["tool_choice"] == {"type": "tool", "name": known}


async def test_tools_of_a_server_come_and_go() -> None:
    both = {"type": "tool_removal", "tool": {"type": "mcp_toolset_reference", "server_name": "docs"}}
    one = {"type": "tool_addition", "tool": {"type": "mcp_tool_reference", "server_name": "wiki", "name": "search"}}
    gone = {"type": "tool_removal", "tool": {"type": "mcp_toolset_reference", "server_name": "gone"}}
    plain = await plain_of(messages=[user("?"), {"role": "system", "content": [both, one, gone]}])
    named_ = [block["tool"].get("name") for block in plain["messages"][1]["content"]]
    assert named_ == ["mcp__docs__search", "mcp__docs__read", "mcp__wiki__search", None]


async def test_a_server_that_is_added_on_the_way() -> None:
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": PINNED[1]}}
    request = asks(named("wiki", ALLOWED_SERVER), tools=[tool("look")])
    request["messages"] = [user("?"), {"role": "system", "content": [added]}, user("!")]
    tools = await server_tools().open(request, DroppedFields(strict=True))
    plain = plain_request(request, tools, DroppedFields(strict=True))
    [block] = plain["messages"][1]["content"]
    assert block["tool"]["definition"]["name"] == "mcp__wiki__search"
    assert "mcp_servers" not in plain


async def test_deferred_tools_of_a_server_are_found_by_a_tool_search() -> None:
    later = {**PINNED[0], "default_config": {"defer_loading": True}}
    search = {"type": "tool_search_tool_bm25", "name": "tool_search_tool_bm25"}
    request = asks(named("docs", ALLOWED_SERVER), tools=[search, later])
    opened_tools = await server_tools().open(request, DroppedFields(strict=True))
    plain = plain_request(request, opened_tools, DroppedFields(strict=True))
    assert [each.get("defer_loading") for each in plain["tools"]] == [None, True, True]
    searches = opened_tools["tools.0"]
    assert searches is not None
    block = {"type": "server_tool_use", "id": "a", "name": search["name"], "input": {"query": "read docs"}}
    found = await searches.run(block, plain)
    assert found["content"]["tool_references"][0] == {"type": "tool_reference", "tool_name": "mcp__docs__read"}
