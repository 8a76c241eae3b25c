"""Ids of requests: unique, not secret, so that no system call is spent on them."""

import random

__all__ = ["new_request_id"]


def new_request_id() -> str:
    """A fresh `req_...` id."""
    return f"req_{random.getrandbits(96):024x}"
