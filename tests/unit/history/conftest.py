"""Fixtures of the tests with real git: a repository of ours, and an empty remote."""

from support.gits import remote, repo

__all__ = ["remote", "repo"]
