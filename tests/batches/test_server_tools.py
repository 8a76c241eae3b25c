"""A batch whose requests search the web and call an MCP server, on PostgreSQL, by replicas of which one is killed."""

import re
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.batches.conftest import postgres_backend
from tests.batches.test_real_server import batch_settings, end_leases, ended, postgres_backends, results, sdk
from tests.support import model as scripted
from tests.support import personalities
from tests.support.mcp_server import McpServer
from tests.support.search import TAVILY, SearchServices, page
from tests.support.stack import Stack, openai_provider, run_config, search_provider, vllm_provider
from tests.support.upstream import ScriptedUpstream, json_reply
from tests.support.waiting import eventually
from tests.support.wire import Json, text_block, tool_use_block

pytestmark = pytest.mark.timeout(600)

TOTAL, AT_ONCE = 200, 8
MODELS = ("openai/openai-model", "vllm/vllm-model")
BETA = ["mcp-client-2025-11-20"]
NAME = re.compile(r"r-\d+")


def searcher(body: Json) -> list[Json]:
    """A model that searches the web and the documents side by side, for what its user says, and tells what it read."""
    if found := scripted.results(body):
        return [text_block(" | ".join(found))]
    asked: Any = {"query": scripted.said(body)}
    names = [name for name in scripted.offered(body) if name in ("web_search", "mcp__docs__search")]
    return [tool_use_block(name, asked, id=f"toolu_{name}") for name in names]


def request(number: int) -> Any:
    """One whose text is its `custom_id`; every other one goes natively."""
    name = f"r-{number}"
    only_search = {"default_config": {"enabled": False}, "configs": {"search": {"enabled": True}}}
    params = {
        "model": MODELS[number % 2],
        "max_tokens": 99,
        "messages": [{"role": "user", "content": name}],
        "mcp_servers": [{"type": "url", "name": "docs", "url": ""}],
        "tools": [
            {"type": "web_search_20250305", "name": "web_search"},
            {"type": "mcp_toolset", "mcp_server_name": "docs", **only_search},
        ],
    }
    return {"custom_id": name, "params": params}


def asked_for(messages: list[Json]) -> str:
    """The `custom_id` of what an upstream was asked."""
    found = NAME.search(str(messages[0]["content"]))
    assert found is not None
    return found[0]


def test_a_killed_replica_s_requests_are_run_by_the_other_and_no_others_twice(tmp_path: Path) -> None:
    backends = postgres_backends()
    with ExitStack() as opened:
        web = opened.enter_context(SearchServices(tmp_path))
        web.services.reply(
            TAVILY,
            lambda seen: json_reply(
                {
                    "query": seen.json["query"],
                    "results": [page("https://a.test", seen.json["query"], f"Web on {seen.json['query']}.")],
                }
            ),
        )
        docs = opened.enter_context(McpServer("docs", "operator"))
        openai = opened.enter_context(ScriptedUpstream(personalities.openai_style(models=["openai-model"])))
        vllm = opened.enter_context(ScriptedUpstream(personalities.vllm(models=["vllm-model"])))
        for upstream in (openai, vllm):
            scripted.serve(upstream, searcher, delay=0.3)
        stacks = []
        for number in range(2):
            folder = tmp_path / str(number)
            config = run_config(
                folder,
                inference=[
                    openai_provider(openai.url, api_key=str(number)),
                    vllm_provider(vllm.url, api_token=str(number)),
                ],
                tool_runtime=[search_provider("tavily")],
                connectors=[{"connector_id": "docs", "url": docs.url}],
                messages={**batch_settings(concurrency=AT_ONCE), "mcp": {"tokens": {"docs": "operator"}}},
                backends=backends,
            )
            stacks.append(opened.enter_context(Stack(config, folder, env=web.env)))
        client = sdk(stacks[0])
        batch_id = client.beta.messages.batches.create(requests=[request(n) for n in range(TOTAL)], betas=BETA).id
        eventually(lambda: len(docs.searches) > TOTAL // 3, within=120, what="a third of the calls")
        process, before = stacks[1].pid, time.monotonic()
        stacks[1].kill()
        end_leases(postgres_backend(), process)
        batch = ended(client, batch_id)

        assert batch.request_counts.succeeded == TOTAL
        for name, line in results(client, batch_id).items():
            message: Any = line.result.message  # type: ignore[union-attr]
            kinds = [block.type for block in message.content]
            assert kinds == [
                *("server_tool_use", "mcp_tool_use"),
                *("web_search_tool_result", "mcp_tool_result", "text"),
            ]
            said = message.content[-1].text
            assert set(NAME.findall(said)) == {name}
            assert f"Web on {name}." in said
            assert f"docs on {name} for operator" in said
            assert message.usage.server_tool_use.web_search_requests == 1

    runs: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for upstream in (openai, vllm):
        for seen in upstream.requests:
            messages = (seen.json or {}).get("messages") or []
            if messages and NAME.search(str(messages[0]["content"])) and not scripted.results(seen.json):
                replica = seen.headers["authorization"].removeprefix("Bearer ")
                runs[asked_for(messages)].append((replica, seen.received_at))
    searched = Counter(name for name, _ in docs.searches)
    assert set(runs) == set(searched) == {f"r-{n}" for n in range(TOTAL)}
    again = {name: times for name, times in runs.items() if len(times) > 1}
    # Run again is only what the dead server held: twice its concurrency, and what it had not recorded.
    assert len(again) <= 2 * AT_ONCE
    for name, times in again.items():
        # By whom, and not in which order: what the dead server sent last may be read after its end.
        assert sorted(replica for replica, _ in times) == ["0", "1"], f"{name} was run by {times}"
        assert dict(times)["0"] > before, f"{name} ran twice by two live servers"
    assert {name for name, count in searched.items() if count > 1} <= set(again)
    assert max(searched.values()) <= 2
    assert len(web.queries) - TOTAL <= 2 * AT_ONCE
    print(f"run again after the kill: {len(again)} of {TOTAL}")
