"""Volcengine's Ark, home of the Doubao models.

Sources: https://www.volcengine.com/docs/82379; refusals as reported in yiliqi78/TOKENICODE#3,
danielmiessler/LifeOS#657.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

ENGINE = Engine(
    "volcengine",
    Recognition(hosts=frozenset({"volces.com"})),
    ChatWording(
        top_k=False,
        effort=False,
        thinking_on={"thinking": {"type": "enabled"}},
        thinking_off={"thinking": {"type": "disabled"}},
        reasoning_field="reasoning_content",
    ),
    refusals=(
        Words(
            Kind.VALUE_BAD,
            r"the parameter (?P<parameter>temperature|top_p|stop|user) specified in the request is not valid",
            "The parameter top_p specified in the request is not valid: expected a value <= 1. Request id: 1",
        ),
    ),
)
