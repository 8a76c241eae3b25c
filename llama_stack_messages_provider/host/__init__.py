"""Every touch of internals of the host and of what it runs on. Each has a contract test in `tests/host`."""
