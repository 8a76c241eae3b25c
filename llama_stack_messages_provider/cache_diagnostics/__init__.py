"""`diagnostics`: why a prompt could not be read from a cache, by comparing a request with the one before."""
