"""What must be put, for every way in which a bucket can differ from what git says."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.model import ETag, Level, Listed, ObjectKey, PublicObject, Stored
from mirror.publish.reconcile import (
    Action,
    Holding,
    Knowledge,
    Put,
    Waiting,
    decide,
    etag_of,
    needs_body,
    standing_body,
)
from support.fakes import MOMENT

KEY = ObjectKey("cluster/openid/v1/jwks")
WANTED = PublicObject(KEY, "https://bucket.example.com/cluster/openid/v1/jwks", b"new", "application/jwk-set+json", "x")
OLD = b"old"
SNAPSHOT = "a" * 40
FLAGS = ("takes_away", "is_covered", "is_own_snapshot", "shared", "heard_remote")


def listed(body: bytes, etag: str | None = None) -> Listed:
    return Listed(KEY, ETag(etag) if etag else etag_of(body), len(body), MOMENT)


def stored(body: bytes, snapshot: str | None = None) -> Stored:
    return Stored(body, etag_of(body), "text/plain", "", snapshot, MOMENT)


def known(**facts: bool) -> Knowledge:
    return replace(Knowledge(committed=frozenset({OLD})), **facts)  # type: ignore[arg-type]  # flags of Knowledge by name


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        (None, False),
        (listed(b"new"), False),
        (listed(OLD), False),
        (listed(b"else"), True),
        (listed(b"new", "kms"), True),
    ],
    ids=["absent", "as_meant", "earlier_state", "unknown", "etag_is_no_md5"],
)
def test_body_is_read_only_when_the_listing_does_not_tell(line: Listed | None, *, needed: bool) -> None:
    """A pass over unchanged objects costs no GET."""
    assert needs_body(WANTED, line, frozenset({OLD})) is needed


def test_absent_object_is_created() -> None:
    """Nothing there: a put that demands that nothing is there."""
    assert decide(WANTED, None, None, known()) == (Put(WANTED, Action.CREATE, None), None)


def test_object_as_meant_is_left_alone() -> None:
    """The same bytes need nothing, whether the listing or the body tells."""
    assert decide(WANTED, listed(b"new"), None, known()) == (None, None)
    assert decide(WANTED, listed(b"new", "kms"), stored(b"new"), known()) == (None, None)


def test_earlier_state_is_updated_without_alarm() -> None:
    """What git held before is replaced on the condition that it is still there, and is no drift."""
    assert decide(WANTED, listed(OLD), None, known()) == (Put(WANTED, Action.UPDATE, etag_of(OLD)), None)
    assert decide(WANTED, listed(OLD, "kms"), replace(stored(OLD), etag=ETag("kms")), known()) == (
        Put(WANTED, Action.UPDATE, ETag("kms")),
        None,
    )


def test_foreign_body_is_drift_and_repaired() -> None:
    """Somebody else wrote a trust anchor (fact 37): an error event, and a put on the ETag that was seen."""
    decision, event = decide(WANTED, listed(b"evil"), stored(b"evil"), known())
    assert decision == Put(WANTED, Action.REPAIR, etag_of(b"evil"))
    assert event is not None
    assert (event.name, event.level) == ("bucket.drift", Level.ERROR)
    assert event.fields["etag"] == etag_of(b"evil")


def test_unknown_mirror_without_a_remote_is_held() -> None:
    """A commit that we do not know: two mirrors share no history, and an operator must decide."""
    decision, event = decide(WANTED, listed(b"else"), stored(b"else", SNAPSHOT), known())
    assert isinstance(decision, Holding)
    assert event is not None


@pytest.mark.parametrize(
    ("there", "facts"),
    [
        (stored(b"evil", SNAPSHOT), {"is_covered": True}),
        (stored(b"evil", SNAPSHOT), {"is_own_snapshot": True}),
        (stored(b"evil"), {}),
        (stored(b"evil", SNAPSHOT), {"shared": True, "heard_remote": True}),
        (stored(b"evil", SNAPSHOT), {"shared": True}),
    ],
    ids=["adopted", "borrowed_metadata", "no_mirrors_metadata", "remote_heard", "takes_nothing_away"],
)
def test_drift_is_repaired(there: Stored, facts: dict[str, bool]) -> None:
    """What no other mirror wrote, or what loses nothing by our put, is replaced by what is committed."""
    decision, event = decide(WANTED, listed(there.body), there, known(**facts))
    assert decision == Put(WANTED, Action.REPAIR, there.etag)
    assert event is not None


@pytest.mark.parametrize("there", [b"else", OLD], ids=["drift", "our_own_earlier_state"])
def test_taking_a_key_away_waits_for_the_remote(there: bytes) -> None:
    """Another mirror may have published that key: the remote would tell, whoever wrote what stands there."""
    facts = known(shared=True, takes_away=True)
    decision, _ = decide(WANTED, listed(there), stored(there), facts)
    assert isinstance(decision, Waiting)
    assert decision.is_wrong
    decision, _ = decide(WANTED, listed(there), stored(there), replace(facts, heard_remote=True))
    assert isinstance(decision, Put)


def test_body_that_changed_since_the_listing_waits() -> None:
    """It may be newer than the history that was fetched: the next pass decides."""
    decision, event = decide(WANTED, listed(b"listed"), stored(b"newer"), known())
    assert isinstance(decision, Waiting)
    assert not decision.is_wrong
    assert event is None


def test_standing_body_is_known_from_the_etag_alone() -> None:
    """Without a GET the listing tells the body, if it is one of ours."""
    assert standing_body(WANTED, listed(OLD), None, frozenset({OLD})) == OLD
    assert standing_body(WANTED, listed(b"new"), None, frozenset()) == b"new"
    assert standing_body(WANTED, listed(b"else"), None, frozenset({OLD})) is None
    assert standing_body(WANTED, None, None, frozenset({OLD})) is None


@pytest.mark.parametrize(
    ("facts", "waits"),
    [
        ({"shared": True}, True),
        ({"shared": True, "heard_remote": True}, False),
        ({}, False),
    ],
    ids=["remote_down", "remote_heard", "no_remote"],
)
def test_key_that_another_mirror_took_away_is_not_brought_back_unheard(facts: dict[str, bool], *, waits: bool) -> None:
    """Without the remote nobody knows whether it was revoked; with it, or alone, the ledger says so."""
    theirs = stored(b"theirs", SNAPSHOT)
    decision, _ = decide(WANTED, listed(b"theirs"), theirs, known(brings_back=True, is_covered=True, **facts))
    assert isinstance(decision, Waiting) is waits


@given(st.builds(known, **dict.fromkeys(FLAGS, st.booleans())), st.booleans())
def test_object_as_meant_is_left_alone_whatever_else_is_known(facts: Knowledge, read: bool) -> None:
    """So a pass need not find out anything else about it."""
    assert decide(WANTED, listed(b"new"), stored(b"new", SNAPSHOT) if read else None, facts) == (None, None)
