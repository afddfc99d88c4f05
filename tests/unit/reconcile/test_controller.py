"""The pass, end to end over fakes: what changes, what must not, and what is said about it."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mirror.config.settings import Issuer
from mirror.errors import BucketError
from mirror.model import (
    Answer,
    CommitId,
    IssuerName,
    IssuerUrl,
    Key,
    KeyPolicy,
    Kid,
    ListedObject,
    ObjectKey,
    Observed,
    Reason,
    RsaKey,
    Unusable,
)
from mirror.reconcile.controller import plan_pass, reconcile
from mirror.report import Effect, ExitStatus, Report, State
from mirror.trust.discovery import documents
from mirror.trust.jwks import thumbprint_of
from support.captures import capture
from support.fakes import MOMENT, FakeBucket, FakeHistory, FakeRemote, FakeSource, FakeWorld
from support.keys import RSA_KEYS, jwks_body, with_kid, with_kubernetes_kid
from support.situations import (
    BOTH,
    DISCOVERY_KEY,
    ISSUER,
    JWKS_KEY,
    LAST,
    LEDGER,
    ONE,
    PUBLIC,
    Situation,
    answer,
    silent,
    with_remote,
)

HOUR = timedelta(hours=1)


@pytest.fixture
def here(tmp_path: Path) -> Situation:
    return Situation(tmp_path)


@pytest.fixture
def shared(tmp_path: Path) -> Situation:
    return with_remote(tmp_path)


def kids(here: Situation) -> set[str]:
    """The kids that are public."""
    body = here.public()
    assert body is not None
    return {key["kid"] for key in json.loads(body)["keys"]}


def events(report: Report) -> set[str]:
    return {event.name for issuer in report.issuers for event in issuer.events} | {e.name for e in report.events}


# ---------------------------------------------------------------------------------------------- main job


def test_first_pass_publishes_the_apiservers_own_bytes(here: Situation) -> None:
    """For the captured one-key cluster both objects and both files in git equal the apiserver's bodies."""
    report = here.run(ONE, ONE)
    discovery, jwks = capture(f"{ONE}-discovery").body(), capture(f"{ONE}-jwks").body()
    assert here.public(DISCOVERY_KEY) == discovery
    assert here.public(JWKS_KEY) == jwks
    files = here.world.history.files()
    assert files[f"{PUBLIC}/.well-known/openid-configuration"] == discovery
    assert files[f"{PUBLIC}/openid/v1/jwks"] == jwks
    assert LEDGER in files
    assert "README.md" in files
    assert report.exit_status is ExitStatus.CURRENT
    assert report.committed


def test_objects_carry_their_types_cache_and_snapshot(here: Situation) -> None:
    """Content types and cache control are those of the contract; the metadata names the commit."""
    report = here.run(ONE, ONE)
    by_key = {str(key): stored for key, stored in here.world.bucket.objects.items()}
    assert by_key[DISCOVERY_KEY].content_type == "application/json"
    assert by_key[JWKS_KEY].content_type == "application/jwk-set+json"
    assert {stored.cache_control for stored in by_key.values()} == {"public, max-age=300"}
    assert {stored.snapshot for stored in by_key.values()} == {report.commit}


def test_jwks_is_put_before_discovery(here: Situation) -> None:
    """A discovery document never promises an algorithm whose key is not there yet."""
    here.run(ONE, ONE)
    puts = [request for request in here.world.bucket.requests if request.startswith("put ")]
    assert puts == [f"put {JWKS_KEY}", f"put {DISCOVERY_KEY}"]


def test_second_pass_does_nothing(here: Situation) -> None:
    """No commit, no put, no look, one listing."""
    here.run(ONE, ONE)
    head = here.world.history.head
    here.world.bucket.requests.clear()
    here.world.web.looks.clear()
    report = here.run()
    assert here.world.history.head == head
    assert here.world.bucket.requests == ["list cluster/identifier/"]
    assert here.world.web.looks == []
    assert report.issuers[0].state is State.CURRENT
    assert not report.committed


def test_dry_run_writes_nothing(here: Situation) -> None:
    """The plan tells the commit and the puts, and nothing outside changes."""
    report = here.plan(ONE, ONE)
    assert here.world.history.head is None
    assert here.world.bucket.objects == {}
    assert list(here.state_dir.iterdir()) == []
    assert report.dry_run
    assert report.message.startswith("syd-prod: publish key")
    assert {o.effect for o in report.issuers[0].objects} == {Effect.PLANNED}
    assert report.exit_status is ExitStatus.CURRENT


def test_new_key_on_one_replica_is_public_at_once(here: Situation) -> None:
    """The union of the replicas is published; the silent one does not delay it."""
    here.run(ONE, ONE)
    report = here.run(BOTH, silent())
    shown = {key["kid"] for key in json.loads(capture(f"{BOTH}jwks").body())["keys"]}
    assert kids(here) == shown
    assert report.issuers[0].state is State.DEGRADED
    assert report.exit_status is ExitStatus.CURRENT


def test_removed_key_leaves_after_its_time_alone(here: Situation) -> None:
    """Missing everywhere: retiring; 24 h later, still missing everywhere: gone."""
    here.run(BOTH, BOTH)
    both = here.public()
    here.run(LAST, LAST)
    kept = here.public()
    assert both is not None
    assert kept is not None
    assert kept.count(b'"kid"') == 3
    here.run(after=23 * HOUR)
    assert here.public() == kept
    report = here.run(after=HOUR)
    assert here.public() == capture(f"{LAST}jwks").body()
    assert [str(change.status) for change in report.issuers[0].changes] == ["dropped", "dropped"]


# --------------------------------------------------------------------------------------- nothing is believed


@pytest.mark.parametrize(
    "bad",
    [
        Answer("https://10.0.0.11:6443", b"{}", b"{}"),
        Answer("https://10.0.0.11:6443", capture(f"{ONE}-discovery").body(), b'{"keys":[]}'),
        answer("06-issuer-https-default/anonymous"),
        silent("https://10.0.0.11:6443", "forbidden"),
    ],
    ids=["empty_objects", "no_keys", "wrong_issuer", "forbidden"],
)
@pytest.mark.parametrize("beside", [(), (ONE,)], ids=["alone", "beside_a_good_one"])
def test_refused_answer_leaves_everything_untouched(
    here: Situation, bad: Answer | Unusable, beside: tuple[str, ...]
) -> None:
    """What is not believed changes neither git nor bucket; the pass fails and says why and what to do."""
    here.run(ONE, ONE)
    head, objects = here.world.history.head, dict(here.world.bucket.objects)
    report = here.run(bad, *beside)
    assert here.world.history.head == head
    assert here.world.bucket.objects == objects
    assert report.exit_status is ExitStatus.FAILED
    unusable = [o for o in report.issuers[0].observations if isinstance(o, Unusable)]
    assert unusable
    assert all(reason.sentence and reason.remedy for o in unusable for reason in o.reasons)


def test_foreign_jwks_uri_is_a_note(here: Situation) -> None:
    """An apiserver's own private `jwks_uri` (facts.md#12) is told, and ours is published."""
    report = here.run("07-no-jwks-uri/")
    assert report.exit_status is ExitStatus.CURRENT
    assert f'"jwks_uri":"{ISSUER}/openid/v1/jwks"'.encode() in (here.public(DISCOVERY_KEY) or b"")
    assert next(o.notes for o in report.issuers[0].observations if isinstance(o, Observed))


def test_no_usable_apiserver_fails_and_keeps_the_keys(here: Situation) -> None:
    """Not hearing is not hearing "gone": the last good state stays public."""
    here.run(ONE, ONE)
    report = here.run(silent("https://10.0.0.11:6443"), silent(), after=100 * HOUR)
    assert here.public() == capture(f"{ONE}-jwks").body()
    assert report.exit_status is ExitStatus.FAILED


def test_one_issuers_defect_does_not_stop_the_others(here: Situation) -> None:
    """An exception while one issuer is decided makes that issuer broken; the other one is published."""
    here.show(ONE, ONE)
    settings = here.settings()
    bad = replace(
        settings.issuers[0], name=IssuerName("bad"), issuer=IssuerUrl(ISSUER + "2"), apiservers=("https://x",)
    )
    here.world.source.answers["bad"] = ("not an answer",)  # type: ignore[assignment]  # a defect of an adapter
    report = reconcile(replace(settings, issuers=(bad, *settings.issuers)), here.world.ports(), here.now)
    assert [issuer.state for issuer in report.issuers] == [State.FAILED, State.CHANGED]
    assert here.public() == capture(f"{ONE}-jwks").body()


# ------------------------------------------------------------------------------------------------- history


def test_broken_repository_fails_before_anything(here: Situation) -> None:
    """Without a history nothing is decided and nothing is put."""
    here.world.history.broken = True
    report = here.run(ONE, ONE)
    assert report.exit_status is ExitStatus.FAILED
    assert here.world.bucket.objects == {}
    assert "disk on fire" in report.failures[0].sentence


def test_ledger_that_does_not_validate_is_written_anew(here: Situation) -> None:
    """The nearest version that validates counts, a new key is published all the same, and the pass reports it once."""
    here.run(ONE, ONE)
    tamper(here, {LEDGER: b"{}"})
    report = here.run(BOTH, BOTH)
    assert len(kids(here)) == 2
    assert report.exit_status is ExitStatus.FAILED
    assert report.issuers[0].failures[0].code == "ledger.damaged"
    assert here.run(BOTH, BOTH).exit_status is ExitStatus.CURRENT


def test_ledger_that_never_validated_adds_and_removes_nothing(here: Situation) -> None:
    """Where nothing can be read anywhere, what apiservers show is added, and what is public retires in its time."""
    here.run(BOTH, BOTH)
    here.world.history.head = None
    here.world.history.commit(
        base=None, parents=(), changes={LEDGER: b"{}"}, message="orphan", when=here.now, expect=None
    )
    report = here.run(ONE, ONE)
    assert len(kids(here)) == 2
    assert "ledger.broken" in [reason.code for reason in report.issuers[0].failures]
    assert {str(record.status) for record in report.issuers[0].records} == {"published", "retiring"}
    assert here.run().exit_status is ExitStatus.CURRENT


def test_changed_text_under_public_is_rewritten(here: Situation) -> None:
    """The ledger is the truth: another text under public/ is told and rendered anew by a commit."""
    here.run(ONE, ONE)
    tamper(here, {f"{PUBLIC}/openid/v1/jwks": b'{"keys":[]}'})
    report = here.run()
    assert here.world.history.files()[f"{PUBLIC}/openid/v1/jwks"] == capture(f"{ONE}-jwks").body()
    assert "history.mismatch" in events(report)
    assert here.public() == capture(f"{ONE}-jwks").body()


def tamper(here: Situation, changes: dict[str, bytes | None]) -> None:
    history = here.world.history
    assert history.head is not None
    history.commit(
        base=history.head, parents=(history.head,), changes=changes, message="x", when=here.now, expect=history.head
    )


def test_commit_of_an_operator_beside_us_is_merged(here: Situation) -> None:
    """A branch that moved between reading and committing is read again; both commits stay."""
    here.run(ONE, ONE)

    def operator(history: FakeHistory) -> None:
        history.moved_by = None
        tamper(here, {"notes.txt": b"hello"})

    here.world.history.moved_by = operator
    report = here.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    assert here.world.history.files()["notes.txt"] == b"hello"
    assert here.world.history.log()[0].startswith("syd-prod: publish key")


def test_branch_that_never_stands_still_fails_the_pass(here: Situation) -> None:
    """After five tries the pass gives up with a sentence, and puts nothing that is not committed."""
    here.run(ONE, ONE)
    here.world.history.moved_by = meddle
    report = here.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.FAILED
    assert here.public() == capture(f"{ONE}-jwks").body()


def meddle(history: FakeHistory) -> None:
    history.moved_by = None
    assert history.head is not None
    history.commit(
        base=history.head,
        parents=(history.head,),
        changes={"n": str(len(history.commits.by_id)).encode()},
        message="x",
        when=history.commits.by_id[history.head].when,
        expect=history.head,
    )
    history.moved_by = meddle


# -------------------------------------------------------------------------------------------------- remote


def test_empty_state_dir_pushes_before_it_puts(shared: Situation) -> None:
    """A machine without history fetches shallowly and pushes first: what is public is never only here."""
    pushed_before_put: list[int] = []
    shared.world.bucket.before_put = lambda *_: pushed_before_put.append(shared.world.history.pushes)
    report = shared.run(ONE, ONE)
    assert report.exit_status is ExitStatus.CURRENT
    assert shared.world.history.fetched_shallow == [True]
    assert pushed_before_put == [1, 1]
    assert remote(shared).head == shared.world.history.head


def remote(shared: Situation) -> FakeRemote:
    assert shared.world.history.remote is not None
    return shared.world.history.remote


def test_empty_state_dir_without_remote_decides_nothing(shared: Situation) -> None:
    """Neither history nor remote: exit 1, nothing committed, nothing put."""
    remote(shared).down = True
    report = shared.run(ONE, ONE)
    assert report.exit_status is ExitStatus.FAILED
    assert shared.world.history.head is None
    assert shared.world.bucket.objects == {}


def test_empty_state_dir_with_refused_push_puts_nothing(shared: Situation) -> None:
    """The first push comes before every put."""
    remote(shared).refuses_pushes = True
    report = shared.run(ONE, ONE)
    assert report.exit_status is ExitStatus.FAILED
    assert shared.world.bucket.objects == {}


def test_addition_does_not_wait_for_the_remote(shared: Situation) -> None:
    """With a history of our own a new key is committed and public while the remote is down; the push comes later."""
    shared.run(ONE, ONE)
    remote(shared).down = True
    report = shared.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    assert report.unpushed_commits == 1
    assert "remote.unreachable" in events(report)
    assert b'"EC"' in (shared.public() or b"")
    remote(shared).down = False
    assert shared.run().unpushed_commits == 0
    assert remote(shared).head == shared.world.history.head


def test_removal_waits_for_the_remote(shared: Situation) -> None:
    """A key whose time has come stays public until the remote was heard."""
    shared.run(BOTH, BOTH)
    shared.run(LAST, LAST)
    kept = shared.public()
    remote(shared).down = True
    shared.run(after=48 * HOUR)
    assert shared.public() == kept
    remote(shared).down = False
    shared.run(after=HOUR)
    assert shared.public() == capture(f"{LAST}jwks").body()


def test_required_push_comes_before_every_put(shared: Situation) -> None:
    """With `require_push` a key that is not pushed is not public."""
    shared.run(ONE, ONE)
    shared.require_push = True
    remote(shared).refuses_pushes = True
    report = shared.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.FAILED
    assert shared.public() == capture(f"{ONE}-jwks").body()


def test_refused_push_hook_is_told_and_retried(shared: Situation) -> None:
    """A push that fails later is a warning with the number of waiting commits."""
    shared.run(ONE, ONE)
    remote(shared).refuses_pushes = True
    report = shared.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    assert "push.failed" in events(report)
    assert report.unpushed_commits == 1


def test_two_mirrors_with_one_remote_converge(shared: Situation) -> None:
    """A lost race for the push is merged: both parents stay, and both mirrors end with the same head and bucket."""
    shared.run(ONE, ONE)
    other = shared.beside()
    other.run(ONE, ONE)
    assert other.world.history.head == shared.world.history.head

    def overtake(history: FakeHistory) -> None:
        history.moved_by = None
        other.run(LAST, ONE)

    shared.world.history.moved_by = overtake
    shared.run(BOTH, ONE)
    statuses = [mirror.run(BOTH, LAST).exit_status for mirror in (shared, other, shared, other)]
    assert statuses[-2:] == [ExitStatus.CURRENT, ExitStatus.CURRENT]
    assert other.world.history.head == shared.world.history.head == remote(shared).head
    merges = [c for c in shared.world.history.commits.by_id.values() if len(c.parents) > 1]
    assert merges
    assert len(kids(shared)) == 3


def test_revoked_key_is_not_brought_back_by_a_mirror_that_could_not_hear(shared: Situation) -> None:
    """What another mirror took away stays away while the remote is down, and is told; new keys do not wait."""
    shared.run(BOTH, BOTH)
    other = shared.beside()
    stolen = shared.run().issuers[0].records[0].key
    other.policy = KeyPolicy(revoked=frozenset({stolen.thumbprint}))
    other.run(BOTH, BOTH)
    without = shared.public()
    remote(shared).down = True
    report = shared.run(BOTH, BOTH)
    assert shared.public() == without
    assert stolen.kid.encode() not in (without or b"")
    assert "removal.waits" in events(report)
    assert report.exit_status is ExitStatus.FAILED
    remote(shared).down = False
    assert shared.run().exit_status is ExitStatus.CURRENT
    assert shared.public() == without


def answer_with(apiserver: str, *keys: Key) -> Answer:
    shown = documents(ISSUER, keys)
    return Answer(apiserver, shown.discovery, shown.jwks)


def test_key_set_that_we_had_before_is_another_mirrors_when_it_put_it(shared: Situation) -> None:
    """The bytes without the revoked key are also the state that the remote had; who put them now is what counts."""
    shared.run(ONE, ONE)
    before = shared.public() or b""
    remote(shared).down = True
    new = next(r.key for r in shared.run(BOTH, BOTH).issuers[0].records if r.key.kid.encode() not in before)
    assert shared.public() != before
    remote(shared).down = False
    other = shared.beside()
    other.policy = KeyPolicy(revoked=frozenset({new.thumbprint}))
    other.run(BOTH, BOTH)
    assert shared.public() == before
    remote(shared).down = True
    report = shared.run(BOTH, BOTH)
    assert shared.public() == before
    assert "removal.waits" in events(report)


def test_key_with_any_kid_is_not_taken_away_unheard(shared: Situation) -> None:
    """An external signer's kid is no hash: what is public under it is a key all the same."""
    mine, theirs = with_kid(RSA_KEYS[0], "signer/1"), with_kid(RSA_KEYS[1], "signer/2")
    shared.policy = KeyPolicy(kid="opaque")
    answers = [answer_with(url, mine) for url in shared.apiservers]
    shared.run(*answers)
    both = documents(ISSUER, (mine, theirs)).jwks
    shared.world.bucket.write(JWKS_KEY, both, snapshot="a" * 40)
    remote(shared).down = True
    assert "removal.waits" in events(shared.run(*answers))
    assert shared.public() == both


def test_new_key_goes_over_what_another_mirror_put_while_the_remote_is_down(shared: Situation) -> None:
    """An addition never waits, whoever wrote the object last."""
    shared.run(ONE, ONE)
    other = shared.beside()
    other.run(ONE, ONE)
    other.world.bucket.write(JWKS_KEY, shared.public() or b"", snapshot="a" * 40)
    remote(shared).down = True
    shared.run(BOTH, BOTH)
    assert (shared.public() or b"").count(b'"kid"') == 2


# -------------------------------------------------------------------------------------------------- bucket


def test_foreign_documents_are_not_taken_over(here: Situation) -> None:
    """Objects that stand there before the first pass, and differ, are held for `adopt`; git and bucket stay."""
    here.world.bucket.write(JWKS_KEY, b'{"keys":["somebody else"]}')
    report = here.run(ONE, ONE)
    assert report.exit_status is ExitStatus.HELD
    assert here.world.history.head is None
    assert here.public() == b'{"keys":["somebody else"]}'
    assert "adopt syd-prod" in report.issuers[0].held[0].remedy


def test_equal_documents_are_taken_over(here: Situation) -> None:
    """Objects that are what we would put anyway need no decision; their headers are made right."""
    here.world.bucket.write(JWKS_KEY, capture(f"{ONE}-jwks").body())
    report = here.run(ONE, ONE)
    assert report.exit_status is ExitStatus.CURRENT
    stored = {str(key): value for key, value in here.world.bucket.objects.items()}[JWKS_KEY]
    assert stored.content_type == "application/jwk-set+json"


def test_failed_put_heals_in_the_next_pass(here: Situation) -> None:
    """What is committed and not put is put by the next pass, without any change of keys."""
    here.world.bucket.fails["put"] = BucketError("It could not be written.", remedy="Grant it.", code="AccessDenied")
    report = here.run(ONE, ONE)
    assert report.exit_status is ExitStatus.FAILED
    assert report.committed
    del here.world.bucket.fails["put"]
    healed = here.run()
    assert healed.exit_status is ExitStatus.CURRENT
    assert not healed.committed
    assert here.public() == capture(f"{ONE}-jwks").body()


def test_unreadable_bucket_does_not_begin_an_issuer(here: Situation) -> None:
    """Nobody knows whether somebody's documents stand there: nothing is committed that a later pass would enforce."""
    here.world.bucket.fails["list"] = BucketError("It could not be listed.", code="AccessDenied")
    report = here.run(ONE, ONE)
    assert report.exit_status is ExitStatus.FAILED
    assert here.world.history.head is None


def test_unreadable_bucket_does_not_stop_the_ledger(here: Situation) -> None:
    """An issuer that git knows goes on: the change is committed, and put when the bucket is back."""
    here.run(ONE, ONE)
    here.world.bucket.fails["list"] = BucketError("It could not be listed.", code="AccessDenied")
    report = here.run(BOTH, BOTH)
    assert report.committed
    assert report.exit_status is ExitStatus.FAILED
    del here.world.bucket.fails["list"]
    assert here.run().exit_status is ExitStatus.CURRENT
    assert b'"EC"' in (here.public() or b"")


@pytest.mark.parametrize("body", [b"evil", b'{"keys":[]}', b""], ids=["garbage", "no_keys", "nothing"])
def test_drift_is_told_and_repaired_in_one_pass(here: Situation, body: bytes) -> None:
    """Somebody else wrote: an error event, the committed bytes back, exit 0."""
    here.run(ONE, ONE)
    here.world.bucket.write(JWKS_KEY, body)
    report = here.run()
    assert here.public() == capture(f"{ONE}-jwks").body()
    assert {"bucket.drift", "drift.repaired"} <= events(report)
    assert report.exit_status is ExitStatus.CURRENT


def test_deleted_object_is_put_again(here: Situation) -> None:
    """An object that vanished is created again, and that somebody deleted it is told; the pass after has no alarm."""
    here.run(ONE, ONE)
    here.world.bucket.objects.clear()
    report = here.run()
    assert report.exit_status is ExitStatus.CURRENT
    assert here.public() == capture(f"{ONE}-jwks").body()
    drifts = [event for event in report.issuers[0].events if event.name == "bucket.drift"]
    assert [event.fields["key"] for event in drifts] == [JWKS_KEY, DISCOVERY_KEY]
    assert not {"bucket.drift", "drift.repaired"} & events(here.run())


def test_earlier_state_put_back_by_somebody_is_drift(here: Situation) -> None:
    """Whoever brings a dropped or revoked key back with our own earlier bytes is told of, with ETag and date."""
    here.run(ONE, ONE)
    old = here.world.bucket.objects[ObjectKey(JWKS_KEY)]
    here.run(BOTH, BOTH)
    newest = here.public()
    here.world.bucket.objects[ObjectKey(JWKS_KEY)] = old
    report = here.run()
    (drift,) = [event for event in report.issuers[0].events if event.name == "bucket.drift"]
    assert (drift.fields["etag"], drift.fields["last_modified"]) == (old.etag, old.last_modified.isoformat())
    assert "drift.repaired" in events(report)
    assert here.public() == newest != old.body


def test_object_in_a_new_bucket_is_created_without_alarm(here: Situation) -> None:
    """Other settings are another place: what is not there yet was not deleted."""
    here.run(ONE, ONE)
    here.world.bucket.objects.clear()
    plain = here.world.publish
    here.world.publish = lambda **more: plain(bucket="new-bucket", **more)  # type: ignore[method-assign]  # a lever
    report = here.run()
    assert here.public() == capture(f"{ONE}-jwks").body()
    assert "bucket.drift" not in events(report)


def test_pass_that_cannot_read_git_keeps_what_was_seen(here: Situation) -> None:
    """A pass that decides nothing forgets nothing: after it an intact bucket needs no audit."""
    here.run(ONE, ONE)
    here.world.history.broken = True
    here.run()
    here.world.history.broken = False
    looks = len(here.world.web.looks)
    here.run()
    assert len(here.world.web.looks) == looks


def test_object_written_between_look_and_put_is_not_overwritten(here: Situation) -> None:
    """A conditional put loses the race, says so, and the next pass decides on what is there."""
    here.run(ONE, ONE)

    def race(bucket: FakeBucket, _: object) -> None:
        bucket.before_put = None
        bucket.write(JWKS_KEY, b"faster")

    here.world.bucket.before_put = race
    report = here.run(BOTH, BOTH)
    assert here.public() == b"faster"
    assert report.exit_status is ExitStatus.FAILED
    assert here.run().exit_status is ExitStatus.CURRENT
    assert b'"EC"' in (here.public() or b"")


def test_wrong_headers_are_repaired_at_the_audit(here: Situation) -> None:
    """Bytes alone are not all: a content type that somebody changed is found within the audit interval."""
    here.run(ONE, ONE)
    here.world.bucket.write(JWKS_KEY, here.public() or b"", "binary/octet-stream")
    assert "bucket.drift" not in events(here.run())
    report = here.run(after=HOUR)
    assert "bucket.drift" in events(report)
    stored = {str(key): value for key, value in here.world.bucket.objects.items()}[JWKS_KEY]
    assert stored.content_type == "application/jwk-set+json"
    assert report.exit_status is ExitStatus.CURRENT


def test_unreadable_headers_fail_the_audit(here: Situation) -> None:
    """An audit that could not be made is a failure, and is made again in the next pass."""
    here.run(ONE, ONE)
    here.world.bucket.fails["head"] = BucketError("It could not be read.", code="AccessDenied")
    assert here.run(after=HOUR).exit_status is ExitStatus.FAILED
    assert here.run().exit_status is ExitStatus.FAILED
    del here.world.bucket.fails["head"]
    assert here.run().exit_status is ExitStatus.CURRENT


# ----------------------------------------------------------------------------------------------- read-back


def test_look_tells_when_the_keys_may_sign(here: Situation) -> None:
    """`Last-Modified` of the public JWKS, its max-age, and five minutes more; a pass without a look tells nothing."""
    first, second = here.run(ONE, ONE), here.run()
    assert first.issuers[0].safe_to_sign_at == MOMENT + timedelta(minutes=10)
    assert second.issuers[0].safe_to_sign_at is None


def test_unreadable_public_url_fails_until_it_is_readable(here: Situation) -> None:
    """A put that the world cannot see is no success, in this pass and in every later one."""
    here.world.web.blocked = Reason("forbidden", "The world gets 403.", "Allow s3:GetObject.")
    assert here.run(ONE, ONE).exit_status is ExitStatus.FAILED
    report = here.run()
    assert report.exit_status is ExitStatus.FAILED
    assert report.issuers[0].failures[0].code == "readback.forbidden"
    here.world.web.blocked = None
    assert here.run().exit_status is ExitStatus.CURRENT


def test_cache_that_shows_an_earlier_state_is_pending_then_a_failure(here: Situation) -> None:
    """A CDN may lag for max-age and five minutes; after that it is wrong."""
    here.run(ONE, ONE)
    url = f"{here.world.base_url}/{JWKS_KEY}"
    old = next(stored for key, stored in here.world.bucket.objects.items() if key == JWKS_KEY)
    here.world.web.cached[url] = old
    pending = here.run(BOTH, BOTH)
    assert "readback.stale" in events(pending)
    assert pending.exit_status is ExitStatus.CURRENT
    late = here.run(after=timedelta(minutes=11))
    assert late.exit_status is ExitStatus.FAILED
    here.world.web.cached.clear()
    assert here.run().exit_status is ExitStatus.CURRENT


def test_public_url_is_looked_at_again_after_the_interval(here: Situation) -> None:
    """Somebody may close the bucket at any time: the world's view is audited."""
    here.run(ONE, ONE)
    here.world.web.blocked = Reason("forbidden", "The world gets 403.", "Allow s3:GetObject.")
    assert here.run().exit_status is ExitStatus.CURRENT
    assert here.run(after=HOUR).exit_status is ExitStatus.FAILED


# ---------------------------------------------------------------------------------------------------- held


def test_held_key_is_never_public(here: Situation) -> None:
    """Under `new_keys: hold` a new key is recorded, not published, and exit 3 names the command to approve it."""
    here.run(ONE, ONE)
    here.policy = KeyPolicy(new_keys="hold")
    report = here.run(BOTH, BOTH)
    assert here.public() == capture(f"{ONE}-jwks").body()
    assert report.exit_status is ExitStatus.HELD
    assert "approve syd-prod" in report.issuers[0].held[0].remedy
    assert report.committed


def test_first_sight_under_hold_publishes_nothing(here: Situation) -> None:
    """Held keys alone make no public document, and the empty bucket is not looked at."""
    here.policy = KeyPolicy(new_keys="hold")
    report = here.run(ONE, ONE)
    assert report.exit_status is ExitStatus.HELD
    assert here.world.bucket.objects == {}
    assert here.world.web.looks == []


# ------------------------------------------------------------------------------------------------- exceptions


class PatientSource(FakeSource):
    """Apiservers that answer only when the asking is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = Event()

    def poll(
        self, issuers: Sequence[Issuer], *, turn: int, progress: Callable[[IssuerName], None]
    ) -> Mapping[IssuerName, tuple[Answer | Unusable, ...]]:
        assert self.ended.wait(30)
        return {}

    def cancel(self) -> None:
        self.cancelled = True
        self.ended.set()


class Interrupted(FakeHistory):
    """An operator presses Ctrl-C while git works."""

    def prepare(self) -> None:
        raise KeyboardInterrupt


def test_interrupt_while_git_is_read_cancels_the_asking(here: Situation) -> None:
    """Whoever leaves the pass early ends the asking too."""
    here.world.source, here.world.history = PatientSource(), Interrupted()
    with pytest.raises(KeyboardInterrupt):
        plan_pass(here.settings(), here.world.ports(), here.now)
    assert here.world.source.cancelled


def test_broken_repository_does_not_wait_for_apiservers(here: Situation) -> None:
    """A pass that cannot go on ends at once, whatever the apiservers do."""
    here.world.source = PatientSource()
    here.world.history.broken = True
    assert here.run(ONE).exit_status is ExitStatus.FAILED
    assert here.world.source.cancelled


def test_foreign_mirror_without_remote_is_drift(here: Situation) -> None:
    """A snapshot that we do not know, and no remote: it is repaired, with the advice to share a remote."""
    here.run(ONE, ONE)
    theirs = jwks_body(*weak_pair())
    here.world.bucket.write(JWKS_KEY, theirs, "application/jwk-set+json", "public, max-age=300", CommitId("f" * 40))
    report = here.run()
    assert report.exit_status is ExitStatus.CURRENT
    (drift,) = [event for event in report.issuers[0].events if event.name == "bucket.drift"]
    assert "repository.remote" in drift.sentence
    assert here.public() != theirs


def test_foreign_state_that_loses_nothing_is_replaced(here: Situation) -> None:
    """After an adoption every key there is one of ours and stays: nothing speaks against the put."""
    here.run(BOTH, BOTH)
    theirs = capture(f"{ONE}-jwks").body()
    here.world.bucket.write(JWKS_KEY, theirs, "application/jwk-set+json", "public, max-age=300", CommitId("f" * 40))
    assert here.run().exit_status is ExitStatus.CURRENT
    assert len(kids(here)) == 2


def test_borrowed_metadata_does_not_hold_up_a_repair(here: Situation) -> None:
    """A body that names a commit of ours, which does not hold it, is drift and is repaired."""
    head = here.run(ONE, ONE).commit
    here.world.bucket.write(JWKS_KEY, b"evil", "application/jwk-set+json", "public, max-age=300", head)
    assert "bucket.drift" in events(here.run())
    assert here.public() == capture(f"{ONE}-jwks").body()


def test_revoked_key_leaves_without_the_remote_even_from_a_changed_body(shared: Situation) -> None:
    """Only keys that are not revoked make a put wait: a blank added by somebody does not keep a revoked key public."""
    shared.run(BOTH, BOTH)
    remote(shared).down = True
    shared.world.bucket.write(JWKS_KEY, (shared.public() or b"").replace(b'"keys":[', b'"keys": ['))
    thumbprint = next(r.key.thumbprint for r in shared.run().issuers[0].records if isinstance(r.key, RsaKey))
    shared.world.bucket.write(JWKS_KEY, (shared.public() or b"").replace(b'"keys":[', b'"keys": ['))
    shared.policy = KeyPolicy(revoked=frozenset({thumbprint}))
    shared.run()
    assert len(kids(shared)) == 1


def test_foreign_key_without_the_remote_is_no_success(shared: Situation) -> None:
    """What may be another mirror's stays for an audit interval, and the pass fails; then ours is put."""
    shared.run(ONE, ONE)
    meant = shared.public()
    remote(shared).down = True
    shared.world.bucket.write(JWKS_KEY, jwks_body(*weak_pair()), snapshot="a" * 40)
    for minutes in (60, 30):
        report = shared.run(after=timedelta(minutes=minutes))
        assert report.exit_status is ExitStatus.FAILED
        assert "removal.waits" in events(report)
    shared.run(after=timedelta(minutes=31))
    assert shared.public() == meant


def test_foreign_body_without_a_commit_is_repaired_without_the_remote(shared: Situation) -> None:
    """No mirror writes an object that names no commit: there is nothing to wait for."""
    shared.run(ONE, ONE)
    meant = shared.public()
    remote(shared).down = True
    shared.world.bucket.write(JWKS_KEY, jwks_body(*weak_pair()))
    report = shared.run(after=timedelta(minutes=5))
    assert (report.exit_status, shared.public()) == (ExitStatus.CURRENT, meant)
    assert "bucket.drift" in events(report)


def test_kill_between_put_and_look_is_made_up_for(here: Situation) -> None:
    """What was put and never looked at is looked at by the next pass, and fails it when the world cannot read it."""
    here.run(ONE, ONE)
    stamps = (here.state_dir / "audit.json").read_bytes()
    here.run(BOTH, BOTH)
    (here.state_dir / "audit.json").write_bytes(stamps)
    here.world.web.blocked = Reason("forbidden", "The world gets 403.", "Allow s3:GetObject.")
    assert here.run().exit_status is ExitStatus.FAILED


def test_lost_race_against_another_mirror_is_no_alarm(shared: Situation) -> None:
    """With a shared remote another mirror may put first: a second pass follows at once and finds what is meant."""
    shared.run(ONE, ONE)
    other = shared.beside()

    def race(bucket: FakeBucket, _: object) -> None:
        bucket.before_put = None
        other.run(BOTH, BOTH)

    shared.world.bucket.before_put = race
    report = shared.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    assert report.issuers[0].state is State.CHANGED
    assert "bucket.changed" in events(report)
    assert "bucket.drift" not in events(report)
    assert len(kids(shared)) == 2


def test_writer_that_wins_every_race_makes_the_pass_degraded(shared: Situation) -> None:
    """After the passes that follow at once the next scheduled one decides."""
    shared.run(ONE, ONE)

    def race(bucket: FakeBucket, _: object) -> None:
        bucket.write(JWKS_KEY, f"faster {len(bucket.requests)}".encode())

    shared.world.bucket.before_put = race
    report = shared.run(BOTH, BOTH)
    assert report.issuers[0].state is State.DEGRADED
    assert "bucket.changed" in events(report)


def test_object_that_changed_since_the_listing_is_left_alone(here: Situation) -> None:
    """Neither a repair nor an audit overwrites what may be newer than the history that was read."""
    here.run(ONE, ONE)

    class Moving(FakeBucket):
        def list(self, prefix: str) -> Mapping[ObjectKey, ListedObject]:
            found = super().list(prefix)
            self.write(JWKS_KEY, b"newer", "application/jwk-set+json", "public, max-age=300")
            return found

    here.world.bucket = Moving(here.world.bucket.objects)
    here.run(after=timedelta(hours=1))
    assert here.public() == b"newer"


def test_discovery_waits_for_its_jwks(shared: Situation) -> None:
    """A discovery document never promises an algorithm while the JWKS with its key waits."""
    shared.run(BOTH, BOTH)
    remote(shared).down = True
    here = shared.public(DISCOVERY_KEY)
    shared.world.bucket.write(JWKS_KEY, jwks_body(*weak_pair()), snapshot="a" * 40)
    shared.run("04d-all-algs/", BOTH)
    assert shared.public(DISCOVERY_KEY) == here


def test_first_push_comes_before_puts_in_the_second_pass_too(shared: Situation) -> None:
    """As long as the remote has none of our history nothing is put."""
    remote(shared).refuses_pushes = True
    assert [shared.run(ONE, ONE).exit_status for _ in range(2)] == [ExitStatus.FAILED] * 2
    assert shared.world.bucket.objects == {}


def test_pass_that_stopped_tells_nothing_as_done(shared: Situation) -> None:
    """After a refused first push no key "is published" and no object "would be put"; the commit is named."""
    remote(shared).refuses_pushes = True
    report = shared.run(ONE, ONE)
    assert report.issuers[0].changes == ()
    assert report.issuers[0].objects == ()
    assert report.committed
    assert report.commit == shared.world.history.head


def test_dry_run_tells_a_commit_without_key_changes(here: Situation) -> None:
    """A tampered discovery document in git is rendered anew: the plan says that it would commit."""
    here.run(ONE, ONE)
    tamper(here, {f"{PUBLIC}/.well-known/openid-configuration": b"{}"})
    report = here.plan()
    assert report.message
    assert "history.mismatch" in events(report)


def test_nobody_answered_at_all_is_a_failure(here: Situation) -> None:
    """No observation is no success: preconditions fail closed."""
    here.run(ONE, ONE)
    assert here.run(after=HOUR).exit_status is ExitStatus.CURRENT
    here.world.source.answers = {}
    assert reconcile(here.settings(), here.world.ports(), here.now).exit_status is ExitStatus.FAILED


def test_foreign_documents_are_held_where_every_key_waits(here: Situation) -> None:
    """With `new_keys: hold` nothing is to be put yet; what somebody else published is told before it is recorded."""
    here.run(ONE, ONE)
    fresh = Situation(
        here.state_dir / "new", FakeWorld(base_url=here.world.base_url), policy=KeyPolicy(new_keys="hold")
    )
    fresh.state_dir.mkdir()
    fresh.world.bucket.objects.update(here.world.bucket.objects)
    report = fresh.run(BOTH, BOTH)
    assert [reason.code for reason in report.issuers[0].held] == ["takeover.held"]
    assert (report.exit_status, report.commit) == (ExitStatus.HELD, None)


# ---------------------------------------------------------------------------------------------------- fleet


def test_key_that_two_issuers_show_is_told(here: Situation) -> None:
    """One key at two issuers lets each sign for the other: an event at both, and no change of either."""
    here.show(ONE, ONE)
    settings = here.settings()
    twin = replace(settings.issuers[0], name=IssuerName("twin"), issuer=IssuerUrl(ISSUER + "-twin"))
    here.world.source.answers["twin"] = tuple(
        replace(a, discovery=a.discovery.replace(b"cluster/identifier", b"cluster/identifier-twin"))
        for a in (answer(ONE), answer(ONE))
    )
    report = reconcile(replace(settings, issuers=(*settings.issuers, twin)), here.world.ports(), here.now)
    assert [[e.name for e in each.events if e.name == "key.shared"] for each in report.issuers] == [["key.shared"]] * 2
    assert report.exit_status is ExitStatus.CURRENT


def test_key_that_shares_a_prime_with_a_known_one_is_held(here: Situation) -> None:
    """Whoever factors one of the two has both: the new key waits for an operator, whatever the policy."""
    first, second = weak_pair()
    discovery = answer(ONE).discovery
    here.run(Answer("https://10.0.0.11:6443", discovery, jwks_body(first)))
    report = here.run(Answer("https://10.0.0.11:6443", discovery, jwks_body(first, second)))
    assert kids(here) == {first.kid}
    assert report.exit_status is ExitStatus.HELD
    held = [record for record in report.issuers[0].records if record.held_because is not None]
    assert [record.held_because for record in held] == ["shared_prime"]


def test_key_that_shares_a_prime_with_one_of_an_issuer_left_out_is_held(here: Situation) -> None:
    """A shard, or an operator's pass for one issuer, compares new keys with those of the whole configuration."""
    first, second = weak_pair()
    here.run(Answer("https://10.0.0.11:6443", answer(ONE).discovery, jwks_body(first)))
    (known,) = here.settings().issuers
    twin = replace(known, name=IssuerName("twin"), issuer=IssuerUrl(ISSUER + "-twin"))
    discovery = answer(ONE).discovery.replace(b"cluster/identifier", b"cluster/identifier-twin")
    here.world.source.answers = {"twin": (Answer("https://10.0.0.21:6443", discovery, jwks_body(second)),)}
    settings = replace(here.settings(), issuers=(known, twin)).narrowed(lambda issuer: issuer.name == "twin")
    report = reconcile(settings, here.world.ports(), here.now)
    assert report.exit_status is ExitStatus.HELD
    assert [record.held_because for record in report.issuers[0].records] == ["shared_prime"]


def weak_pair() -> tuple[RsaKey, RsaKey]:
    """Two RSA keys of 2048 bits whose moduli have a prime in common, as a broken random number generator makes them."""
    primes = [rsa.generate_private_key(65537, 2048).private_numbers() for _ in range(2)]
    moduli = (primes[0].p * primes[0].q, primes[0].p * primes[1].p)
    keys = []
    for modulus in moduli:
        n = urlsafe_b64encode(modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()
        key = RsaKey(Kid(""), "RS256", n, "AQAB", thumbprint_of("RSA", n=n, e="AQAB"))
        found = with_kubernetes_kid(key)
        assert isinstance(found, RsaKey)
        keys.append(found)
    return keys[0], keys[1]
