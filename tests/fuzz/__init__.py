"""Fuzzing: `targets` are fed by `python -m tests.fuzz` (coverage-guided, long) and by `test_fuzz` (a short part)."""
