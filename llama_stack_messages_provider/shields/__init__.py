"""Guardrails: what goes to a model and comes from it is judged by shields of the stack's safety API."""
