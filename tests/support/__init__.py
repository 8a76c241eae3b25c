"""What the tests share.

| module | what |
| --- | --- |
| `upstream` | `ScriptedUpstream`: a real HTTP server that records requests and answers by script |
| `replies` | what it can answer: JSON, streams, silence, a cut connection |
| `wire` | builders of OpenAI and Anthropic bodies, chunks and events |
| `personalities` | how vLLM, SGLang, llama.cpp, Ollama, Anthropic and others behave (`engines`, `dialects`) |
| `stack` | `Stack`: the real host, `llama stack run` in a process of its own |
| `sse` | an SSE parser that shares no code with the package |
| `laws` | the laws of streams: grammar, folding, calls conserved |
| `fixtures` | the recorded streams in `tests/fixtures` |
| `waiting` | wait for a fact, with a limit |
"""
