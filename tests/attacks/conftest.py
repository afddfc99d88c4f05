"""Fixtures of the attacks: fleets of mirrors with real git, and what single apiservers and mirrors need."""

from support.fleet_states import fleet, signed
from support.gits import remote
from support.situations import shared
from support.tls import trusted

__all__ = ["fleet", "remote", "shared", "signed", "trusted"]
