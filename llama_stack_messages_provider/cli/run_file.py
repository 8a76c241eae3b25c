"""A run configuration's text with the Messages API in it: what is not touched stays as it is, letter by letter.

The file is read and written by ruamel.yaml, which keeps comments, quotes and `${env...}` and may lay out anew what it
writes. So of its output only the difference that the change makes is taken over into the original text.
"""

import difflib
import io
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

__all__ = ["Addition", "RunFileError", "with_messages"]

PACKAGE = "llama_stack_messages_provider"
MESSAGES, EMBEDDED = "inline::messages", "inline::llama-cpp"
EMBEDDED_ID = "llama-cpp"

# No line is folded that was not.
_WIDTH = 100_000
_NESTED = re.compile(r"^( *)[\w.-]+:[ ]*(?:#.*)?\n(?:[ ]*(?:#.*)?\n)*( *)(- )?\S", re.MULTILINE)

type Json = MutableMapping[str, Any]


class RunFileError(ValueError):
    """The text is no run configuration; the message says why, in a line."""


@dataclass(frozen=True, slots=True)
class Addition:
    """What a run configuration is to have.

    Args:
        apis_dir: The folder that declares the Messages API; None where the configuration's own folder does.
        embedded: Whether `inline::llama-cpp` is wanted.
        aliases: Model names that clients use, and what they stand for.
    """

    apis_dir: str | None
    embedded: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)


def with_messages(text: str, addition: Addition) -> str:
    """The text of a run configuration that serves the Messages API; the same text where nothing is missing.

    Raises:
        RunFileError: The text is no run configuration.
    """
    yaml = _yaml_like(text)
    config = _read(yaml, text)
    before = _written(yaml, config)
    _add(config, addition)
    after = _written(yaml, config)
    merged = _merged(text, before, after)
    return merged if _same_data(merged, after) else after


# --- reading and writing ---


def _yaml_like(text: str) -> YAML:
    """A reader and writer that indents as the text does."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    found = [(len(outer), len(inner), bool(dash)) for outer, inner, dash in _NESTED.findall(text)]
    mapping = next((inner - outer for outer, inner, dash in found if not dash and inner > outer), 2)
    offset = next((inner - outer for outer, inner, dash in found if dash and inner >= outer), 0)
    yaml.indent(mapping=mapping, sequence=offset + 2, offset=offset)
    return yaml


def _read(yaml: YAML, text: str) -> Json:
    try:
        config = yaml.load(text)
    except YAMLError as exc:
        raise RunFileError(f"it is not YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(config, MutableMapping) or not isinstance(config.get("providers"), MutableMapping):
        raise RunFileError("it is not a run configuration: it has no `providers`")
    _check_shape(config)
    return config


def _check_shape(config: Json) -> None:
    """See that what is added to can be added to.

    Raises:
        RunFileError: It cannot.
    """
    for api, listed in config["providers"].items():
        if listed is not None and not _is_list_of(MutableMapping, listed):
            raise RunFileError(f"`{api}` is no list of providers")
    if config.get("apis") and not _is_list_of(str, config["apis"]):
        raise RunFileError("`apis` is no list of names")
    storage = config.get("storage") or {}
    backends = (storage.get("backends") if isinstance(storage, MutableMapping) else storage) or {}
    if not (isinstance(backends, MutableMapping) and _is_list_of(MutableMapping, [*backends.values()])):
        raise RunFileError("`storage.backends` does not name backends")


def _is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, kind) for each in value)


def _written(yaml: YAML, config: Json) -> str:
    out = io.StringIO()
    yaml.dump(config, out)
    return out.getvalue()


def _same_data(one: str, other: str) -> bool:
    load: Callable[[str], Any] = YAML(typ="safe").load
    try:
        same: bool = load(one) == load(other)
    except YAMLError:
        return False
    return same


def _merged(original: str, before: str, after: str) -> str:
    """The original with what is different between two versions that were both written anew."""
    own, old, new = (text.splitlines(keepends=True) for text in (original, before, after))
    place = _places(own, old)
    merged: list[str] = []
    done = 0
    for tag, low, high, start, end in _changes(old, new):
        if tag == "equal":
            continue
        at, until = place(low), place(high)
        if tag == "insert":
            at = until = _above_comments(own, at, done)
        merged += [*own[done:at], *_ended(merged, new[start:end])]
        done = until
    return "".join([*merged, *own[done:]])


def _changes(old: Sequence[str], new: Sequence[str]) -> Sequence[tuple[str, int, int, int, int]]:
    return difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()


def _places(own: Sequence[str], old: Sequence[str]) -> Callable[[int], int]:
    """Where a line of the version that was written anew stands in the original."""
    blocks = difflib.SequenceMatcher(None, old, own, autojunk=False).get_matching_blocks()

    def place(line: int) -> int:
        for block in blocks:
            if line <= block.a + block.size:
                return block.b + max(0, line - block.a)
        return len(own)

    return place


def _above_comments(own: Sequence[str], at: int, least: int) -> int:
    """The place after the last line with content: comments belong to what follows them."""
    while at > least and own[at - 1].strip()[:1] in ("", "#"):
        at -= 1
    return at


def _ended(merged: list[str], lines: Sequence[str]) -> Sequence[str]:
    """Lines to follow others, the last of which may be a file's without an end."""
    if merged and not merged[-1].endswith("\n"):
        merged[-1] += "\n"
    return lines


# --- what is added ---


def _add(config: Json, addition: Addition) -> None:
    providers: Json = config["providers"]
    provider = _provider(providers, "messages", MESSAGES, "messages")
    if addition.embedded:
        _provider(providers, "inference", EMBEDDED, EMBEDDED_ID)
    if addition.aliases:
        _merge(_child(_child(provider, "config"), "model_aliases"), addition.aliases)
    if config.get("apis"):
        config["apis"].extend(name for name in ("inference", "messages") if name not in config["apis"])
    if addition.apis_dir is not None:
        _set_before(config, "providers", "external_apis_dir", addition.apis_dir)
    _add_storage(config, provider)


def _provider(providers: Json, api: str, kind: str, provider_id: str) -> Json:
    """The provider of that type; one that is missing is added."""
    listed = providers.get(api)
    if listed is None:
        listed = providers[api] = []
    for provider in listed:
        if provider.get("provider_type") == kind:
            found: Json = provider
            return found
    listed.append({"provider_id": provider_id, "provider_type": kind, "module": PACKAGE, "config": {}})
    added: Json = listed[-1]
    return added


def _child(parent: Json, key: str) -> Json:
    if parent.get(key) is None:
        parent[key] = {}
    child: Json = parent[key]
    return child


def _merge(into: Json, more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        into.setdefault(key, value)


def _set_before(config: Json, other: str, key: str, value: str) -> None:
    if key in config or not hasattr(config, "insert"):
        config[key] = value
    else:
        config.insert(list(config).index(other), key, value)


def _add_storage(config: Json, provider: Json) -> None:
    """The backends that the host and the batches need, where the configuration names backends of its own."""
    backends = (config.get("storage") or {}).get("backends")
    if not backends:
        return  # the host's defaults have what is needed
    kinds = {name: str(backend.get("type", "")) for name, backend in backends.items()}
    folder = f"${{env.SQLITE_STORE_DIR:=~/.llama/distributions/{config.get('distro_name') or 'messages'}}}"
    if not any(kind.startswith("kv_") for kind in kinds.values()):
        backends["kv_default"] = {"type": "kv_sqlite", "db_path": f"{folder}/kvstore.db"}
    sql = [name for name, kind in kinds.items() if kind.startswith("sql_")]
    if not sql:
        backends["sql_default"] = {"type": "sql_sqlite", "db_path": f"{folder}/sql_store.db"}
    elif "sql_default" not in sql:
        _merge(_child(_child(provider, "config"), "batches"), {"backend": sql[0]})
