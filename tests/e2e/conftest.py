"""The world of whole passes, and a client of public URLs; several modules have another world of their own."""

from support.web import web
from support.worlds import world

__all__ = ["web", "world"]
