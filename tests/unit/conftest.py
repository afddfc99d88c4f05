"""Fixtures of the tests around a fake world: a mirror without a remote, and one with."""

from support.situations import here, shared

__all__ = ["here", "shared"]
