"""The wire types of the Messages API: this module has them all by name.

In the table, fields after the bar may be absent and then read as None.

```
CreateMessageRequest    model, max_tokens, messages | system, stream, stop_sequences, temperature, top_p,
                        top_k, tools, tool_choice, thinking, output_config, metadata, service_tier,
                        cache_control, container, context_management, mcp_servers, speed, fallbacks, ...
CountTokensRequest      model, messages | system, tools, tool_choice, thinking, output_config, ...
MessageParam            role, content: str | list[block] | output_config, clear_at

TextBlockParam          text | citations, cache_control
ImageBlockParam         source: Base64ImageSource(media_type, data) | URLSource(url)
                        | FileSource(file_id)
DocumentBlockParam      source: Base64PDFSource(data) | PlainTextSource(data) | ContentBlockSource(content)
                        | URLSource(url) | FileSource(file_id); title, context, citations
SearchResultBlockParam  source, title, content: list[TextBlockParam] | citations
ThinkingBlockParam      thinking | signature        RedactedThinkingBlockParam    data
ToolUseBlockParam       id, name, input | caller, toolset_name
ToolResultBlockParam    tool_use_id | content: str | list[text, image, search_result, document,
                        tool_reference, browser_state], is_error, toolset_name
ToolReferenceBlockParam tool_name
in server_blocks        server_tool_use, the *_tool_result families, container_upload
in beta_blocks          advisor_tool_result, mcp_*, tool_addition, tool_removal, compaction, fallback

Tool                    name, input_schema: dict | description, strict, defer_loading, type (custom or null)
ClientToolParam         base of bash, text_editor, memory and computer tools: type, name | the options of Tool
ServerToolParam         base of web_search, web_fetch, code_execution, tool_search, advisor: type, name
ToolsetParam            base of BrowserToolset20260801 and ComputerToolset20260801: type | configs
ToolChoice              ToolChoiceAuto | ToolChoiceAny | ToolChoiceTool(name) | ToolChoiceNone;
                        all but the last may have disable_parallel_tool_use
ThinkingConfigParam     ThinkingConfigEnabled(budget_tokens, display) | ThinkingConfigDisabled
                        | ThinkingConfigAdaptive(display) | ThinkingConfigBetweenTools
OutputConfig            effort, format: JSONOutputFormat(schema_), task_budget

Message                 id, type, role, model, content, stop_reason, stop_sequence, usage; the rest as it came
MessageTokensCount      input_tokens
```

Unions of blocks, sources and tools may hold their Unknown* member: it has `type`, and the rest is
in `model_extra`. `x.wire()` gives the JSON object back as it came. Blocks of responses are in
`response_blocks`, events of streams in `events`, batches in `batch_models`.
"""

from llama_stack_messages_provider.wire.answers import *  # noqa: F403
from llama_stack_messages_provider.wire.base import *  # noqa: F403
from llama_stack_messages_provider.wire.batches import *  # noqa: F403
from llama_stack_messages_provider.wire.beta_blocks import *  # noqa: F403
from llama_stack_messages_provider.wire.blocks import *  # noqa: F403
from llama_stack_messages_provider.wire.citations import *  # noqa: F403
from llama_stack_messages_provider.wire.request import *  # noqa: F403
from llama_stack_messages_provider.wire.request_config import *  # noqa: F403
from llama_stack_messages_provider.wire.server_blocks import *  # noqa: F403
from llama_stack_messages_provider.wire.tools import *  # noqa: F403
