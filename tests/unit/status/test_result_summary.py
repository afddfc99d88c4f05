"""An issuer in one line: the order of lines, and the next step in each line."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mirror.model import Event, IssuerName, IssuerUrl, Level, Reason, Status
from mirror.reconcile.local_state import LastResult
from mirror.report import State
from mirror.status.result import (
    IssuerStatus,
    ObjectState,
    ObjectStatus,
    PublicKeyStatus,
    changed_at,
    count_keys,
    count_states,
    next_step,
    worst_first,
)
from support.fakes import MOMENT
from support.keys import EC_KEYS, KEYS, RSA_KEYS
from support.pass_histories import record

HOUR = timedelta(hours=1)
PUBLISHED = PublicKeyStatus(record(RSA_KEYS[0], Status.PUBLISHED), in_public_jwks=True, safe_to_sign_at=MOMENT - HOUR)
RETIRING = PublicKeyStatus(
    record(RSA_KEYS[1], Status.RETIRING, missing=8 * HOUR), leaves_at=MOMENT + 16 * HOUR, in_public_jwks=True
)
HELD = PublicKeyStatus(record(EC_KEYS[0], Status.HELD), in_public_jwks=False)
NEW = replace(PUBLISHED, record=record(EC_KEYS[1], Status.PUBLISHED), safe_to_sign_at=MOMENT + HOUR)
WAITS = Reason("key.held", "A key is held.", "Approve it.")
BROKEN = Reason("bucket.AccessDenied", "The bucket says no.", "Allow it.")
SUSPENDED = Event("issuer.suspended", "The issuer is suspended.", Level.WARNING)
SUSPENDED_LINE = "suspended: remove `suspend` from the configuration to go on"
OBJECT = ObjectStatus("https://issuer.example.com/openid/v1/jwks", "openid/v1/jwks", ObjectState.CURRENT)


def status(name: str = "syd-prod", **changes: object) -> IssuerStatus:
    plain = IssuerStatus(
        IssuerName(name), IssuerUrl(f"https://issuer.example.com/{name}"), False, (PUBLISHED,), (OBJECT,)
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields by name


def ended(state: State, *, rotating: bool = False) -> LastResult:
    return LastResult(MOMENT, state, rotating)


def test_worst_comes_first() -> None:
    """Sorted by state, not by the configuration's order; rotations first within a state, then the name."""
    given = (
        status("b"),
        status("a"),
        status("c", keys=(PUBLISHED, RETIRING)),
        status("d", held=(WAITS,)),
        status("e", failures=(BROKEN,)),
        status("f", keys=(), objects=()),
    )
    assert [each.name for each in worst_first(given)] == ["e", "f", "d", "c", "a", "b"]


def test_states_are_counted_worst_first() -> None:
    """The summary of all issuers; without an issuer it reports that."""
    assert count_states((status("a"), status("b", failures=(BROKEN,)))) == "2 issuers: 1 failed, 1 current"
    assert count_states(()) == "No issuer is configured"


def test_keys_that_matter_are_counted() -> None:
    """The line counts public and pending keys; a dropped key is not in it."""
    dropped = PublicKeyStatus(record(KEYS[3], Status.DROPPED))
    assert count_keys(status(keys=(PUBLISHED, NEW, RETIRING, HELD, dropped))) == "2 published, 1 retiring, 1 held"
    assert count_keys(status(keys=(dropped,))) == "-"


def test_last_change_is_the_newest_date_of_any_key() -> None:
    """A key that is missing since then, or was revoked."""
    revoked = PublicKeyStatus(record(KEYS[3], Status.REVOKED, age=9 * HOUR * 24))
    assert changed_at(status(keys=(PUBLISHED, RETIRING))) == MOMENT - 8 * HOUR
    assert changed_at(status(keys=(revoked,))) == MOMENT - 24 * HOUR
    assert changed_at(status(keys=())) is None


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (status(), None),
        (status(keys=(PUBLISHED, NEW)), "key {new} may sign from 2026-11-23 09:00:00Z (in 1 h)"),
        (status(keys=(NEW, RETIRING)), "key {new} may sign from 2026-11-23 09:00:00Z (in 1 h)"),
        (status(keys=(RETIRING, PUBLISHED)), "key {old} leaves 2026-11-24 00:00:00Z (in 16 h)"),
        (
            status(keys=(replace(RETIRING, leaves_at=MOMENT - HOUR),)),
            "key {old} may leave since 2026-11-23 07:00:00Z (1 h ago)",
        ),
        (status(keys=(PUBLISHED, HELD, NEW), held=(WAITS,)), "approve or revoke {held}"),
        (status(keys=(PUBLISHED, HELD), held=(WAITS, WAITS)), "approve or revoke {held} (1 more)"),
        (status(held=(replace(WAITS, code="takeover.held"),)), "takeover.held: A key is held."),
        (status(held=(WAITS,), failures=(BROKEN,)), "bucket.AccessDenied: The bucket says no."),
        (status(failures=(BROKEN, WAITS)), "bucket.AccessDenied: The bucket says no. (1 more)"),
        (status(last=ended(State.FAILED)), "the last pass failed: oidc-mirror check syd-prod"),
        (status(last=ended(State.WAITING_FOR_PUSH)), "the git remote must take the push first"),
        (status(keys=(), objects=()), "nothing was ever public: the first good pass publishes it"),
        (
            status(objects=(replace(OBJECT, state=ObjectState.DRIFT), replace(OBJECT, state=ObjectState.OUTDATED))),
            "the next pass repairs drift in 1 object",
        ),
        (status(objects=(replace(OBJECT, state=ObjectState.MISSING),)), "the next pass puts 1 object"),
        (status(objects=(replace(OBJECT, state=ObjectState.OUTDATED),) * 2), "the next pass puts 2 objects"),
        (status(events=(SUSPENDED,)), SUSPENDED_LINE),
        (status(events=(SUSPENDED,), keys=(PUBLISHED, HELD), held=(WAITS,)), SUSPENDED_LINE),
        (status(events=(SUSPENDED,), objects=(replace(OBJECT, state=ObjectState.DRIFT),)), SUSPENDED_LINE),
        (status(events=(SUSPENDED,), failures=(BROKEN,)), "bucket.AccessDenied: The bucket says no."),
        (status(last=ended(State.DEGRADED)), "degraded in the last pass: oidc-mirror check syd-prod"),
        (
            status(events=(Event("x", "Fine."), Event("readback.differs", "Other bytes.", Level.WARNING))),
            "Other bytes.",
        ),
    ],
)
def test_next_step_is_the_most_urgent(given: IssuerStatus, line: str | None) -> None:
    """The failure, the pending approval, the next pass's action, the next date; nothing when healthy."""
    found = next_step(given, MOMENT)
    keys = {"new": NEW, "old": RETIRING, "held": HELD}
    kids = {name: f"{key.record.key.kid[:10]}…" for name, key in keys.items()}
    assert (None if found is None else found.line(MOMENT)) == (None if line is None else line.format(**kids))
