"""The internals that `host/` touches are there; each row says what breaks when one is not.

Uvicorn's and the app's have their tests in `test_contracts.py`.
"""

import importlib
import inspect
import logging
from functools import reduce
from typing import Any

import pytest
from llama_stack.core.routing_tables.common import CommonRoutingTableImpl
from llama_stack.core.storage.sqlstore import sqlstore
from llama_stack.providers.remote.inference.llama_cpp_server.llama_cpp_server import LlamaCppServerInferenceAdapter
from llama_stack.providers.remote.inference.vllm.vllm import VLLMInferenceAdapter
from llama_stack.providers.utils.inference.openai_mixin import OpenAIMixin

from llama_stack_messages_provider.embedded.llama_cpp import LlamaCppInferenceAdapter
from llama_stack_messages_provider.host import providers

_UTILS = "llama_stack.providers.utils.inference"
_MIXIN = f"{_UTILS}.openai_mixin:OpenAIMixin"
_METRICS = "llama_stack.telemetry.inference_metrics"

INTERNALS = [
    (f"{_UTILS}.http_client:_build_ssl_context", "a provider's `network.tls` does not hold for our requests"),
    (f"{_UTILS}.model_registry:NetworkConfig", "a provider's network settings do not hold for our requests"),
    (f"{_UTILS}.model_registry:TimeoutConfig", "a provider's timeouts do not hold for our requests"),
    (f"{_MIXIN}.get_base_url", "no provider has an upstream that we can speak to"),
    (f"{_MIXIN}._get_api_key_from_config_or_provider_data", "no provider has a key that we can use"),
    (f"{_MIXIN}._validate_model_allowed", "a provider's `allowed_models` does not hold for our requests"),
    (f"{_MIXIN}.get_extra_client_params", "a provider with a client of its own is not told from others"),
    (f"{_MIXIN}.client", "a provider with a client of its own is not told from others"),
    (f"{_MIXIN}.openai_chat_completion", "a provider that changes requests is not told from others"),
    (f"{_MIXIN}.model_fields[download_images]", "a provider that loads images itself is not told from others"),
    (f"{_MIXIN}.model_fields[overwrite_completion_id]", "a provider that changes ids is not told from others"),
    (f"{_MIXIN}.model_fields[shared_ssl_context]", "a TLS context is built for each request"),
    ("llama_stack.core.storage.sqlstore.sqlstore:_SQLSTORE_BACKENDS", "batches find no database"),
    ("llama_stack.core.storage.datatypes:SqliteSqlStoreConfig.model_fields[db_path]", "batches find no SQLite file"),
    ("llama_stack.core.storage.datatypes:PostgresSqlStoreConfig.model_fields[pool_recycle]", "batches find no pool"),
    ("llama_stack.core.store.registry:CachedDiskDistributionRegistry.get_cached", "each request queries the registry"),
    ("llama_stack.core.store.registry:CachedDiskDistributionRegistry.get", "no model is found"),
    ("llama_stack.core.datatypes:ModelWithOwner", "models that are not registered have no access check"),
    ("llama_stack.core.datatypes:User", "batches do not run as their creators"),
    ("llama_stack.core.access_control.access_control:is_action_allowed", "nobody may use a model"),
    ("llama_stack.core.access_control.datatypes:Action.READ", "nobody may use a model"),
    ("llama_stack.core.access_control.datatypes:AccessRule", "batches have no access policy"),
    ("llama_stack.core.access_control.conditions:User", "batches have no owner that a policy can read"),
    ("llama_stack.core.request_headers:get_authenticated_user", "nobody is known"),
    ("llama_stack.core.request_headers:PROVIDER_DATA_VAR", "a batch would store the credentials that came with it"),
    ("llama_stack.core.request_headers:RequestProviderDataContext", "batches do not run as their creators"),
    ("llama_stack.core.routing_tables.toolgroups:ToolGroupsRoutingTable.tool_to_toolgroup", "no search"),
    ("llama_stack.core.routing_tables.common:CommonRoutingTableImpl.get_object_by_identifier", "no search"),
    ("llama_stack.core.routing_tables.common:CommonRoutingTableImpl.get_provider_impl", "no shield judges"),
    ("llama_stack.core.routing_tables.shields:ShieldsRoutingTable.list_shields", "no shield is known"),
    (f"{_METRICS}:create_inference_metric_attributes", "requests are not in the host's metrics"),
    (f"{_METRICS}:inference_duration", "requests are not in the host's metrics"),
    (f"{_METRICS}:inference_time_to_first_token", "streams are not in the host's metrics"),
    (f"{_METRICS}:inference_tokens_per_second", "tokens are not in the host's metrics"),
    ("llama_stack.core.admin:AdminImpl.get_providers_health", "the list of providers does not tell of upstreams"),
    ("llama_stack.log:get_logger", "nothing is logged"),
    ("llama_stack.core.task:create_detached_background_task", "batch workers keep the identity of who began them"),
    ("llama_stack.core.server.fastapi_router_registry:register_external_api_routers", "no in-process client"),
    ("llama_stack.core.stack:Stack.initialize", "`doctor` does not run"),
    ("llama_stack.core.stack:replace_env_vars", "`doctor` does not run"),
    ("llama_stack.core.stack:cast_distro_name_to_string", "`doctor` does not run"),
    ("llama_stack.core.utils.config_resolution:resolve_config_or_distro", "`doctor` does not run"),
    ("llama_stack.core.datatypes:StackConfig", "`doctor` does not run"),
]


def check(internal: str, consequence: str) -> None:
    """Fail with a sentence where an internal is gone: `module:attribute.attribute`, or `[key]` of a mapping."""
    module, _, path = internal.partition(":")
    attributes, _, key = path.rstrip("]").partition("[")
    sentence = f"{internal} is gone: {consequence}"
    try:
        found = reduce(getattr, attributes.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        pytest.fail(sentence)
    if key and key not in found:
        pytest.fail(sentence)


@pytest.mark.parametrize(("internal", "consequence"), INTERNALS, ids=[internal for internal, _ in INTERNALS])
def test_an_internal_is_there(internal: str, consequence: str) -> None:
    check(internal, consequence)


@pytest.mark.parametrize(
    ("owner", "name", "internal"),
    [
        (sqlstore, "_SQLSTORE_BACKENDS", "llama_stack.core.storage.sqlstore.sqlstore:_SQLSTORE_BACKENDS"),
        (OpenAIMixin, "_validate_model_allowed", f"{_MIXIN}._validate_model_allowed"),
    ],
)
def test_the_sentence_is_said(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, internal: str) -> None:
    monkeypatch.delattr(owner, name)
    consequence = dict(INTERNALS)[internal]
    with pytest.raises(pytest.fail.Exception, match="is gone: ") as failure:
        check(internal, consequence)
    assert failure.value.msg == f"{internal} is gone: {consequence}"


def test_a_lost_field_is_noticed() -> None:
    with pytest.raises(pytest.fail.Exception, match="is gone: nothing works"):
        check(f"{_MIXIN}.model_fields[no_such_field]", "nothing works")


# --- what is there does what it did ---


def test_a_routing_table_has_the_providers_and_the_policy() -> None:
    parameters = inspect.signature(CommonRoutingTableImpl.__init__).parameters
    for name in ("impls_by_provider_id", "dist_registry", "policy"):
        assert name in parameters, f"the routing table has no `{name}`: no model is found"


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (OpenAIMixin, "openai_chat_completion"),
        (OpenAIMixin, "client"),
        (OpenAIMixin, "get_extra_client_params"),
        (VLLMInferenceAdapter, "openai_chat_completion"),
    ],
)
def test_a_method_that_is_passed_by_is_the_one_that_was_read(owner: type, name: str) -> None:
    found = providers.source_of(vars(owner)[name])
    assert providers.READ_SOURCES[name].get(found) == owner.__name__, (
        f"{owner.__name__}.{name} has changed: read it, and put {found!r} into READ_SOURCES if a request "
        "on our own connection is still the very same; until then the provider is called instead"
    )


@pytest.mark.parametrize("kind", [VLLMInferenceAdapter, LlamaCppServerInferenceAdapter, LlamaCppInferenceAdapter])
def test_the_providers_that_are_passed_by(kind: Any) -> None:
    provider = kind.model_construct(config=None)
    assert providers.is_openai_style(provider)
    assert providers.has_plain_client(provider)
    assert providers.sends_what_we_send(provider)


def _subclass(name: str, **members: Any) -> Any:
    kind = type(name, (VLLMInferenceAdapter,), {"__module__": "somebody.elses", **members})
    return kind.model_construct(config=None)  # type: ignore[attr-defined]


def test_a_provider_is_not_known_by_its_name() -> None:
    async def openai_chat_completion(self: Any, params: Any) -> Any:
        params.temperature = 0
        return await VLLMInferenceAdapter.openai_chat_completion(self, params)

    def get_extra_client_params(self: Any) -> dict[str, Any]:
        return {"default_headers": {"a": "b"}}

    assert providers.sends_what_we_send(_subclass("Other"))
    changed = _subclass("VLLMInferenceAdapter", openai_chat_completion=openai_chat_completion)
    assert not providers.sends_what_we_send(changed)
    assert not providers.has_plain_client(_subclass("Other", get_extra_client_params=get_extra_client_params))
    assert not providers.sends_what_we_send(_subclass("Other", client=property(lambda self: None)))


def test_a_changed_method_of_the_host_is_called_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(providers.logger, "warning", lambda text, **fields: said.append({"text": text, **fields}))

    async def openai_chat_completion(self: Any, params: Any) -> Any:
        params.seed = 1
        return await OpenAIMixin.openai_chat_completion(self, params)

    monkeypatch.setattr(VLLMInferenceAdapter, "openai_chat_completion", openai_chat_completion)
    provider = _subclass("Upgraded")
    for _ in range(2):
        assert not providers.sends_what_we_send(provider)
    assert [(each["provider"], each["method"]) for each in said] == [("VLLMInferenceAdapter", "openai_chat_completion")]
    assert "the provider is called instead" in said[0]["text"]


def test_a_method_without_its_source_is_not_passed_by() -> None:
    namespace: dict[str, Any] = {}
    exec("def get_extra_client_params(self): return {}", namespace)
    method = namespace["get_extra_client_params"]
    assert providers.source_of(method) == ""
    assert not providers.has_plain_client(_subclass("Other", get_extra_client_params=method))


def test_loggers_take_fields() -> None:
    from llama_stack_messages_provider.host.log import get_logger

    logger = get_logger(name="tests.host", category="providers")
    logger.debug("text", field=1)
    assert hasattr(logger, "exception"), "the host's loggers are other ones: nothing is logged"
    assert logging.getLogger("tests.host") is not None
