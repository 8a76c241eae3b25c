"""Tunnels through proxies.

Source: RFC 9110, section 9.3.6.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping

from llama_stack_messages_provider.http_client.connecting import connect
from llama_stack_messages_provider.http_client.failures import ProxyError

__all__ = ["open_tunnel"]

_MAX_HEAD_BYTES = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")


async def open_tunnel(
    loop: asyncio.AbstractEventLoop,
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    target: str,
    headers: Mapping[str, str],
) -> asyncio.Transport:
    """A connection to a proxy that hands on what is written to it.

    Args:
        loop: The running loop.
        host, port: The proxy.
        tls: What its certificate is judged by; None speaks plainly.
        target: Host and port of the server behind it.
        headers: What the proxy wants to know.

    Raises:
        OSError: The proxy cannot be reached.
        ProxyError: It makes no tunnel.
    """
    transport, answer = await connect(loop, lambda: _ProxyAnswer(loop), [host], port, tls, host)
    try:
        lines = [
            f"CONNECT {target} HTTP/1.1",
            f"host: {target}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        transport.write("\r\n".join([*lines, "", ""]).encode())
        status = await answer.status
        if not 200 <= status < 300:
            raise ProxyError(status=status)
    except BaseException:
        transport.abort()
        raise
    return transport


class _ProxyAnswer(asyncio.Protocol):
    """Reads the head of a proxy's answer.

    Attributes:
        status: Its status.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.status: asyncio.Future[int] = loop.create_future()
        self._head = bytearray()

    def data_received(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        found = _STATUS.match(self._head)
        if self.status.done():
            return
        if end >= 0 and found is not None:
            self.status.set_result(int(found[1]))
        elif end >= 0 or len(self._head) > _MAX_HEAD_BYTES:
            self.status.set_exception(ProxyError(ConnectionError("not HTTP")))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.status.done():
            cause = exc if isinstance(exc, OSError) else ConnectionResetError("closed without an answer")
            self.status.set_exception(ProxyError(cause))
