"""Mirrors in memory that die at any moment, lose their disks and race each other: they end as one, whatever happened.

Ledgers are merged by `mirror.trust.merge`, git and the bucket are fakes, so that thousands of histories take minutes:
`make torture ARGS="--only histories --histories 600"` searches among 4800, anew in every run. In signed mode somebody
without a key pushes too: he adds a key, damages, deletes and replays ledgers, and sets the branch back.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mirror.config.settings import RepositorySettings
from mirror.history.ledger_keys import load_ledger_trust
from mirror.model import Answer, CommitId, Key, KeyPolicy, Status, key_id
from mirror.reconcile.controller import reconcile
from mirror.report import Report
from mirror.trust.discovery import documents
from mirror.trust.ledger_signature import LedgerTrust, LedgerVerifier
from support.fakes import Commit, FakeHistory
from support.fleets import Killed, kill
from support.keys import EC_KEYS, RSA_KEYS
from support.ledger_signers import signer
from support.pushers import SIGNATURE, ledger_body, record
from support.situations import ISSUER, JWKS_KEY, LEDGER, with_remote
from torture.scale import scale

if TYPE_CHECKING:
    from collections.abc import Callable

SEARCHES = scale().everything
HISTORIES = 8 * scale().histories
"""In memory so many take as long as one with real git."""
STEADY, STOLEN, NOBODYS = RSA_KEYS[0], EC_KEYS[2], RSA_KEYS[5]
ROTATING: tuple[Key, ...] = (*RSA_KEYS[1:3], *EC_KEYS[:2])
MIRRORS = 3
RETAIN = timedelta(seconds=30)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ROUNDS = 5
"""Everybody joins what the others know; what all have joined retires, and leaves; then nobody has anything to do."""
MOMENTS = ("commit", "push", "first put", "second put", "end")
PUSHES = ("adds", "damages", "damages the signature", "deletes", "replays", "rewinds")


@dataclass(frozen=True)
class Pass:
    """A pass of one mirror while `shown` are the keys, `alone` while the git remote is away.

    At `moment` something else happens meanwhile, or this mirror is killed. `revokes`: its configuration names the
    stolen key from now on. `empty`: it begins with an empty disk.
    """

    mirror: int
    shown: frozenset[Key]
    moment: str
    killed: bool
    alone: bool
    revokes: bool
    empty: bool
    meanwhile: "Pass | Push | None"


@dataclass(frozen=True)
class Push:
    """Somebody without a key pushes; `pick` chooses the commit that he goes back to."""

    kind: str
    pick: int


def passes(deep: int) -> st.SearchStrategy[Pass]:
    rarely = st.sampled_from((False, False, False, False, True))
    return st.builds(
        Pass,
        mirror=st.integers(0, MIRRORS - 1),
        shown=st.frozensets(st.sampled_from((*ROTATING, STOLEN)), max_size=3),
        moment=st.sampled_from(MOMENTS),
        killed=st.booleans(),
        alone=rarely,
        revokes=rarely,
        empty=rarely,
        meanwhile=st.none() | passes(deep - 1) | pushes() if deep else st.none(),
    )


def pushes() -> st.SearchStrategy[Push]:
    return st.builds(Push, kind=st.sampled_from(PUSHES), pick=st.integers(0, 99))


@cache
def trust() -> LedgerTrust | LedgerVerifier | None:
    """The one key that all mirrors of a signed history sign with."""
    with tempfile.TemporaryDirectory() as folder:
        path = signer("mirror").private_file(Path(folder, "key"))
        return load_ledger_trust(RepositorySettings(Path(folder), signing_key=path))


class Crowd:
    """Mirrors with one remote, one bucket and the same apiservers, and what must hold of them."""

    def __init__(self, folder: Path, *, signed: bool) -> None:
        first = with_remote(folder)
        first.policy = KeyPolicy(retain_removed=RETAIN)
        self.signed = signed
        self.mirrors = [first, *(first.beside(str(number)) for number in range(1, MIRRORS))]
        self.bucket, self.busy, self.revoked = first.world.bucket, set[int](), False
        assert first.world.history.remote is not None
        self.now, self.remote, self.commits = first.now, first.world.history.remote, first.world.history.commits
        self.past: list[CommitId] = []
        for number in range(MIRRORS):
            self.show(frozenset())
            self.run(number)

    def show(self, shown: frozenset[Key]) -> None:
        keys = (STEADY, *sorted(shown, key=key_id))
        made = documents(ISSUER, tuple(sorted(keys, key=key_id)))
        first = self.mirrors[0]
        first.show(*(Answer(url, made.discovery, made.jwks) for url in first.apiservers))

    def run(self, number: int, after: timedelta = timedelta(seconds=2)) -> Report:
        """One pass of a mirror; whatever it is, the steady key stays and nobody's key never comes."""
        self.now += after
        mirror = self.mirrors[number]
        plain = mirror.settings()
        key = mirror.state_dir / "signing_key" if self.signed else None
        made = replace(plain, repository=replace(plain.repository, signing_key=key))
        ports = replace(mirror.world.ports(), ledger_trust=trust if self.signed else lambda: None)
        report = reconcile(made, ports, self.now)
        if self.remote.head is not None:
            self.past.append(self.remote.head)
        public = self.public()
        assert STEADY.kid in public
        assert NOBODYS.kid not in public
        return report

    def public(self) -> set[str]:
        return {key["kid"] for key in json.loads(self.mirrors[0].public() or b'{"keys":[]}')["keys"]}

    # ------------------------------------------------------------------------------------------------- steps

    def take(self, step: Pass | Push) -> None:
        if isinstance(step, Push):
            self.push(step)
        elif step.mirror not in self.busy:  # a mirror that is in the middle of a pass begins no other
            self.make_pass(step)

    def make_pass(self, step: Pass) -> None:
        if step.empty:
            self.lose_disk(step.mirror)
        mirror = self.mirrors[step.mirror]
        if step.revokes:
            mirror.policy = replace(mirror.policy, revoked=frozenset({STOLEN.thumbprint}))
        self.show(step.shown)
        self.busy.add(step.mirror)
        was_down, self.remote.down = self.remote.down, step.alone
        before = self.bucket.before_put
        self.interrupt(step, mirror.world.history)
        try:
            self.run(step.mirror)
        except Killed:
            pass
        finally:
            self.busy.remove(step.mirror)
            self.clear(mirror.world.history)
            self.bucket.before_put, self.remote.down = before, was_down

    def interrupt(self, step: Pass, history: FakeHistory) -> None:
        """Arrange what happens in the middle of the pass."""
        puts = {"first put": 1, "second put": 2}.get(step.moment, 0)

        def act(*_: object) -> None:
            self.clear(history)
            if step.meanwhile is not None:
                self.take(step.meanwhile)
            if step.killed:
                kill()

        def put(*_: object) -> None:
            nonlocal puts
            puts -= 1
            if puts == 0:
                act()

        self.bucket.before_put = put if puts else None
        history.moved_by = act if step.moment == "commit" else None
        history.before_push = act if step.moment == "push" else None
        history.at_the_end = act if step.moment == "end" else None

    def clear(self, history: FakeHistory) -> None:
        history.moved_by = history.before_push = history.at_the_end = self.bucket.before_put = None

    def lose_disk(self, number: int) -> None:
        mirror = self.mirrors[number]
        shutil.rmtree(mirror.state_dir)
        mirror.state_dir.mkdir()
        mirror.world.history = replace(mirror.world.history, head=None, tracking=None)

    def push(self, step: Push) -> None:
        """Somebody pushes; only where ledgers are signed, because else he is trusted."""
        head = self.remote.head
        if not self.signed or head is None:
            return
        old = self.past[step.pick % len(self.past)]
        if step.kind == "rewinds":
            self.remote.head = old
            return
        files = dict(self.commits.by_id[head].files)
        edits: dict[str, Callable[[], object]] = {
            "adds": lambda: files.update({LEDGER: ledger_body(ISSUER, [record(STEADY), record(NOBODYS)])}),
            "damages": lambda: files.update({LEDGER: b"garbage"}),
            "damages the signature": lambda: files.update({SIGNATURE: b"e30..AAAA\n"}),
            "deletes": lambda: files.pop(LEDGER, None),
            "replays": lambda: files.update(self.commits.by_id[old].files),
        }
        edits[step.kind]()
        self.remote.head = self.commits.add(Commit((head,), files, "x", self.now))

    # ---------------------------------------------------------------------------------------------- the end

    def settle(self) -> None:
        """Rounds without trouble: one head, the bucket as the ledger says, nobody waits, the stolen key is out."""
        self.show(frozenset(ROTATING[:1]))
        for _ in range(ROUNDS):
            for number in range(MIRRORS):
                self.run(number, HOUR)
        before = len(self.commits.by_id), self.bucket.count("put")
        reports = [self.run(number, MINUTE) for number in range(MIRRORS)]
        assert (len(self.commits.by_id), self.bucket.count("put")) == before
        assert [(int(each.exit_status), each.failures) for each in reports] == [(0, ())] * MIRRORS
        assert {mirror.world.history.head for mirror in self.mirrors} == {self.remote.head}
        records = reports[0].issuers[0].records
        assert {each.issuers[0].records for each in reports} == {records}
        public = {each.key.kid for each in records if each.status in (Status.PUBLISHED, Status.RETIRING)}
        assert self.public() == public == {STEADY.kid, ROTATING[0].kid}

    def settle_while_the_stolen_key_is_shown(self) -> None:
        """Once a whole pass knew that it is revoked, it is public no more, to whomever an apiserver shows it."""
        self.show(frozenset({STOLEN}))
        for _ in range(2):
            for number in range(MIRRORS):
                self.run(number, HOUR)
        known = any(mirror.policy.revoked for mirror in self.mirrors)
        assert (STOLEN.kid not in self.public()) or not known


def live(taken: list[Pass | Push], *, signed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        crowd = Crowd(Path(folder), signed=signed)
        for step in taken:
            crowd.take(step)
        crowd.settle_while_the_stolen_key_is_shown()
        crowd.settle()
        assert JWKS_KEY in crowd.bucket.objects


SETTINGS = settings(
    max_examples=HISTORIES // 2,
    derandomize=not SEARCHES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink] if SEARCHES else [Phase.generate],
)


@given(st.lists(passes(2) | pushes(), min_size=1, max_size=8))
@SETTINGS
def test_signed_mirrors_end_as_one_whatever_was_killed_and_pushed(taken: list[Pass | Push]) -> None:
    """A pusher without a key among them: X is never public, and he stops nobody."""
    live(taken, signed=True)


@given(st.lists(passes(2), min_size=1, max_size=8))
@SETTINGS
def test_trusting_mirrors_end_as_one_whatever_was_killed(taken: list[Pass | Push]) -> None:
    """The remote is trusted, and nobody pushes who should not."""
    live(taken, signed=False)
