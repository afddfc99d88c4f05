"""Fixtures of unit tests: a mirror in a fake world without a remote, one with, and a copy of the scripts."""

from support.checkouts import checkout
from support.situations import here, shared

__all__ = ["checkout", "here", "shared"]
