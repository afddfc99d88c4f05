"""The mirror for the tests that damage disks and remotes."""

from torture.on_disk import world

__all__ = ["world"]
