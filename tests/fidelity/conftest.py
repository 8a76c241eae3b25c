"""The clients of the tests of fidelity."""

from collections.abc import Iterator

import anthropic
import pytest

from tests.conftest import Fleet


@pytest.fixture
def client(fleet: Fleet) -> Iterator[anthropic.Anthropic]:
    """The SDK at the fleet of scripted engines."""
    with anthropic.Anthropic(base_url=fleet.base_url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(params=["native", "translation"])
def real_client(request: pytest.FixtureRequest) -> Iterator[anthropic.Anthropic]:
    """The SDK at a server with a real model, by each route."""
    fixture = {"native": "embedded_stack", "translation": "embedded_translation_stack"}[request.param]
    stack = request.getfixturevalue(fixture)
    with anthropic.Anthropic(base_url=stack.base_url, api_key="any", max_retries=0) as client:
        yield client
