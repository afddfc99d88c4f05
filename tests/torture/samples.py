"""Valid documents to mutate."""

from datetime import UTC, datetime
from functools import cache

from mirror.model import IssuerUrl, KeyRecord, Ledger, Revocation, Status
from mirror.trust.ledger import write_ledger
from support.keys import EC_KEYS, RSA_KEYS, with_kid
from support.situations import ISSUER

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


@cache
def ledger_body() -> bytes:
    """A ledger with a key of each status."""
    records = (
        KeyRecord(with_kid(EC_KEYS[0], "a"), Status.PUBLISHED, 1, NOW, returned_at=NOW),
        KeyRecord(with_kid(RSA_KEYS[0], "b"), Status.RETIRING, 2, NOW, missing_since=NOW),
        KeyRecord(with_kid(RSA_KEYS[1], "c"), Status.HELD, 1, NOW, held_because="policy"),
        KeyRecord(with_kid(RSA_KEYS[2], "d"), Status.DROPPED, 4, NOW),
        KeyRecord(with_kid(RSA_KEYS[3], "e"), Status.REVOKED, 3, NOW, revocation=Revocation(NOW, "stolen")),
    )
    return write_ledger(Ledger(IssuerUrl(ISSUER), records))
