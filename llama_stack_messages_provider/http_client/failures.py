"""What may go wrong before an answer means anything; an `OSError` of the system stays one."""

__all__ = [
    "ConnectTimeoutError",
    "DisconnectedError",
    "EncodingError",
    "HeadTimeoutError",
    "HttpError",
    "NotHttpError",
    "ProxyError",
]


class HttpError(Exception):
    """No answer, or none that can be read to its end."""


class ConnectTimeoutError(HttpError):
    """Nobody accepted a connection in time."""


class HeadTimeoutError(HttpError):
    """No answer began in time."""


class DisconnectedError(HttpError):
    """The connection was closed before the answer's end."""


class NotHttpError(HttpError):
    """What came is not HTTP, or its headers have no end."""


class EncodingError(HttpError):
    """The body is not packed as its `content-encoding` says."""


class ProxyError(HttpError):
    """The proxy could not be reached, or did not make a tunnel.

    Args:
        cause: The system's failure; None where it answered.
        status: What it answered.
    """

    def __init__(self, cause: OSError | None = None, status: int | None = None) -> None:
        super().__init__(str(cause or status))
        self.cause = cause
        self.status = status
