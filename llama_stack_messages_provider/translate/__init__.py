"""Between Anthropic's dialect and OpenAI's: pure functions and one state machine, without IO, clock or ids of their own."""
