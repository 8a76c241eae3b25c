"""A running server, as the commands ask it: over HTTP, with words for what goes wrong."""

import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from llama_stack_messages_provider.wire.names import API_VERSION, CLAUDE_PREFIX

__all__ = ["DEFAULT_URL", "Model", "RunningServer", "ServerError", "add_options"]

DEFAULT_URL = "http://127.0.0.1:8321"

_TIMEOUT_SECONDS = 20.0
# Anthropic's own bound of a page of models.
_MODELS = 1000


class ServerError(Exception):
    """The server does not do what is asked; the message is a sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the server.

    Args:
        id: The name to ask for.
        window: Tokens that prompt and answer may fill; None where the server does not say.
        max_tokens: Tokens of an answer; None where the server does not say.
    """

    id: str
    window: int | None = None
    max_tokens: int | None = None


def add_options(parser: Any) -> None:
    """The options that say which server, for an `argparse` parser."""
    parser.add_argument(
        "--url",
        default=os.environ.get("ANTHROPIC_BASE_URL") or DEFAULT_URL,
        help=f"the server (default: $ANTHROPIC_BASE_URL, or {DEFAULT_URL})",
    )
    parser.add_argument(
        "--token",
        default=os.environ.get("ANTHROPIC_AUTH_TOKEN") or os.environ.get("ANTHROPIC_API_KEY"),
        help="a token of the server (default: $ANTHROPIC_AUTH_TOKEN, or $ANTHROPIC_API_KEY)",
    )


class RunningServer:
    """A server and the token that it is asked with.

    Args:
        url: Its address, with or without `/v1`.
        token: A token; None where it asks for none.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.token = token or "none"

    def get(self, path: str) -> Any:
        """The JSON at a path.

        Raises:
            ServerError: It cannot be had.
        """
        return self._json("GET", path)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that answers a body.

        Raises:
            ServerError: It was refused.
        """
        return self._json("POST", path, json=dict(body))

    def models(self) -> list[Model]:
        """Its models, in its own order.

        Raises:
            ServerError: They cannot be had.
        """
        listed = self.get(f"/v1/models?limit={_MODELS}")
        entries = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(entries, list):
            raise ServerError(f"{self.url} is no Llama Stack server: it has no list of models at /v1/models")
        return [_model_of(entry) for entry in entries if isinstance(entry, dict) and _is_llm(entry)]

    def own_names(self) -> list[str]:
        """The names of its models, each once: aliases are listed too, and each model with `CLAUDE_PREFIX` as well.

        Raises:
            ServerError: They cannot be had.
        """
        names = {model.id for model in self.models()}
        return sorted(name for name in names if f"{CLAUDE_PREFIX}{name}" in names) or sorted(names)

    def check(self) -> None:
        """See that the server is there and serves the Messages API.

        Raises:
            ServerError: It is not, or does not.
        """
        # Without a model it is refused, and how it is refused tells who does it.
        response = self._response("POST", "/v1/messages", json={})
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise self._refused(response)
        if "request-id" not in response.headers or response.status_code == httpx.codes.NOT_FOUND:
            raise ServerError(
                f"{self.url} does not serve the Messages API (it answered with {response.status_code}): "
                "`llama-stack-messages enable CONFIG` adds it to a run configuration"
            )

    def _json(self, method: str, path: str, **more: Any) -> Any:
        response = self._response(method, path, **more)
        if not response.is_success:
            raise self._refused(response)
        try:
            return response.json()
        except ValueError as exc:
            raise ServerError(f"{self.url}{path} did not answer with JSON: is it a Llama Stack server?") from exc

    def _response(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}", "anthropic-version": API_VERSION}
        try:
            return httpx.request(method, f"{self.url}{path}", headers=headers, timeout=_TIMEOUT_SECONDS, **more)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
            raise ServerError(f"{self.url} cannot be reached: {reason_of(exc)}{self._how_to_start(exc)}") from exc

    def _how_to_start(self, exc: Exception) -> str:
        refused = isinstance(exc, httpx.ConnectError)
        return "; `llama stack run CONFIG` starts a server" if refused and self.url == DEFAULT_URL else ""

    def _refused(self, response: httpx.Response) -> ServerError:
        if response.status_code == httpx.codes.UNAUTHORIZED:
            text = f"{self.url} wants a token: give it with --token, or in ANTHROPIC_AUTH_TOKEN"
            return ServerError(text if self.token == "none" else f"{self.url} does not take the token that was given")
        return ServerError(f"{self.url}{response.url.path} answered with {response.status_code}: {_message(response)}")


def reason_of(exc: BaseException) -> str:
    """Why a connection failed, in words."""
    causes = [exc]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and len(causes) < _CAUSES:
        causes.append(cause)
    for cause in reversed(causes):
        match cause:
            case socket.gaierror():
                return "its host name is not known"
            case ssl.SSLError():
                return "the TLS handshake failed"
            case OSError(errno=int() as number) if number > 0:
                return os.strerror(number)
            case httpx.TimeoutException():
                return "it did not answer in time"
            case httpx.UnsupportedProtocol() | httpx.InvalidURL():
                return "its address is not one that can be used"
    return str(exc) or type(exc).__name__


_CAUSES = 10


def _is_llm(entry: Mapping[str, Any]) -> bool:
    """Whether it is for messages: Anthropic's list has no others, the host's says so in its metadata."""
    metadata = entry.get("custom_metadata")
    return not isinstance(metadata, dict) or metadata.get("model_type", "llm") == "llm"


def _model_of(entry: Mapping[str, Any]) -> Model:
    return Model(
        str(entry.get("id") or entry.get("identifier")), _count(entry, "max_input_tokens"), _count(entry, "max_tokens")
    )


def _count(entry: Mapping[str, Any], name: str) -> int | None:
    value = entry.get(name)
    return value if isinstance(value, int) and value > 0 else None


def _message(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return response.reason_phrase
    match body:
        case {"error": {"message": str(text)}} | {"detail": str(text)}:
            return text
        case _:
            return response.reason_phrase
