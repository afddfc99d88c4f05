"""Mirrors that are killed with keys of their own never wait for each other: who pushes keys can put all of them."""

import json
import tempfile
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.errors import BucketError
from mirror.model import Answer, IssuerName, IssuerUrl, Key, KeyPolicy, Ledger, key_id
from mirror.report import ExitStatus, Report
from mirror.run import run_once
from mirror.steps import notebook
from mirror.steps.notebook import public_id
from mirror.trust.documents import render
from mirror.trust.ledger import LedgerRead, read_ledger
from support.captures import capture
from support.fakes import FakeHistory
from support.keys import EC_KEYS, RSA_KEYS, jwks_body
from support.situations import BASE_URL, BOTH, ISSUER, JWKS_KEY, LAST, LEDGER, ONE, Situation, with_remote
from support.stages import discovery_body

UNWITNESSED = "remote.unwitnessed"


class Killed(BaseException):
    """A mirror's end at some moment: nothing of it runs any more."""


def kill(*_: object) -> None:
    raise Killed


def told(report: Report) -> set[str]:
    return {event.name for issuer in report.issuers for event in issuer.events} | {e.name for e in report.events}


def kids(*cases: str) -> set[str]:
    sets = (json.loads(capture(f"{case}jwks" if case.endswith("/") else f"{case}-jwks").body()) for case in cases)
    return {key["kid"] for keys in sets for key in keys["keys"]}


def public_kids(here: Situation) -> set[str]:
    return {key["kid"] for key in json.loads(here.public() or b'{"keys":[]}')["keys"]}


def ledger_at_remote(here: Situation) -> Ledger:
    remote = here.world.history.remote
    assert remote is not None
    assert remote.head is not None
    read_back = read_ledger(here.world.history.commits.by_id[remote.head].files[LEDGER], issuer=ISSUER)
    assert isinstance(read_back, LedgerRead)
    return read_back.ledger


def remote_kids(here: Situation) -> set[str]:
    return {key.kid for key in ledger_at_remote(here).public_keys()}


@pytest.fixture
def here(tmp_path: Path) -> Situation:
    """A mirror in steady state: one key is public, everything is pushed."""
    made = with_remote(tmp_path)
    made.run(ONE, ONE)
    return made


@pytest.fixture
def other(here: Situation) -> Situation:
    """A second mirror, killed between its commit of a second key and its push."""
    made = here.beside()
    made.run()
    made.world.history.before_push = kill
    with pytest.raises(Killed):
        made.run(BOTH, BOTH)
    made.world.history.before_push = None
    return made


def push_and_die(here: Situation) -> None:
    """The first mirror is killed between the push of a third key and its puts; no apiserver shows that key any more."""
    here.world.bucket.before_put = kill
    with pytest.raises(Killed):
        here.run(LAST, LAST)
    here.world.bucket.before_put = None
    here.show(ONE, ONE)


def test_mirror_with_something_to_push_waits_for_the_one_that_pushed(here: Situation, other: Situation) -> None:
    push_and_die(here)
    waiting = other.run()
    assert waiting.exit_status is ExitStatus.CURRENT
    assert {UNWITNESSED, "push.failed"} <= told(waiting)
    assert waiting.unpushed_commits == 1
    assert remote_kids(here) == kids(ONE, LAST)
    assert UNWITNESSED not in told(here.run())
    assert UNWITNESSED not in told(other.run())
    assert public_kids(here) == remote_kids(here) == kids(ONE, BOTH, LAST)


def test_mirror_that_lost_a_race_to_one_that_died_puts_its_own(here: Situation) -> None:
    """Both keys go public, each by the mirror that saw it; then they are one again."""
    other = here.beside()
    other.run()

    def overtake() -> None:
        other.world.history.before_push = None
        push_and_die(here)

    other.world.history.before_push = overtake
    report = other.run(BOTH, BOTH)
    assert "push.failed" in told(report)
    assert public_kids(here) == kids(BOTH)
    assert remote_kids(here) == kids(ONE, LAST)
    assert UNWITNESSED not in told(here.run())
    assert UNWITNESSED not in told(other.run())
    assert public_kids(here) == remote_kids(here) == kids(BOTH, LAST)


def test_what_is_public_by_then_is_merged_pushed_and_put_at_once(here: Situation) -> None:
    """A race that is lost to a mirror that lives: its key is public, so nothing waits."""
    other = here.beside()
    other.run()

    def overtake() -> None:
        other.world.history.before_push = None
        here.run(LAST, LAST)

    other.world.history.before_push = overtake
    report = other.run(BOTH, BOTH)
    assert not {UNWITNESSED, "push.failed"} & told(report)
    assert remote_kids(here) == kids(BOTH, LAST)
    # The listing is older than the other's put, so that this put was refused and the next pass makes it.
    assert UNWITNESSED not in told(other.run())
    assert public_kids(here) == kids(BOTH, LAST)
    here.show(ONE, ONE)
    other.world.bucket.write(JWKS_KEY, b'{"keys":[]}')
    assert UNWITNESSED not in told(other.run()), "it vouches for what it pushed"


def test_unreadable_bucket_is_no_witness_in_a_race(here: Situation) -> None:
    other = here.beside()
    other.run()

    def overtake() -> None:
        other.world.history.before_push = None
        here.run(LAST, LAST)
        other.world.bucket.fails["get"] = BucketError("No.", code="AccessDenied")

    other.world.history.before_push = overtake
    assert "push.failed" in told(other.run(BOTH, BOTH))
    assert remote_kids(here) == kids(ONE, LAST)
    del other.world.bucket.fails["get"]
    other.run()
    assert remote_kids(here) == kids(BOTH, LAST)


def test_branch_that_moves_here_onto_the_unwitnessed_sets_the_issuer_aside(here: Situation) -> None:
    """An operator's command fetched what another mirror pushed, in the middle of a pass that has a key of its own."""
    other = here.beside()
    other.run()

    def fetch(history: FakeHistory) -> None:
        history.moved_by = None
        push_and_die(here)
        history.fetch(shallow=False)
        history.head = history.tracking

    other.world.history.moved_by = fetch
    report = other.run(BOTH, BOTH)
    assert UNWITNESSED in told(report)
    assert not report.committed
    assert public_kids(here) == kids(ONE)
    assert UNWITNESSED not in told(here.run(BOTH, BOTH))
    assert public_kids(here) == remote_kids(here) == kids(BOTH, LAST)


def test_operators_word_ends_the_waiting(here: Situation, other: Situation) -> None:
    """The mirror that pushed never comes back."""
    push_and_die(here)
    assert other.run(after=timedelta(minutes=20)).exit_status is ExitStatus.HELD
    strange = [key for key in ledger_at_remote(here).public_keys() if key.kid in kids(LAST) - kids(ONE)]
    notebook.vouch(other.state_dir, {ISSUER: frozenset(map(public_id, strange))})
    report = other.run()
    assert report.exit_status is ExitStatus.CURRENT
    assert report.unpushed_commits == 0
    assert public_kids(here) == remote_kids(here) == kids(ONE, BOTH, LAST)


def test_revocation_does_not_wait(here: Situation) -> None:
    """It adds no key for which anybody would have to vouch."""
    other = here.beside()
    here.run(BOTH, BOTH)
    other.run()
    revoked = next(each for each in ledger_at_remote(here).public_keys() if each.kid not in kids(ONE))
    other.policy = KeyPolicy(revoked=frozenset({revoked.thumbprint}))
    other.world.history.before_push = kill
    with pytest.raises(Killed):
        other.run()
    other.world.history.before_push = None
    push_and_die(here)
    assert UNWITNESSED in told(other.run(BOTH, BOTH))
    assert revoked.kid not in remote_kids(here)
    assert other.world.history.unpushed() == 0


def test_other_issuers_are_put_meanwhile(here: Situation, other: Situation) -> None:
    """Additions of theirs do not wait; they are pushed with the rest."""
    push_and_die(here)
    settings, url = other.settings(), IssuerUrl(f"{BASE_URL}/second")
    second = replace(settings.issuers[0], name=IssuerName("second"), issuer=url)
    keys = (RSA_KEYS[3],)
    found = tuple(Answer(each, discovery_body(url, keys), jwks_body(*keys)) for each in other.apiservers)
    other.world.source.answers["second"] = found
    report = run_once(replace(settings, issuers=(*settings.issuers, second)), other.world.ports(), other.now)
    assert report.exit_status is ExitStatus.CURRENT
    assert report.unpushed_commits == 1
    public = json.loads(other.public("second/openid/v1/jwks") or b"")
    assert [each["kid"] for each in public["keys"]] == [RSA_KEYS[3].kid]
    here.run()
    other.run()
    remote = here.world.history.remote
    assert remote is not None
    assert other.world.history.head == remote.head
    assert any("/second/" in path for path in other.world.history.files())


def test_pod_that_lost_a_race_to_one_that_died_fails_and_the_next_one_goes_on(here: Situation) -> None:
    """What a pod cannot push is gone with its disk, so nothing of it is put."""
    pods = [here.beside(f"pod-{number}") for number in range(2)]

    def overtake() -> None:
        pods[0].world.history.before_push = None
        push_and_die(here)

    pods[0].world.history.before_push = overtake
    report = pods[0].run(BOTH, BOTH)
    assert [reason.code for reason in report.failures] == ["push.failed"]
    assert public_kids(here) == kids(ONE)
    here.run()
    report = pods[1].run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    assert public_kids(here) == remote_kids(here) == kids(BOTH, LAST)


# ------------------------------------------------------------------------------------- any kills, in any order

STEADY = RSA_KEYS[0]
ROTATING: tuple[Key, ...] = (*RSA_KEYS[1:3], *EC_KEYS[:2])
MIRRORS = 3
MINUTE = timedelta(minutes=1)
ROUNDS = 4
"""Who pushed last puts; the others join their own to it; what all have joined retires; nobody has anything to say."""


@dataclass(frozen=True)
class Step:
    """A pass of one mirror while `shown` are the keys, `alone` while the git remote is away.

    At `moment` another mirror makes a pass, or this one is killed.
    """

    mirror: int
    shown: frozenset[Key]
    moment: str
    killed: bool
    alone: bool
    meanwhile: "Step | None"


def steps(deep: int) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        mirror=st.integers(0, MIRRORS - 1),
        shown=st.frozensets(st.sampled_from(ROTATING), max_size=2),
        moment=st.sampled_from(("commit", "push", "first put", "second put", "end")),
        killed=st.booleans(),
        alone=st.sampled_from((False, False, True)),
        meanwhile=st.none() | steps(deep - 1) if deep else st.none(),
    )


class Crowd:
    """Mirrors with one remote, one bucket and the same apiservers."""

    def __init__(self, folder: Path) -> None:
        first = with_remote(folder)
        first.policy = KeyPolicy(retain_removed=timedelta(seconds=30))
        self.mirrors = [first, *(first.beside(str(number)) for number in range(1, MIRRORS))]
        self.bucket, self.busy = first.world.bucket, set[int]()
        assert first.world.history.remote is not None
        self.now, self.remote = first.now, first.world.history.remote
        for mirror in self.mirrors:
            self.show(frozenset())
            mirror.run()

    def show(self, shown: frozenset[Key]) -> None:
        keys = (STEADY, *sorted(shown, key=key_id))
        body = discovery_body(ISSUER, keys)
        self.mirrors[0].show(*(Answer(url, body, jwks_body(*keys)) for url in self.mirrors[0].apiservers))

    def take(self, step: Step) -> None:
        """What the step says; a mirror that is in the middle of a pass begins no other."""
        if step.mirror in self.busy:
            return
        mirror, history = self.mirrors[step.mirror], self.mirrors[step.mirror].world.history
        puts = 0

        def interrupt(*_: object) -> None:
            self.clear(step.mirror)
            if step.meanwhile is not None:
                self.take(step.meanwhile)
            if step.killed:
                raise Killed

        def put(*_: object) -> None:
            nonlocal puts
            puts += 1
            if puts == {"first put": 1, "second put": 2}[step.moment]:
                interrupt()

        self.show(step.shown)
        self.busy.add(step.mirror)
        self.remote.down, was_down = step.alone, self.remote.down
        before = self.bucket.before_put
        self.bucket.before_put = put if step.moment.endswith("put") else None
        history.moved_by = interrupt if step.moment == "commit" else None
        history.before_push = interrupt if step.moment == "push" else None
        history.at_the_end = interrupt if step.moment == "end" else None
        try:
            self.run(step.mirror)
        except Killed:
            pass
        finally:
            self.busy.remove(step.mirror)
            self.clear(step.mirror)
            self.bucket.before_put, self.remote.down = before, was_down
        assert STEADY.kid in public_kids(mirror)

    def clear(self, number: int) -> None:
        history = self.mirrors[number].world.history
        history.moved_by = history.before_push = history.at_the_end = self.bucket.before_put = None

    def settles(self) -> bool:
        """Whether, after some rounds without kills, nobody has anything to commit, nor waits for anything."""
        return any(self.is_quiet([self.run(number, MINUTE) for number in range(MIRRORS)]) for _ in range(ROUNDS))

    def is_quiet(self, reports: list[Report]) -> bool:
        return not any(each.committed or {UNWITNESSED, "push.failed"} & told(each) for each in reports)

    def run(self, number: int, after: timedelta = timedelta(seconds=2)) -> Report:
        self.now += after
        self.mirrors[number].now = self.now
        return self.mirrors[number].run()


@given(st.lists(steps(2), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_mirrors_end_as_one_whatever_was_killed(taken: list[Step]) -> None:
    """A few rounds without kills: one head, the bucket as its ledger says, and nobody is set aside."""
    with tempfile.TemporaryDirectory() as folder:
        crowd = Crowd(Path(folder))
        for step in taken:
            crowd.take(step)
        crowd.show(frozenset(ROTATING[:1]))
        assert crowd.settles(), "somebody still has something to say"
        assert {mirror.world.history.head for mirror in crowd.mirrors} == {crowd.remote.head}
        rendered = render(read(crowd.mirrors[0]))
        assert rendered is not None
        assert crowd.mirrors[0].public() == rendered.jwks


def read(here: Situation) -> Ledger:
    read_back = read_ledger(here.world.history.files()[LEDGER], issuer=ISSUER)
    assert isinstance(read_back, LedgerRead)
    return read_back.ledger
