"""What is told of requests to OpenTelemetry, by the GenAI semantic conventions."""
