"""The contract under random histories: mirrors with real git, one remote, one bucket, and everything that goes wrong.

Replicas rotate, vanish, lie and flap; three mirrors ask different ones under different policies, and one of them cannot
reach the bucket; pods come with empty disks; operators approve and revoke, from a mirror's machine and from a laptop;
the remote goes away or refuses pushes; mirrors die between any two steps, and others work in the middle of a pass.
Somebody writes to the bucket, and somebody without a key pushes. What must hold (design, section 2) is judged at every
put, after every pass, and once everything has settled.

A history is of one kind:
    signed    ledgers are signed. Somebody pushes, or writes to the bucket, or does both: then no disk is ever empty,
              because a pod could not know what was set back (SECURITY.md)
    trusted   the remote is trusted; nobody pushes who should not, somebody writes to the bucket
    open      the remote is trusted, and somebody pushes: what is public is what he says, and nothing gets stuck

A few histories in the suite, the same ones on every machine; `make torture ARGS="--only histories --histories 300"`
searches among so many, anew in every run, and shrinks what it finds. pytest's `-s` shows how often each rule was taken.
"""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mirror.model import (
    Answer,
    Key,
    KeyId,
    KeyPolicy,
    Kid,
    ObjectKey,
    PublicObject,
    Status,
    StoredObject,
    Thumbprint,
    Unusable,
    key_id,
)
from mirror.report import Effect, IssuerReport
from mirror.trust.discovery import documents
from support.fakes import FakeSource
from support.fleets import MIRROR, OPERATOR, REPLICAS, STRANGER, Ended, Fleet, GitMirror, Killed
from support.gits import git
from support.keys import EC_KEYS, RSA_KEYS, with_kid
from support.pushers import PUSHER, SIGNATURE, Record, blob, contains, dropped, record, signed_by
from support.situations import DISCOVERY_KEY, ISSUER, JWKS_KEY, LEDGER, NAME, silent
from torture.scale import scale, tally

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
RETAIN = timedelta(hours=24)
AUDIT = timedelta(minutes=61)
TWIN = with_kid(RSA_KEYS[0], "another name of the first key")
RIVAL = with_kid(RSA_KEYS[3], RSA_KEYS[1].kid)
EVIL = with_kid(RSA_KEYS[4], "evil")
SHOWN: dict[str, Key] = {"a": RSA_KEYS[0], "b": RSA_KEYS[1], "c": RSA_KEYS[2], "e": EC_KEYS[0], "a2": TWIN, "b2": RIVAL}
"""Four keys, one of them under a second kid, and a key that comes under the kid of another one."""
POOL = (*SHOWN.values(), EVIL)
NAMES = {key_id(key): name for name, key in (*SHOWN.items(), ("EVIL", EVIL))}
BY_MEMBERS = {json.dumps(key.members(), sort_keys=True): key for key in POOL}
RIVALS = {key_id(RSA_KEYS[1]), key_id(RIVAL)}
FEW = 2
"""How many keys are revoked in one history: where all are, nothing else happens any more."""
TAKEN: Counter[str] = Counter()
"""How often each rule was taken, over all histories of the process."""

PUSHES = (
    "adds",
    "adds-held",
    "demotes",
    "drops",
    "ages",
    "duplicates",
    "damages",
    "damages-signature",
    "deletes",
    "replays",
    "rewinds",
    "signs-for-another-repository",
    "signs-with-a-strange-key",
)
PASSES = ("nobody", "mirror 0", "mirror 1", "mirror 2", "pod")
"""Whose pass follows an attack."""
WRITES = ("garbage", "delete", "oversized", "replay", "steals-the-snapshot")


def taken(what: str) -> None:
    TAKEN[what] += 1


def keys_of(body: bytes) -> tuple[Key, ...]:
    """The keys of a public JWKS; none when it is no JWKS of the pool."""
    try:
        return tuple(BY_MEMBERS[json.dumps(members, sort_keys=True)] for members in json.loads(body)["keys"])
    except (ValueError, KeyError, TypeError):
        return ()


def identities(keys: Iterable[Key]) -> set[KeyId]:
    return {key_id(key) for key in keys}


def named(names: Iterable[str]) -> tuple[Key, ...]:
    return tuple(SHOWN[name] for name in names)


def told(found: AbstractSet[KeyId]) -> str:
    """Keys by their short names."""
    return ", ".join(sorted(NAMES.get(identity, identity[0]) for identity in found))


@dataclass
class Lever:
    """Does something at the n-th step of the outside world, once."""

    countdown: int = 0
    act: Callable[[], object] | None = None

    def step(self, *_: object) -> None:
        self.countdown -= 1
        if self.act is not None and self.countdown < 0:
            act, self.act = self.act, None
            act()


@dataclass
class Replica:
    """One apiserver: what it shows, and whether it answers so that it can be believed."""

    keys: tuple[Key, ...]
    mood: str = "good"

    @property
    def is_believed(self) -> bool:
        kids = [key.kid for key in self.keys]
        return self.mood == "good" and len(kids) == len(set(kids))

    def answer(self, url: str) -> Answer | Unusable:
        if self.mood == "silent":
            return silent(url)
        made = documents(ISSUER, self.keys)
        if self.mood == "lying":
            return Answer(url, made.discovery, made.jwks.replace(b'"use":"sig"', b'"use":"enc"'))
        return Answer(url, made.discovery, made.jwks)


key_sets = st.sets(st.sampled_from(sorted(SHOWN)), min_size=1, max_size=4).map(sorted)
mirrors = st.sampled_from([0, 1, 2])
replicas = st.sampled_from([0, 1, 2])
steps = st.integers(0, 20)
picks = st.integers(0, 2**32).map(Random)
"""Chances that Hypothesis draws as one number: its own choices among many kinds are far from even."""
places = st.sampled_from(["mirror 0", "mirror 1", "laptop"])
ASKED = ((0, 1), (1, 2), (0, 2))
"""Which replicas each mirror asks."""
BLIND = 2
"""The mirror that cannot reach the bucket."""


class Contract(RuleBasedStateMachine):
    """The world, and a model of it that only counts what the contract speaks of."""

    def __init__(self) -> None:
        super().__init__()
        shared_memory = Path("/dev/shm")
        self.folder = tempfile.TemporaryDirectory(dir=shared_memory if shared_memory.is_dir() else None)
        self.lever = Lever()
        self.violations: list[str] = []
        self.kind, self.attackers = "trusted", "nobody"
        self.fleet = Fleet(Path(self.folder.name), policy=KeyPolicy(retain_removed=RETAIN, kid="opaque"))
        self.fleet.landed = self.judge_put
        self.replicas = [Replica(POOL[:1]) for _ in range(3)]
        self.mirrors: list[GitMirror] = []
        self.running: list[GitMirror] = []
        """The mirrors that are in a pass, the innermost last."""
        self.remote_down = self.refused = self.was_rewound = False
        self.commits: tuple[set[str], ...] = (set(), set(), set())
        """Every commit that each kept disk was at and the remote had.

        One that was never pushed may go: where a merge says no more than the remote's head, the branch moves there.
        """
        self.heads: list[str] = []
        """Where the remote's branch was, for whoever wants to go back."""
        self.allowed: set[KeyId] = set()
        """Keys that an apiserver showed to a pass while its policy was `publish`, or that an operator approved."""
        self.meant: set[KeyId] = set()
        """What mirrors last put."""
        self.last_shown: dict[KeyId, datetime] = {}
        """When an apiserver last showed the key to a pass whose commits the remote has."""
        self.may_leave: set[Thumbprint] = set()
        """Key material that somebody asked to be revoked."""
        self.revoked: set[Thumbprint] = set()
        """Key material that a whole pass of a mirror with the bucket reported as revoked, and pushed."""

    def teardown(self) -> None:
        try:
            if self.mirrors and not self.violations:
                self.settle()  # each history ends so
                self.nothing_was_violated()
        finally:
            self.folder.cleanup()

    @property
    def is_signed(self) -> bool:
        return self.kind == "signed"

    @property
    def has_pods(self) -> bool:
        return not (self.is_signed and self.attackers == "both")

    # ---------------------------------------------------------------------------------------------- the world

    @initialize(chance=picks, keys=key_sets)
    def first_pass(self, chance: Random, keys: list[str]) -> None:
        self.kind = chance.choice(["signed", "signed", "signed", "trusted", "open"])
        attackers = chance.choice(["pusher", "pusher", "writer", "both"])
        self.attackers = {"trusted": "writer", "open": "both"}.get(self.kind, attackers)
        taken(f"history: {self.kind}, {self.attackers}")
        self.fleet.signed = self.is_signed
        for each in self.replicas:
            each.keys = tuple(key for key in named(keys) if key != RIVAL) or POOL[:1]
        self.mirrors = [self.new_mirror() for _ in range(3)]
        self.mirrors[BLIND].bucket_down = True
        for which in range(3):
            self.one_pass(which)

    def new_mirror(self) -> GitMirror:
        return self.fleet.mirror(
            source=FakeSource(),
            allowed=(OPERATOR,) if self.is_signed else (),
            before=self.lever.step,
            after=self.lever.step,
            before_put=self.lever.step,
        )

    @rule(which=replicas, keys=key_sets)
    def replica_shows(self, which: int, keys: list[str]) -> None:
        taken("a replica shows other keys")
        self.replicas[which].keys, self.replicas[which].mood = named(keys), "good"

    @rule(keys=key_sets)
    def all_replicas_show(self, keys: list[str]) -> None:
        taken("all replicas show other keys")
        for each in self.replicas:
            each.keys, each.mood = named(keys), "good"

    @rule(which=replicas, mood=st.sampled_from(["silent", "lying", "good"]))
    def replica_feels(self, which: int, mood: str) -> None:
        taken(f"a replica is {mood}")
        self.replicas[which].mood = mood

    @rule(hours=st.sampled_from([1, 6, 23, 24, 25, 48]))
    def time_passes(self, hours: int) -> None:
        taken(f"{hours} hours pass")
        self.fleet.now += hours * HOUR

    @rule(down=st.booleans())
    def remote_changes(self, down: bool) -> None:
        taken("the remote goes away" if down else "the remote is back")
        self.set_remote(down=down)

    def set_remote(self, *, down: bool) -> None:
        if down != self.remote_down:
            (self.fleet.away if down else self.fleet.back)()
            self.remote_down = down

    @precondition(lambda self: not self.remote_down)
    @rule(refused=st.booleans())
    def pushes_are_refused(self, refused: bool) -> None:
        taken("pushes are refused" if refused else "pushes are taken")
        self.set_refused(refused)

    def set_refused(self, refused: bool) -> None:
        hook = self.fleet.remote / "hooks" / "pre-receive"
        hook.write_text(f'#!/bin/sh\n[ -n "${PUSHER}" ] || {{ echo no >&2; exit 1; }}\n' if refused else "#!/bin/sh\n")
        hook.chmod(0o755)
        self.refused = refused

    @rule(which=mirrors, new_keys=st.sampled_from(["publish", "hold"]))
    def policy_changes(self, which: int, new_keys: Any) -> None:
        taken(f"a mirror's policy is {new_keys}")
        mirror = self.mirrors[which]
        mirror.policy = replace(mirror.policy or self.fleet.policy, new_keys=new_keys)

    @rule(which=mirrors, require=st.booleans())
    def require_push_changes(self, which: int, require: bool) -> None:
        taken(f"require_push: {str(require).lower()}")
        self.mirrors[which].require_push = require

    @precondition(lambda self: len(self.may_leave) < FEW)
    @rule(which=mirrors, name=st.sampled_from(sorted(SHOWN)))
    def configuration_revokes(self, which: int, name: str) -> None:
        taken("a mirror's configuration revokes")
        self.may_leave.add(SHOWN[name].thumbprint)
        mirror = self.mirrors[which]
        policy = mirror.policy or self.fleet.policy
        mirror.policy = replace(policy, revoked=policy.revoked | {SHOWN[name].thumbprint})

    @precondition(lambda self: self.has_pods)
    @rule(which=mirrors)
    def disk_is_lost(self, which: int) -> None:
        taken("a disk is lost")
        self.commits[which].clear()
        self.mirrors[which].empty_disk()

    # ------------------------------------------------------------------------------------------- the attackers

    @precondition(lambda self: self.attackers in ("writer", "both"))
    @rule(chance=picks)
    def intruder_writes(self, chance: Random) -> None:
        for _ in range(chance.choice([1, 1, 2])):
            self.write(chance.choice(WRITES), chance)
            self.pass_of(chance.choice(PASSES))

    def write(self, kind: str, chance: Random) -> None:
        taken(f"bucket: {kind}")
        bucket, key = self.fleet.bucket, ObjectKey(JWKS_KEY)
        snapshot = bucket.objects[key].snapshot if key in bucket.objects else None
        if kind == "delete":
            bucket.objects.pop(key, None)
            if chance.random() < 0.5:
                bucket.objects.pop(ObjectKey(DISCOVERY_KEY), None)
        elif kind == "replay":
            bucket.write(JWKS_KEY, self.earlier_public(chance))
        elif kind == "steals-the-snapshot":
            body = documents(ISSUER, (POOL[0], EVIL)).jwks
            bucket.write(JWKS_KEY, body, "application/jwk-set+json", "public, max-age=300", snapshot)
        else:
            bucket.write(JWKS_KEY, b"garbage" if kind == "garbage" else b" " * 3_000_000)

    def earlier_public(self, chance: Random) -> bytes:
        path = f"public/oidc-bucket.s3-ap-southeast-2.amazonaws.com/{JWKS_KEY}"
        found = blob(self.mirrors[0].disk / "snapshots.git", path, at=chance.choice(self.heads))
        return found or b"garbage"

    @precondition(lambda self: self.attackers in ("pusher", "both") and not self.remote_down and self.heads)
    @rule(chance=picks)
    def pusher_pushes(self, chance: Random) -> None:
        for _ in range(chance.choice([1, 2, 3])):
            self.push(chance.choice(PUSHES), chance.choice(self.heads), chance)
            self.pass_of(chance.choice(PASSES))

    def pass_of(self, who: str) -> None:
        """A pass of some mirror, if any."""
        if who == "pod" and self.has_pods:
            self.pod_passes(None)
        elif who.startswith("mirror"):
            self.one_pass(int(who[-1]))

    def push(self, kind: str, old: str, chance: Random) -> None:
        taken(f"push: {kind}")
        pusher = self.fleet.pusher()
        head = pusher.fetch()
        if kind == "rewinds":
            pusher.rewind(old)
            self.was_rewound = True
            return
        try:
            records = pusher.records()
        except (OSError, ValueError, KeyError):
            records = []
        if kind == "replays":
            pusher.restore(old, LEDGER, SIGNATURE)
        elif kind == "deletes":
            pusher.delete(LEDGER, *([SIGNATURE] if chance.random() < 0.5 else []))
        elif kind == "damages":
            pusher.write(LEDGER, b"garbage %d" % chance.randrange(9))
        elif kind == "damages-signature":
            pusher.write(SIGNATURE, b"garbage..%d\n" % chance.randrange(9))
        elif kind == "signs-for-another-repository":
            pusher.write_records(_with(records, record(EVIL)), signer=MIRROR, repository="another")
        elif kind == "signs-with-a-strange-key":
            pusher.write_records(_with(records, record(EVIL)), signer=STRANGER)
        else:
            pusher.write_records(_edited(kind, records, chance))
        if pusher.push() != head:
            self.heads.append(head)

    # ------------------------------------------------------------------------------------------- the operators

    @rule(place=places, chance=picks)
    def operator_approves(self, place: str, chance: Random) -> None:
        self.approve(place, chance)

    @precondition(lambda self: len(self.may_leave) < FEW)
    @rule(place=places, chance=picks)
    def operator_revokes(self, place: str, chance: Random) -> None:
        self.revoke(place, chance.choice(sorted(SHOWN)))

    def approve(self, place: str, chance: Random) -> None:
        taken(f"approve on {place}")
        held = [each for each in self.records() if each["status"] == "held" and each["thumbprint"] != EVIL.thumbprint]
        if held:
            chosen = chance.choice(held)
            # Said before it is done: it may become public in the very command, or later where it could not be pushed.
            self.allowed.add((Kid(chosen["kid"]), Thumbprint(chosen["thumbprint"])))
            self.decide(place, "approve", chosen["thumbprint"])

    def revoke(self, place: str, name: str) -> None:
        taken(f"revoke on {place}")
        chosen = SHOWN[name].thumbprint
        if len(self.may_leave) < FEW:
            self.may_leave.add(chosen)
            self.decide(place, "revoke", chosen, "--reason", "stolen")

    def decide(self, place: str, command: str, thumbprint: str, *words: str) -> int:
        laptop = place == "laptop"
        mirror = self.fleet.mirror(allowed=self.mirrors[0].allowed) if laptop else self.mirrors[int(place[-1])]
        key = OPERATOR if laptop and self.is_signed else None
        status = mirror.decide(command, *words, "--no-pass", "--yes", NAME, "--", thumbprint, key=key)
        self.expect(status in (0, 1, 2, 3), f"{command} ended with {status}")
        if laptop:
            shutil.rmtree(mirror.disk)
        return status

    def records(self) -> list[Record]:
        """The records of the remote's ledger, whoever wrote them."""
        try:
            found = json.loads(blob(self.fleet.remote, LEDGER) or b"")["keys"]
        except (ValueError, KeyError, TypeError):
            return []
        return [each for each in found if isinstance(each, dict)]

    # ---------------------------------------------------------------------------------------------- the passes

    @rule(which=mirrors)
    def one_pass(self, which: int) -> None:
        taken("a pass without the bucket" if which == BLIND else "a pass")
        self.run(self.mirrors[which], ASKED[which])

    @precondition(lambda self: self.has_pods)
    @rule(at=st.none() | steps)
    def pod_passes(self, at: int | None) -> None:
        taken("a pod's pass" if at is None else "a pod dies")
        pod = self.new_mirror()
        pod.policy = self.mirrors[0].policy
        if at is None:
            self.run(pod, ASKED[0])
        else:
            self.die(pod, ASKED[0], at)
        shutil.rmtree(pod.disk)

    @rule(which=mirrors, at=steps)
    def pass_dies(self, which: int, at: int) -> None:
        taken("a mirror dies")
        self.die(self.mirrors[which], ASKED[which], at)

    def die(self, mirror: GitMirror, asked: tuple[int, int], at: int) -> None:
        self.lever.countdown, self.lever.act = at, _die
        try:
            self.run(mirror, asked)
        except Killed:
            self.running.clear()
        finally:
            self.lever.act = None

    @rule(which=mirrors, other=mirrors, at=steps)
    def other_mirror_works_in_the_middle(self, which: int, other: int, at: int) -> None:
        taken("another mirror works in the middle of a pass")
        if which != other:
            self.between(which, at, lambda: self.run(self.mirrors[other], ASKED[other]))

    @rule(which=mirrors, at=steps, place=places, chance=picks)
    def operator_works_in_the_middle(self, which: int, at: int, place: str, chance: Random) -> None:
        taken("an operator works in the middle of a pass")
        name = chance.choice(sorted(SHOWN))
        revokes = chance.random() < 0.5
        self.between(which, at, lambda: self.revoke(place, name) if revokes else self.approve(place, chance))

    @precondition(lambda self: self.attackers in ("pusher", "both") and not self.remote_down and self.heads)
    @rule(which=mirrors, at=steps, chance=picks)
    def pusher_pushes_in_the_middle(self, which: int, at: int, chance: Random) -> None:
        taken("somebody pushes in the middle of a pass")
        self.between(which, at, lambda: self.push(chance.choice(PUSHES), chance.choice(self.heads), chance))

    def between(self, which: int, at: int, act: Callable[[], object]) -> None:
        self.lever.countdown, self.lever.act = at, act
        try:
            self.run(self.mirrors[which], ASKED[which])
        finally:
            self.lever.act = None

    @rule()
    def days_pass(self) -> None:
        """Three days: long enough for a key to come back, to be missed again, to retire, and to leave."""
        taken("three days pass")
        for count in range(4):
            self.fleet.now += 18 * HOUR
            self.one_pass(count % 2)

    # --------------------------------------------------------------------- stories that chance alone seldom tells

    @rule(before=key_sets, after=key_sets)
    def mirrors_that_did_not_hear_of_each_other(self, before: list[str], after: list[str]) -> None:
        taken("story: mirrors that did not hear of each other")
        self.set_remote(down=True)
        self.all_replicas_show(before)
        self.one_pass(0)
        self.all_replicas_show(after)
        self.one_pass(1)
        self.settle()

    @precondition(lambda self: len(self.may_leave) < FEW)
    @rule(place=places)
    def stolen_key_comes_back_under_another_kid(self, place: str) -> None:
        taken("story: a stolen key comes back under another kid")
        self.set_remote(down=False)
        self.set_refused(refused=False)
        self.all_replicas_show(["a", "b"])
        self.one_pass(0)
        self.revoke(place, "a")
        self.one_pass(1)
        self.all_replicas_show(["a2", "b"])
        self.settle()

    @precondition(lambda self: len(self.may_leave) < FEW)
    @rule(chance=picks)
    def revoked_key_is_wanted_back(self, chance: Random) -> None:
        """A key is public, then revoked (sometimes after it left the set); then the state before that is pushed."""
        taken("story: somebody brings back the state before a revocation")
        self.set_remote(down=False)
        self.set_refused(refused=False)
        self.all_replicas_show(["a", "b"])
        for which in (0, 1):
            self.one_pass(which)
        if chance.random() < 0.5:
            self.all_replicas_show(["a"])
            self.days_pass()
        before = self.fleet.head()
        self.revoke("mirror 0", "b")
        self.one_pass(0)
        if self.attackers in ("pusher", "both"):
            self.push(chance.choice(["rewinds", "replays"]), before, chance)
        self.all_replicas_show(["a", "b"])
        self.pass_of(chance.choice(PASSES))
        self.settle()

    @rule()
    def settle(self) -> None:
        """With the remote, good replicas and nobody in the way a few rounds are enough; a further one is quiet."""
        taken("everything settles")
        self.set_remote(down=False)
        self.set_refused(refused=False)
        for each in self.replicas:
            each.mood = "good"
            each.keys = tuple(key for key in each.keys if key != RIVAL) if not each.is_believed else each.keys
        for _ in range(3):
            self.fleet.now += AUDIT
            self.round()
        self.round()
        before = self.fleet.commits(), self.fleet.puts(), self.fleet.head()
        ended = self.round()
        after = self.fleet.commits(), self.fleet.puts(), self.fleet.head()
        self.expect(before == after, f"a quiet round made {after[0] - before[0]} commits, {after[1] - before[1]} puts")
        for who, done in ended.items():
            good = {1} if who == BLIND else {0, 3}
            self.expect(done.status in good, f"{who} is stuck: exit {done.status}, {sorted(done.names)} {done.error}")
        self.judge_rest()

    def round(self) -> dict[object, Ended]:
        ended: dict[object, Ended] = {}
        for which, mirror in enumerate(self.mirrors):
            self.fleet.now += MINUTE
            ended[which] = self.run(mirror, ASKED[which])
        if self.has_pods:
            pod = self.new_mirror()
            pod.policy = self.mirrors[0].policy
            ended["pod"] = self.run(pod, ASKED[0])
            shutil.rmtree(pod.disk)
        return ended

    def judge_rest(self) -> None:
        """Heads are one, no commit of a kept disk is lost, git and bucket say the same, and that is signed."""
        head = self.fleet.head()
        self.expect({mirror.head() for mirror in self.mirrors} == {head}, "the heads differ")
        lost = {commit for commit in set[str]().union(*self.commits) if not contains(self.fleet.remote, commit)}
        # After a rewind a pod may make the same tree again, by another commit: then ours says no more than that.
        self.expect(not lost or self.was_rewound, f"commits were lost: {sorted(lost)}")
        public = {
            (Kid(each["kid"]), Thumbprint(each["thumbprint"]))
            for each in self.records()
            if each["status"] in ("published", "retiring")
        }
        stored = self.fleet.bucket.objects.get(ObjectKey(JWKS_KEY))
        found = {(key.kid, key.thumbprint) for key in keys_of(stored.body if stored is not None else b"")}
        held = any(each["status"] == "revoked" for each in self.records()) and not public
        self.expect(found == public or held, f"the bucket has {told(found)}, the ledger {told(public)}")
        signers = (MIRROR, OPERATOR)
        is_signed = any(signed_by(self.fleet.remote, signer) is not None for signer in signers)
        self.expect(is_signed or not self.is_signed, "the ledger is not signed in the end")
        shown = {key_id(key) for replica in self.replicas for key in replica.keys}
        if not self.remote_down and self.kind != "open":
            statuses = {(each["kid"], each["thumbprint"]): each["status"] for each in self.records()}
            may_miss = {i for i in shown if i[1] in self.may_leave or statuses.get(i) == "held"}
            missing = shown - found - may_miss
            self.expect(not missing, f"shown keys are not public in the end: {told(missing)}")

    # ------------------------------------------------------------------------------------------------- verdicts

    @invariant()
    def nothing_was_violated(self) -> None:
        assert self.violations == [], self.violations

    def expect(self, holds: bool, what: str) -> None:
        # Collected: what a pool of threads raises, the pass reports as a defect of one issuer.
        if not holds:
            self.violations.append(what)

    def judge_put(self, before: StoredObject | None, put: PublicObject) -> None:
        """What may become public, and what may leave."""
        if put.key != JWKS_KEY or self.kind == "open":
            return
        new = identities(keys_of(put.body))
        self.expect(bool(new), "the public set became empty")
        self.expect(new <= self.allowed, f"keys are public that nobody may have published: {told(new - self.allowed)}")
        gone = self.meant - new
        # Taking a revoked key away never waits: without the remote it takes along what only another mirror knows.
        is_urgent = self.remote_down and any(identity[1] in self.may_leave for identity in gone)
        for identity in gone:
            if identity[1] not in self.may_leave and identity not in RIVALS and not is_urgent:
                self.judge_removal(identity)
        self.meant = new

    def judge_removal(self, identity: KeyId) -> None:
        since, name = self.last_shown.get(identity), NAMES[identity]
        enough = since is None or since + RETAIN <= self.fleet.now
        self.expect(enough, f"{name} left before its time: last shown at {since}, now {self.fleet.now}")
        self.expect(not self.remote_down, f"{name} left while the remote was down")
        mirror = self.running[-1]
        shown = {key_id(key) for key in self.shown_to(mirror)}
        self.expect(identity not in shown, f"{name} left although an apiserver shows it")

    def judge_pass(self, ended: Ended, mirror: GitMirror, revoked: AbstractSet[Thumbprint]) -> None:
        """After a whole pass that could do all its work, every believed key is public unless it may not be."""
        report = ended.report
        (issuer,) = report.issuers if report is not None and report.issuers else (None,)
        if report is None or issuer is None or self.kind == "open":
            return
        defects = [each.sentence for each in issuer.failures if each.code == "broken"]
        self.expect(not defects, f"defects: {defects}")
        believed = all(replica.is_believed for replica in self.asked_by(mirror))
        dropped_now = [c.key for c in issuer.changes if c.status is Status.DROPPED]
        self.expect(believed or not dropped_now, "a key was dropped while a replica was not heard")
        if self.remote_down or mirror.bucket_down or report.failures:
            return
        stored = self.fleet.bucket.objects.get(ObjectKey(JWKS_KEY))
        public = identities(keys_of(stored.body if stored is not None else b""))
        guilty = {identity for identity in public if identity[1] in revoked}
        self.expect(not guilty or guilty == public, f"revoked keys are public after a pass: {told(guilty)}")
        if issuer.failures or not all(each.effect in (Effect.UNCHANGED, Effect.PUT) for each in issuer.objects):
            return
        self.judge_shown(issuer, mirror, public)
        if report.unpushed_commits == 0:
            self.revoked |= {each.key.thumbprint for each in issuer.records if each.status is Status.REVOKED}
            for key in self.shown_to(mirror):
                self.last_shown[key_id(key)] = self.fleet.now

    def judge_shown(self, issuer: IssuerReport, mirror: GitMirror, public: AbstractSet[KeyId]) -> None:
        statuses = {(each.key.kid, each.key.thumbprint): each.status for each in issuer.records}
        missing = {
            identity
            for identity in identities(self.shown_to(mirror)) - public
            if statuses.get(identity) not in (Status.HELD, Status.REVOKED) and identity[1] not in self.may_leave
        }
        self.expect(not missing, f"keys that are shown are not public: {told(missing)}")
        held = {identity for identity, status in statuses.items() if status is Status.HELD}
        self.expect(not held & public, f"held keys are public: {told(held & public)}")

    # -------------------------------------------------------------------------------------------------- helpers

    def asked_by(self, mirror: GitMirror) -> tuple[Replica, ...]:
        which = next((at for at, each in enumerate(self.mirrors) if each is mirror), 0)
        return tuple(self.replicas[at] for at in ASKED[which])

    def shown_to(self, mirror: GitMirror) -> tuple[Key, ...]:
        return tuple(key for replica in self.asked_by(mirror) if replica.is_believed for key in replica.keys)

    def run(self, mirror: GitMirror, asked: tuple[int, int]) -> Ended:
        if any(each is mirror for each in self.running):
            return Ended(0, frozenset())
        answers = (self.replicas[at].answer(url) for at, url in zip(asked, REPLICAS, strict=True))
        mirror.source.answers = {NAME: tuple(answers)}
        if (mirror.policy or self.fleet.policy).new_keys == "publish":
            self.allowed |= identities(self.shown_to(mirror))
        revoked = set(self.revoked)
        self.running.append(mirror)
        ended = mirror.run(after=timedelta(0))
        self.running.pop()
        self.judge_pass(ended, mirror, revoked)
        for which, each in enumerate(self.mirrors):
            head = each.head() if each is mirror and not self.remote_down else ""
            if head and contains(self.fleet.remote, head):
                self.commits[which].add(head)
        if not self.remote_down and (head := git(self.fleet.remote, "for-each-ref", "--format=%(objectname)")):
            self.heads.append(head)
        return ended


def _with(records: list[Record], *more: Record) -> list[Record]:
    found = {(each["kid"], each["thumbprint"]): each for each in (*records, *more)}
    return list(found.values())


def _edited(kind: str, records: list[Record], chance: Random) -> list[Record]:
    """What a pusher makes of the records."""
    chosen = chance.choice(records) if records else record(EVIL)
    others = [each for each in records if each is not chosen]
    when = "2026-11-01T08:00:00Z"
    if kind == "adds":
        return _with(records, record(EVIL))
    if kind == "adds-held":
        return _with(records, record(with_kid(EVIL, POOL[0].thumbprint[:8]), "held", held_because="policy"))
    if kind == "drops":
        return [*others, dropped(chosen["kid"], chosen["thumbprint"], 99)]
    if kind == "demotes":
        plain = {name: chosen[name] for name in ("kid", "thumbprint", "first_seen", "key") if name in chosen}
        return [*others, {**plain, "status": "retiring", "generation": 99, "missing_since": when}]
    if kind == "ages":
        return [{**each, "first_seen": "2000-01-01T00:00:00Z", "generation": 2**53} for each in records]
    return [*records, *records]


def _die() -> None:
    raise Killed


SEARCHES = scale().everything
HISTORIES = scale().histories
STEPS = 12 if SEARCHES else 6
RULES = 40
"""How many rules and kinds there are at least; a long run takes each of them."""

SETTINGS = settings(
    max_examples=HISTORIES,
    stateful_step_count=STEPS,
    derandomize=not SEARCHES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink] if SEARCHES else [Phase.generate],
)


@pytest.mark.timeout(600)  # two busy cores
def test_contract_holds_in_random_histories() -> None:
    """None is stuck, no revocation is lost, no key comes from nowhere, no shown key leaves, and then all is quiet."""
    TAKEN.clear()
    run_state_machine_as_test(Contract, settings=SETTINGS)
    print("\n".join(f"{count:6} {what}" for what, count in sorted(TAKEN.items())))
    expected = {f"push: {kind}" for kind in PUSHES} | {f"bucket: {kind}" for kind in WRITES}
    if HISTORIES >= 100:
        assert not {what for what in expected if not TAKEN[what]}
        assert len(TAKEN) >= RULES
    tally("histories", "real git", histories=HISTORIES)
