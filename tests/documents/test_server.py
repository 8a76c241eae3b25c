"""A real server between clients with PDFs that were made to hurt, and others."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.conftest import Fleet
from tests.documents.helpers import pdf, pdf_block
from tests.documents.hostile import HOSTILE, slow
from tests.support.stack import Stack, openai_provider
from tests.support.upstream import ScriptedUpstream, text_block
from tests.support.waiting import eventually

type Json = dict[str, Any]

MODEL = "openai/test-model"


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def stack(request: pytest.FixtureRequest, scripted_stack: Callable[..., Stack]) -> Iterator[Stack]:
    with ScriptedUpstream() as upstream:
        by_name = upstream.url.replace("127.0.0.1", "localhost")  # so that names are looked up
        yield scripted_stack(
            inference=[openai_provider(by_name)], messages={"documents": {"pdf_seconds": 300}}, workers=request.param
        )


def asks(data: str, **fields: Any) -> Json:
    content = [text_block("See:"), pdf_block(data)]
    return {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": content}], **fields}


def sent(stack: Stack, request: Json, path: str = "/v1/messages") -> socket.socket:
    """A connection of another client's, on which a request was sent, and nothing was read."""
    body = json.dumps(request).encode()
    connection = socket.create_connection(("127.0.0.1", stack.port), source_address=("127.0.0.2", 0))
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def readers(stack: Stack) -> set[int]:
    """The processes that read PDFs for a server or its workers."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return {pid for pid in parents if _is_reader(pid) and _is_under(pid, stack.pid, parents)}


def _is_reader(pid: int) -> bool:
    try:
        return b"documents.pdf_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _is_under(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != ancestor:
        pid = parents[pid]
    return pid == ancestor


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if _is_reader(pid)}


def test_others_go_on_beside_hostile_pdfs_which_end_with_their_clients_and_with_the_server(stack: Stack) -> None:
    ways = [{"stream": True}, {"stream": True}, {}]
    with anthropic.Anthropic(base_url=stack.base_url, api_key="any", max_retries=0, timeout=60) as client:
        hello: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
        with ExitStack() as hostile:
            for way in ways:
                hostile.enter_context(closing(sent(stack, asks(slow(), **way))))
            counted = {name: value for name, value in asks(slow()).items() if name != "max_tokens"}
            hostile.enter_context(closing(sent(stack, counted, "/v1/messages/count_tokens")))
            eventually(lambda: readers(stack), within=60, what="a PDF is read")
            client.messages.create(**asks(pdf("Hello.")))  # nobody from one address has all processes
            for _ in range(3):
                client.messages.create(**hello, max_tokens=9)
                client.messages.create(**hello, max_tokens=9, stream=True).close()
                assert client.messages.count_tokens(**hello).input_tokens > 0
            assert readers(stack)
        eventually(lambda: not readers(stack), within=60, what="no PDF is read for clients that left")
        client.messages.create(**asks(pdf("Hello.")))
        assert not readers(stack)
    assert "Traceback" not in stack.log()
    with closing(sent(stack, asks(slow()))):
        eventually(lambda: readers(stack), within=60, what="a PDF is read")
        pids = readers(stack)
        stack.stop()
    eventually(lambda: not alive(pids), within=60, what="no process is left")


def test_a_refusal_names_the_block(fleet: Fleet) -> None:
    request = asks(HOSTILE["compressed twice"](), model="openai/openai-model")
    told = r"messages\.0\.content\.1\.source\.data: the PDF takes more than 134217728 bytes of memory to read"
    with anthropic.Anthropic(base_url=fleet.base_url, api_key="any", max_retries=0, timeout=60) as client:
        for stream in (False, True):
            with pytest.raises(anthropic.BadRequestError, match=told):
                client.messages.create(**request, stream=stream)
        del request["max_tokens"]
        with pytest.raises(anthropic.BadRequestError, match=told):
            client.messages.count_tokens(**request)
