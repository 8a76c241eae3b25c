"""The routes, the middleware around the host's, and the streaming of answers."""
