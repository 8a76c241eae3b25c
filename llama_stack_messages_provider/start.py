"""The start of a stream whose upstream is still silent."""

from llama_stack_messages_provider.sse import encode
from llama_stack_messages_provider.translate.reasons import usage_of
from llama_stack_messages_provider.translate.stream import message_skeleton

__all__ = ["Start"]


class Start:
    """Whether `message_start` has gone out before the upstream said anything.

    Args:
        message_id: Id of the message.
        model: The name that the client used.
        request_id: Id of the request, for errors in the stream.
    """

    __slots__ = ("_message", "message_id", "request_id", "sent")

    def __init__(self, message_id: str, model: str, request_id: str) -> None:
        self.message_id = message_id
        self.request_id = request_id
        self._message = message_skeleton(message_id, model, usage_of(None))
        self.sent = False

    def now(self) -> bytes:
        """The event, which is then not sent again."""
        self.sent = True
        return encode({"type": "message_start", "message": self._message})
