"""Between Anthropic's dialect and OpenAI's: pure functions and small state machines, without IO, clock or host."""
