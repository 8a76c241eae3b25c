"""Mistral's API; its tokenizer and its templates speak the same words in other engines.

Sources: https://docs.mistral.ai/api,
https://github.com/mistralai/mistral-common/blob/main/src/mistral_common/protocol/instruct/validator.py.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

ENGINE = Engine(
    "mistral",
    Recognition(owners=frozenset({"mistralai"}), hosts=frozenset({"api.mistral.ai"})),
    ChatWording(top_k=False),
    refusals=(
        Words(
            Kind.IDS,
            r"tool call ids? .{0,300}?\blength (of )?9\b",
            "Tool call id was toolu_01A09q90qw90lq917835lq9 but must be a-z, A-Z, 0-9, with a length of 9.",
        ),
        Words(
            Kind.SYSTEM_TURN,
            r"expected last role user or tool .{0,60}?but got system",
            "Expected last role User or Tool (or Assistant with prefix True) for serving but got system",
        ),
        Words(
            Kind.SYSTEM_TURN,
            r"unexpected role ['\"`]?system['\"`]? after role",
            "Unexpected role 'system' after role 'user'",
        ),
        Words(
            Kind.TURN_ORDER,
            r"unexpected role ['\"`]?user['\"`]? after role ['\"`]?tool",
            "Unexpected role 'user' after role 'tool'",
        ),
        Words(
            Kind.TURN_ORDER,
            r"\broles must alternate",
            "After the optional system message, conversation roles must alternate user and assistant roles except for "
            "tool calls and results.",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"contains (?P<used>\d+) tokens.{0,40}?too large for model with (?P<limit>\d+) maximum context",
            "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        ),
    ),
    provider="mistral_ai",
)
