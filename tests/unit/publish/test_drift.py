"""What must be put, for every way in which a bucket can differ from what git says."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.model import ETag, Level, Listed, ObjectKey, PublicObject, Stored
from mirror.publish.drift import Action, Knowledge, Put, Waiting, decide, etag_of, needs_body, standing_body
from support.fakes import MOMENT

KEY = ObjectKey("cluster/openid/v1/jwks")
WANTED = PublicObject(KEY, "https://bucket.example.com/cluster/openid/v1/jwks", b"new", "application/jwk-set+json", "x")
OLD = b"old"
SNAPSHOT = "a" * 40


def listed(body: bytes, etag: str | None = None) -> Listed:
    return Listed(KEY, ETag(etag) if etag else etag_of(body), len(body), MOMENT)


def stored(body: bytes, snapshot: str | None = None) -> Stored:
    return Stored(body, etag_of(body), "text/plain", "", snapshot, MOMENT)


KNOWN = Knowledge(committed=frozenset({OLD}))


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
    assert decide(WANTED, None, None, KNOWN) == (Put(WANTED, Action.CREATE, None), None)


def test_object_as_meant_is_left_alone() -> None:
    """The same bytes need nothing, whether the listing or the body tells."""
    assert decide(WANTED, listed(b"new"), None, KNOWN) == (None, None)
    assert decide(WANTED, listed(b"new", "kms"), stored(b"new"), KNOWN) == (None, None)


def test_earlier_state_is_updated_without_alarm() -> None:
    """What git held before is replaced on the condition that it is still there, and is no drift."""
    assert decide(WANTED, listed(OLD), None, KNOWN) == (Put(WANTED, Action.UPDATE, etag_of(OLD)), None)
    assert decide(WANTED, listed(OLD, "kms"), replace(stored(OLD), etag=ETag("kms")), KNOWN) == (
        Put(WANTED, Action.UPDATE, ETag("kms")),
        None,
    )


def test_foreign_body_is_drift_and_repaired() -> None:
    """Somebody else wrote a trust anchor (fact 37): an error event, and a put on the ETag that was seen."""
    decision, event = decide(WANTED, listed(b"evil"), stored(b"evil"), KNOWN)
    assert decision == Put(WANTED, Action.REPAIR, etag_of(b"evil"))
    assert event is not None
    assert (event.name, event.level) == ("bucket.drift", Level.ERROR)
    assert event.fields["etag"] == etag_of(b"evil")


def test_other_mirror_without_a_shared_remote_is_repaired_with_advice() -> None:
    """A commit that we do not know: two mirrors share no history, and the event says how to mend that."""
    facts = replace(KNOWN, is_other_mirror=True)
    decision, event = decide(WANTED, listed(b"else"), stored(b"else", SNAPSHOT), facts)
    assert decision == Put(WANTED, Action.REPAIR, etag_of(b"else"))
    assert event is not None
    assert "repository.remote" in event.sentence


@pytest.mark.parametrize(("there", "is_wrong"), [(b"else", True), (OLD, False)], ids=["drift", "our_earlier_state"])
def test_put_that_has_to_wait_waits(there: bytes, *, is_wrong: bool) -> None:
    """The reason is reported, and whether what stands there is known to be wrong."""
    decision, event = decide(WANTED, listed(there), stored(there), replace(KNOWN, waits_for="take a key away"))
    assert isinstance(decision, Waiting)
    assert decision.is_wrong is is_wrong
    assert "take a key away" in decision.event.sentence
    assert (event is not None) is is_wrong


def test_body_that_changed_since_the_listing_waits() -> None:
    """It may be newer than the history that was fetched: the next pass decides."""
    decision, event = decide(WANTED, listed(b"listed"), stored(b"newer"), KNOWN)
    assert isinstance(decision, Waiting)
    assert not decision.is_wrong
    assert event is None


def test_standing_body_is_known_from_the_etag_alone() -> None:
    """Without a GET the listing tells the body, if it is one of ours."""
    assert standing_body(WANTED, listed(OLD), None, frozenset({OLD})) == OLD
    assert standing_body(WANTED, listed(b"new"), None, frozenset()) == b"new"
    assert standing_body(WANTED, listed(b"else"), None, frozenset({OLD})) is None
    assert standing_body(WANTED, None, None, frozenset({OLD})) is None


@given(st.builds(Knowledge, committed=st.just(frozenset({OLD})), waits_for=st.text()), st.booleans())
def test_object_as_meant_is_left_alone_whatever_else_is_known(facts: Knowledge, read: bool) -> None:
    """So a pass need not find out anything else about it."""
    assert decide(WANTED, listed(b"new"), stored(b"new", SNAPSHOT) if read else None, facts) == (None, None)
