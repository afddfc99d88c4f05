"""One browser for all tests of a file."""

from support.browsers import tabs

__all__ = ["tabs"]
