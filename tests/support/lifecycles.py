"""Keys, ledgers and observations of one issuer, by short names, for the tests of the state machine of keys."""

from dataclasses import replace
from datetime import UTC, datetime

from mirror.model import (
    IssuerUrl,
    Key,
    KeyPolicy,
    KeyRecord,
    Kid,
    Ledger,
    Observation,
    Observed,
    RsaKey,
    Thumbprint,
    key_id,
)
from mirror.trust.lifecycle import LedgerUpdate, PassContext, advance

ISSUER = IssuerUrl("https://issuer.example.com/cluster")
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def rsa(name: str, kid: str | None = None) -> RsaKey:
    """A key whose material is `name`; nothing reads it."""
    return RsaKey(Kid(kid or name), "RS256", f"n-{name}", "AQAB", Thumbprint(f"t-{name}"))


def ledger(*records: KeyRecord) -> Ledger:
    """A ledger of these records, in its order."""
    return Ledger(ISSUER, tuple(sorted(records, key=lambda r: key_id(r.key))))


def shows(*keys: Key, apiserver: str = "https://one", date: datetime | None = None) -> Observed:
    """An apiserver that shows these keys."""
    return Observed(apiserver, tuple(sorted(keys, key=key_id)), date=date)


def step(
    before: Ledger, *seen: Observation, policy: KeyPolicy | None = None, now: datetime = NOW, **given: object
) -> LedgerUpdate:
    """What a pass makes of a ledger; `given` are further fields of `PassContext`."""
    context = PassContext(seen, replicas=len(seen), now=now)
    return advance(before, policy or KeyPolicy(), replace(context, **given))  # type: ignore[arg-type]  # fields by name
