"""What `enable` makes of a run configuration's text."""

import difflib
from pathlib import Path

import llama_stack
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_stack_messages_provider.cli.run_file import Addition, RunFileError, with_messages

FOLDER = "/somewhere/apis.d"
DISTRIBUTIONS = sorted((Path(llama_stack.__file__).parent / "distributions").glob("*/*config.yaml"))

OWN = """\
# My stack.
version: 2
distro_name: mine   # the name
apis: [inference]
providers:
    # Where the models are.
    inference:
      - provider_id: ${env.VLLM_URL:+vllm}   # only with a URL
        provider_type: remote::vllm
        config:
            base_url: "${env.VLLM_URL:=}"
            note: >-
              folded
              text
    # What searches.
    tool_runtime:
      - {provider_id: brave, provider_type: "remote::brave-search", config: {api_key: ''}}

# Where things are kept.
storage:
    backends:
        kv_default: {type: kv_sqlite, db_path: /x/kv.db}
        sql_main: {type: sql_sqlite, db_path: /x/sql.db}
    stores: {metadata: {namespace: registry, backend: kv_default}}
server:
    port: 8321
"""

ENABLED = """\
# My stack.
version: 2
distro_name: mine   # the name
apis: [inference, messages]
external_apis_dir: /somewhere/apis.d
providers:
    # Where the models are.
    inference:
      - provider_id: ${env.VLLM_URL:+vllm}   # only with a URL
        provider_type: remote::vllm
        config:
            base_url: "${env.VLLM_URL:=}"
            note: >-
              folded
              text
    # What searches.
    tool_runtime:
      - {provider_id: brave, provider_type: "remote::brave-search", config: {api_key: ''}}
    messages:
      - provider_id: messages
        provider_type: inline::messages
        module: llama_stack_messages_provider
        config:
            model_aliases:
                claude-*: vllm/m
            batches:
                backend: sql_main

# Where things are kept.
storage:
    backends:
        kv_default: {type: kv_sqlite, db_path: /x/kv.db}
        sql_main: {type: sql_sqlite, db_path: /x/sql.db}
    stores: {metadata: {namespace: registry, backend: kv_default}}
server:
    port: 8321
"""


def test_comments_quotes_and_variables_stay_where_they_are() -> None:
    assert with_messages(OWN, Addition(FOLDER, aliases={"claude-*": "vllm/m"})) == ENABLED


def test_what_is_enabled_already_stays_letter_by_letter() -> None:
    assert with_messages(ENABLED, Addition(FOLDER, aliases={"claude-*": "other/m"})) == ENABLED


@pytest.mark.parametrize("file", DISTRIBUTIONS, ids=lambda file: file.parent.name)
def test_a_distribution_only_gains_lines_and_gains_them_once(file: Path) -> None:
    text = file.read_text()

    enabled = with_messages(text, Addition(FOLDER, embedded=True))

    gone = [line for line in difflib.ndiff(text.splitlines(), enabled.splitlines()) if line.startswith("- ")]
    added = yaml.safe_load(enabled)
    assert gone == []
    assert added["external_apis_dir"] == FOLDER
    assert added["apis"].count("messages") == 1
    assert [each["provider_type"] for each in added["providers"]["messages"]] == ["inline::messages"]
    assert added["providers"]["inference"][-1]["provider_type"] == "inline::llama-cpp"
    assert with_messages(enabled, Addition(FOLDER, embedded=True)) == enabled


def test_apis_that_are_not_listed_are_not_listed_afterwards() -> None:
    assert "apis" not in yaml.safe_load(with_messages("providers: {inference: []}\n", Addition(FOLDER)))


def test_a_wrong_folder_is_exchanged_and_backends_that_lack_are_added() -> None:
    text = "external_apis_dir: /gone  # once\nproviders: {}\nstorage:\n  backends:\n    a: {type: kv_redis}\n"

    enabled = yaml.safe_load(with_messages(text, Addition(FOLDER)))

    assert enabled["external_apis_dir"] == FOLDER
    assert set(enabled["storage"]["backends"]) == {"a", "sql_default"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("providers: [", "it is not YAML"),
        ("- 1", "it has no `providers`"),
        ("", "it has no `providers`"),
        ("version: 2", "it has no `providers`"),
        ("providers: {inference: 3}", "`inference` is no list"),
        ("providers: {messages: [3]}", "`messages` is no list"),
        ("providers: {}\napis: inference", "`apis` is no list"),
        ("providers: {}\nstorage: {backends: [1]}", "`storage.backends`"),
    ],
)
def test_what_is_no_run_configuration_is_told_why(text: str, why: str) -> None:
    with pytest.raises(RunFileError, match=why):
        with_messages(text, Addition(FOLDER))


NAMES = st.sampled_from(["a", "bc", "inference", "messages", "config"])
COMMENTS = st.sampled_from(["", "  # why", "\n", "\n  # a word\n"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(NAMES, COMMENTS), unique_by=lambda pair: pair[0]), st.integers(1, 4), st.booleans())
def test_whatever_the_layout_the_data_are_the_old_ones_and_ours(
    entries: list[tuple[str, str]], indent: int, deep: bool
) -> None:
    pad = " " * indent
    dash = pad * 2 if deep else pad
    lists = "".join(
        f"{pad}{name}:{comment if comment.startswith('  ') else ''}\n"
        f"{comment if comment.startswith(chr(10)) else ''}{dash}- provider_id: x\n{dash}  provider_type: y\n"
        for name, comment in entries
    )
    text = f"providers:{'' if entries else ' {}'}\n{lists}other: 1\n"

    enabled = yaml.safe_load(with_messages(text, Addition(FOLDER)))

    before = yaml.safe_load(text)
    messages = enabled["providers"].pop("messages")
    assert messages[:-1] == (before["providers"].pop("messages", None) or [])
    assert messages[-1]["provider_type"] == "inline::messages"
    assert enabled == {**before, "external_apis_dir": FOLDER}
