"""What the server publishes, not only what the routes would."""

import json

import httpx

from scripts.compare_spec import REFERENCE, compare, our_schema
from tests.conftest import Fleet


def test_the_server_s_openapi_document_is_as_documented(fleet: Fleet) -> None:
    reference = json.loads(REFERENCE.read_text())
    published = httpx.get(f"{fleet.base_url}/openapi.json", timeout=60).raise_for_status().json()
    found, ours = compare(reference, published), compare(reference, our_schema())
    assert [str(each) for each in found.unexplained] == []
    assert found.compared == ours.compared
