"""Two ledgers of one issuer become one, independent of writer, order and repetition.

`merge` is the join of a semilattice: commutative, associative and idempotent, so mirrors that exchange ledgers
through git converge without a clock. Per key: `revoked` wins; else the higher generation; else published > retiring >
held > dropped; else the earlier dates. A revocation reaches every record of the same key material (thumbprint). The
`alg` is the alphabetically first of the known ones, for any generation: no thumbprint covers it.

Of two revoked records, the one with the higher generation decides whether the set may be empty
(`mirror.trust.lifecycle`). So the generation of a record that was not revoked is never mixed into theirs, and a record
that a revocation only reaches begins at the lowest. The status of the key at its revocation joins as none < dropped <
held < retiring < published, over the revoked records alone. A key that was public in one of them may have to stay
(`mirror.trust.lifecycle.kept_key`).
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from mirror.model import (
    AnyKey,
    IssuerUrl,
    KeyId,
    KeyName,
    KeyRecord,
    Ledger,
    Revocation,
    Status,
    Thumbprint,
    key_id,
    trimmed,
)
from mirror.trust.jwks import with_first_alg

_RANK: dict[Status | None, int] = {
    None: 0,
    Status.DROPPED: 1,
    Status.HELD: 2,
    Status.RETIRING: 3,
    Status.PUBLISHED: 4,
}
_NEVER = datetime.max.replace(tzinfo=UTC)


def merge(a: Ledger, b: Ledger) -> Ledger:
    """The join of two ledgers of the same issuer.

    Raises:
        ValueError: The ledgers belong to different issuers; this is a bug of the caller.
    """
    if a.issuer != b.issuer:
        raise ValueError(f"ledgers of different issuers: {a.issuer!r} and {b.issuer!r}")
    return joined(a.issuer, (*a.records, *b.records))


def joined(issuer: IssuerUrl, records: Iterable[KeyRecord]) -> Ledger:
    """The ledger of `records`, in any order. Records of one identity join; revocations reach all their material."""
    found: dict[KeyId, KeyRecord] = {}
    for record in records:
        identity = key_id(record.key)
        found[identity] = _join(found[identity], record) if identity in found else trimmed(record)
    return Ledger(issuer, tuple(_spread_revocations(found[identity] for identity in sorted(found))))


def _join(a: KeyRecord, b: KeyRecord) -> KeyRecord:
    first_seen = min(a.first_seen, b.first_seen)
    revoked = [(r, r.revocation) for r in (a, b) if r.revocation is not None]
    if not revoked:
        winner = max(a, b, key=_precedence)
        return replace(trimmed(winner), key=_key(trimmed(winner).key, a, b), first_seen=first_seen)
    generation, last = max((record.generation, revocation.last) for record, revocation in revoked)
    before, revoked_from = max(revoked, key=lambda pair: _RANK[pair[1].revoked_from])
    revocation = replace(
        _first(revocation for _, revocation in revoked),
        last=last,
        revoked_from=revoked_from.revoked_from,
        order=max(revocation.order for _, revocation in revoked),
    )
    joint = _revoked(replace(before, generation=generation, first_seen=first_seen), revocation)
    return replace(joint, key=_key(joint.key, a, b))


def _key(key: AnyKey, a: KeyRecord, b: KeyRecord) -> AnyKey:
    """`key` with the first `alg` of both records. A key name accepts any; key material accepts only one that fits."""
    algs = sorted(each.key.alg for each in (a, b) if each.key.alg)
    if not isinstance(key, KeyName):
        return with_first_alg(key, algs)
    return replace(key, alg=algs[0]) if algs else key


def _precedence(record: KeyRecord) -> tuple[object, ...]:
    """A total order over records of one key that are not revoked: greater wins."""
    earlier_wins = tuple(-(moment or _NEVER).timestamp() for moment in (record.missing_since, record.returned_at))
    return (record.generation, _RANK[record.status], *earlier_wins, record.held_because or "")


def _first(revocations: Iterable[Revocation]) -> Revocation:
    return min(revocations, key=lambda r: (r.at, r.reason))


def _revoked(record: KeyRecord, revocation: Revocation) -> KeyRecord:
    # The fields of the former status are cleared; the rest joins component by component.
    return trimmed(
        KeyRecord(
            key=record.key,
            status=Status.REVOKED,
            generation=record.generation,
            first_seen=record.first_seen,
            revocation=revocation,
        )
    )


def _spread_revocations(records: Iterable[KeyRecord]) -> Iterable[KeyRecord]:
    found = tuple(records)
    by_material: dict[Thumbprint, list[Revocation]] = {}
    for record in found:
        if record.revocation is not None:
            by_material.setdefault(record.key.thumbprint, []).append(record.revocation)
    for record in found:
        revocations = by_material.get(record.key.thumbprint)
        yield record if revocations is None else _reached(record, _first(revocations))


def _reached(record: KeyRecord, first: Revocation) -> KeyRecord:
    """The record of revoked material: all records share the first date and reason, and keep the rest for themselves."""
    if record.revocation is None:
        return _revoked(replace(record, generation=1), Revocation(first.at, first.reason))
    return replace(record, revocation=replace(record.revocation, at=first.at, reason=first.reason))
