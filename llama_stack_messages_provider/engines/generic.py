"""An upstream that nobody knows, and words that many share or whose engine has no module.

A model behind a gateway speaks its own engine's words from the gateway's address, so that the rows of all engines are
read wherever a refusal comes from; these come last.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, NativeProfile
from llama_stack_messages_provider.engines.refusals import Kind, Words

_QUOTED = r"['\"`]{1,2}(?P<parameter>[a-zA-Z][\w.\[\]]*)['\"`]{1,2}"
# Bare, a word must look like a parameter.
_BARE = r"(?<![.\w\]])(?P<bare>[a-zA-Z]+(_[a-zA-Z]+)+|temperature|stop)"
_CALLED = r"(keyword )?(argument|field|key|option|param|parameter|property|properties)s?( supplied| name)?"

_PARAMETERS = (
    Words(
        Kind.SCHEMA_STRICT,
        r"\bjson_schema\b.{0,40}\bstrict\b|additionalProperties\W{0,3} must be (set to )?\W?false",
        "response_format.json_schema.strict: Extra inputs are not permitted",
    ),
    Words(
        Kind.PARAMETER_UNKNOWN,
        rf"\b(unsupported|unknown|unrecognized|unexpected|extra) (request )?{_CALLED}\b:?[\s\[(]{{0,3}}"
        r"['\"`]{0,2}(?P<parameter>[a-zA-Z][\w.\[\]]*)",
        "Unknown field: continue_final_message",
    ),
    Words(
        Kind.PARAMETER_UNKNOWN,
        rf"({_QUOTED}|\b{_BARE}) (parameter )?(is|are) (not (supported|permitted|allowed|recognized)|unsupported)\b",
        "chat_template_kwargs is not supported",
    ),
    Words(
        Kind.PARAMETER_UNKNOWN,
        rf"does not (support|accept|allow|recognize) (the )?{_CALLED}:?[\s\[(]{{0,3}}['\"`]{{0,2}}"
        r"(?P<parameter>[a-zA-Z]\w*)",
        "litellm.UnsupportedParamsError: groq does not support parameters: ['top_k'], for model=qwen",
    ),
    Words(
        Kind.PARAMETER_UNKNOWN,
        r"(^|[\s;:])(?P<parameter>[a-zA-Z][\w.\[\]]*):?\s{1,3}extra (inputs|fields) (are )?not permitted",
        "messages.0.assistant.reasoning_content: Extra inputs are not permitted",
    ),
    Words(
        Kind.PARAMETER_UNKNOWN,
        r"additional properties are not allowed \('(?P<parameter>\w+)' (was|were) unexpected",
        "Additional properties are not allowed ('top_k' was unexpected)",
    ),
    Words(
        Kind.VALUE_BAD,
        r"['\"`]?\b(?P<parameter>reasoning_?effort)\b.{0,40}?(supported values are|must be one of|input should be"
        r"|expected one of)(?P<values>.{1,120})",
        "reasoning_effort: Input should be 'low', 'medium' or 'high'",
    ),
    Words(
        Kind.VALUE_BAD,
        r"\b(invalid|bad|unsupported|illegal) (value (for|of)( parameter)?|parameter:?) ['\"`]?"
        r"(?P<parameter>[a-zA-Z][\w.\[\]]*)",
        "Invalid value for top_k: must be between 0 and 200, got 500",
    ),
    Words(
        Kind.VALUE_BAD,
        rf"(^|[\s;:])({_QUOTED}|{_BARE}):? ((must|should) be|input should be) ",
        "top_p: Input should be less than or equal to 1",
    ),
)

_LENGTHS = (
    Words(
        Kind.OUTPUT_LIMIT,
        r"maximum tokens you requested exceeds the model limit of (?P<limit>\d+)",
        "The maximum tokens you requested exceeds the model limit of 8192. Try again with a maximum tokens value that "
        "is lower than 8192.",
    ),
    Words(
        Kind.PROMPT_TOO_LONG,
        r"inputs` tokens \+ `max_new_tokens` must be <= (?P<limit>\d+)\. given: (?P<used>\d+) `inputs` tokens and "
        r"(?P<asked>\d+)",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 4000 `inputs` tokens and "
        "32000 `max_new_tokens`",
    ),
    Words(
        Kind.OUTPUT_LIMIT,
        r"max_(completion_|output_|new_)?tokens\W{1,3}(must|should|can(not)?) (not )?(be|exceed) .{0,40}?"
        r"(less than or equal to|at most|<=|no (more|greater|larger) than|exceed|greater than|between \d+ and) ?"
        r"(?P<limit>\d+)",
        "max_tokens must be at most 4096",
    ),
    Words(
        Kind.PROMPT_TOO_LONG,
        r"`inputs` must have less than (?P<limit>\d+) tokens\. given: (?P<used>\d+)",
        "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000",
    ),
    Words(
        Kind.PROMPT_TOO_LONG,
        r"prompt is too long: (?P<used>\d+), model maximum context length: (?P<limit>\d+)",
        "The prompt is too long: 140000, model maximum context length: 131071",
    ),
    Words(
        Kind.PROMPT_TOO_LONG,
        r"prompt too long: (?P<used>\d+) tokens exceeds max context window of (?P<limit>\d+)",
        "Prompt too long: 32799 tokens exceeds max context window of 32768 tokens",
    ),
    Words(
        Kind.PROMPT_TOO_LONG,
        r"current length is (?P<used>\d+) while limit is (?P<limit>\d+)",
        "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192",
    ),
    Words(
        Kind.PROMPT_TOO_LONG,
        r"token count of (?P<used>\d+) exceeds .{0,60}?(?P<limit>\d+)",
        "prompt token count of 200,000 exceeds the limit of 128,000",
    ),
    Words(
        # The last resort: only the words that a client is told change.
        Kind.PROMPT_TOO_LONG,
        r"context[ _](length|size|window|limit)|prompt (is )?too long|exceed_context"
        r"|(longer|larger) than the (model'?s )?(context|maximum)|maximum (input|prompt|model) length"
        r"|input (length|is too long|token count)|too long to fit|exceeded model token limit"
        r"|input tokens exceed|reduce the length of|`inputs` (tokens|must have)",
        "Input is too long for requested model.",
    ),
)

_TURNS = (
    Words(
        Kind.SYSTEM_TURN,
        r"system message.{0,40}(begin|first|start|must|only|one)|only.{0,20}system message"
        r"|unexpected message role|(got|role) ['\"`]?system|system role",
        "System message must be at the beginning.",
    ),
    Words(
        Kind.SYSTEM_TURN,
        r"\bmessages?\W{1,6}\d+\W{1,6}role\b.{0,60}?(input should be|must be|expected|one of).{0,20}?user"
        r".{0,12}?assistant",
        "messages.1.role: Input should be 'user' or 'assistant'",
    ),
    Words(
        # What is wrong with one image, its format or its size, is for the client to know.
        Kind.IMAGES,
        r"\b(images?|vision|multi-?modal)( (inputs?|content|data))? (is|are) not (supported|enabled|allowed)"
        r"|not support( the| any)? (images?|vision|multi-?modal)( (inputs?|content|data))?"
        r"\s?([.,;:\"'()]|$|-|(by|for|in|with)\b)"
        r"|not a multi-?modal|missing data required for image|content must be a string",
        "This model does not support image inputs.",
    ),
    Words(
        Kind.TOOL_CHOICE_VS_THINKING,
        r"(tool_choice|forced? (a )?tools?)\b.{0,80}?\b(thinking|reasoning)\b|\b(thinking|reasoning) mode\b.{0,60}?"
        r"\b(tool_choice|forced? (a )?tools?)\b",
        "tool_choice 'required' is not supported when reasoning is enabled",
    ),
)

ENGINE = Engine(
    "unknown",
    chat=ChatWording(reasoning_field="reasoning_content"),
    native=NativeProfile(repaired="nobody knows what it breaks"),
    refusals=(*_TURNS, *_LENGTHS, *_PARAMETERS),
)
