"""Connections to hosts with several addresses, some of which may not answer.

asyncio does this too, with parameters that uvloop does not have, and fails with an error that has no number.

Source: RFC 8305 (Happy Eyeballs).
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

__all__ = ["connect"]

_NEXT_SECONDS = 0.25  # RFC 8305, section 5


class _Target(NamedTuple):
    family: int
    address: tuple[Any, ...]


async def connect[P: asyncio.BaseProtocol](
    loop: asyncio.AbstractEventLoop,
    make: Callable[[], P],
    hosts: Sequence[str],
    port: int,
    tls: ssl.SSLContext | None,
    name: str,
) -> tuple[asyncio.Transport, P]:
    """A connection to the first address that accepts one.

    Args:
        loop: The running loop.
        make: Makes its protocol.
        hosts: Names or addresses, at least one.
        port: Their port.
        tls: What a certificate is judged by; None speaks plainly.
        name: Whose certificate it has to be.

    Raises:
        OSError: None accepts, and this is the last one's reason.
    """
    targets = [target for host in hosts for target in await _targets(loop, host, port)]
    opened = await (_open(loop, targets[0]) if len(targets) == 1 else _first(loop, targets))
    if isinstance(opened, BaseException):
        try:
            raise opened
        finally:
            del opened  # it knows this frame, and this frame must not know it
    return await loop.create_connection(make, sock=opened, ssl=tls, server_hostname=name if tls else None)


async def _targets(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[_Target]:
    """The addresses of a host, in the order to try them: the system's, but that families take turns."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)  # asks nobody
    except socket.gaierror:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    targets = [_Target(family, address) for family, _, _, _, address in found]
    families = dict.fromkeys(target.family for target in targets)
    turns = zip_longest(*([each for each in targets if each.family == family] for family in families))
    return [each for turn in turns for each in turn if each is not None]


async def _first(loop: asyncio.AbstractEventLoop, targets: list[_Target]) -> socket.socket | BaseException:
    """A socket to the first that accepts; the next one is tried when one has failed, or kept silent for a moment."""
    tries: set[asyncio.Task[socket.socket]] = set()
    failed: BaseException = OSError("no address")
    try:
        while targets or tries:
            if targets:
                tries.add(loop.create_task(_open(loop, targets.pop(0))))
            timeout = _NEXT_SECONDS if targets else None
            await asyncio.wait(tries, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for each in [each for each in tries if each.done()]:
                tries.remove(each)
                error = each.exception()
                if error is None:
                    return each.result()
                failed = error
        return failed
    finally:
        for each in tries:
            each.cancel()
            each.add_done_callback(_close_unused)


async def _open(loop: asyncio.AbstractEventLoop, target: _Target) -> socket.socket:
    opened = socket.socket(target.family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        await loop.sock_connect(opened, target.address)
    except BaseException:
        opened.close()
        raise
    return opened


def _close_unused(late: asyncio.Task[socket.socket]) -> None:
    if not late.cancelled() and late.exception() is None:
        late.result().close()
