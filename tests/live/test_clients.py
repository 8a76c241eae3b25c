"""Llama Stack's own client: over HTTP, and with the whole stack inside its process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import llama_stack_client
import orjson
import pytest
from llama_stack_client import LlamaStackClient, Stream

from tests.conftest import ROOT, RUN_YAML_VARIABLES
from tests.support.laws import assert_well_formed, fold
from tests.support.stack import Stack
from tests.support.wire import Json

ASKED: Json = {
    "model": "claude-any",
    "max_tokens": 12,
    "temperature": 0,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
COUNTED: Json = {"model": "claude-any", "messages": ASKED["messages"]}


# --- over HTTP ---


@pytest.fixture(params=["embedded_stack", "embedded_translation_stack"])
def client(request: pytest.FixtureRequest) -> Iterator[LlamaStackClient]:
    stack: Stack = request.getfixturevalue(request.param)
    with LlamaStackClient(base_url=stack.base_url, max_retries=0) as client:
        yield client


def post(client: LlamaStackClient, path: str = "", **changes: Any) -> Any:
    return client.post(f"/v1/messages{path}", cast_to=object, body={**ASKED, **changes})


def test_the_client_gets_messages_streams_and_counts(client: LlamaStackClient) -> None:
    whole = post(client)
    stream = client.post(
        "/v1/messages",
        cast_to=object,
        body={**ASKED, "stream": True},
        stream=True,
        stream_cls=Stream[object],
    )
    events: list[Any] = list(stream)
    assert_well_formed(events)
    assert_same_answer(fold(events), whole)
    assert_counts(post(client, "/count_tokens"), whole)


def test_the_client_gets_typed_errors(client: LlamaStackClient) -> None:
    with pytest.raises(llama_stack_client.NotFoundError) as missing:
        post(client, model="gpt-zero")
    with pytest.raises(llama_stack_client.BadRequestError) as refused:
        post(client, messages=None)
    assert isinstance(missing.value.body, dict)
    assert isinstance(refused.value.body, dict)
    assert missing.value.body["error"]["type"] == "not_found_error"
    assert refused.value.body["error"]["message"] == "messages: Input should be an array"


def assert_same_answer(streamed: Json, whole: Json) -> None:
    assert streamed["content"][0]["text"] == whole["content"][0]["text"] != ""
    for name in ("stop_reason", "stop_sequence", "model", "role", "type"):
        assert streamed[name] == whole[name]
    assert streamed["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


def assert_counts(counted: Json, message: Json) -> None:
    usage = message["usage"]
    assert counted == {"input_tokens": usage["input_tokens"] + (usage["cache_read_input_tokens"] or 0)}


# --- in the same process ---

SCRIPT = """
import json, sys
from llama_stack.core.library_client import LlamaStackAsLibraryClient
from llama_stack_api import Api
from llama_stack_client import Stream

asked, counted, report = json.loads(sys.argv[1]), json.loads(sys.argv[2]), {}
client = LlamaStackAsLibraryClient("run.yaml")
table = client.async_client.impls[Api.inference].routing_table
report["upstream"] = table.impls_by_provider_id["llama-cpp"].get_base_url()

def post(body, path="/v1/messages"):
    return client.post(path, cast_to=object, body=body)

def stream(**changes):
    body = {**asked, "stream": True, **changes}
    return client.post("/v1/messages", cast_to=object, body=body, stream=True, stream_cls=Stream[object])

def failure(**changes):
    try:
        return post({**asked, **changes})
    except Exception as error:
        return [type(error).__name__, getattr(error, "status", None), str(error)]

report["whole"] = post(asked)
report["events"] = list(stream())
report["counted"] = post(counted, "/v1/messages/count_tokens")
judged = {"safeguards": [{"type": "dangerous_tool_use", "classifier_context": {}}]}
(end,) = [event for event in stream(**judged) if event["type"] == "message_delta"]
report["judged"] = [post({**asked, **judged}), end["delta"]]
report["unknown model"] = failure(model="gpt-zero")
report["broken"] = failure(messages=[])
left = stream(max_tokens=2000)
report["first"] = next(left)
left.close()
report["again"] = post(asked)
client.shutdown()
print("REPORT " + json.dumps(report))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A program that uses the stack as a library, from its start to its end."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "program.py").write_text(SCRIPT)
    command = [sys.executable, folder / "program.py", orjson.dumps(ASKED), orjson.dumps(COUNTED)]
    kept = {name: value for name, value in os.environ.items() if name not in RUN_YAML_VARIABLES}
    env = {**kept, "SQLITE_STORE_DIR": str(folder), "LLAMA_STACK_LOG_FORMAT": "json", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def report(run: subprocess.CompletedProcess[str]) -> Json:
    assert run.returncode == 0, run.stderr[-5000:]
    found: Json = orjson.loads(run.stdout.rpartition("REPORT ")[2])
    return found


def test_the_library_client_gets_messages_streams_and_counts(report: Json) -> None:
    assert report["whole"]["model"] == ASKED["model"]
    assert_well_formed(report["events"])
    assert_same_answer(fold(report["events"]), report["whole"])
    assert_counts(report["counted"], report["whole"])


def test_the_library_client_is_told_of_calls_that_were_judged(report: Json) -> None:
    for answer in report["judged"]:
        (result,) = answer["safeguard_results"]
        assert result == {"type": "dangerous_tool_use", "status": {"type": "available", "tool_uses": {}}}


def test_the_library_client_gets_errors_that_name_the_field(report: Json) -> None:
    told = "model: there is no model gpt-zero; the one model here is llama-cpp/smollm2"
    assert report["unknown model"] == ["NotFoundError", 404, told]
    kind, _, text = report["broken"]
    assert kind == "ValidationError"
    assert "messages" in text


def test_a_stream_that_is_left_in_the_library_client_does_no_harm(report: Json) -> None:
    assert report["first"]["type"] == "message_start"
    assert report["again"]["content"] == report["whole"]["content"]


def test_the_library_client_leaves_nothing_behind(run: subprocess.CompletedProcess[str], report: Json) -> None:
    """No open session, no task without its end, no model server."""
    said = run.stdout + run.stderr
    for word in ("Unclosed", "unclosed", "never awaited", "was destroyed", "never retrieved", "Warning"):
        assert word not in said, said[said.index(word) - 500 :][:2000]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{report['upstream']}/models")
