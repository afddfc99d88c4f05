"""Mirrors in memory that die at any moment, lose their disks and race each other: they always converge.

`mirror.trust.merge` merges the ledgers; git and the bucket are fakes, so thousands of histories take minutes.
`make torture ARGS="--only histories --histories 300"` runs 4800 histories, others in each run, and `-s` prints how
often each event happened. Apiservers show other keys in each pass; operators approve and revoke at any moment; an
attacker writes to the bucket. In signed mode an attacker without a key pushes instead: adds a key, damages, deletes
and replays ledgers, and resets the branch.
"""

import json
import shutil
import tempfile
from collections import Counter
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from mirror.cli.key_commands import decide_approval, decide_revocation
from mirror.cli.operator_session import OperatorSession, commit
from mirror.cli.options import Common
from mirror.config.settings import RepositorySettings, Settings
from mirror.errors import HistoryError, RemoteError, UsageError
from mirror.history.ledger_reader import load_history
from mirror.history.ledger_store import load_ledger_trust
from mirror.model import (
    Answer,
    CommitId,
    Key,
    KeyPolicy,
    ObjectKey,
    PublicObject,
    Status,
    StoredObject,
    Thumbprint,
    key_id,
)
from mirror.ports import Ports
from mirror.reconcile.controller import reconcile
from mirror.reconcile.local_state import load_local_state
from mirror.reconcile.state import trust_of
from mirror.report import Report
from mirror.trust.discovery import documents
from mirror.trust.ledger_signature import LedgerTrust
from support.fakes import Commit, FakeHistory
from support.fleets import Killed, SharedBucket, kill, public_bytes
from support.keys import EC_KEYS, RSA_KEYS
from support.ledger_signers import signer
from support.pushers import SIGNATURE, Record, dropped, ledger_body, record
from support.situations import DISCOVERY_KEY, ISSUER, JWKS_KEY, LEDGER, Situation, with_remote
from torture.scale import scale

if TYPE_CHECKING:
    from collections.abc import Callable

FEW_HISTORIES, MANY_HISTORIES = 30, 1000
"""The default number of histories, and the number from which each event must happen."""
HISTORIES = 16 * scale().histories if scale().everything else FEW_HISTORIES
"""Sixteen histories in memory take as long as one with real git."""
STEADY, STOLEN, ATTACKER_KEY = RSA_KEYS[0], EC_KEYS[2], RSA_KEYS[5]
ROTATING: tuple[Key, ...] = (*RSA_KEYS[1:3], *EC_KEYS[:2])
MIRRORS = 3
RETAIN = timedelta(seconds=30)
MINUTE, HOUR, AHEAD = timedelta(minutes=1), timedelta(hours=1), timedelta(hours=25)
ROUNDS = 5
"""The rounds at the end: mirrors merge each other's state, missing keys retire and are dropped, nothing changes."""
MOMENTS = ("commit", "push", "first put", "second put", "end")
PUSHES = ("adds", "demotes", "ages", "duplicates", "damages", "damages the signature", "deletes", "replays", "rewinds")
WRITES = ("deletes", "overwrites", "oversized", "replays", "steals the snapshot")
TROUBLES = (
    "without the remote",
    "with refused pushes",
    "without the bucket",
    "with require_push",
    "with new_keys: hold",
    "with a clock 25 hours ahead",
    "with an empty disk",
    "whose configuration revokes from now on",
)
"""The faults of a pass."""
DECISIONS = ("approves", "revokes")
EVERYTHING = frozenset(
    {
        *(
            f"history: {mode}, {who}"
            for mode, who in (("signed", "pusher"), ("signed", "writer"), ("trusted", "writer"))
        ),
        *(f"a pass {each}" for each in TROUBLES),
        *(f"dies at {each}" for each in MOMENTS),
        *(f"another mirror at {each}" for each in MOMENTS),
        *(f"push: {each}" for each in PUSHES),
        *(f"bucket: {each}" for each in WRITES),
        *(f"an operator {each}" for each in DECISIONS),
        "a pass",
    }
)
HAPPENED: Counter[str] = Counter()
"""How often each event happened, over all histories of the process."""


def happens(what: str) -> None:
    assert what in EVERYTHING, what
    HAPPENED[what] += 1
    note(what)


@dataclass(frozen=True)
class Pass:
    """A pass of one mirror while apiservers show `shown`, with the faults `troubles`.

    At `moment` another event happens, or this mirror is killed.
    """

    mirror: int
    shown: frozenset[Key]
    moment: str
    killed: bool
    troubles: frozenset[str]
    meanwhile: "Step | None"


@dataclass(frozen=True)
class Push:
    """An attacker without a key pushes; `pick` chooses the commit to which the branch is reset."""

    kind: str
    pick: int


@dataclass(frozen=True)
class Write:
    """An attacker writes the JWKS; `pick` chooses the commit whose document it restores."""

    kind: str
    pick: int


@dataclass(frozen=True)
class Decision:
    """An operator approves held keys, or revokes the stolen key: on a mirror's disk, or on a laptop (None)."""

    kind: str
    mirror: int | None


Step = Pass | Push | Write | Decision


def passes(deep: int, attacks: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.builds(
        Pass,
        mirror=st.integers(0, MIRRORS - 1),
        shown=st.frozensets(st.sampled_from((*ROTATING, STOLEN)), max_size=3),
        moment=st.sampled_from(MOMENTS),
        killed=st.booleans(),
        troubles=st.frozensets(st.sampled_from(TROUBLES), max_size=2),
        meanwhile=st.none() | passes(deep - 1, attacks) | attacks | decisions() if deep else st.none(),
    )


def pushes() -> st.SearchStrategy[Push]:
    return st.builds(Push, kind=st.sampled_from(PUSHES), pick=st.integers(0, 99))


def writes() -> st.SearchStrategy[Write]:
    return st.builds(Write, kind=st.sampled_from(WRITES), pick=st.integers(0, 99))


def decisions() -> st.SearchStrategy[Decision]:
    return st.builds(Decision, kind=st.sampled_from(DECISIONS), mirror=st.none() | st.integers(0, MIRRORS - 1))


def histories(attacks: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Step]]:
    return st.lists(passes(2, attacks) | attacks | decisions(), min_size=1, max_size=8)


@cache
def trust() -> LedgerTrust | None:
    """The key with which all mirrors of a signed history sign."""
    with tempfile.TemporaryDirectory() as folder:
        path = signer("mirror").private_file(Path(folder, "key"))
        return load_ledger_trust(RepositorySettings(Path(folder), signing_key=path))


class Crowd:
    """Mirrors with one remote and one bucket. Apiservers show each pass the keys of its step."""

    def __init__(self, folder: Path, *, signed: bool) -> None:
        first = with_remote(folder)
        first.policy = KeyPolicy(retain_removed=RETAIN)
        self.signed = signed
        self.mirrors = [first, *(first.beside(str(number)) for number in range(1, MIRRORS))]
        self.objects, self.requests, self.busy = first.world.bucket.objects, list[str](), set[int]()
        self.buckets = [SharedBucket(self.objects, requests=self.requests) for _ in self.mirrors]
        for mirror, bucket in zip(self.mirrors, self.buckets, strict=True):
            mirror.world.bucket, bucket.landed = bucket, self.judge_put
        assert first.world.history.remote is not None
        self.now, self.remote, self.commits = first.now, first.world.history.remote, first.world.history.commits
        self.past: list[CommitId] = []
        self.writes = 0
        """The number of other writers' writes to the bucket."""
        self.revoked: frozenset[Thumbprint] = frozenset()
        """Keys that a complete pass reported as revoked, and pushed."""
        for number in range(MIRRORS):
            self.show(frozenset())
            self.run(number)

    def show(self, shown: frozenset[Key]) -> None:
        """Set what the apiservers show, in addition to the steady key."""
        self.shown = tuple(sorted({STEADY, *shown}, key=key_id))

    def run(self, number: int, after: timedelta = timedelta(seconds=2), *, ahead: timedelta = timedelta(0)) -> Report:
        """One pass of a mirror. A key that was known as revoked before a complete pass is not public after it."""
        happens("a pass")
        self.now += after
        mirror, revoked, writes = self.mirrors[number], self.revoked, self.writes
        shown = documents(ISSUER, self.shown)
        mirror.show(*(Answer(url, shown.discovery, shown.jwks, self.now) for url in mirror.apiservers))
        report = reconcile(self.settings(mirror), self.ports(mirror), self.now + ahead)
        if self.remote.head is not None:
            self.past.append(self.remote.head)
        if not report.failures and not report.issuers[0].all_failures() and report.unpushed_commits == 0:
            # The next pass repairs what another writer wrote after this one read the bucket.
            assert not revoked & self.public_material() or writes != self.writes
            records = report.issuers[0].records
            self.revoked |= {each.key.thumbprint for each in records if each.status is Status.REVOKED}
        return report

    def settings(self, mirror: Situation) -> Settings:
        plain = mirror.settings()
        key = mirror.state_dir / "signing_key" if self.signed else None
        return replace(plain, repository=replace(plain.repository, signing_key=key))

    def ports(self, mirror: Situation) -> Ports:
        return replace(mirror.world.ports(), ledger_trust=trust if self.signed else lambda: None)

    def judge_put(self, _: StoredObject | None, put: PublicObject) -> None:
        """Every put has the steady key and never the attacker's key."""
        if put.key == JWKS_KEY:
            kids = {each["kid"] for each in _records(put.body)}
            self.violated = self.violated or not (STEADY.kid in kids and ATTACKER_KEY.kid not in kids)

    violated = False
    """Violations are collected: a pass reports an exception in its threads as a defect of one issuer."""

    def public(self) -> set[str]:
        return {each["kid"] for each in _records(self.mirrors[0].public() or b"")}

    def public_material(self) -> frozenset[Thumbprint]:
        keys = (STEADY, STOLEN, ATTACKER_KEY, *ROTATING)
        return frozenset(key.thumbprint for key in keys if key.kid in self.public())

    # ------------------------------------------------------------------------------------------------- steps

    def take(self, step: Step) -> None:
        if isinstance(step, Push):
            self.push(step)
        elif isinstance(step, Write):
            self.write(step)
        elif isinstance(step, Decision):
            self.decide(step)
        elif step.mirror not in self.busy:  # a mirror in the middle of a pass does not begin another one
            self.make_pass(step)

    def make_pass(self, step: Pass) -> None:
        for each in step.troubles:
            happens(f"a pass {each}")
        if "with an empty disk" in step.troubles:
            self.lose_disk(step.mirror)
        mirror, bucket = self.mirrors[step.mirror], self.buckets[step.mirror]
        if "whose configuration revokes from now on" in step.troubles:
            mirror.policy = replace(mirror.policy, revoked=frozenset({STOLEN.thumbprint}))
        mirror.policy = replace(mirror.policy, new_keys="hold" if "with new_keys: hold" in step.troubles else "publish")
        mirror.require_push = "with require_push" in step.troubles
        ahead = AHEAD if "with a clock 25 hours ahead" in step.troubles else timedelta(0)
        self.show(step.shown)
        self.busy.add(step.mirror)
        before = self.remote.down, self.remote.refuses_pushes
        self.remote.down = "without the remote" in step.troubles
        self.remote.refuses_pushes = "with refused pushes" in step.troubles
        bucket.down = "without the bucket" in step.troubles
        self.interrupt(step, mirror.world.history, bucket)
        try:
            self.run(step.mirror, ahead=ahead)
        except Killed:
            happens(f"dies at {step.moment}")
        finally:
            self.busy.remove(step.mirror)
            self.clear(mirror.world.history, bucket)
            (self.remote.down, self.remote.refuses_pushes), bucket.down = before, False

    def interrupt(self, step: Pass, history: FakeHistory, bucket: SharedBucket) -> None:
        """Prepare the event in the middle of the pass."""
        puts = {"first put": 1, "second put": 2}.get(step.moment, 0)

        def act(*_: object) -> None:
            self.clear(history, bucket)
            if step.meanwhile is not None:
                happens(f"another mirror at {step.moment}")
                self.take(step.meanwhile)
            if step.killed:
                kill()

        def put(*_: object) -> None:
            nonlocal puts
            puts -= 1
            if puts == 0:
                act()

        bucket.before_put = put if puts else None
        history.moved_by = act if step.moment == "commit" else None
        history.before_push = act if step.moment == "push" else None
        history.at_the_end = act if step.moment == "end" else None

    def clear(self, history: FakeHistory, bucket: SharedBucket) -> None:
        history.moved_by = history.before_push = history.at_the_end = bucket.before_put = None

    def lose_disk(self, number: int) -> None:
        mirror = self.mirrors[number]
        shutil.rmtree(mirror.state_dir)
        mirror.state_dir.mkdir()
        mirror.world.history = replace(mirror.world.history, head=None, tracking=None)

    def push(self, step: Push) -> None:
        """An attacker without a key pushes."""
        head = self.remote.head
        if head is None:
            return
        happens(f"push: {step.kind}")
        old = self.past[step.pick % len(self.past)]
        if step.kind == "rewinds":
            self.remote.head = old
            return
        files = dict(self.commits.by_id[head].files)
        records = _records(files.get(LEDGER, b""))
        edits: dict[str, Callable[[], object]] = {
            "adds": lambda: files.update({LEDGER: ledger_body(ISSUER, [record(STEADY), record(ATTACKER_KEY)])}),
            "demotes": lambda: files.update({LEDGER: ledger_body(ISSUER, [_demoted(each) for each in records])}),
            "ages": lambda: files.update({LEDGER: ledger_body(ISSUER, [_aged(each) for each in records])}),
            "duplicates": lambda: files.update({LEDGER: ledger_body(ISSUER, [*records, *records])}),
            "damages": lambda: files.update({LEDGER: b"garbage"}),
            "damages the signature": lambda: files.update({SIGNATURE: b"e30..AAAA\n"}),
            "deletes": lambda: files.pop(LEDGER, None),
            "replays": lambda: files.update(self.commits.by_id[old].files),
        }
        edits[step.kind]()
        self.remote.head = self.commits.add(Commit((head,), files, "x", self.now))

    def write(self, step: Write) -> None:
        """Another writer writes to the bucket."""
        happens(f"bucket: {step.kind}")
        self.writes += 1
        stored = self.objects.get(_JWKS)
        if step.kind == "deletes":
            for key in (JWKS_KEY, DISCOVERY_KEY)[: 1 + step.pick % 2]:
                self.objects.pop(ObjectKey(key), None)
            return
        old = self.commits.by_id[self.past[step.pick % len(self.past)]].files
        path = f"public/oidc-bucket.s3-ap-southeast-2.amazonaws.com/{JWKS_KEY}"
        body = {
            "overwrites": public_bytes(STEADY, ATTACKER_KEY),
            "oversized": b" " * 2_000_000,
            "replays": old.get(path, b"garbage"),
            "steals the snapshot": public_bytes(STEADY, ATTACKER_KEY),
        }[step.kind]
        snapshot = stored.snapshot if stored is not None and step.kind == "steals the snapshot" else None
        self.buckets[0].write(JWKS_KEY, body, "application/jwk-set+json", "public, max-age=300", snapshot)

    def decide(self, step: Decision) -> None:
        """An operator decides, on a mirror's disk or on an empty one, and pushes."""
        mirror = self.mirrors[step.mirror or 0]
        history = mirror.world.history
        if step.mirror is None:
            history = replace(history, head=None, tracking=None)
        made, ports = self.settings(mirror), replace(self.ports(mirror), history=history)
        # The remote may be unreachable or refuse pushes, and the decision may have been made already.
        with suppress(HistoryError, RemoteError, UsageError), redirect_stdout(StringIO()):
            history.fetch(shallow=False)
            believed = trust_of(made, history, load_local_state(mirror.state_dir), ports.ledger_trust())
            memory = load_history(history, [ISSUER], believed)
            session = OperatorSession(_OPTIONS, made, made.issuers, ports, memory, believed, self.now, persistent=True)
            if step.kind == "revokes":
                material = frozenset({STOLEN.thumbprint})
                revoke = partial(decide_revocation, material=material, reason="stolen", last=False)
                happens("an operator revokes")
                commit(session, lambda newest: revoke(newest)[0])
                return
            for each in session.every_key().records:
                if each.status is Status.HELD:
                    happens("an operator approves")
                    commit(session.newest(), partial(decide_approval, identity=key_id(each.key)))

    # ---------------------------------------------------------------------------------------------- the end

    def settle(self) -> None:
        """Rounds without faults: one head, a bucket that matches the ledger, no waiting mirror, and no stolen key."""
        self.show(frozenset(ROTATING[:1]))
        self.decide(Decision("approves", 0))
        for mirror in self.mirrors:
            mirror.policy, mirror.require_push = replace(mirror.policy, new_keys="publish"), False
        for count in range(ROUNDS):
            for number in range(MIRRORS):
                self.run(number, HOUR)
            if count == 0:
                self.decide(Decision("approves", 0))  # a key that another mirror held on its own disk
        before = len(self.commits.by_id), self.count_puts()
        reports = [self.run(number, MINUTE) for number in range(MIRRORS)]
        assert (len(self.commits.by_id), self.count_puts()) == before
        assert [(int(each.exit_status), each.failures) for each in reports] == [(0, ())] * MIRRORS
        assert {mirror.world.history.head for mirror in self.mirrors} == {self.remote.head}
        records = reports[0].issuers[0].records
        assert {each.issuers[0].records for each in reports} == {records}
        public = {each.key.kid for each in records if each.status in (Status.PUBLISHED, Status.RETIRING)}
        assert self.public() == public == {STEADY.kid, ROTATING[0].kid}

    def count_puts(self) -> int:
        return sum(request.startswith("put ") for request in self.requests)

    def settle_while_the_stolen_key_is_shown(self) -> None:
        """After a complete pass knows the revocation, the stolen key is not public, even if apiservers show it."""
        self.show(frozenset({STOLEN}))
        for _ in range(2):
            for number in range(MIRRORS):
                self.run(number, HOUR)
        known = any(mirror.policy.revoked for mirror in self.mirrors) or STOLEN.thumbprint in self.revoked
        assert (STOLEN.kid not in self.public()) or not known


_JWKS = ObjectKey(JWKS_KEY)
_OPTIONS = Common(Path("/dev/null"), "error", "json")


def _records(body: bytes) -> list[Record]:
    """The keys of a ledger or a JWKS; none if it is neither."""
    try:
        found = json.loads(body)["keys"]
    except (ValueError, KeyError, TypeError):
        return []
    return found if isinstance(found, list) else []


def _demoted(plain: Record) -> Record:
    return dropped(plain["kid"], plain["thumbprint"], 99)


def _aged(plain: Record) -> Record:
    return {**plain, "first_seen": "2000-01-01T00:00:00Z", "generation": 2**53}


def live(taken: list[Step], *, signed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        crowd = Crowd(Path(folder), signed=signed)
        for step in taken:
            crowd.take(step)
        crowd.settle_while_the_stolen_key_is_shown()
        crowd.settle()
        assert not crowd.violated
        assert _JWKS in crowd.objects


SETTINGS = settings(
    max_examples=HISTORIES // 3,
    derandomize=not scale().everything,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink] if scale().everything else [Phase.generate],
)


@given(histories(pushes()))
@SETTINGS
def test_signed_mirrors_end_as_one_whatever_is_pushed(taken: list[Step]) -> None:
    """An attacker without a key pushes: its key is never public, and no mirror is stuck."""
    happens("history: signed, pusher")
    live(taken, signed=True)


@given(histories(writes()))
@SETTINGS
def test_signed_mirrors_end_as_one_whatever_is_written(taken: list[Step]) -> None:
    """Another writer writes to the bucket."""
    happens("history: signed, writer")
    live(taken, signed=True)


@given(histories(writes()))
@SETTINGS
def test_trusting_mirrors_end_as_one_whatever_is_written(taken: list[Step]) -> None:
    """The remote is trusted and nobody attacks it. Another writer writes to the bucket: the mirrors converge."""
    happens("history: trusted, writer")
    live(taken, signed=False)


def test_everything_happens_in_many_histories() -> None:
    """Every kind of fault, push, write and moment occurs, so the histories test what they claim."""
    print("\n".join(f"{HAPPENED[what]:6} {what}" for what in sorted(EVERYTHING)))
    assert HAPPENED.keys() == EVERYTHING or HISTORIES < MANY_HISTORIES
