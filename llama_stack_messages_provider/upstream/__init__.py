"""The IO towards upstreams: sessions, endpoints, the probe, the native relay, chat completions."""
