"""Anthropic's MCP connector for any model: the tools of MCP servers are offered, and called here.

| module | what |
| --- | --- |
| `definitions` | what a request says: its servers, toolsets, and the older `tool_configuration` |
| `names` | names of custom tools, unique among all servers |
| `blocks` | `mcp_tool_use`, `mcp_tool_result`, `mcp_tool_listing`, and what the model reads for them |
| `addresses` | which servers a client may name |
| `guarded_http` | HTTP to servers that strangers name: where to, how much, and an answer to every call |
| `session` | a connection to a server, kept for one message |
| `connector` | all of it for a request |

Source: https://platform.claude.com/docs/en/agents-and-tools/mcp-connector
"""
