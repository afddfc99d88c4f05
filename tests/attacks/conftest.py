"""Fixtures of the attacks on mirrors with real git."""

from support.fleet_states import fleet, signed

__all__ = ["fleet", "signed"]
