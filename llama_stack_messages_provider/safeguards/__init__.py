"""Calls of tools, judged for a client that wants that before it runs them: `safeguards`, as Claude Code sends it."""
