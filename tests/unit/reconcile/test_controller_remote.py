"""A pass and the git remote: which changes wait for a push, which do not, and several mirrors with one remote."""

from datetime import timedelta

from mirror.model import (
    Answer,
    Key,
    KeyPolicy,
    RsaKey,
)
from mirror.report import ExitStatus, State
from mirror.trust.discovery import documents
from support.captures import capture
from support.fakes import FakeBucket, FakeHistory
from support.keys import RSA_KEYS, jwks_body, weak_pair, with_kid
from support.situations import (
    BOTH,
    DISCOVERY_KEY,
    ISSUER,
    JWKS_KEY,
    LAST,
    ONE,
    Situation,
    event_names,
    public_kids,
    remote_of,
)

HOUR = timedelta(hours=1)


def test_empty_state_dir_pushes_before_it_puts(shared: Situation) -> None:
    """A machine without history makes a shallow fetch and pushes before it puts: no public state exists only here."""
    pushed_before_put: list[int] = []
    shared.world.bucket.before_put = lambda *_: pushed_before_put.append(shared.world.history.pushes)
    report = shared.run(ONE, ONE)
    assert report.exit_status is ExitStatus.CURRENT
    assert shared.world.history.fetched_shallow == [True]
    assert pushed_before_put == [1, 1]
    assert remote_of(shared).head == shared.world.history.head


def test_kept_disk_completes_its_history_with_the_second_pass(shared: Situation) -> None:
    """A pod that runs one pass fetches only the newest commit. A kept disk fetches all, and can restore the remote."""
    shared.run(ONE, ONE)
    assert shared.world.history.completed == 0
    remote_of(shared).down = True
    shared.run()
    assert shared.world.history.completed == 0
    remote_of(shared).down = False
    shared.run()
    assert shared.world.history.completed == 1


def test_history_that_cannot_be_completed_is_a_warning(shared: Situation) -> None:
    """The keys are already public, so the pass succeeds and warns that the remote did not give the older commits."""
    shared.run(ONE, ONE)
    remote_of(shared).gives_no_history = True
    report = shared.run()
    assert report.exit_status is ExitStatus.CURRENT
    assert "history.untidy" in event_names(report)


def test_empty_state_dir_without_remote_decides_nothing(shared: Situation) -> None:
    """Without history and without the remote, the pass exits with 1, commits nothing and puts nothing."""
    remote_of(shared).down = True
    report = shared.run(ONE, ONE)
    assert report.exit_status is ExitStatus.FAILED
    assert shared.world.history.head is None
    assert shared.world.bucket.objects == {}


def test_empty_state_dir_with_refused_push_puts_nothing(shared: Situation) -> None:
    """The first push comes before every put."""
    remote_of(shared).refuses_pushes = True
    report = shared.run(ONE, ONE)
    assert report.exit_status is ExitStatus.FAILED
    assert shared.world.bucket.objects == {}


def test_addition_does_not_wait_for_the_remote(shared: Situation) -> None:
    """With local history, a new key is committed and public while the remote is down; the push follows later."""
    shared.run(ONE, ONE)
    remote_of(shared).down = True
    report = shared.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    assert report.unpushed_commits == 1
    assert "remote.unreachable" in event_names(report)
    assert b'"EC"' in (shared.public() or b"")
    remote_of(shared).down = False
    assert shared.run().unpushed_commits == 0
    assert remote_of(shared).head == shared.world.history.head


def test_removal_waits_for_the_remote(shared: Situation) -> None:
    """A key that is due for removal stays public until the remote answers."""
    shared.run(BOTH, BOTH)
    shared.run(LAST, LAST)
    kept = shared.public()
    remote_of(shared).down = True
    shared.run(after=48 * HOUR)
    assert shared.public() == kept
    remote_of(shared).down = False
    shared.run(after=HOUR)
    assert shared.public() == capture(f"{LAST}jwks").body()


def test_required_push_comes_before_every_put(shared: Situation) -> None:
    """With `require_push` a key that is not pushed is not public."""
    shared.run(ONE, ONE)
    shared.require_push = True
    remote_of(shared).refuses_pushes = True
    report = shared.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.FAILED
    assert shared.public() == capture(f"{ONE}-jwks").body()


def test_refused_push_hook_is_reported_and_retried(shared: Situation) -> None:
    """If earlier commits were pushed, a refused push is a warning with the number of unpushed commits."""
    shared.run(ONE, ONE)
    remote_of(shared).refuses_pushes = True
    report = shared.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    assert "push.failed" in event_names(report)
    assert report.unpushed_commits == 1


def test_two_mirrors_with_one_remote_converge(shared: Situation) -> None:
    """The mirror that loses the race merges: both parents stay, and both mirrors end with the same head and bucket."""
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
    assert other.world.history.head == shared.world.history.head == remote_of(shared).head
    merges = [c for c in shared.world.history.commits.by_id.values() if len(c.parents) > 1]
    assert merges
    assert len(public_kids(shared)) == 3


def test_revoked_key_is_not_restored_by_a_disconnected_mirror(shared: Situation) -> None:
    """While the remote is down, a key that another mirror removed stays removed, and this is reported."""
    shared.run(BOTH, BOTH)
    other = shared.beside()
    stolen = shared.run().issuers[0].records[0].key
    other.policy = KeyPolicy(revoked=frozenset({stolen.thumbprint}))
    other.run(BOTH, BOTH)
    without = shared.public()
    remote_of(shared).down = True
    report = shared.run(BOTH, BOTH)
    assert shared.public() == without
    assert stolen.kid.encode() not in (without or b"")
    assert "removal.waits" in event_names(report)
    assert report.exit_status is ExitStatus.FAILED
    remote_of(shared).down = False
    assert shared.run().exit_status is ExitStatus.CURRENT
    assert shared.public() == without


def answer_with(apiserver: str, *keys: Key) -> Answer:
    shown = documents(ISSUER, keys)
    return Answer(apiserver, shown.discovery, shown.jwks)


def test_key_set_that_we_had_before_is_another_mirrors_when_it_put_it(shared: Situation) -> None:
    """Another mirror put an older key set of ours after a revocation: it stays while the remote is down."""
    shared.run(ONE, ONE)
    before = shared.public() or b""
    remote_of(shared).down = True
    new = next(r.key for r in shared.run(BOTH, BOTH).issuers[0].records if r.key.kid.encode() not in before)
    assert shared.public() != before
    remote_of(shared).down = False
    other = shared.beside()
    other.policy = KeyPolicy(revoked=frozenset({new.thumbprint}))
    other.run(BOTH, BOTH)
    assert shared.public() == before
    remote_of(shared).down = True
    report = shared.run(BOTH, BOTH)
    assert shared.public() == before
    assert "removal.waits" in event_names(report)


def test_opaque_kid_is_not_removed_without_an_answer(shared: Situation) -> None:
    """An external signer's kid is not a hash. A public key with such a kid still counts as a key."""
    mine, theirs = with_kid(RSA_KEYS[0], "signer/1"), with_kid(RSA_KEYS[1], "signer/2")
    shared.policy = KeyPolicy(kid="opaque")
    answers = [answer_with(url, mine) for url in shared.apiservers]
    shared.run(*answers)
    both = documents(ISSUER, (mine, theirs)).jwks
    shared.world.bucket.write(JWKS_KEY, both, snapshot="a" * 40)
    remote_of(shared).down = True
    assert "removal.waits" in event_names(shared.run(*answers))
    assert shared.public() == both


def test_new_key_goes_over_what_another_mirror_put_while_the_remote_is_down(shared: Situation) -> None:
    """An addition never waits, whichever mirror wrote the object last."""
    shared.run(ONE, ONE)
    other = shared.beside()
    other.run(ONE, ONE)
    other.world.bucket.write(JWKS_KEY, shared.public() or b"", snapshot="a" * 40)
    remote_of(shared).down = True
    shared.run(BOTH, BOTH)
    assert (shared.public() or b"").count(b'"kid"') == 2


def test_revoked_key_leaves_without_the_remote_even_from_a_changed_body(shared: Situation) -> None:
    """Only a key that is not revoked can delay a put; extra white space in the body does not."""
    shared.run(BOTH, BOTH)
    remote_of(shared).down = True
    shared.world.bucket.write(JWKS_KEY, (shared.public() or b"").replace(b'"keys":[', b'"keys": ['))
    thumbprint = next(r.key.thumbprint for r in shared.run().issuers[0].records if isinstance(r.key, RsaKey))
    shared.world.bucket.write(JWKS_KEY, (shared.public() or b"").replace(b'"keys":[', b'"keys": ['))
    shared.policy = KeyPolicy(revoked=frozenset({thumbprint}))
    shared.run()
    assert len(public_kids(shared)) == 1


def test_foreign_key_without_the_remote_is_no_success(shared: Situation) -> None:
    """A document that may be another mirror's stays for an audit interval while the pass fails; then ours is put."""
    shared.run(ONE, ONE)
    meant = shared.public()
    remote_of(shared).down = True
    shared.world.bucket.write(JWKS_KEY, jwks_body(*weak_pair()), snapshot="a" * 40)
    for minutes in (60, 30):
        report = shared.run(after=timedelta(minutes=minutes))
        assert report.exit_status is ExitStatus.FAILED
        assert "removal.waits" in event_names(report)
    shared.run(after=timedelta(minutes=31))
    assert shared.public() == meant


def test_foreign_body_without_a_commit_is_repaired_without_the_remote(shared: Situation) -> None:
    """An object that names no commit is from no mirror, so its repair does not wait for the remote."""
    shared.run(ONE, ONE)
    meant = shared.public()
    remote_of(shared).down = True
    shared.world.bucket.write(JWKS_KEY, jwks_body(*weak_pair()))
    report = shared.run(after=timedelta(minutes=5))
    assert (report.exit_status, shared.public()) == (ExitStatus.CURRENT, meant)
    assert "bucket.drift" in event_names(report)


def test_lost_race_against_another_mirror_is_no_alarm(shared: Situation) -> None:
    """Another mirror with the same remote may put first: a second pass follows at once and finds the desired state."""
    shared.run(ONE, ONE)
    other = shared.beside()

    def race(bucket: FakeBucket, _: object) -> None:
        bucket.before_put = None
        other.run(BOTH, BOTH)

    shared.world.bucket.before_put = race
    report = shared.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    assert report.issuers[0].state is State.CHANGED
    assert "bucket.changed" in event_names(report)
    assert "bucket.drift" not in event_names(report)
    assert len(public_kids(shared)) == 2


def test_writer_that_wins_every_race_makes_the_pass_degraded(shared: Situation) -> None:
    """After a limited number of immediate passes the issuer is degraded, and the next scheduled pass continues."""
    shared.run(ONE, ONE)

    def race(bucket: FakeBucket, _: object) -> None:
        bucket.write(JWKS_KEY, f"faster {len(bucket.requests)}".encode())

    shared.world.bucket.before_put = race
    report = shared.run(BOTH, BOTH)
    assert report.issuers[0].state is State.DEGRADED
    assert "bucket.changed" in event_names(report)


def test_discovery_waits_for_its_jwks(shared: Situation) -> None:
    """A discovery document never lists an algorithm before the JWKS with that key is put."""
    shared.run(BOTH, BOTH)
    remote_of(shared).down = True
    here = shared.public(DISCOVERY_KEY)
    shared.world.bucket.write(JWKS_KEY, jwks_body(*weak_pair()), snapshot="a" * 40)
    shared.run("04d-all-algs/", BOTH)
    assert shared.public(DISCOVERY_KEY) == here


def test_first_push_comes_before_puts_in_the_second_pass_too(shared: Situation) -> None:
    """Nothing is put until the remote has our history."""
    remote_of(shared).refuses_pushes = True
    assert [shared.run(ONE, ONE).exit_status for _ in range(2)] == [ExitStatus.FAILED] * 2
    assert shared.world.bucket.objects == {}


def test_stopped_pass_reports_nothing_as_done(shared: Situation) -> None:
    """After a refused first push, the report calls no key published and no object put; it names the commit."""
    remote_of(shared).refuses_pushes = True
    report = shared.run(ONE, ONE)
    assert report.issuers[0].changes == ()
    assert report.issuers[0].objects == ()
    assert report.committed
    assert report.commit == shared.world.history.head
