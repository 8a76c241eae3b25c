"""Requests, relay and repair of the native route: pure."""
