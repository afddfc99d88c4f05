"""Fixtures for tests with real git: a local repository and an empty remote."""

from support.gits import remote, repo

__all__ = ["remote", "repo"]
