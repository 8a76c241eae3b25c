"""Errors in Anthropic's shape.

```
MessagesError                    anything a client is told, with the HTTP status and Anthropic's error type
├── InvalidRequestError    400   the client broke the rule; names the path of the offending field
├── AuthenticationError    401
├── PermissionDeniedError  403
├── NotFoundError          404
├── ConflictError          409   (type invalid_request_error)
├── RequestTooLargeError   413
├── RateLimitError         429
├── ApiError               500   we broke the rule
├── UpstreamError          502   the upstream broke the rule (type api_error)
├── OverloadedError        529
└── UpstreamTimeoutError   504   (type timeout_error)
```

Source: https://platform.claude.com/docs/en/api/errors and `anthropic.types.shared.error_type`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from llama_stack_messages_provider.adaptation.refusals import Refusal

__all__ = [
    "ApiError",
    "AuthenticationError",
    "ConflictError",
    "ErrorType",
    "InvalidRequestError",
    "MessagesError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTooLargeError",
    "UpstreamError",
    "UpstreamTimeoutError",
    "error_body",
]

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "timeout_error",
    "overloaded_error",
    "api_error",
]


class MessagesError(Exception):
    """An answer that is an error: its status, Anthropic's type, and a message for the client.

    Args:
        message: What the client reads; names the offending field first, if there is one.
        status: HTTP status, if it differs from the class's own.
        error_type: Anthropic's error type, if it differs from the class's own.
        headers: Headers handed on to the client, such as `retry-after`.
        details: What programs read, such as an `error_code`: `anthropic.types.shared.error_details`.

    Attributes:
        refusal: What an upstream refused, where one did.
    """

    status: int = 500
    error_type: str = "api_error"
    default_message: ClassVar[str] = "Internal server error"
    refusal: "Refusal | None" = None

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int | None = None,
        error_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.message = message or self.default_message
        super().__init__(self.message)
        if status is not None:
            self.status = status
        if error_type is not None:
            self.error_type = error_type
        self.headers: dict[str, str] = dict(headers or {})
        self.details = details

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        """The JSON body of this error."""
        body = error_body(self.error_type, self.message, request_id)
        if self.details:
            body["error"]["details"] = dict(self.details)
        return body


class InvalidRequestError(MessagesError):
    status, error_type, default_message = 400, "invalid_request_error", "Invalid request"


class AuthenticationError(MessagesError):
    status, error_type, default_message = 401, "authentication_error", "Authentication failed"


class PermissionDeniedError(MessagesError):
    status, error_type, default_message = 403, "permission_error", "Permission denied"


class NotFoundError(MessagesError):
    status, error_type, default_message = 404, "not_found_error", "Not found"


class ConflictError(MessagesError):
    status, error_type, default_message = 409, "invalid_request_error", "Conflict"


class RequestTooLargeError(MessagesError):
    status, error_type, default_message = 413, "request_too_large", "Request exceeds the maximum size"


class RateLimitError(MessagesError):
    status, error_type, default_message = 429, "rate_limit_error", "Rate limited"


class ApiError(MessagesError):
    pass


class UpstreamError(MessagesError):
    status, error_type, default_message = 502, "api_error", "The upstream answered in a way that is not understood"


class OverloadedError(MessagesError):
    status, error_type, default_message = 529, "overloaded_error", "Overloaded"


class UpstreamTimeoutError(MessagesError):
    status, error_type, default_message = 504, "timeout_error", "The upstream did not answer in time"


def error_body(error_type: str, message: str, request_id: str | None = None) -> dict[str, Any]:
    """Anthropic's error envelope; `request_id` is always present, null where there is none."""
    return {"type": "error", "error": {"type": error_type, "message": message}, "request_id": request_id}
