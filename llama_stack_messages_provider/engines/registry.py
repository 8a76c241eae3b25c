"""All engines, and which one an upstream is."""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from llama_stack_messages_provider.engines.engine import Engine
from llama_stack_messages_provider.engines.refusals import Words

__all__ = ["Registry", "discover"]

_PACKAGE = "llama_stack_messages_provider.engines"
# Of nobody in particular: its rows are everybody's words, and are asked last.
_GENERIC = "unknown"
# Where lists of models say a window, whoever made them.
_WINDOWS = ("max_model_len", "context_length", "context_window", "max_context_length", "meta.n_ctx", "n_ctx")


class Registry(Mapping[str, Engine]):
    """Engines by their names, in alphabetical order and the generic one last."""

    def __init__(self, engines: list[Engine]) -> None:
        in_order = sorted(engines, key=lambda engine: (engine.name == _GENERIC, engine.name))
        self._engines = {engine.name: engine for engine in in_order}
        if len(self._engines) < len(engines):
            raise ValueError("two engines have one name")

    def __getitem__(self, name: str) -> Engine:
        return self._engines[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._engines)

    def __len__(self) -> int:
        return len(self._engines)

    @property
    def generic(self) -> Engine:
        """The engine of an upstream that nobody knows."""
        return self._engines[_GENERIC]

    def words(self) -> Iterator[tuple[Engine, Words]]:
        """All rows of all engines. Behind a gateway any engine's words may come from any address."""
        return ((engine, row) for engine in self.values() for row in engine.refusals)

    def answering(self, server: str, models: Any) -> Engine:
        """The engine that answered.

        Args:
            server: The `server` header.
            models: The body of `GET /v1/models`.
        """
        entry = _first_model(models)
        owner = str(entry.get("owned_by"))
        for engine in self.values():
            known = engine.recognition
            if server in known.servers or owner in known.owners or (known.listed and known.listed(entry)):
                return engine
        return self.generic

    def chosen(self, answering: str, provider_type: str, base_url: str | None) -> Engine:
        """The engine to speak to: the one that answered; else the one of the address, or of the provider's type."""
        if answering != _GENERIC and answering in self:
            return self[answering]
        host = urlsplit(base_url or "").hostname or ""
        at_home = (engine for engine in self.values() if _is_at(host, engine.recognition.hosts))
        typed = (engine for engine in self.values() if provider_type in engine.recognition.provider_types)
        return next(at_home, None) or next(typed, self.generic)

    def window(self, engine: Engine, models: Any, model: str) -> int | None:
        """A model's context window in tokens, where a list of models says it."""
        data = _entries(models)
        entry = next((each for each in data if each.get("id") == model), data[0] if len(data) == 1 else {})
        found = (_at(entry, path) for path in (*engine.window, *_WINDOWS))
        return next((tokens for tokens in found if type(tokens) is int and tokens > 0), None)


def discover() -> Registry:
    """Every engine of this package's folders."""
    package = importlib.import_module(_PACKAGE)
    modules = (importlib.import_module(f"{_PACKAGE}.{found.name}") for found in pkgutil.iter_modules(package.__path__))
    return Registry([module.ENGINE for module in modules if hasattr(module, "ENGINE")])


def _is_at(host: str, hosts: frozenset[str]) -> bool:
    return any(host == known or host.endswith(f".{known}") for known in hosts)


def _entries(models: Any) -> list[Mapping[str, Any]]:
    data = models.get("data") if isinstance(models, dict) else None
    return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []


def _first_model(models: Any) -> Mapping[str, Any]:
    entries = _entries(models)
    return entries[0] if entries else {}


def _at(entry: Any, path: str) -> Any:
    for name in path.split("."):
        entry = entry.get(name) if isinstance(entry, Mapping) else None
    return entry
