"""Passes from a Messages request to a plainer one: pure."""
