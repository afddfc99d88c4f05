"""Key histories: versions of a ledger become steps, rotations and JSON, without I/O."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import jsonschema
import pytest

from mirror.history.key_history import KeyHistories, KeyHistory, LedgerVersion, build_histories, to_json
from mirror.model import CommitId, IssuerUrl, Key, KeyRecord, Ledger, Revocation, Status, Version, key_id
from support.fakes import MOMENT
from support.keys import EC_KEYS, RSA_KEYS

ISSUER = IssuerUrl("https://issuer.example.com")
A, B, C = RSA_KEYS[0], RSA_KEYS[1], EC_KEYS[0]
HELD, PUBLISHED, RETIRING, DROPPED, REVOKED = Status
SCHEMA = json.loads((Path(__file__).parents[3] / "docs/reference/history.schema.json").read_text())


def commit(number: int) -> CommitId:
    return CommitId(f"{number:040x}")


def at(minutes: int) -> datetime:
    return MOMENT + timedelta(minutes=minutes)


def record(key: Key, status: Status, generation: int) -> KeyRecord:
    return KeyRecord(
        key,
        status,
        generation,
        MOMENT,
        missing_since=MOMENT if status is RETIRING else None,
        held_because="policy" if status is HELD else None,
        revocation=Revocation(MOMENT, "lost") if status is REVOKED else None,
    )


def version(number: int, *parents: int, minutes: int | None = None) -> Version:
    when = at(number if minutes is None else minutes)
    return Version(commit(number), tuple(commit(parent) for parent in parents), when, "an operator", "subject")


def entry(number: int, *parents: int, minutes: int | None = None, **keys: tuple[Status, int]) -> LedgerVersion:
    """A version with a ledger of the keys `a`, `b`, `c`: status and generation."""
    by_name: dict[str, Key] = {"a": A, "b": B, "c": C}
    records = [record(by_name[name], *state) for name, state in keys.items()]
    ledger = Ledger(ISSUER, tuple(sorted(records, key=lambda each: key_id(each.key))))
    return LedgerVersion(version(number, *parents, minutes=minutes), ledger)


def steps(found: KeyHistories, key: Key) -> list[tuple[Status, int]]:
    """The status of each step, and the number of its first commit."""
    (history,) = (each for each in found.keys if each.record.key == key)
    return [(step.status, int(step.commit, 16)) for step in history.steps]


ROTATION = (
    entry(1, a=(PUBLISHED, 1)),
    entry(2, 1, a=(PUBLISHED, 1), b=(PUBLISHED, 1)),
    entry(3, 2, a=(RETIRING, 2), b=(PUBLISHED, 1)),
    entry(4, 3, a=(DROPPED, 3), b=(PUBLISHED, 1)),
)


def test_rotation_is_traced() -> None:
    """The old key is published, retires and is dropped; the new key is public from its commit on: one rotation."""
    found = build_histories(ROTATION)
    assert steps(found, A) == [(PUBLISHED, 1), (RETIRING, 3), (DROPPED, 4)]
    assert steps(found, B) == [(PUBLISHED, 2)]
    assert [(each.at, each.commit, each.keys) for each in found.rotations] == [(at(2), commit(2), (key_id(B),))]
    old, new = found.keys
    assert (old.published_at, old.retiring_at, old.gone_at) == (at(1), at(3), at(4))
    assert (new.published_at, new.retiring_at, new.gone_at) == (at(2), None, None)
    assert [(step.since, step.until) for step in old.steps] == [(at(1), at(3)), (at(3), at(4)), (at(4), None)]


@pytest.mark.parametrize(
    ("states", "published", "retiring", "gone"),
    [
        ([HELD], None, None, None),
        ([HELD, PUBLISHED], 2, None, None),
        ([HELD, DROPPED], None, None, 2),
        ([PUBLISHED, RETIRING, PUBLISHED], 1, None, None),
        ([PUBLISHED, RETIRING], 1, 2, None),
        ([PUBLISHED, RETIRING, DROPPED, PUBLISHED], 1, None, None),
        ([PUBLISHED, RETIRING, DROPPED], 1, 2, 3),
        ([PUBLISHED, REVOKED], 1, None, 2),
        ([REVOKED], None, None, 1),
    ],
)
def test_dates_of_a_life(states: list[Status], published: int | None, retiring: int | None, gone: int | None) -> None:
    """The history has the first publication, the current retirement and the end; a key that returned has no end."""
    entries = [entry(n, *((n - 1,) if n > 1 else ()), a=(status, n)) for n, status in enumerate(states, 1)]
    (history,) = build_histories(entries).keys
    assert (history.published_at, history.retiring_at, history.gone_at) == tuple(
        None if minute is None else at(minute) for minute in (published, retiring, gone)
    )
    assert history.status is states[-1]


def test_first_key_and_returning_key_are_no_rotation() -> None:
    """A first key and the return of a retiring key are not rotations."""
    found = build_histories([entry(1, a=(PUBLISHED, 1)), entry(2, 1, a=(RETIRING, 2)), entry(3, 2, a=(PUBLISHED, 3))])
    assert found.rotations == ()


def test_parallel_branches_take_no_step_back() -> None:
    """An older ledger that a slow mirror merges later reverts no key; that mirror's own new key counts."""
    found = build_histories(
        [
            entry(1, a=(PUBLISHED, 1)),
            entry(2, 1, a=(RETIRING, 2)),
            entry(3, 1, a=(PUBLISHED, 1), b=(PUBLISHED, 1)),
            entry(4, 2, 3, a=(RETIRING, 2), b=(PUBLISHED, 1)),
        ]
    )
    assert steps(found, A) == [(PUBLISHED, 1), (RETIRING, 2)]
    assert steps(found, B) == [(PUBLISHED, 3)]


def test_reverted_ledger_is_shown_as_it_is() -> None:
    """Without merges the ledger counts, even if a commit lowers a generation."""
    found = build_histories([entry(1, a=(PUBLISHED, 1)), entry(2, 1, a=(RETIRING, 2)), entry(3, 2, a=(PUBLISHED, 1))])
    assert steps(found, A) == [(PUBLISHED, 1), (RETIRING, 2), (PUBLISHED, 3)]


def test_removed_record_counts_as_dropped() -> None:
    """A key whose record is removed counts as dropped; if the record returns, its history continues."""
    found = build_histories(
        [
            entry(1, a=(PUBLISHED, 1), b=(PUBLISHED, 1)),
            entry(2, 1, b=(PUBLISHED, 1)),
            entry(3, 2, a=(PUBLISHED, 1), b=(PUBLISHED, 1)),
        ]
    )
    assert steps(found, A) == [(PUBLISHED, 1), (DROPPED, 2), (PUBLISHED, 3)]


def test_unreadable_version_is_reported_and_ends_no_key() -> None:
    """A missing or untrusted version is skipped; the next one continues from the previous one."""
    found = build_histories(
        [entry(1, a=(PUBLISHED, 1)), LedgerVersion(version(2, 1), None), entry(3, 2, a=(PUBLISHED, 1))]
    )
    assert steps(found, A) == [(PUBLISHED, 1)]
    assert found.unreadable == (commit(2),)


def test_clock_that_goes_back_gives_no_negative_time() -> None:
    """A step never begins before the previous one, whatever the committers' clocks."""
    found = build_histories([entry(1, minutes=60, a=(PUBLISHED, 1)), entry(2, 1, minutes=5, a=(RETIRING, 2))])
    first, second = found.keys[0].steps
    assert first.since == first.until == second.since == at(60)


def test_no_version_gives_no_life() -> None:
    """An issuer without a ledger has no keys and no rotations, also in JSON."""
    assert build_histories([]) == KeyHistories()


def test_json_is_stable_and_as_documented() -> None:
    """The same history gives the same JSON, which is valid under the schema, for every status."""
    entries = [
        *ROTATION,
        entry(5, 4, a=(DROPPED, 3), b=(REVOKED, 2), c=(HELD, 1)),
        LedgerVersion(version(6, 5), None),
    ]
    document = {"version": 1, "issuers": [{"name": "syd", "issuer": ISSUER, **to_json(build_histories(entries))}]}
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(document)
    assert json.dumps(document) == json.dumps(
        {"version": 1, "issuers": [{"name": "syd", "issuer": ISSUER, **to_json(build_histories(entries))}]}
    )
    (revoked,) = (key for key in document["issuers"][0]["keys"] if key["kid"] == B.kid)  # type: ignore[index]  # plain data
    assert revoked["revocation"]["reason"] == "lost"
    assert revoked["gone_at"] == "2026-11-23T08:05:00+00:00"


def test_oldest_key_comes_first() -> None:
    """Keys are sorted by age, not by kid."""
    found: tuple[KeyHistory, ...] = build_histories(
        [entry(1, b=(PUBLISHED, 1)), entry(2, 1, b=(PUBLISHED, 1), a=(PUBLISHED, 1))]
    ).keys
    assert [each.record.key for each in found] == [B, A]
