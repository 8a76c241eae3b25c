# /// script
# requires-python = ">=3.12"
# dependencies = ["instructor[anthropic]>=1.17,<2"]
# ///
"""instructor: an object of a given shape, whole and in pieces."""

import json
import sys

import instructor
from anthropic import Anthropic
from pydantic import BaseModel


class Place(BaseModel):
    """Where somebody is."""

    city: str


def report(base_url: str, model: str) -> dict:
    asked = {"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": "Paris."}]}
    with Anthropic(base_url=base_url, api_key="any", max_retries=0) as anthropic:
        client = instructor.from_anthropic(anthropic)
        whole = client.messages.create(**asked, response_model=Place, max_retries=0)
        pieces = list(client.messages.create_partial(**asked, response_model=Place, max_retries=0))
    return {"objects": [whole.city, pieces[-1].city]}


print(json.dumps([report(sys.argv[1], model) for model in sys.argv[2:]]))
