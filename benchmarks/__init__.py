"""Benchmarks: our two routes beside the host's own chat route, OGX, LiteLLM proxy and the bare upstream."""
