"""The rows of `api_support`: what becomes of everything the Messages API can say, on each route."""

from collections.abc import Mapping
from dataclasses import replace

from llama_stack_messages_provider.support import Kind, Support

__all__ = ["SUPPORT"]


def _mapped(reason: str, needs: str | None = None) -> Support:
    return Support("mapped", reason, named=False, needs=needs)


def _emulated(reason: str, needs: str | None = None) -> Support:
    return Support("emulated", reason, named=False, needs=needs)


def _dropped(reason: str, needs: str | None = None) -> Support:
    return Support("dropped", reason, needs=needs)


def _harmless(reason: str, needs: str | None = None) -> Support:
    return Support("dropped", reason, named=False, needs=needs)


def _refused(reason: str, needs: str | None = None) -> Support:
    return Support("refused", reason, needs=needs)


_CACHING = _harmless("upstreams cache prefixes by themselves; never changes the prompt")
_ANTHROPIC_ONLY = _dropped("means something to Anthropic's servers only")
_SEARCH = _emulated(
    "run by the stack's own web search; where it has none, named as dropped, or refused as the only or the forced tool",
    "web_search",
)
_MCP = _emulated("called by the stack, where it knows them or clients may name them; the others are named as dropped")
_CALLED = _emulated(
    "shown to the model as text, or as a call and its result where its server is one of the request's",
    "server_tool_history",
)
_HISTORY = _emulated("its content is shown to the model as text")
_SEARCHED = _emulated(
    "shown to the model as text, or as a call and its result where the tool is run here", "server_tool_history"
)
_FUNCTION = _emulated("offered as a function with its documented name and input schema", "client_tool")
_NEVER = _harmless("never made by a translation")

_PARAMETERS: Mapping[str, Support] = {
    "model": _mapped("resolved to a model of the stack; the answer has the name that was asked for"),
    "max_tokens": _mapped("`max_tokens` or `max_completion_tokens`; 0 reads the prompt ahead, and nothing is answered"),
    "messages": _mapped("`messages`; unanswered calls and orphaned results are repaired"),
    "system": _mapped("the first system message"),
    "stream": _mapped("`stream` with `include_usage`"),
    "stop_sequences": _mapped("`stop`; the text is cut here where the upstream goes on"),
    "temperature": _mapped("`temperature`"),
    "top_p": _mapped("`top_p`"),
    "top_k": _mapped("`top_k` where the engine has it, else named as dropped"),
    "tools": _mapped("`tools`; see the tools below"),
    "tool_choice": _mapped("`tool_choice` and `parallel_tool_calls`"),
    "thinking": _mapped("the engine's reasoning controls, where it has any"),
    "output_config": _mapped("see its fields below"),
    "output_format": _mapped("`response_format`"),
    "metadata": _mapped("`user`"),
    "cache_control": _CACHING,
    "service_tier": _harmless("there are no tiers"),
    "container": _dropped("nothing here runs code"),
    "context_management": _emulated("all three edits; natively too, unless Anthropic itself makes them"),
    "compaction": _emulated("the model summarises the conversation; natively too, unless Anthropic itself does"),
    "diagnostics": _emulated("requests are compared here; natively too, unless Anthropic itself does"),
    "fallbacks": _emulated("other models of the stack; natively too, unless Anthropic itself has them all"),
    "inference_geo": _ANTHROPIC_ONLY,
    "speed": _ANTHROPIC_ONLY,
    "mcp_servers": _MCP,
    "billing_policy": _ANTHROPIC_ONLY,
    "fallback_credit_token": _ANTHROPIC_ONLY,
    "thread": _dropped("conversations are not kept; going on with one is a 404, upon which the SDK sends it whole"),
    "safeguards": _emulated("each call is judged by a model of the stack; natively too, unless by Anthropic itself"),
}

_BATCH_PARAMETERS: Mapping[str, Support] = {
    "requests": _mapped("each is a request of its own"),
    "after_id": _mapped("pages of batches"),
    "before_id": _mapped("pages of batches"),
    "limit": _mapped("pages of batches"),
}

_SETTINGS: Mapping[str, Support] = {
    "thinking.type: enabled": _mapped("reasoning on, with the budget"),
    "thinking.type: adaptive": _mapped("reasoning on, if it has a switch"),
    "thinking.type: disabled": _mapped("reasoning off: `enable_thinking: false` or `reasoning_effort: none`"),
    "thinking.type: between_tools": _mapped("reasoning off, since no engine thinks between calls only"),
    "thinking.budget_tokens": _mapped(
        "`thinking_token_budget` (vLLM) or `thinking_budget_tokens` (llama.cpp), and `reasoning_effort` by its size"
    ),
    "thinking.display": _emulated("`omitted` leaves the thinking text out of the answer"),
    "thinking.block_binding": _harmless("thinking is not bound to a conversation"),
    "output_config.effort": _mapped(
        "`reasoning_effort`, the next weaker one where the engine has fewer; there is none without thinking"
    ),
    "output_config.format": _mapped(
        "`response_format` of type `json_schema`, `strict` unless the upstream refuses optional properties so, which "
        "is named as dropped"
    ),
    "output_config.task_budget": _dropped("nothing keeps a budget over several requests"),
    "metadata.user_id": _mapped("`user`; its digest where it has more than 64 characters"),
    "tool_choice.disable_parallel_tool_use": _mapped("`parallel_tool_calls: false`"),
    "tool_choice.name": _mapped("the function of that name"),
    "message.system": _mapped("a system message at its place, or at the head where configured"),
    "message.output_config": _mapped("the last effort set is the request's"),
    "message.clear_at": _emulated("instructions that no longer hold are left out"),
}

_RESULT_OF_A_SERVER = replace(_HISTORY, needs="server_tool_history")
_UNKNOWN_TO_ENGINES = "unknown_block"

_HEADERS: Mapping[str, Support] = {
    "betas": _harmless("what they switch on is accepted without them"),
    "user_profile_id": _harmless("means something to Anthropic's servers only"),
    "workspace_id": _harmless("means something to Anthropic's servers only"),
}

_BLOCKS: Mapping[str, Support] = {
    "text": _mapped("text; an empty one is left out"),
    "image": _mapped(
        "`image_url`; one inside a tool result moves into the user message after it; named as dropped where the model "
        "takes none, and described by another where that is configured",
        needs="image",
    ),
    "document": _emulated(
        "text with title, context and page markers, or a `file` part where configured", needs="document"
    ),
    "search_result": _emulated("text with source and title", needs="search_result"),
    "thinking": _mapped("the assistant message's reasoning, where the engine takes it back"),
    "redacted_thinking": _harmless("nobody but its maker can read it", needs="redacted_thinking"),
    "tool_use": _mapped("`tool_calls`"),
    "tool_result": _mapped("a `tool` message"),
    "tool_reference": _emulated("text that names the tool", needs="tool_reference"),
    "browser_state": _emulated("text that lists the tabs", needs=_UNKNOWN_TO_ENGINES),
    "server_tool_use": _SEARCHED,
    "web_search_tool_result": _SEARCHED,
    "web_fetch_tool_result": _SEARCHED,
    "code_execution_tool_result": _SEARCHED,
    "bash_code_execution_tool_result": _SEARCHED,
    "text_editor_code_execution_tool_result": _RESULT_OF_A_SERVER,
    "tool_search_tool_result": _emulated(
        "a call and its result, or text; the tools that were found are offered", "server_tool_history"
    ),
    "advisor_tool_result": _SEARCHED,
    "mcp_tool_use": _CALLED,
    "mcp_tool_result": _CALLED,
    "mcp_tool_listing": _emulated("its server is not asked for its tools again", needs=_UNKNOWN_TO_ENGINES),
    "container_upload": _dropped("there is no container", needs="container_upload"),
    "tool_addition": _emulated("the tool is offered, and text says from when on", needs="tool_change"),
    "tool_removal": _emulated("text says that the tool is gone", needs="tool_change"),
    "compaction": _emulated(
        "its summary, in place of all before it; an encrypted one is named as dropped", needs=_UNKNOWN_TO_ENGINES
    ),
    "fallback": _harmless("only marks where another model took over", needs=_UNKNOWN_TO_ENGINES),
}

_BLOCK_FIELDS: Mapping[str, Support] = {
    "cache_control": _CACHING,
    "citations": _dropped("models that are translated to do not cite"),
    "title": _emulated("part of the text"),
    "context": _emulated("part of the text"),
    "transformations": _harmless("the engine scales images by its own rules"),
    "caller": _harmless("only the model itself calls tools here"),
    "toolset_name": _emulated("part of the function's name"),
    "content": _mapped("the content of the `tool` message"),
    "is_error": _emulated("a marker before the result"),
    "state_changes": _emulated("text that tells what became of downloads; the list of tabs has what opened"),
    "trigger": _harmless("only says why another model took over"),
    "encrypted_content": _dropped("nobody but its maker can read it"),
    "signature": _harmless("any signature is accepted"),
    "tool_changes": _emulated("as the system's turn behind the summary", needs="tool_change"),
}

_SOURCES: Mapping[str, Support] = {
    "image base64": _mapped("a data URL"),
    "image url": _mapped("the URL; the upstream fetches it"),
    "image file": _refused("there is no Files API"),
    "document base64": _emulated("the PDF's text with page markers, or a `file` part where configured"),
    "document text": _emulated("text"),
    "document content": _emulated("its text, and its images as image parts"),
    "document url": _refused("nothing is fetched, unless switched on"),
    "document file": _refused("there is no Files API"),
}

_TOOLS: Mapping[str, Support] = {
    "custom": _mapped("a function; names over 64 characters are shortened and restored"),
    **dict.fromkeys(
        (
            "bash_20241022",
            "bash_20250124",
            "text_editor_20241022",
            "text_editor_20250124",
            "text_editor_20250429",
            "text_editor_20250728",
            "memory_20250818",
            "computer_20241022",
            "computer_20250124",
            "computer_20251124",
        ),
        _FUNCTION,
    ),
    **dict.fromkeys(
        ("browser_toolset_20260801", "computer_toolset_20260801"),
        _emulated("a function for each enabled member, with its documented input schema", "client_tool"),
    ),
    **dict.fromkeys(
        (
            "code_execution_20250522",
            "code_execution_20250825",
            "code_execution_20260120",
            "code_execution_20260521",
        ),
        _emulated(
            "run by a tool of the stack where one is configured; elsewhere named as dropped, or refused as the only or "
            "the forced tool",
            "server_tool",
        ),
    ),
    **dict.fromkeys(
        (
            "tool_search_tool_bm25",
            "tool_search_tool_bm25_20251119",
            "tool_search_tool_regex",
            "tool_search_tool_regex_20251119",
        ),
        _emulated("run here: what it finds of the deferred tools is offered from then on", "server_tool"),
    ),
    "mcp_toolset": _emulated(
        "the tools of its server, as functions; where the server cannot be used, named as dropped, or refused as the "
        "only tools",
        "server_tool",
    ),
    "advisor_20260301": _emulated(
        "another model of the stack is asked, if the user has access to it, unless the operator switched it off",
        "server_tool",
    ),
    **dict.fromkeys(("web_search_20250305", "web_search_20260209", "web_search_20260318"), _SEARCH),
    **dict.fromkeys(
        ("web_fetch_20250910", "web_fetch_20260209", "web_fetch_20260309", "web_fetch_20260318"),
        _emulated(
            "run here where the operator switched it on; elsewhere named as dropped, or refused as the only or the "
            "forced tool",
            "server_tool",
        ),
    ),
}

_TOOL_FIELDS: Mapping[str, Support] = {
    "type": _mapped("tells the client's own tools from the documented ones"),
    "description": _mapped("the function's description"),
    "cache_control": _CACHING,
    "strict": _mapped("`strict`; named as dropped for the documented tools, whose schemas are not strict ones"),
    "defer_loading": _emulated("the tool is offered once a reference, a call or a forced choice names it"),
    "allowed_callers": _harmless("only the model itself calls tools here"),
    "eager_input_streaming": _harmless("inputs are streamed as they come"),
    "input_examples": _emulated("part of the function's description"),
    "max_characters": _harmless("for the client that executes the tool"),
    "display_number": _harmless("for the client that executes the tool"),
    "enable_zoom": _emulated("decides whether the function offers to zoom"),
    "configs": _emulated("decides which members are offered, or which tools of an MCP server"),
    "default_config": _emulated("decides on the tools of an MCP server that `configs` does not name"),
    "tools": _emulated("the MCP server is not asked for its tools"),
    "max_uses": _emulated("more searches, pages or pieces of advice than these fail"),
    "allowed_domains": _emulated("pages of others are left out; search services are told too"),
    "blocked_domains": _emulated("their pages are left out"),
    "max_tokens": _emulated("the advisor's `max_tokens`"),
    "caching": _harmless("upstreams cache prefixes by themselves"),
    "max_content_tokens": _emulated("the text of a page is cut after four times as many characters"),
    "url_sources": _emulated("URLs that stand elsewhere are not fetched"),
    "use_cache": _harmless("pages are always fetched anew"),
    "citations": _dropped("models that are translated to do not cite"),
    "user_location": _emulated("part of the function's description"),
    "response_inclusion": _harmless("nothing here runs code that would search"),
}

_TOOL_CHOICES: Mapping[str, Support] = {
    "auto": _mapped("`auto`"),
    "any": _mapped("`required`"),
    "tool": _mapped("the function; refused where nothing here runs the tool"),
    "none": _mapped("`none`"),
}

_RESPONSE_BLOCKS: Mapping[str, Support] = {
    "text": _mapped("`content`"),
    "thinking": _mapped("`reasoning` or `reasoning_content`, signed here"),
    "tool_use": _mapped("`tool_calls`"),
    "server_tool_use": _emulated("made where a tool is run here"),
    "web_search_tool_result": _emulated("made where the stack searches the web"),
    "tool_search_tool_result": _emulated("made where a tool search is run here"),
    "compaction": _emulated("made where the model summarised the conversation"),
    **dict.fromkeys(
        ("mcp_tool_use", "mcp_tool_result", "mcp_tool_listing"), _emulated("made where the stack calls MCP servers")
    ),
    "web_fetch_tool_result": _emulated("made where pages are fetched here"),
    "code_execution_tool_result": _emulated("made where a tool of the stack runs programs"),
    "bash_code_execution_tool_result": _emulated("made where a tool of the stack runs commands of a shell"),
    "advisor_tool_result": _emulated("made where a model of the stack gives advice"),
    **dict.fromkeys(
        (
            "redacted_thinking",
            "text_editor_code_execution_tool_result",
            "container_upload",
        ),
        _NEVER,
    ),
    "fallback": _emulated("made where another model takes over"),
}

_DELTAS: Mapping[str, Support] = {
    "text_delta": _mapped("`delta.content`"),
    "input_json_delta": _mapped("`delta.tool_calls[].function.arguments`"),
    "thinking_delta": _mapped("`delta.reasoning` or `delta.reasoning_content`"),
    "signature_delta": _emulated("signed here, once, before the block stops"),
    "citations_delta": _NEVER,
    "compaction_delta": _emulated("the whole summary at once"),
}

_EVENTS: Mapping[str, Support] = {
    **dict.fromkeys(
        (
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ),
        _mapped("made from the upstream's chunks"),
    ),
    "ping": _emulated("sent in silence while the upstream's connection lives"),
    "error": _emulated("ends a stream that failed"),
}

_STOP_REASONS: Mapping[str, Support] = {
    "end_turn": _mapped("`stop`"),
    "max_tokens": _mapped("`length`"),
    "stop_sequence": _mapped("`stop`, with the sequence where the upstream tells it or the text ends in it"),
    "tool_use": _mapped("whenever there is a call that no limit or stop sequence cut off"),
    "refusal": _mapped(
        "`content_filter` or `refusal`, with `stop_details`; natively too, what a shield of the stack flags"
    ),
    "model_context_window_exceeded": _emulated(
        "`length` before `max_tokens` was reached, or an engine's own word for it"
    ),
    "pause_turn": _emulated("after many searches, where the stack searches the web"),
    "compaction": _emulated("where the summary is all that was asked for, or the message is to pause after it"),
}

_ERRORS: Mapping[str, Support] = {
    "invalid_request_error": _mapped("400, 409, 422 and others"),
    "authentication_error": _mapped("401"),
    "billing_error": _mapped("402"),
    "permission_error": _mapped("403"),
    "not_found_error": _mapped("404"),
    "request_too_large": _mapped("413"),
    "rate_limit_error": _mapped("429"),
    "api_error": _mapped("500 and 502"),
    "timeout_error": _mapped("408 and 504"),
    "overloaded_error": _mapped("503 and 529"),
    "conflict_error": _NEVER,
    "memory_precondition_failed_error": _NEVER,
    "memory_path_conflict_error": _NEVER,
}

SUPPORT: Mapping[Kind, Mapping[str, Support]] = {
    "parameter": _PARAMETERS,
    "batch parameter": _BATCH_PARAMETERS,
    "setting": _SETTINGS,
    "header": _HEADERS,
    "block": _BLOCKS,
    "block field": _BLOCK_FIELDS,
    "source": _SOURCES,
    "tool": _TOOLS,
    "tool field": _TOOL_FIELDS,
    "tool choice": _TOOL_CHOICES,
    "response block": _RESPONSE_BLOCKS,
    "delta": _DELTAS,
    "event": _EVENTS,
    "stop reason": _STOP_REASONS,
    "error": _ERRORS,
}
"""Kind of thing, its name, what becomes of it."""
