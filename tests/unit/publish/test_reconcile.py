"""What must be put, for every way in which a bucket can differ from what git says."""

import pytest

from mirror.model import ETag, Level, Listed, ObjectKey, PublicObject, Stored
from mirror.publish.reconcile import Action, Holding, Knowledge, Put, Waiting, decide, etag_of, needs_body
from support.fakes import MOMENT

KEY = ObjectKey("cluster/openid/v1/jwks")
WANTED = PublicObject(KEY, "https://bucket.example.com/cluster/openid/v1/jwks", b"new", "application/jwk-set+json", "x")
OLD = b"old"
SNAPSHOT = "a" * 40


def listed(body: bytes, etag: str | None = None) -> Listed:
    return Listed(KEY, ETag(etag) if etag else etag_of(body), len(body), MOMENT)


def stored(body: bytes, snapshot: str | None = None) -> Stored:
    return Stored(body, etag_of(body), "text/plain", "", snapshot, MOMENT)


def known(
    *, committed: tuple[bytes, ...] = (OLD,), own: tuple[str, ...] = (), shared: bool = False, heard: bool = False
) -> Knowledge:
    return Knowledge({KEY: frozenset(committed)}, frozenset(own), shared, heard)


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
    assert decide(WANTED, listed(OLD, "kms"), stored(OLD), known()) == (Put(WANTED, Action.UPDATE, etag_of(OLD)), None)


def test_foreign_body_is_drift_and_repaired() -> None:
    """Somebody else wrote a trust anchor (fact 37): an error event, and a put on the ETag that was seen."""
    decision, event = decide(WANTED, listed(b"evil"), stored(b"evil"), known())
    assert decision == Put(WANTED, Action.REPAIR, etag_of(b"evil"))
    assert event is not None
    assert (event.name, event.level) == ("bucket.drift", Level.ERROR)
    assert event.fields["etag"] == etag_of(b"evil")


def test_borrowed_snapshot_metadata_does_not_hide_drift() -> None:
    """A foreign body that names a commit of ours in its metadata is still drift."""
    decision, event = decide(WANTED, listed(b"evil"), stored(b"evil", SNAPSHOT), known(own=(SNAPSHOT,)))
    assert isinstance(decision, Put)
    assert decision.action is Action.REPAIR
    assert event is not None


def test_unknown_snapshot_without_a_remote_is_held() -> None:
    """Another mirror writes here, and the two share no history: an operator must decide."""
    decision, _ = decide(WANTED, listed(b"else"), stored(b"else", SNAPSHOT), known())
    assert isinstance(decision, Holding)
    assert "repository.remote" in decision.event.sentence


def test_repair_waits_for_a_remote_that_was_not_heard() -> None:
    """Another mirror may have published that key: the remote would tell."""
    decision, _ = decide(WANTED, listed(b"else"), stored(b"else", SNAPSHOT), known(shared=True))
    assert isinstance(decision, Waiting)
    decision, _ = decide(WANTED, listed(b"else"), stored(b"else", SNAPSHOT), known(shared=True, heard=True))
    assert isinstance(decision, Put)
