"""What Claude Code sends, in structure and size, made here: its generations 2.1.332, 2.1.330 and 2.1.197.

`SHAPES` has a body for each kind of request; `headers(version)` what comes with all of them.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

from tests.fidelity.documents import pdf, png
from tests.support.wire import Json, text_block

__all__ = ["COUNTS", "SAFEGUARDS", "SEARCHES", "SHAPES", "TOOLS_330", "headers"]

EPHEMERAL: Json = {"type": "ephemeral"}
PNG: Json = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png()).decode()}
PDF: Json = {
    "type": "base64",
    "media_type": "application/pdf",
    "data": base64.b64encode(pdf(["Otters swim."])).decode(),
}
ATTRIBUTION = "x-anthropic-billing-header: cc_version=2.1.330.b2c; cc_entrypoint=sdk-cli; cch={nonce};"
WORDS = "Keep answers short, prefer the tools that are there over the shell, and never touch what was not asked for. "

BETAS = {
    "332": "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
    "mid-conversation-tool-changes-2026-07-01,thinking-token-count-2026-05-13,advanced-tool-use-2025-11-20,"
    "effort-2025-11-24,redact-thinking-2026-02-12,afk-mode-2026-01-31,dangerous-tool-use-2026-09-03",
    "330": "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
    "mid-conversation-tool-changes-2026-07-01,thinking-token-count-2026-05-13,advanced-tool-use-2025-11-20,"
    "effort-2025-11-24,thinking-display-updates-2026-08-18,per-turn-control-2026-07-01",
    "197": "claude-code-20250219,interleaved-thinking-2025-05-14,thinking-token-count-2026-05-13,"
    "context-management-2025-06-27,prompt-caching-scope-2026-01-05,mid-conversation-system-2026-04-07,effort-2025-11-24",
}


def headers(version: str, *, counting: bool = False) -> Mapping[str, str]:
    """The headers of a request."""
    betas = BETAS[version] + (",token-counting-2024-11-01" if counting else "")
    return {
        "accept": "application/json",
        "accept-encoding": "gzip, deflate, br, zstd",
        "anthropic-beta": betas,
        "anthropic-dangerous-direct-browser-access": "true",
        "anthropic-version": "2023-06-01",
        "authorization": "Bearer any",
        "user-agent": f"claude-cli/2.1.{version} (external, sdk-cli)",
        "x-app": "cli",
        "x-claude-code-session-id": "11111111-2222-3333-4444-555555555555",
        "x-stainless-lang": "js",
        "x-stainless-retry-count": "0",
        "x-stainless-timeout": "600",
    }


# --- tools ---


def _tool(name: str, about: str, properties: Json, *required: str, **more: Any) -> Json:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    # The real descriptions are manuals of some kilobytes each.
    return {"name": name, "description": f"{about}\n\n{WORDS * 20}", "input_schema": schema, **more}


def _string(about: str, **more: Any) -> Json:
    return {"type": "string", "description": about, **more}


QUESTION: Json = {
    "type": "array",
    "minItems": 1,
    "maxItems": 4,
    "items": {
        "type": "object",
        "properties": {
            "question": _string("The question."),
            "options": {
                "type": "array",
                "maxItems": 4,
                "items": {"type": "object", "properties": {"label": _string("x")}},
            },
            "multiSelect": {"type": "boolean", "default": False},
        },
        "required": ["question", "options"],
        "additionalProperties": False,
    },
}
PLACEHOLDER: Json = _tool("Deferred", "Stands for the tools that are found on demand.", {}, defer_loading=True)
FETCH: Json = _tool("WebFetch", "Fetch a page.", {"url": _string("The URL.", format="uri")}, "url", defer_loading=True)
MCP: Json = _tool("mcp__docs__search", "Search the docs.", {"q": _string("What.")}, "q", defer_loading=True)
TOOLS_330: list[Json] = [
    _tool(
        "Agent",
        "Launch an agent.",
        {
            "description": _string("Short."),
            "prompt": _string("The task."),
            "model": _string("Which.", enum=["sonnet", "opus", "haiku"]),
        },
        "description",
        "prompt",
    ),
    _tool(
        "Bash",
        "Run a command.",
        {
            "command": _string("The command."),
            "timeout": {"type": "number", "maximum": 600000},
            "run_in_background": {"type": "boolean", "default": False},
        },
        "command",
    ),
    _tool("Glob", "Find files.", {"pattern": _string("A glob."), "path": _string("Where.")}, "pattern"),
    _tool(
        "Grep",
        "Search files.",
        {
            "pattern": _string("A regular expression."),
            "output_mode": _string(
                "What to show.", enum=["content", "files_with_matches", "count"], default="files_with_matches"
            ),
            "-C": {"type": "number", "minimum": 0},
            "head_limit": {"type": "integer", "exclusiveMinimum": 0},
        },
        "pattern",
    ),
    _tool(
        "Read",
        "Read a file.",
        {
            "file_path": _string("Absolute."),
            "pages": _string("Of a PDF.", pattern=r"^\d+(-\d+)?$"),
            "limit": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991},
        },
        "file_path",
    ),
    _tool(
        "Edit",
        "Edit a file.",
        {
            "file_path": _string("Absolute."),
            "old_string": _string("Old."),
            "new_string": _string("New."),
            "replace_all": {"type": "boolean", "default": False},
        },
        "file_path",
        "old_string",
        "new_string",
    ),
    _tool(
        "Write",
        "Write a file.",
        {"file_path": _string("Absolute."), "content": _string("All of it.")},
        "file_path",
        "content",
    ),
    _tool(
        "TodoWrite",
        "Keep a list.",
        {
            "todos": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "content": _string("What.", minLength=1),
                        "status": _string("State.", enum=["pending", "in_progress", "completed"]),
                    },
                    "required": ["content", "status"],
                    "additionalProperties": False,
                },
            }
        },
        "todos",
    ),
    _tool(
        "AskUserQuestion",
        "Ask.",
        {
            "questions": QUESTION,
            "answers": {
                "type": "object",
                "propertyNames": {"type": "string"},
                "additionalProperties": {"type": "string"},
            },
        },
        "questions",
    ),
    _tool("Skill", "Use a skill.", {"skill": _string("Its name."), "args": _string("Its arguments.")}, "skill"),
    _tool(
        "ToolSearch",
        "Find tools.",
        {"query": _string("select:NAME, or words."), "max_results": {"type": "number", "default": 5}},
        "query",
    ),
    _tool("KillShell", "End a shell.", {"shell_id": _string("Which.")}, "shell_id"),
    _tool(
        "ExitPlanMode",
        "Say that the plan is done.",
        {
            "allowedPrompts": {
                "type": "array",
                "items": {"anyOf": [{"type": "object", "properties": {"tool": {"const": "Bash"}}}, {"type": "string"}]},
            }
        },
    ),
    PLACEHOLDER,
]
TOOLS_197 = [
    *TOOLS_330[:-1],
    {**FETCH, "defer_loading": False},
    *(
        _tool(f"Task{verb}", "Tasks.", {"id": _string("Which.")}, "id")
        for verb in ("Create", "Get", "List", "Stop", "Output")
    ),
    *(_tool(f"Cron{verb}", "Timers.", {"cron": _string("When.")}, "cron") for verb in ("Create", "Delete", "List")),
    _tool("NotebookEdit", "Edit a notebook.", {"cell_id": _string("Which.")}, "cell_id"),
    _tool("BashOutput", "Read a shell.", {"bash_id": _string("Which.")}, "bash_id"),
    _tool("EnterWorktree", "Branch off.", {"name": _string("Its name.")}),
    _tool("SendMessage", "Tell an agent.", {"to": _string("Whom."), "text": _string("What.")}, "to", "text"),
]
STRUCTURED = _tool(
    "StructuredOutput", "Give the answer.", {"answer": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "answer"
)


# --- conversations ---

REMINDER = f"<system-reminder>\n{WORDS * 8}</system-reminder>"
ASKED: Json = {
    "role": "user",
    "content": [text_block(REMINDER), text_block("Look at the notes.", cache_control=EPHEMERAL)],
}
TOLD: Json = {
    "role": "system",
    "content": f"The following tools can be found: WebFetch, mcp__docs__search.\n{WORDS * 40}",
}
TOLD_IN_BLOCKS: Json = {"role": "system", "content": [text_block("The date is 2026-11-24.", cache_control=EPHEMERAL)]}
TOLD_WITH_EFFORT: Json = {**TOLD, "output_config": {"effort": "low"}}
THOUGHT: Json = {"type": "thinking", "thinking": "The user wants the notes.", "signature": "RXJub3RPdXJz"}


def _use(number: int, name: str, **given: Any) -> Json:
    return {"type": "tool_use", "id": f"toolu_01{number:022}", "name": name, "input": given}


def _result(number: int, content: Any, **more: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": f"toolu_01{number:022}", "content": content, **more}


def _turns(uses: list[Json], *results: Json, before: Json = ASKED) -> list[Json]:
    said = [THOUGHT, text_block("I look."), *uses]
    return [before, TOLD, {"role": "assistant", "content": said}, {"role": "user", "content": list(results)}]


READ = _use(1, "Read", file_path="/notes")
FAILED_TOO = _turns(
    [READ, _use(2, "Bash", command="false")],
    _result(1, "1\tOtters swim.\n"),
    _result(2, "Exit code 1", is_error=True, cache_control=EPHEMERAL),
    text_block(REMINDER),
)
FOUND_BY_SUBAGENT = _turns(
    [_use(1, "Agent", description="d", prompt="p")], _result(1, [text_block("Found."), text_block("<usage/>")])
)
READ_IMAGE = _turns([READ], _result(1, [{"type": "image", "source": PNG}]))
DOCUMENT: Json = {"type": "document", "source": PDF, "cache_control": EPHEMERAL}
READ_PDF_330 = _turns([READ], _result(1, [text_block("PDF file read: /notes.pdf"), DOCUMENT]))
READ_PDF_197 = _turns([READ], _result(1, "PDF file read: /notes.pdf"), DOCUMENT)
REFERENCES = [{"type": "tool_reference", "tool_name": "WebFetch"}, {"type": "tool_reference", "tool_name": MCP["name"]}]
TOOLS_FOUND = _turns([_use(1, "ToolSearch", query="select:WebFetch")], _result(1, REFERENCES))
SEARCHED_BY_SERVER = [
    ASKED,
    {
        "role": "assistant",
        "content": [
            {
                "type": "server_tool_use",
                "id": "srvtoolu_01",
                "name": "tool_search_tool_regex",
                "input": {"pattern": "fetch"},
            },
            {
                "type": "tool_search_tool_result",
                "tool_use_id": "srvtoolu_01",
                "content": {"type": "tool_search_tool_search_result", "tool_references": REFERENCES},
            },
            _use(1, "WebFetch", url="https://o.test"),
        ],
    },
    {"role": "user", "content": [_result(1, "Otters swim.")]},
]
TOOL_CHANGED = [
    ASKED,
    {"role": "system", "content": [{"type": "tool_addition", "tool": {"type": "tool_reference", "name": "WebFetch"}}]},
    {"role": "assistant", "content": "Fine."},
    {"role": "user", "content": "Go on."},
    {"role": "system", "content": [{"type": "tool_removal", "tool": {"type": "tool_reference", "name": "WebFetch"}}]},
]
SECOND_TURN = [*FAILED_TOO, TOLD_IN_BLOCKS, {"role": "assistant", "content": [text_block("Done.")]}]
# The same first message as before, now a string; and what came without a signature comes back with an empty one.
RESUMED: list[Json] = [
    {"role": "user", "content": f"{REMINDER}\nLook at the notes."},
    *SECOND_TURN[1:2],
    {"role": "assistant", "content": [{**THOUGHT, "signature": ""}, READ]},
    {"role": "user", "content": [_result(1, "1\tOtters swim.\n")]},
    {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "", "signature": "RXJub3RPdXJz"}, text_block("Done.")],
    },
    {"role": "user", "content": "And now?"},
]
SUMMARY = f"Your task is to create a detailed summary of the conversation so far.\n{WORDS * 30}"
EMPTY_ANSWER = [
    ASKED,
    {"role": "assistant", "content": [text_block("")]},
    {"role": "user", "content": "Please answer."},
]


# --- requests ---

SHARED: Json = {
    "metadata": {"user_id": json.dumps({"device_id": "d" * 64, "account_uuid": "", "session_id": "s"})},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "stream": True,
}


def _system(nonce: str = "3f7a1") -> list[Json]:
    return [
        text_block(ATTRIBUTION.format(nonce=nonce)),
        text_block("You are Claude Code, Anthropic's official CLI for Claude.", cache_control=EPHEMERAL),
        text_block(WORDS * 65, cache_control=EPHEMERAL),
    ]


def cc330(messages: list[Json], **more: Any) -> Json:
    """A request of 2.1.330 with a Claude name."""
    head: Json = {"max_tokens": 128000, "thinking": {"type": "adaptive", "display": "updates"}}
    effort: Json = {"output_config": {"effort": "medium"}}
    return {"messages": messages, "system": _system(), "tools": TOOLS_330, **head, **effort, **SHARED, **more}


CONTEXT: Json = {
    "v": 1,
    "permission_mode": "auto",
    "platform": "linux",
    "live_cwd": "/home/me/notes",
    "home_dir": "/home/me",
    "rule_roots": ["/home/me/notes"],
    "trusted_directories": ["/home/me/notes"],
    "rules": {"allow": ["Bash(ls:*)"], "deny": ["Read(.env)"], "ask": []},
    "auto_mode": {
        "allow": ["Deleting what this session has made."],
        "soft_deny": ["Force-pushing, or deleting remote branches."],
        "hard_deny": ["Sending secrets out."],
        "environment": ["The repository that the session began in is trusted."],
    },
    "git_state": {"is_repo": True, "branch": "main", "remotes": []},
    "classifier_facts": {},
    "refused_calls": [],
}
SAFEGUARDS: list[Json] = [{"type": "dangerous_tool_use", "classifier_context": CONTEXT}]
"""What 2.1.332 sends in its auto mode, which is its default."""


def cc332(messages: list[Json], **more: Any) -> Json:
    """A request of 2.1.332 in its default mode."""
    return cc330(messages, safeguards=SAFEGUARDS, **more)


def cc197(messages: list[Json], **more: Any) -> Json:
    """A request of 2.1.197 with its default model."""
    head: Json = {"max_tokens": 64000, "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}
    return {"messages": messages, "system": _system(), "tools": TOOLS_197, **head, **SHARED, **more}


def _without(body: Json, *names: str) -> Json:
    return {name: value for name, value in body.items() if name not in names}


TITLE: Json = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}
SEARCH_TOOL: Json = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
SEARCH = _without(
    cc330([{"role": "user", "content": "Perform a web search for the query: otters"}], tools=[SEARCH_TOOL]),
    "context_management",
)
SEARCHES: Mapping[str, Json] = {
    "330": {**SEARCH, "tool_choice": {"type": "auto"}},
    "197": {**SEARCH, "tool_choice": {"type": "tool", "name": "web_search"}},
}
"""The sub-request of WebSearch by version; it has no other tool."""

SHAPES: Mapping[str, tuple[str, Json]] = {
    "330 first, -p json": ("330", cc330([ASKED, TOLD], thinking={"type": "adaptive", "display": "omitted"})),
    "330 first, stream-json": ("330", cc330([ASKED, TOLD_WITH_EFFORT])),
    "330 first, unknown name": ("330", cc330([ASKED, TOLD], max_tokens=32000, output_config={"effort": "high"})),
    "330 first, --bare": ("330", cc330([ASKED], system=_system()[:2], tools=TOOLS_330[1:4])),
    "330 effort of messages": ("330", cc330([*SECOND_TURN, ASKED, TOLD_WITH_EFFORT])),
    "330 parallel calls, one failed": ("330", cc330([*FAILED_TOO, TOLD_IN_BLOCKS])),
    "330 subagent's result": ("330", cc330(FOUND_BY_SUBAGENT)),
    "330 image read": ("330", cc330(READ_IMAGE)),
    "330 PDF read": ("330", cc330(READ_PDF_330)),
    "330 tools found": ("330", cc330(TOOLS_FOUND, tools=[*TOOLS_330, FETCH, MCP])),
    "330 tools found by the server": (
        "330",
        cc330(
            SEARCHED_BY_SERVER,
            tools=[
                {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"},
                *TOOLS_330[:3],
                FETCH,
                MCP,
            ],
        ),
    ),
    "330 tools changed": ("330", cc330(TOOL_CHANGED, tools=[*TOOLS_330, FETCH])),
    "330 structured output": ("330", cc330([ASKED, TOLD], tools=[*TOOLS_330, STRUCTURED])),
    "330 /compact": ("330", cc330([*SECOND_TURN, {"role": "user", "content": SUMMARY}], thinking={"type": "disabled"})),
    "330 /compact, second": (
        "330",
        cc330([{"role": "user", "content": [text_block(SUMMARY)]}, TOLD], tools=[TOOLS_330[4]]),
    ),
    "330 resumed": ("330", cc330([*RESUMED, TOLD])),
    "330 not streamed": ("330", _without(cc330([ASKED, TOLD]), "stream")),
    "332 first": ("332", cc332([ASKED, TOLD])),
    "332 parallel calls, one failed": ("332", cc332([*FAILED_TOO, TOLD_IN_BLOCKS])),
    "332 not streamed": ("332", _without(cc332([ASKED, TOLD]), "stream")),
    "330 all tools after a refusal": (
        "330",
        cc330([ASKED, TOLD], tools=[*TOOLS_330[:-1], *(_without(t, "defer_loading") for t in (FETCH, MCP))]),
    ),
    "197 first": ("197", cc197([ASKED, TOLD])),
    "197 first, haiku": (
        "197",
        _without(
            cc197([ASKED], max_tokens=32000, thinking={"type": "enabled", "budget_tokens": 31999}), "output_config"
        ),
    ),
    "197 subagent": ("197", _without(cc197([ASKED, TOLD], thinking={"type": "disabled"}), "context_management")),
    "197 title": (
        "197",
        _without(
            cc197(
                [{"role": "user", "content": "Look."}],
                output_config={"format": {"type": "json_schema", "schema": TITLE}},
                tools=[],
            ),
            "thinking",
            "context_management",
        ),
    ),
    "197 PDF read": ("197", cc197(READ_PDF_197)),
    "197 image read": ("197", cc197(READ_IMAGE)),
    "197 tools found": ("197", cc197(TOOLS_FOUND, tools=[*TOOLS_197, _without(MCP, "defer_loading")])),
    "197 empty answer": ("197", cc197(EMPTY_ANSWER)),
    "197 count": (
        "197",
        _without(cc197([ASKED, TOLD], max_tokens=1), "thinking", "output_config", "context_management", "stream"),
    ),
}
"""Name to version and body, without the model."""

COUNTS: Mapping[str, Json] = {
    name: {part: SHAPES[name][1][part] for part in ("messages", "tools")}
    for name in ("330 first, stream-json", "330 PDF read", "330 tools found", "197 first")
}
