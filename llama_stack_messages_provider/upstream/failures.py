"""How an upstream's failure is told: the provider and the reason in words, and in the log the address too."""

import os
import re
import socket
import ssl

from yarl import URL

from llama_stack_messages_provider.errors import (
    AuthenticationError,
    MessagesError,
    UpstreamError,
    UpstreamTimeoutError,
)
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.http_client.failures import DisconnectedError, NotHttpError, ProxyError
from llama_stack_messages_provider.upstream.endpoint import Endpoint

__all__ = [
    "AnswerTooLargeError",
    "ConnectTimeoutError",
    "ConnectionFailedError",
    "NamedFailures",
    "connect_timeout",
    "did_not_begin",
    "log_failure",
    "no_answer",
    "stopped",
    "unreachable",
]

logger = get_logger(name=__name__, category="providers")


class ConnectionFailedError(UpstreamError):
    """The upstream could not be reached, or hung up before it answered: worth another try."""


class ConnectTimeoutError(UpstreamTimeoutError):
    """The upstream did not accept a connection in time."""


class AnswerTooLargeError(UpstreamError):
    """The upstream's answer is longer than the limit.

    Args:
        limit: The limit, in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"The upstream's answer is longer than {limit} bytes", headers={"x-should-retry": "false"})


def connect_timeout(endpoint: Endpoint, seconds: float) -> ConnectTimeoutError:
    """The connect limit passed."""
    return ConnectTimeoutError(f"{_upstream_of(endpoint)} did not accept a connection within {seconds:g} s")


def did_not_begin(seconds: float) -> UpstreamTimeoutError:
    """The first-byte limit passed."""
    return UpstreamTimeoutError(f"The upstream did not begin to answer within {seconds:g} s")


def stopped(seconds: float) -> UpstreamTimeoutError:
    """The idle limit passed."""
    return UpstreamTimeoutError(f"The upstream's answer stopped for {seconds:g} s")


def unreachable(endpoint: Endpoint, exc: BaseException) -> ConnectionFailedError:
    """No connection, or none that answered in HTTP."""
    return ConnectionFailedError(f"{_upstream_of(endpoint)} could not be reached: {_reason(exc)}")


def no_answer(status: int) -> UpstreamError:
    """A status that neither has a message nor says what is wrong, such as a redirect's."""
    what = "a redirect" if 300 <= status < 400 and status != 304 else "a status that means nothing here"
    return UpstreamError(f"The upstream answered with {what} ({status})", headers={"x-should-retry": "false"})


def log_failure(endpoint: Endpoint, url: str, error: MessagesError) -> None:
    """Tell the log which address failed, without what may be secret in it."""
    try:
        address = str(URL(url).with_user(None).with_query(None))
    except ValueError:
        address = "not a URL"
    cause = repr(error.__cause__) if error.__cause__ else None
    logger.warning("Upstream failed", provider=endpoint.provider_id, url=address, reason=error.message, cause=cause)


class NamedFailures:
    """Within it an upstream's failure names its provider."""

    __slots__ = ("_provider_id",)

    def __init__(self, provider_id: str) -> None:
        self._provider_id = provider_id

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, (AuthenticationError, UpstreamError, UpstreamTimeoutError)):
            exc.message = _named(exc.message, self._provider_id)
            exc.args = (exc.message,)


_UPSTREAM = "The upstream "
_OF_UPSTREAM = re.compile(r"The upstream's (\w+)")


def _named(message: str, provider_id: str) -> str:
    if found := _OF_UPSTREAM.match(message):
        return f"The {found[1]} of provider '{provider_id}'{message[found.end() :]}"
    if message.startswith(_UPSTREAM) and not message.startswith("The upstream of "):
        return f"The upstream of provider '{provider_id}' {message.removeprefix(_UPSTREAM)}"
    return message


def _upstream_of(endpoint: Endpoint) -> str:
    return f"The upstream of provider '{endpoint.provider_id}'"


def _reason(exc: BaseException) -> str:
    # A class stands before those it derives from. The texts of the exceptions name the address, nobody's business.
    match exc:
        case ProxyError():
            answered = f" answered with status {exc.status}"
            return f"its proxy{answered if exc.cause is None else f': {_reason(exc.cause)}'}"
        case ssl.SSLCertVerificationError():
            return "its TLS certificate is not trusted"
        case ssl.SSLError():
            return "the TLS handshake failed"
        case DisconnectedError():
            return "it closed the connection without an answer"
        case NotHttpError():
            return "its answer is not HTTP"
        case OSError():
            return _of_system(exc)
        case ValueError():
            return "its address, or its proxy's, is not one that can be used"
    return type(exc).__name__


def _of_system(exc: OSError) -> str:
    if isinstance(exc, socket.gaierror):  # its numbers are not those of `strerror`
        return "its host name is not known"
    return os.strerror(exc.errno) if exc.errno and exc.errno > 0 else "the connection failed"
