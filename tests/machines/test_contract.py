"""The contract under random histories: two mirrors, one remote, one bucket, and everything that goes wrong.

Replicas rotate, vanish, lie and flap; operators approve and revoke; the remote goes away; somebody writes to the
bucket; mirrors die between any two steps, or another mirror or an operator works in the middle of a pass. What must
hold (design, section 2) is judged at every put, after every pass, and once everything has settled.

A few histories by default, the same ones on every machine; `OIDC_MIRROR_HISTORIES=300` searches among so many, anew
in every run, and shrinks what it finds. That takes minutes, so give it time: `-o timeout=0`.
"""

import json
import os
import tempfile
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mirror.errors import RemoteError
from mirror.history.ledgers import Memory, remember
from mirror.history.record import Intent, record
from mirror.model import (
    Answer,
    CommitId,
    ETag,
    Key,
    KeyId,
    KeyPolicy,
    Ledger,
    ObjectKey,
    PublicObject,
    Reason,
    Status,
    Stored,
    Thumbprint,
    Unusable,
    key_id,
)
from mirror.ports import Landed, PutOutcome
from mirror.report import Effect, Report
from mirror.steps.notebook import EMPTIED, vouch
from mirror.steps.witness import public_ids
from mirror.trust.decisions import approve, revoke
from mirror.trust.documents import documents, render
from mirror.trust.ledger import read_ledger
from mirror.trust.lifecycle import Outcome
from support.fakes import MOMENT, Commits, FakeBucket, FakeHistory, FakeRemote, FakeWorld
from support.keys import EC_KEYS, RSA_KEYS, with_kid
from support.situations import BASE_URL, DISCOVERY_KEY, ISSUER, JWKS_KEY, LEDGER, PUBLIC, Situation, silent

HOUR = timedelta(hours=1)
RETAIN = timedelta(hours=24)
REPLICAS = ("https://10.0.0.11:6443", "https://10.0.0.12:6443")
TWIN = with_kid(RSA_KEYS[0], "another name of the first key")
RIVAL = with_kid(RSA_KEYS[3], RSA_KEYS[1].kid)
KEYS: dict[str, Key] = {"a": RSA_KEYS[0], "b": RSA_KEYS[1], "c": RSA_KEYS[2], "e": EC_KEYS[0], "a2": TWIN, "b2": RIVAL}
"""Four keys, one of them under a second kid, and a key that comes under the kid of another one."""
POOL = tuple(KEYS.values())
NAMES = {key_id(key): name for name, key in KEYS.items()}
BY_MEMBERS = {json.dumps(key.members(), sort_keys=True): key for key in POOL}


def keys_of(body: bytes) -> tuple[Key, ...]:
    """The keys of a public JWKS; none when it is no JWKS of the pool."""
    try:
        return tuple(BY_MEMBERS[json.dumps(members, sort_keys=True)] for members in json.loads(body)["keys"])
    except (ValueError, KeyError, TypeError):
        return ()


def identities(body: bytes | None) -> set[KeyId]:
    return {key_id(key) for key in keys_of(body or b"")}


def named(names: list[str]) -> tuple[Key, ...]:
    return tuple(KEYS[name] for name in names)


def told(identities: AbstractSet[KeyId]) -> str:
    """Keys by their short names."""
    return ", ".join(sorted(NAMES[identity] for identity in identities))


class Killed(BaseException):
    """The process dies here: nothing catches it."""


@dataclass
class Lever:
    """Does something at the n-th step of the outside world, once."""

    countdown: int = 0
    act: Callable[[], object] | None = None

    def step(self) -> None:
        self.countdown -= 1
        if self.act is not None and self.countdown < 0:
            act, self.act = self.act, None
            act()


class Universe(Commits):
    """Commits whose ancestry is looked up without walking a path twice."""

    def ancestry(self, of: CommitId | None) -> set[CommitId]:
        found: set[CommitId] = set()
        waiting = [of] if of is not None else []
        while waiting:
            at = waiting.pop()
            if at not in found:
                found.add(at)
                waiting.extend(self.by_id[at].parents)
        return found

    def contains(self, new: CommitId, old: CommitId) -> bool:
        return old in self.ancestry(new)


@dataclass
class MortalHistory(FakeHistory):
    """A repository that knows only what it made or fetched, and that may die before and after each step."""

    lever: Lever = field(default_factory=Lever)

    def fetch(self, *, shallow: bool) -> None:
        self.lever.step()
        super().fetch(shallow=shallow)
        self.lever.step()

    def commit(self, **given: Any) -> CommitId:
        self.lever.step()
        made = super().commit(**given)
        self.lever.step()
        return made

    def advance(self, new: CommitId, *, expect: CommitId | None) -> None:
        self.lever.step()
        super().advance(new, expect=expect)
        self.lever.step()

    def push(self) -> None:
        self.lever.step()
        super().push()
        self.lever.step()

    def _own(self) -> set[CommitId]:
        universe = self.commits
        assert isinstance(universe, Universe)
        return universe.ancestry(self.head) | universe.ancestry(self.tracking)

    def knows(self, commit: str) -> bool:
        return CommitId(commit) in self._own()

    def holds(self, body: bytes) -> bool:
        return any(body in self.commits.by_id[commit].files.values() for commit in self._own())


@dataclass
class JudgedBucket(FakeBucket):
    """A bucket whose every put is judged, and around which a mirror may die."""

    lever: Lever = field(default_factory=Lever)
    judge: Callable[[Stored | None, PublicObject, CommitId], None] = lambda *_: None

    def put(self, obj: PublicObject, *, snapshot: CommitId, seen: ETag | None) -> PutOutcome:
        self.lever.step()
        before = self.objects.get(obj.key)
        outcome = super().put(obj, snapshot=snapshot, seen=seen)
        if isinstance(outcome, Landed):
            self.judge(before, obj, snapshot)
        self.lever.step()
        return outcome


@dataclass
class Replica:
    """One apiserver: what it shows, and whether it answers so that it can be believed."""

    url: str
    keys: tuple[Key, ...] = POOL[:1]
    mood: str = "good"

    @property
    def is_believed(self) -> bool:
        kids = [key.kid for key in self.keys]
        return self.mood == "good" and len(kids) == len(set(kids))

    def answer(self) -> Answer | Unusable:
        if self.mood == "silent":
            return silent(self.url)
        made = documents(ISSUER, self.keys)
        if self.mood == "lying":
            return Answer(self.url, made.discovery, made.jwks.replace(b'"use":"sig"', b'"use":"enc"'))
        return Answer(self.url, made.discovery, made.jwks)


key_sets = st.sets(st.sampled_from(sorted(KEYS)), min_size=1, max_size=4).map(sorted)
FEW = 2
"""How many keys are revoked in one history: where all are, nothing else happens any more."""
mirrors = st.sampled_from([0, 1])
replicas = st.sampled_from([0, 1])
steps = st.integers(0, 14)


class Contract(RuleBasedStateMachine):
    """The world, and a model of it that only counts what the contract speaks of."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.lever = Lever()
        self.universe = Universe()
        self.remote = FakeRemote()
        self.bucket = JudgedBucket(lever=self.lever, judge=self.judge_put)
        history = MortalHistory(self.universe, self.remote, lever=self.lever)
        world = FakeWorld(history=history, bucket=self.bucket, base_url=BASE_URL)
        first = Path(self.folder.name, "mirror")
        first.mkdir()
        one = Situation(first, world=world, apiservers=REPLICAS, remote="git@git.example.com:oidc.git")
        one.policy = KeyPolicy(retain_removed=RETAIN, kid="opaque")
        self.mirrors = (one, one.beside())
        self.replicas = tuple(Replica(url) for url in REPLICAS)
        self.now = MOMENT
        self.violations: list[str] = []
        self.allowed: set[KeyId] = set()
        """Keys that an apiserver showed to a pass while the policy was `publish`, or that an operator approved."""
        self.absent_since: dict[KeyId, datetime] = {}
        """When every apiserver first answered without the key, since a whole pass last saw it."""
        self.revoked: set[Thumbprint] = set()
        self.is_set_aside = [False, False]
        """Whether each mirror's last pass waited for a witness."""
        self.gone: set[Thumbprint] = set()
        """Revoked material that has left the bucket."""

    def teardown(self) -> None:
        self.folder.cleanup()

    # ---------------------------------------------------------------------------------------------- the world

    @initialize(keys=key_sets)
    def first_pass(self, keys: list[str]) -> None:
        self.replicas[0].keys = self.replicas[1].keys = named(keys)
        self.one_pass(0)

    @rule(which=replicas, keys=key_sets)
    def replica_shows(self, which: int, keys: list[str]) -> None:
        self.replicas[which].keys, self.replicas[which].mood = named(keys), "good"

    @rule(keys=key_sets)
    def all_replicas_show(self, keys: list[str]) -> None:
        for each in self.replicas:
            each.keys, each.mood = named(keys), "good"

    @rule(which=replicas, mood=st.sampled_from(["silent", "lying", "good"]))
    def replica_feels(self, which: int, mood: str) -> None:
        self.replicas[which].mood = mood

    @rule(hours=st.sampled_from([1, 6, 23, 24, 48]))
    def time_passes(self, hours: int) -> None:
        self.now += hours * HOUR

    @rule(down=st.booleans())
    def remote_changes(self, down: bool) -> None:
        self.remote.down = down

    @rule(new_keys=st.sampled_from(["publish", "hold"]))
    def policy_changes(self, new_keys: Any) -> None:
        for mirror in self.mirrors:
            mirror.policy = replace(mirror.policy, new_keys=new_keys)

    @precondition(lambda self: len(self.revoked) < FEW)
    @rule(name=st.sampled_from(sorted(KEYS)))
    def configuration_revokes(self, name: str) -> None:
        key = KEYS[name]
        self.revoked.add(key.thumbprint)
        for mirror in self.mirrors:
            mirror.policy = replace(mirror.policy, revoked=mirror.policy.revoked | {key.thumbprint})

    @precondition(lambda self: self.mirrors[0].public() is not None)
    @rule(kind=st.sampled_from(["garbage", "delete", "replay"]), pick=st.integers(0, 99))
    def intruder_writes(self, kind: str, pick: int) -> None:
        if kind == "delete":
            self.bucket.objects.pop(ObjectKey(JWKS_KEY), None)
        elif kind == "garbage":
            self.bucket.write(JWKS_KEY, b"garbage")
        else:
            commits = [*self.universe.by_id.values()]
            files = commits[pick % len(commits)].files if commits else {}
            self.bucket.write(JWKS_KEY, files.get(_JWKS_FILE, b"garbage"))

    @rule(pick=st.integers(0, 99))
    def operator_approves(self, pick: int) -> None:
        self.operate(lambda ledger: self.approval(ledger, pick))

    @precondition(lambda self: len(self.revoked) < FEW)
    @rule(pick=st.integers(0, 99))
    def operator_revokes(self, pick: int) -> None:
        self.operate(lambda ledger: self.revocation(ledger, pick))

    # ---------------------------------------------------------------------------------------------- the passes

    @rule(which=mirrors)
    def one_pass(self, which: int) -> None:
        self.judge_pass(which, self.run(which))

    @rule()
    def days_pass(self) -> None:
        """Three days: long enough for a key to come back, to be missed again, to retire, and to leave."""
        for count in range(8):
            self.now += 9 * HOUR
            self.one_pass(count % 2)
        if not self.remote.down and all(each.is_believed for each in self.replicas):
            self.judge_liveness()

    # --------------------------------------------------------------------- stories that chance alone seldom tells

    @rule(keys=key_sets, mood=st.sampled_from(["silent", "lying", "good"]), down=st.booleans())
    def rotation_with_a_laggard(self, keys: list[str], mood: str, down: bool) -> None:
        self.replicas[0].keys, self.replicas[0].mood = named(keys), "good"
        self.replicas[1].mood = mood
        self.remote.down = down
        self.days_pass()

    @rule(keys=key_sets, new_keys=st.sampled_from(["publish", "hold"]))
    def rotation_in_one_step(self, keys: list[str], new_keys: str) -> None:
        self.policy_changes(new_keys)
        self.all_replicas_show(keys)
        self.days_pass()

    @rule(before=key_sets, after=key_sets)
    def mirrors_that_did_not_hear_of_each_other(self, before: list[str], after: list[str]) -> None:
        self.remote.down = True
        self.all_replicas_show(before)
        self.one_pass(0)
        self.all_replicas_show(after)
        self.one_pass(1)
        self.settle()

    @precondition(lambda self: len(self.revoked) < FEW)
    @rule()
    def stolen_key_comes_back_under_another_kid(self) -> None:
        self.remote.down = False
        self.policy_changes("publish")
        self.all_replicas_show(["a", "b"])
        self.one_pass(0)
        self.operate(lambda ledger: self.revoked_now(ledger, TWIN.thumbprint))
        self.one_pass(1)
        self.all_replicas_show(["a2", "b"])
        self.settle()

    @rule(which=mirrors, at=steps)
    def pass_dies(self, which: int, at: int) -> None:
        self.lever.countdown, self.lever.act = at, _die
        try:
            self.run(which)
        except Killed:
            pass
        finally:
            self.lever.act = None

    @rule(which=mirrors, at=steps)
    def other_mirror_works_in_the_middle(self, which: int, at: int) -> None:
        self.between(which, at, lambda: self.run(1 - which))

    @rule(which=mirrors, at=steps, pick=st.integers(0, 99), revokes=st.booleans())
    def operator_works_in_the_middle(self, which: int, at: int, pick: int, revokes: bool) -> None:
        decide = self.revocation if revokes else self.approval
        self.between(which, at, lambda: self.operate(lambda ledger: decide(ledger, pick)))

    def between(self, which: int, at: int, act: Callable[[], object]) -> None:
        self.lever.countdown, self.lever.act = at, act
        try:
            self.run(which)
        finally:
            self.lever.act = None

    @precondition(lambda self: any(each.is_believed for each in self.replicas))
    @rule()
    def settle(self) -> None:
        """With the remote there and nobody in the way, two rounds are enough; a third one does nothing."""
        self.remote.down = False
        for which in (0, 1):
            self.one_pass(which)
            self.operator_answers(which)
        for which in (0, 1, 0, 1):
            self.one_pass(which)
        commits, puts = len(self.universe.by_id), self.bucket.count("put")
        for which in (0, 1):
            self.one_pass(which)
        self.expect(len(self.universe.by_id) == commits, "a quiet pass made a commit")
        self.expect(self.bucket.count("put") == puts, "a quiet pass made a put")
        self.expect({m.world.history.head for m in self.mirrors} == {self.remote.head}, "the heads differ")
        lost = set(self.universe.by_id) - self.universe.ancestry(self.remote.head)
        self.expect(not lost, f"commits were lost: {sorted(lost)}")
        self.judge_rest()

    def operator_answers(self, which: int) -> None:
        """Do what a report advises where only git vouches for a key: `approve` it on this machine.

        Needed when an approved key left every apiserver before a mirror put it, or an intruder removed the object that
        was its witness: nobody else can tell such a key from one that a pusher made up (design, 4.4).
        """
        mirror = self.mirrors[which]
        named = public_ids(self.ledger(mirror)) - {EMPTIED}
        strange = {key_id(key) for key in self.ledger(mirror).public_keys()} - self.allowed
        self.expect(not strange, f"git names keys that nobody may have published: {told(strange)}")
        if self.is_set_aside[which]:
            vouch(mirror.state_dir, {ISSUER: named})

    def judge_rest(self) -> None:
        """Git and bucket say the same."""
        ledger = self.ledger(self.mirrors[0])
        rendered = render(ledger)
        if rendered is not None:
            wanted = {JWKS_KEY: rendered.jwks, DISCOVERY_KEY: rendered.discovery}
            found = {str(key): stored.body for key, stored in self.bucket.objects.items()}
            self.expect(found == wanted, "the bucket is not what the ledger says")
            files = self.mirrors[0].world.history.files()
            self.expect(files[_JWKS_FILE] == rendered.jwks, "git's public file is not what the ledger says")

    # ------------------------------------------------------------------------------------------------- verdicts

    @invariant()
    def nothing_was_violated(self) -> None:
        assert self.violations == [], self.violations

    def expect(self, holds: bool, what: str) -> None:
        # Collected: what a pool of threads raises, the pass reports as a defect of one issuer.
        if not holds:
            self.violations.append(what)

    def judge_put(self, before: Stored | None, put: PublicObject, snapshot: CommitId) -> None:
        """What may become public, and what may leave."""
        files = self.universe.by_id[snapshot].files
        self.expect(put.body in files.values(), f"{put.key} was put with bytes that its snapshot does not hold")
        if put.key != JWKS_KEY:
            return
        old, new = identities(before.body if before is not None else None), identities(put.body)
        self.expect(bool(new), "the public set became empty")
        self.expect(new <= self.allowed, f"keys are public that nobody may have published: {told(new - self.allowed)}")
        self.expect(all(self.unheard(i, before, snapshot) for i in new if i[1] in self.gone), "a revoked key came back")
        for identity in old - new:
            if identity[1] not in self.revoked:
                self.judge_removal(identity)
        self.gone |= {t for _, t in old - new if t in self.revoked} - {t for _, t in new}

    def unheard(self, identity: KeyId, before: Stored | None, snapshot: CommitId) -> bool:
        """Whether a mirror puts a revoked key because it could not hear of the revocation, and nothing hinted at it.

        Additions never wait for the remote: the key is new to this mirror, or an intruder removed what another mirror
        had put. The next pass that hears of the revocation takes it away.
        """
        is_marked = before is not None and before.snapshot is not None
        parents = self.universe.by_id[snapshot].parents
        had = any(identity in map(key_id, self.ledger_at(parent).public_keys()) for parent in (*parents, snapshot)[:1])
        return self.remote.down and not (is_marked and had)

    def judge_removal(self, identity: KeyId) -> None:
        since, name = self.absent_since.get(identity), NAMES[identity]
        self.expect(since is not None and since + RETAIN <= self.now, f"{name} left before its time: {since}")
        shown = {key_id(key) for each in self.replicas for key in each.keys}
        self.expect(all(each.is_believed for each in self.replicas), f"{name} left while a replica was not heard")
        self.expect(not self.remote.down, f"{name} left while the remote was down")
        self.expect(identity not in shown, f"{name} left although an apiserver shows it")

    def judge_liveness(self) -> None:
        """What nobody shows any more has left, unless the set would be empty without it."""
        public = identities(self.mirrors[0].public())
        shown = {key_id(key) for key in self.shown()}
        self.expect(public <= shown or not public & shown, f"keys never leave: {told(public - shown)}")

    def judge_pass(self, which: int, report: Report) -> None:
        """After a whole pass that could do all its work, every believed key is public unless it may not be."""
        (issuer,) = report.issuers or (None,)
        names = {event.name for event in issuer.events} if issuer is not None else set()
        self.is_set_aside[which] = "remote.unwitnessed" in names
        if issuer is None or self.remote.down or issuer.failures or report.failures:
            return
        if self.is_set_aside[which]:
            return  # another mirror or an operator vouches, and `settle` sees that it helps
        for key in self.shown():
            self.absent_since.pop(key_id(key), None)
        if not all(each.effect in (Effect.UNCHANGED, Effect.PUT) for each in issuer.objects):
            return
        public = identities(self.mirrors[which].public())
        ledger = self.ledger(self.mirrors[which])
        kept_back = {key_id(r.key) for r in ledger.records if r.status in (Status.HELD, Status.REVOKED)}
        missing = {
            key_id(key)
            for key in self.shown()
            if key.thumbprint not in self.revoked and key_id(key) not in kept_back | public
        }
        self.expect(not missing, f"keys that are shown are not public: {told(missing)}")
        held = {key_id(r.key) for r in ledger.records if r.status is Status.HELD}
        self.expect(not held & public, f"held keys are public: {told(held & public)}")
        guilty = {identity for identity in public if identity[1] in self.revoked}
        self.expect(not guilty or guilty == public, f"revoked keys are public: {told(guilty)}")
        self.expect(bool(ledger.public_keys()) or guilty == public, "the ledger names no key, though none was revoked")

    # -------------------------------------------------------------------------------------------------- helpers

    def shown(self) -> tuple[Key, ...]:
        return tuple(key for each in self.replicas if each.is_believed for key in each.keys)

    def run(self, which: int) -> Report:
        mirror = self.mirrors[which]
        mirror.now = self.now
        mirror.show(*(each.answer() for each in self.replicas))
        if mirror.policy.new_keys == "publish":
            self.allowed |= {key_id(key) for key in self.shown()}
        if all(each.is_believed for each in self.replicas):
            seen = {key_id(key) for key in self.shown()}
            for key in POOL:
                if key_id(key) not in seen:
                    self.absent_since.setdefault(key_id(key), self.now)
        report = mirror.run()
        defects = [f.sentence for issuer in report.issuers for f in issuer.failures if f.code == "broken"]
        self.expect(not defects, f"defects: {defects}")
        return report

    def ledger(self, mirror: Situation) -> Ledger:
        head = mirror.world.history.head
        return self.ledger_at(head) if head is not None else Ledger(ISSUER)

    def ledger_at(self, commit: CommitId) -> Ledger:
        body = self.universe.by_id[commit].files.get(LEDGER)
        found = Ledger(ISSUER) if body is None else read_ledger(body, issuer=ISSUER)
        assert isinstance(found, Ledger)
        return found

    def operate(self, decide: Callable[[Ledger], Outcome | Reason | None]) -> None:
        """An operator with a repository of their own: fetch, decide, commit, push."""
        laptop = FakeHistory(self.universe, self.remote)
        try:
            laptop.fetch(shallow=True)
        except RemoteError:
            return
        memory = remember(laptop, [ISSUER])
        ledger = memory.issuers[ISSUER].ledger
        outcome = decide(ledger) if ledger is not None else None
        if isinstance(outcome, Outcome):
            self.decided(laptop, memory, outcome)

    def decided(self, laptop: FakeHistory, memory: Memory, outcome: Outcome) -> None:
        intents = {ISSUER: Intent(outcome.ledger)}
        done = record(laptop, memory, intents, message="decided\n", now=self.now, push=True)
        assert done.pushed
        for transition in outcome.transitions:
            if transition.status is Status.PUBLISHED:
                self.allowed.add(key_id(transition.key))
            if transition.status is Status.REVOKED:
                self.revoked.add(transition.key.thumbprint)

    def approval(self, ledger: Ledger, pick: int) -> Outcome | Reason | None:
        held = [r for r in ledger.records if r.status is Status.HELD]
        return approve(ledger, key_id(held[pick % len(held)].key), self.now) if held else None

    def revoked_now(self, ledger: Ledger, thumbprint: Thumbprint) -> Outcome | Reason | None:
        return revoke(ledger, [thumbprint], now=self.now, reason="stolen", last=False)

    def revocation(self, ledger: Ledger, pick: int) -> Outcome | Reason | None:
        if not ledger.records or len(self.revoked) >= FEW:
            return None
        return self.revoked_now(ledger, ledger.records[pick % len(ledger.records)].key.thumbprint)


_JWKS_FILE = f"{PUBLIC}/openid/v1/jwks"


def _die() -> None:
    raise Killed


FEW_HISTORIES = 20
HISTORIES = int(os.environ.get("OIDC_MIRROR_HISTORIES", FEW_HISTORIES))

TestContract = Contract.TestCase
TestContract.pytestmark = pytest.mark.timeout(600)  # type: ignore[attr-defined]  # two busy cores
TestContract.settings = settings(
    max_examples=HISTORIES,
    stateful_step_count=12,
    derandomize=HISTORIES <= FEW_HISTORIES,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate] if HISTORIES <= FEW_HISTORIES else [Phase.generate, Phase.shrink],
)
