"""Somebody may push to the git remote, and is nobody else: no public object changes by what he pushes."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.addresses import repository_paths
from mirror.config.settings import FormerIssuer
from mirror.errors import BucketError
from mirror.model import (
    Answer,
    CommitId,
    IssuerName,
    IssuerUrl,
    KeyPolicy,
    KeyRecord,
    Ledger,
    Revocation,
    RsaKey,
    Status,
    key_id,
)
from mirror.report import ExitStatus, Report, State
from mirror.run import run_once
from mirror.trust.documents import documents
from mirror.trust.ledger import read_ledger, write_ledger
from mirror.trust.refused import Refused
from support.captures import capture
from support.fakes import MOMENT, Commit, FakeHistory
from support.keys import RSA_KEYS, jwks_body, with_kid
from support.situations import BASE_URL, BOTH, ISSUER, JWKS_KEY, LAST, LEDGER, ONE, PUBLIC, Situation, with_remote
from support.stages import discovery_body

Files = dict[str, bytes]
Attack = Callable[[Files], None]


@pytest.fixture
def here(tmp_path: Path) -> Situation:
    """A mirror in steady state: two keys are public, everything is pushed."""
    made = with_remote(tmp_path)
    made.run(BOTH, BOTH)
    assert made.run().exit_status is ExitStatus.CURRENT
    return made


def ledger_of(files: Files) -> Ledger:
    read = read_ledger(files[LEDGER], issuer=ISSUER)
    assert not isinstance(read, Refused)
    return read.ledger


def with_records(files: Files, *records: KeyRecord) -> None:
    files[LEDGER] = write_ledger(Ledger(ISSUER, records))


def adds_a_key(files: Files) -> None:
    old = ledger_of(files)
    stranger = KeyRecord(RSA_KEYS[0], Status.PUBLISHED, generation=1, first_seen=MOMENT)
    with_records(files, *sorted((*old.records, stranger), key=lambda r: (r.key.kid, r.key.thumbprint)))


def adds_a_retiring_key(files: Files) -> None:
    old = ledger_of(files)
    stranger = KeyRecord(RSA_KEYS[0], Status.RETIRING, generation=9, first_seen=MOMENT, missing_since=MOMENT)
    with_records(files, *sorted((*old.records, stranger), key=lambda r: (r.key.kid, r.key.thumbprint)))


def revokes_all(files: Files) -> None:
    revocation = Revocation(MOMENT, "because I can", last=True)
    with_records(
        files,
        *(KeyRecord(r.key, Status.REVOKED, 9, r.first_seen, revocation=revocation) for r in ledger_of(files).records),
    )


def drops_all(files: Files) -> None:
    with_records(files, *(replace(r, status=Status.DROPPED, generation=9) for r in ledger_of(files).records))


def changes_an_alg(files: Files) -> None:
    records = ledger_of(files).records
    with_records(
        files, *(replace(r, key=replace(r.key, alg="RS384")) if isinstance(r.key, RsaKey) else r for r in records)
    )


def changes_public(files: Files) -> None:
    files[f"{PUBLIC}/openid/v1/jwks"] = b'{"keys":[]}'


def breaks_the_ledger(files: Files) -> None:
    files[LEDGER] = b"{}"


def swaps_the_issuer(files: Files) -> None:
    content = json.loads(files[LEDGER])
    content["issuer"] = "https://elsewhere.example.com"
    files[LEDGER] = json.dumps(content).encode()


def fills_the_ledger(files: Files) -> None:
    files[LEDGER] = b" " * (5 * 1024 * 1024)


def plants_a_private_key(files: Files) -> None:
    content = json.loads(files[LEDGER])
    content["keys"][0]["key"]["d"] = "AQAB"
    files[LEDGER] = json.dumps(content).encode()


def removes_everything(files: Files) -> None:
    files.clear()


ATTACKS: list[Attack] = [
    adds_a_key,
    adds_a_retiring_key,
    revokes_all,
    drops_all,
    changes_an_alg,
    changes_public,
    breaks_the_ledger,
    swaps_the_issuer,
    fills_the_ledger,
    plants_a_private_key,
    removes_everything,
]


def push(here: Situation, attack: Attack, *, parent: CommitId | None = None) -> CommitId:
    """Push a commit on top of the remote's head (or of `parent`: a rewound branch)."""
    commits, remote = here.world.history.commits, here.world.history.remote
    assert remote is not None
    assert remote.head is not None
    base = parent or remote.head
    files = dict(commits.by_id[base].files)
    attack(files)
    remote.head = commits.add(Commit((base,), files, "x", here.now))
    return remote.head


def told(report: Report) -> set[str]:
    events = {event.name for issuer in report.issuers for event in issuer.events} | {e.name for e in report.events}
    reasons = {reason.code for issuer in report.issuers for reason in (*issuer.failures, *issuer.held)}
    return events | reasons


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_no_public_object_changes(here: Situation, attack: Attack) -> None:
    """Whatever is pushed: in ten passes over a day no object changes, and no put is tried."""
    before = dict(here.world.bucket.objects)
    push(here, attack)
    here.world.bucket.requests.clear()
    for hours in (0, 0, 1, 1, 1, 3, 3, 5, 5, 6):
        here.run(after=timedelta(hours=hours))
        assert here.world.bucket.objects == before
    assert here.world.bucket.count("put") == 0


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_fresh_pod_is_not_deceived_either(here: Situation, attack: Attack, tmp_path: Path) -> None:
    """A CronJob pod without any history of its own takes nothing from the remote that nobody else vouches for."""
    before = dict(here.world.bucket.objects)
    push(here, attack)
    for _ in range(2):
        pod = here.beside()
        pod.run(after=timedelta(hours=1))
        assert {k: v.body for k, v in pod.world.bucket.objects.items()} == {k: v.body for k, v in before.items()}
        pod.state_dir.rename(tmp_path / f"gone-{len(list(tmp_path.iterdir()))}")


@pytest.mark.parametrize("attack", [adds_a_key, adds_a_retiring_key, revokes_all], ids=lambda attack: attack.__name__)
def test_unwitnessed_is_patient_then_asks(here: Situation, attack: Attack) -> None:
    """For 15 minutes another mirror may be about to put it (exit 0); then an operator must decide (exit 3)."""
    push(here, attack)
    first = here.run()
    assert "remote.unwitnessed" in told(first)
    assert first.exit_status is ExitStatus.CURRENT
    assert here.run(after=timedelta(minutes=14)).exit_status is ExitStatus.CURRENT
    late = here.run(after=timedelta(minutes=2))
    assert late.exit_status is ExitStatus.HELD
    assert late.issuers[0].held[0].remedy.count("oidc-mirror")


def test_key_that_an_apiserver_shows_is_witnessed(here: Situation) -> None:
    """What another mirror pushed goes public as soon as an apiserver shows it here too."""
    other = here.beside()
    other.run(LAST, LAST)
    report = here.run(LAST, LAST)
    assert "remote.unwitnessed" not in told(report)
    assert len(json.loads(here.public() or b"")["keys"]) == 3


def test_key_that_is_public_is_witnessed(here: Situation) -> None:
    """What another mirror has put is in the bucket: this mirror goes on with it, though its replica lacks the key."""
    here.beside().run(LAST, LAST)
    report = here.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    assert "remote.unwitnessed" not in told(report)
    assert len(json.loads(here.public() or b"")["keys"]) == 3


def test_public_key_with_any_kid_is_witnessed(here: Situation) -> None:
    """An external signer's kid is no hash: what the bucket shows under it vouches all the same."""
    here.policy = KeyPolicy(kid="opaque")
    theirs = with_kid(RSA_KEYS[0], "signer/2")

    def adds_it(files: Files) -> None:
        record = KeyRecord(theirs, Status.PUBLISHED, generation=1, first_seen=MOMENT)
        with_records(files, *sorted((*ledger_of(files).records, record), key=lambda r: (r.key.kid, r.key.thumbprint)))

    push(here, adds_it)
    keys = (*ledger_of(dict(here.world.history.files())).public_keys(), theirs)
    here.world.bucket.write(JWKS_KEY, documents(ISSUER, tuple(sorted(keys, key=lambda key: key.kid))).jwks)
    assert "remote.unwitnessed" not in told(here.run())


def test_emptiness_that_the_world_sees_is_witnessed(here: Situation) -> None:
    """What an operator emptied through another mirror is believed here, once that one has put it."""
    push(here, revokes_all)
    here.world.bucket.write(JWKS_KEY, b'{"keys":[]}')
    report = here.run()
    assert "remote.unwitnessed" not in told(report)
    assert {record.status for record in report.issuers[0].records} == {Status.REVOKED}
    assert here.public() == b'{"keys":[]}'


def test_pushed_between_fetch_and_push_is_set_aside(here: Situation) -> None:
    """A key that is pushed while the pass runs is merged into git, and not put, in this pass or in later ones."""

    def overtake(history: FakeHistory) -> None:
        history.moved_by = None
        push(here, adds_a_key)

    here.world.history.moved_by = overtake
    here.run(LAST, BOTH)
    stranger = RSA_KEYS[0].kid
    for hours in (0, 1, 24):
        here.run(after=timedelta(hours=hours))
        assert stranger not in {key["kid"] for key in json.loads(here.public() or b"")["keys"]}


def test_emptied_between_fetch_and_push_is_set_aside(here: Situation) -> None:
    """Revocations that are pushed while the pass runs count in git, and empty nothing."""

    def overtake(history: FakeHistory) -> None:
        history.moved_by = None
        push(here, revokes_all)

    before = here.public()
    here.policy = KeyPolicy(new_keys="hold")
    here.world.history.moved_by = overtake
    assert "remote.unwitnessed" in told(here.run(LAST, BOTH))
    assert not ledger_of(dict(here.world.history.files())).public_keys()
    assert here.public() == before


def test_alg_that_only_git_says_in_a_race_is_set_aside(here: Situation) -> None:
    """Nothing corrects it any more in this pass: a former issuer gets no new key, and none with a wrong `alg`."""
    old = FormerIssuer(IssuerUrl(f"{BASE_URL}/old"), MOMENT.date())
    here.former = (old,)
    here.run()
    shown = RSA_KEYS[0]
    path = repository_paths(old.issuer).ledger

    def adds_it_with_another_alg(files: Files) -> None:
        read = read_ledger(files[path], issuer=old.issuer)
        assert not isinstance(read, Refused)
        stranger = KeyRecord(replace(shown, alg="RS512"), Status.PUBLISHED, generation=9, first_seen=MOMENT)
        records = sorted((*read.ledger.records, stranger), key=lambda r: key_id(r.key))
        files[path] = write_ledger(Ledger(old.issuer, tuple(records)))

    def overtake(history: FakeHistory) -> None:
        history.moved_by = None
        push(here, adds_it_with_another_alg)

    before = here.public("old/openid/v1/jwks")
    here.show(*(Answer(url, discovery_body(ISSUER, (shown,)), jwks_body(shown)) for url in here.apiservers))
    here.world.history.moved_by = overtake
    assert shown.alg < "RS512"
    assert "remote.unwitnessed" in told(here.run(after=timedelta(days=2)))
    assert shown.kid in {key["kid"] for key in json.loads(here.public() or b"")["keys"]}
    assert here.public("old/openid/v1/jwks") == before


@pytest.mark.parametrize("in_a_race", [False, True], ids=["before the pass", "in a race"])
def test_revoked_key_is_not_witnessed_by_the_apiserver_that_still_shows_it(here: Situation, *, in_a_race: bool) -> None:
    """Under a former issuer that never had a key it would be the last one, which no revocation takes away."""
    old, revoked = FormerIssuer(IssuerUrl(f"{BASE_URL}/old"), (MOMENT - timedelta(days=2)).date()), RSA_KEYS[0]
    here.former, here.policy = (old,), KeyPolicy(revoked=frozenset({revoked.thumbprint}))
    here.run()

    def names_it(files: Files) -> None:
        stranger = KeyRecord(revoked, Status.PUBLISHED, generation=9, first_seen=MOMENT)
        files[repository_paths(old.issuer).ledger] = write_ledger(Ledger(old.issuer, (stranger,)))

    def overtake(history: FakeHistory) -> None:
        history.moved_by = None
        push(here, names_it)

    keys = (revoked, RSA_KEYS[1])
    here.show(*(Answer(url, discovery_body(ISSUER, keys), jwks_body(*keys)) for url in here.apiservers))
    if in_a_race:
        here.world.history.moved_by = overtake
    else:
        push(here, names_it)
    assert "remote.unwitnessed" in told(here.run())
    assert here.run(after=timedelta(hours=1)).exit_status is ExitStatus.HELD
    assert here.public("old/openid/v1/jwks") is None


def test_alg_that_only_git_says_is_not_public(here: Situation) -> None:
    """Hidden behind a stranger that is taken back, and of a key that no apiserver shows any more."""
    here.run(LAST, LAST)
    before = here.public()

    def changes_it_and_adds(files: Files) -> None:
        changes_an_alg(files)
        adds_a_key(files)

    def takes_the_key_back(files: Files) -> None:
        with_records(files, *(r for r in ledger_of(files).records if r.key.thumbprint != RSA_KEYS[0].thumbprint))

    for attack in (changes_it_and_adds, takes_the_key_back):
        push(here, attack)
        for _ in range(2):
            assert "remote.unwitnessed" in told(here.run(after=timedelta(minutes=1)))
            assert here.public() == before


def test_rewound_branch_is_told_and_merged_back(here: Situation) -> None:
    """A branch without our last head is `history.rewritten`; our commits are on the remote again after the pass."""
    here.run(ONE, ONE)
    remote = here.world.history.remote
    assert remote is not None
    ours = here.world.history.head
    assert ours is not None
    first = here.world.history.commits.by_id[ours].parents[0]
    remote.head = first
    report = here.run()
    assert "history.rewritten" in told(report)
    assert remote.head is not None
    assert here.world.history.commits.contains(remote.head, ours)


def test_replaced_branch_is_merged_back(here: Situation) -> None:
    """An unrelated history on the branch does not make ours forget anything."""
    remote, commits = here.world.history.remote, here.world.history.commits
    assert remote is not None
    ours = here.world.history.head
    assert ours is not None
    remote.head = commits.add(Commit((), {"README.md": b"mine now"}, "x", here.now))
    report = here.run()
    assert "history.rewritten" in told(report)
    assert remote.head is not None
    assert commits.contains(remote.head, ours)
    assert here.world.history.files()[LEDGER] == commits.by_id[ours].files[LEDGER]
    assert here.public() is not None


def test_branch_that_is_rewound_from_a_strangers_key_holds_nobody_up(here: Situation) -> None:
    """The local branch moved over the stranger's commit; an honest person cleans it up, and commits something else."""
    remote, commits = here.world.history.remote, here.world.history.commits
    assert remote is not None
    assert remote.head is not None
    clean = remote.head
    push(here, adds_a_key)
    assert "remote.unwitnessed" in told(here.run())
    remote.head = commits.add(Commit((clean,), {**commits.by_id[clean].files, "note": b"x"}, "x", here.now))
    report = here.run()
    assert "push.failed" not in told(report)
    assert report.unpushed_commits == 0
    assert here.world.history.head == remote.head


def test_replaced_branch_with_a_strangers_key_is_merged_back(here: Situation) -> None:
    """What we have is public, so others may witness it; the stranger's key waits for an operator all the same."""
    remote, commits = here.world.history.remote, here.world.history.commits
    assert remote is not None
    ours = here.world.history.head
    assert ours is not None
    stranger = KeyRecord(RSA_KEYS[0], Status.PUBLISHED, generation=1, first_seen=MOMENT)
    files = dict(commits.by_id[ours].files)
    with_records(files, stranger)
    remote.head = commits.add(Commit((), files, "x", here.now))
    before = here.public()
    assert {"history.rewritten", "remote.unwitnessed"} <= told(here.run())
    assert commits.contains(remote.head, ours)
    assert here.run(after=timedelta(hours=1)).exit_status is ExitStatus.HELD
    assert here.public() == before


def test_forgotten_revocation_is_remembered(here: Situation) -> None:
    """A commit on top of ours that drops a revocation from the ledger does not revive the key."""
    thumbprint = ledger_of(dict(here.world.history.files())).records[0].key.thumbprint
    before = here.world.history.head
    assert before is not None
    here.policy = replace(here.policy, revoked=frozenset({thumbprint}))
    here.run()
    here.policy = replace(here.policy, revoked=frozenset())
    old = here.world.history.commits.by_id[before].files[LEDGER]
    push(here, lambda files: files.update({LEDGER: old}))
    here.run()
    assert thumbprint in {
        r.key.thumbprint for r in ledger_of(dict(here.world.history.files())).records if r.status is Status.REVOKED
    }
    assert capture(f"{BOTH}jwks").body() != here.public()


def breaks_it(here: Situation) -> None:
    push(here, breaks_the_ledger)
    assert here.run().exit_status is ExitStatus.FAILED


def adds_a_stranger(here: Situation) -> None:
    push(here, adds_a_key)
    assert "remote.unwitnessed" in told(here.run())


def strips_it_while_others_are_mirrored(here: Situation) -> None:
    push(here, lambda files: with_records(files, *(r for r in ledger_of(files).records if r.revocation is None)))
    everything = here.settings()
    other = replace(everything.issuers[0], name=IssuerName("other"), issuer=IssuerUrl(f"{BASE_URL}/other"))
    run_once(replace(everything, issuers=(other,)), here.world.ports(), here.now)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(breaks_it, id="broken-in-between"),
        pytest.param(adds_a_stranger, id="set-aside-in-between"),
        pytest.param(strips_it_while_others_are_mirrored, id="left-out-in-between"),
    ],
)
def test_revocation_is_remembered_beside_git(here: Situation, first: Callable[[Situation], None]) -> None:
    """The branch moved on without this issuer being read: what its next ledger forgot stays revoked all the same."""
    good = dict(here.world.history.files())
    thumbprint = ledger_of(good).records[0].key.thumbprint
    here.policy = replace(here.policy, revoked=frozenset({thumbprint}))
    here.run()
    here.policy = replace(here.policy, revoked=frozenset())
    public = here.public()
    first(here)
    forgetful = [record for record in ledger_of(good).records if record.key.thumbprint != thumbprint]
    push(here, lambda files: with_records(files, *forgetful))
    for _ in range(3):
        here.run()
        assert here.public() == public
    kept = ledger_of(dict(here.world.history.files())).records
    assert {r.status for r in kept if r.key.thumbprint == thumbprint} == {Status.REVOKED}


def test_lost_notebook_makes_only_more_careful(here: Situation) -> None:
    """Without it every key needs a witness again: what is public has one, what was pushed has none."""
    push(here, adds_a_key)
    before = dict(here.world.bucket.objects)
    here.run()
    (here.state_dir / "notebook.json").unlink()
    assert "remote.unwitnessed" in told(here.run(after=timedelta(hours=1)))
    assert here.world.bucket.objects == before


def test_pass_that_leaves_the_issuer_out_vouches_for_nothing(here: Situation) -> None:
    """`--only other` fetches what was pushed; the next whole pass still asks for a witness."""
    push(here, adds_a_key)
    before = dict(here.world.bucket.objects)
    everything = here.settings()
    entry = everything.issuers[0]
    other = replace(entry, name=IssuerName("other"), issuer=IssuerUrl(f"{BASE_URL}/other"))
    run_once(replace(everything, issuers=(other,)), here.world.ports(), here.now)
    assert "remote.unwitnessed" in told(here.run())
    assert {k: before[k] for k in before} == {k: here.world.bucket.objects[k] for k in before}


def test_unreadable_bucket_vouches_for_nothing(here: Situation) -> None:
    """The pass that fetched the key could not read the bucket; the next one still asks for a witness."""
    push(here, adds_a_key)
    before = dict(here.world.bucket.objects)
    here.world.bucket.fails["get"] = BucketError("It could not be read.", code="AccessDenied")
    assert here.run().exit_status is ExitStatus.FAILED
    here.world.bucket.fails.clear()
    assert "remote.unwitnessed" in told(here.run())
    assert here.world.bucket.objects == before


def test_ledger_that_was_broken_first_vouches_for_nothing(here: Situation) -> None:
    """A broken ledger is followed by one with a key of the pusher's: it is still a stranger."""
    before = dict(here.world.bucket.objects)
    good = dict(here.world.history.files())
    push(here, breaks_the_ledger)
    here.run()
    push(here, lambda files: files.update(good))
    push(here, adds_a_key)
    assert "ledger.broken" in told(here.run())
    assert "remote.unwitnessed" in told(here.run())
    assert here.world.bucket.objects == before


def test_endless_generation_does_not_stop_a_revocation(here: Situation) -> None:
    """A ledger with the highest generation that there is: the key can still be revoked, and leaves at once."""

    def lift(files: Files) -> None:
        with_records(files, *(replace(r, generation=2**53) for r in ledger_of(files).records))

    thumbprint = ledger_of(dict(here.world.history.files())).records[0].key.thumbprint
    push(here, lift)
    here.policy = replace(here.policy, revoked=frozenset({thumbprint}))
    assert here.run().exit_status is ExitStatus.CURRENT
    assert len(json.loads(here.public() or b"")["keys"]) == 1


def test_other_issuers_go_on(here: Situation) -> None:
    """An issuer that is set aside never delays another one."""
    push(here, adds_a_key)
    former = FormerIssuer(IssuerUrl(f"{BASE_URL}/other"), MOMENT.date())
    here.former = (former,)
    report = here.run()
    assert [issuer.state for issuer in report.issuers] == [State.DEGRADED, State.CHANGED]
    assert here.public("other/openid/v1/jwks") is not None
