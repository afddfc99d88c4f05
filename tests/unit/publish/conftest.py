"""A client of public URLs."""

from support.web import web

__all__ = ["web"]
