"""May the public set of an issuer be empty? Only after `revoke --last`, and only until a key is public again.

    what happens                                          the permission
    `revoke --last` leaves no key public                  given: `last` on the revocations that it makes or meets
    a step (a pass or a decision) leaves keys public      taken back: no record of its ledger has `last` any more
    ledgers are merged                                    per revoked record the higher generation says; of two equal
                                                          ones the one with `last`

Giving and taking back both move the record, to a generation higher by one, so whoever gave or took it later, knowing of
the other, wins every merge, without a clock. From that follows what matters: of ledgers that all come from one with
public keys, without a `--last` of their own, no merge may be empty. None of them is empty itself, because the last key
never leaves by itself; the ones that took a key away took every older permission back in the same step; and the
others have public what the first one had.

Where merged revocations left no key without that permission, one revoked key stays public until another key is, or an
operator says `revoke --last`: that which was revoked last of those that were public when they were revoked. The order
is a counter, 1 + the ledger's highest at each revocation, and no clock. A key that was never public is never kept.
"""

from dataclasses import replace

from mirror.model import MAX_GENERATION, Key, KeyName, KeyRecord, Ledger, Status


def is_emptied(ledger: Ledger) -> bool:
    """Whether no key is public and some were revoked."""
    return not ledger.public_keys() and any(record.status is Status.REVOKED for record in ledger.records)


def may_be_empty(ledger: Ledger) -> bool:
    """Whether an operator revoked with `last`, and no key was public since; otherwise an empty set is not published."""
    return any(_permits(record) for record in ledger.records)


def kept_key(ledger: Ledger) -> KeyRecord | None:
    """The revoked key that stays public because nothing else would be; None where a key is public or none may be."""
    if ledger.public_keys() or may_be_empty(ledger):
        return None
    candidates = [record for record in ledger.records if _may_be_kept(record)]
    return max(candidates, key=_revoked_last, default=None)


def _may_be_kept(record: KeyRecord) -> bool:
    return record.revocation is not None and record.keeps_material and not isinstance(record.key, KeyName)


def _revoked_last(record: KeyRecord) -> tuple[int, str, str]:
    order = record.revocation.order if record.revocation is not None else 0
    return order, record.key.thumbprint, record.key.kid


def published_keys(ledger: Ledger) -> tuple[Key, ...]:
    """The keys of the public JWKS in the order of publication: the public ones, else the kept one."""
    kept = kept_key(ledger)
    if kept is None or isinstance(kept.key, KeyName):
        return ledger.public_keys()
    return (kept.key,)


def settled(ledger: Ledger) -> Ledger:
    """The ledger as a step leaves it: with public keys nobody's earlier permission to empty the set stands."""
    if not ledger.public_keys() or not may_be_empty(ledger):
        return ledger
    return replace(ledger, records=tuple(_taken_back(record) for record in ledger.records))


def _permits(record: KeyRecord) -> bool:
    return record.revocation is not None and record.revocation.last


def _taken_back(record: KeyRecord) -> KeyRecord:
    if record.revocation is None or not record.revocation.last:
        return record
    generation = min(record.generation + 1, MAX_GENERATION)
    return replace(record, generation=generation, revocation=replace(record.revocation, last=False))
