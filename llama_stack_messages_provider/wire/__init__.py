"""Anthropic's dialect as data: requests, blocks, tools, events, server-sent events."""
