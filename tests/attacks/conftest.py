"""Fixtures of the attacks on mirrors with real git."""

from support.fleet_states import fleet, signed
from support.gits import remote

__all__ = ["fleet", "remote", "signed"]
