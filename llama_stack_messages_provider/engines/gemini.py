"""Google's Gemini API, by its OpenAI-style address.

Sources: https://ai.google.dev/gemini-api/docs/openai, https://ai.google.dev/gemini-api/docs/thought-signatures;
refusals as reported in router-for-me/CLIProxyAPI#97 and #3512, bestruirui/octopus#255.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

ENGINE = Engine(
    "gemini",
    Recognition(
        owners=frozenset({"google"}),
        hosts=frozenset({"generativelanguage.googleapis.com", "aiplatform.googleapis.com"}),
        provider_types=frozenset({"remote::gemini", "remote::vertexai"}),
    ),
    ChatWording(top_k=False),
    refusals=(
        Words(
            Kind.SCHEMA_KEYWORDS,
            r"unknown name \"[$\w]+\" at '(tools|generation_config\.response_)[^']{0,300}': cannot find field",
            "Invalid JSON payload received. Unknown name \"$schema\" at 'tools[0].function_declarations[0].parameters'"
            ": Cannot find field.",
        ),
        Words(
            Kind.PARAMETER_UNKNOWN,
            r"invalid json payload received\. unknown name \"(?P<parameter>\w+)\": cannot find field",
            'Invalid JSON payload received. Unknown name "top_k": Cannot find field.',
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"input token count \(?(?P<used>\d+)\)? exceeds the maximum number of tokens allowed \(?(?P<limit>\d+)",
            "The input token count (1500000) exceeds the maximum number of tokens allowed (1048576).",
        ),
        Words(
            Kind.OUTPUT_LIMIT,
            r"maxoutputtokens value of \d+ but the supported range is from \d+ \(inclusive\) to (?P<below>\d+)",
            "Unable to submit request because it has a maxOutputTokens value of 64000 but the supported range is from "
            "1 (inclusive) to 8193 (exclusive). Update the value and try again.",
        ),
        Words(
            Kind.SOMETHING_MISSING,
            r"function call\b.{0,60}? is missing a (?P<parameter>thought_signature)",
            "Function call is missing a thought_signature in functionCall parts.",
        ),
    ),
    provider="gcp.gemini",
)
