"""Checks the specification in random histories of mirrors with real git, one remote and one bucket, under many faults.

Replicas rotate keys, disappear, lie, and alternate between key sets. Three mirrors poll different replicas under
different policies, and one of them cannot reach the bucket. Pods start with empty disks. Operators approve and revoke,
from a mirror's machine and from a laptop. The remote is unreachable or refuses pushes. Mirrors die between any two
steps, and others act in the middle of a pass. An attacker writes to the bucket, or pushes without a key. The
invariants are checked at every put, after every pass, and at the end, when nothing changes any more.

A history is of one kind:
    signed    ledgers are signed. An attacker pushes, or writes to the bucket, or does both. With both, no disk is
              ever empty, because a pod could not detect that the branch was reset (SECURITY.md)
    trusted   the remote is trusted; no attacker pushes, another writer writes to the bucket
    open      the remote is trusted, and an attacker pushes: the pushed state is published, but nothing gets stuck

A number is the seed of each history. Choices are drawn from it with equal weights. Hypothesis does not do that: in
fifty of its histories no file was deleted and no signature damaged. The suite runs a few histories, the same ones
on every machine. `make torture ARGS="--only histories --histories 300 --seed 1000"` runs that many others, and removes
unnecessary steps from a failing one. `-s` prints how often each event happened; a long run fails if one never did.
"""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest

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
from support.fleets import MIRROR, OPERATOR, REPLICAS, UNLISTED_SIGNER, Ended, Fleet, GitMirror, Killed
from support.gits import git
from support.keys import EC_KEYS, RSA_KEYS, with_kid
from support.pushers import PUSHER, SIGNATURE, Record, blob, contains, dropped, record, signed_by
from support.situations import DISCOVERY_KEY, ISSUER, JWKS_KEY, LEDGER, NAME, silent
from torture.scale import scale

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
RETAIN = timedelta(hours=24)
AUDIT = timedelta(minutes=61)
SECOND_KID = with_kid(RSA_KEYS[0], "another name of the first key")
SAME_KID = with_kid(RSA_KEYS[3], RSA_KEYS[1].kid)
EVIL = with_kid(RSA_KEYS[4], "evil")
SHOWN: dict[str, Key] = {
    "a": RSA_KEYS[0],
    "b": RSA_KEYS[1],
    "c": RSA_KEYS[2],
    "e": EC_KEYS[0],
    "a2": SECOND_KID,
    "b2": SAME_KID,
}
"""Four keys, one of them also under a second kid, and a fifth key with the kid of another one."""
POOL = (*SHOWN.values(), EVIL)
NAMES = {key_id(key): name for name, key in (*SHOWN.items(), ("EVIL", EVIL))}
BY_MEMBERS = {json.dumps(key.members(), sort_keys=True): key for key in POOL}
KEYS_WITH_SAME_KID = {key_id(RSA_KEYS[1]), key_id(SAME_KID)}
FEW = 2
"""The most keys that one history revokes: if all were revoked, nothing else would happen."""

UNLISTED_KEY = "signs-with-an-unlisted-key"
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
    UNLISTED_KEY,
)
"""What an attacker without a key pushes."""
PASSES = ("nobody", "mirror 0", "mirror 1", "mirror 2", "pod")
"""Which mirror makes a pass after an attack."""
WRITES = ("garbage", "delete", "oversized", "replay", "steals-the-snapshot")
"""What another writer does to the public JWKS."""
MOODS = ("one shows", "all show", "silent", "lying", "good")
"""What apiservers do. "lying": the answer is invalid."""
CHANGES = (
    "the remote goes away",
    "the remote is back",
    "pushes are refused",
    "pushes are taken",
    "a mirror's policy is hold",
    "a mirror's policy is publish",
    "a mirror requires pushes",
    "a mirror requires no pushes",
    "a mirror's configuration revokes",
    "a mirror's clock is 25 hours ahead",
    "a disk is lost",
)
"""Other changes in the mirrors' environment."""
KINDS = ("signed, both", "open, both", "signed, pusher", "signed, writer", "trusted, writer")
"""The kinds of histories, by their number: the mode of the repository, and what attackers do."""
PLACES = ("mirror 0", "mirror 1", "laptop")
"""Where operators work."""
MEANWHILE = ("another mirror", "an operator", "an attacker")
"""Who acts in the middle of a pass."""
AHEAD = timedelta(hours=25)
WRITES_OF_BOTH, APPROVALS = 0.3, 0.8
"""Probabilities: an attacker who can do both writes to the bucket; an operator approves a held key."""
STORIES = (
    "a key waits for an operator",
    "a stolen key comes back under another kid",
    "mirrors that did not hear of each other",
    "a pusher brings back the state before a revocation",
)
EVERYTHING = frozenset(
    {
        *(f"history: {each}" for each in KINDS),
        *(f"replicas: {each}" for each in MOODS),
        *CHANGES,
        *(f"push: {each}" for each in PUSHES),
        *(f"bucket: {each}" for each in WRITES),
        *(f"{command} on {place}" for command in ("approve", "revoke") for place in PLACES),
        *(f"in the middle of a pass: {each}" for each in MEANWHILE),
        *(f"story: {each}" for each in STORIES),
        *("a pass", "a pass without the bucket", "a pod's pass", "a pod dies", "a mirror dies"),
        *("hours pass", "three days pass", "everything settles"),
    }
)
"""All events that can happen in a history."""
HAPPENED: Counter[str] = Counter()
"""How often each event happened, over all histories of the process."""


def keys_of(body: bytes) -> tuple[Key, ...]:
    """The keys of a public JWKS; none if it is invalid or has another key than those of `POOL`."""
    try:
        return tuple(BY_MEMBERS[json.dumps(members, sort_keys=True)] for members in json.loads(body)["keys"])
    except (ValueError, KeyError, TypeError):
        return ()


def identities(keys: Iterable[Key]) -> set[KeyId]:
    return {key_id(key) for key in keys}


def named(names: Iterable[str]) -> tuple[Key, ...]:
    return tuple(SHOWN[name] for name in names)


def reported(found: AbstractSet[KeyId]) -> str:
    """The short names of these keys."""
    return ", ".join(sorted(NAMES.get(identity, identity[0]) for identity in found))


@dataclass
class Interruption:
    """Calls `act` once, at the n-th access to git, the remote or the bucket."""

    countdown: int = 0
    act: Callable[[], object] | None = None

    def step(self, *_: object) -> None:
        self.countdown -= 1
        if self.act is not None and self.countdown < 0:
            act, self.act = self.act, None
            act()


@dataclass
class Replica:
    """One apiserver: its keys, and whether its answers are valid."""

    keys: tuple[Key, ...]
    mood: str = "good"

    @property
    def is_believed(self) -> bool:
        kids = [key.kid for key in self.keys]
        return self.mood == "good" and len(kids) == len(set(kids))

    def answer(self, url: str, now: datetime) -> Answer | Unusable:
        if self.mood == "silent":
            return silent(url)
        made = documents(ISSUER, self.keys)
        if self.mood == "lying":
            return Answer(url, made.discovery, made.jwks.replace(b'"use":"sig"', b'"use":"enc"'), now)
        return Answer(url, made.discovery, made.jwks, now)


RULES = {
    "replicas_change": 4,
    "time_passes": 2,
    "surroundings_change": 4,
    "attacker_acts": 4,
    "operator_decides": 2,
    "mirror_passes": 3,
    "mirror_dies": 2,
    "something_happens_in_the_middle": 3,
    "days_pass": 1,
    "disconnected_mirrors": 1,
    "stolen_key_comes_back_under_another_kid": 1,
    "revoked_key_is_wanted_back": 1,
    "key_waits_for_an_operator": 2,
    "settle": 1,
}
"""The methods of `Contract` that are steps of a history, with their weights."""
MIRRORS, MOMENTS = range(3), 21
"""The mirrors with a kept disk, and how many points of a pass an event can happen at."""
ASKED = ((0, 1), (1, 2), (0, 2))
"""Which replicas each mirror polls."""
WITHOUT_BUCKET = 2
"""The mirror that cannot reach the bucket."""


class Contract:
    """The mirrors and their environment, and a model that tracks only what the invariants need."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self.chance = self.chance_of("begin")
        self.trace: list[str] = []
        self.interruption = Interruption()
        self.violations: list[str] = []
        self.kind, self.attackers = "trusted", "nobody"
        self.fleet = Fleet(folder, policy=KeyPolicy(retain_removed=RETAIN, kid="opaque"))
        self.fleet.landed = self.judge_put
        self.replicas = [Replica(POOL[:1]) for _ in range(3)]
        self.mirrors: list[GitMirror] = []
        self.running: list[GitMirror] = []
        """The mirrors in the middle of a pass, the innermost last."""
        self.remote_down = self.refused = self.was_rewound = False
        self.commits: tuple[set[str], ...] = (set(), set(), set())
        """For each kept disk, the commits that were its head and were pushed.

        Unpushed commits may be dropped: if a merge equals the remote's head, the branch moves there.
        """
        self.heads: list[str] = []
        """Earlier heads of the remote's branch, which an attacker can restore."""
        self.allowed: set[KeyId] = set()
        """Keys that may be public: a mirror with the policy `publish` saw them, or an operator approved them."""
        self.meant: set[KeyId] = set()
        """The keys of the last put of a mirror."""
        self.last_shown: dict[KeyId, datetime] = {}
        """When a mirror whose commits were pushed last saw the key at an apiserver."""
        self.writes = 0
        """The number of other writers' writes to the bucket."""
        self.pushed: set[KeyId] = set()
        """The public keys of the remote's ledger after the last pass."""
        self.may_leave: set[Thumbprint] = set()
        """Key material that an operator has revoked."""
        self.revoked: set[Thumbprint] = set()
        """Key material that was revoked and pushed in a complete pass of a mirror with the bucket."""

    def chance_of(self, what: object) -> Random:
        """A generator that depends only on the seed and `what`, so it stays the same if other steps are removed."""
        return Random(f"{self.number} {what}")  # noqa: S311  not a secret

    def happens(self, what: str) -> None:
        assert what in EVERYTHING, what
        HAPPENED[what] += 1
        self.trace.append(what)

    @property
    def is_signed(self) -> bool:
        return self.kind == "signed"

    @property
    def has_pods(self) -> bool:
        return not (self.is_signed and self.attackers == "both")

    @property
    def may_push(self) -> bool:
        """Whether an attacker can push now."""
        return self.attackers in ("pusher", "both") and not self.remote_down and bool(self.heads)

    @property
    def may_write(self) -> bool:
        """Whether another writer can write to the bucket."""
        return self.attackers in ("writer", "both")

    def step(self, at: int) -> None:
        """Run one random step of the history."""
        self.chance = self.chance_of(at)
        rules = [rule for rule, weight in RULES.items() for _ in range(weight)]
        getattr(self, self.chance.choice(rules))()

    # ---------------------------------------------------------------------------------------------- the setup

    def begin(self) -> None:
        """Create three mirrors, and run a pass of each."""
        kind = KINDS[self.number % len(KINDS)]
        self.happens(f"history: {kind}")
        self.kind, self.attackers = kind.split(", ")
        self.fleet.signed = self.is_signed
        self.all_replicas_show(self.chance.sample(sorted(SHOWN.keys() - {"b2"}), 2))
        self.mirrors = [self.new_mirror() for _ in range(3)]
        self.mirrors[WITHOUT_BUCKET].bucket_down = True
        for which in range(3):
            self.one_pass(which)

    def new_mirror(self) -> GitMirror:
        return self.fleet.mirror(
            source=FakeSource(),
            allowed=(OPERATOR,) if self.is_signed else (),
            before=self.interruption.step,
            after=self.interruption.step,
            before_put=self.interruption.step,
        )

    def replicas_change(self) -> None:
        mood, one = self.chance.choice(MOODS), self.chance.choice(self.replicas)
        self.happens(f"replicas: {mood}")
        if mood == "all show":
            self.all_replicas_show(self.some_keys())
        elif mood == "one shows":
            one.keys, one.mood = named(self.some_keys()), "good"
        else:
            one.mood = mood

    def some_keys(self) -> list[str]:
        return self.chance.sample(sorted(SHOWN), self.chance.choice([1, 2, 2, 3, 4]))

    def all_replicas_show(self, keys: list[str]) -> None:
        for each in self.replicas:
            each.keys, each.mood = named(keys), "good"

    def time_passes(self) -> None:
        self.happens("hours pass")
        self.fleet.now += self.chance.choice([1, 6, 23, 24, 25, 48]) * HOUR

    def surroundings_change(self) -> None:
        for _ in range(self.chance.choice([1, 2])):
            self.change(self.chance.choice(CHANGES), self.chance.choice(MIRRORS))

    def change(self, what: str, which: int) -> None:
        mirror = self.mirrors[which]
        policy = mirror.policy or self.fleet.policy
        if what.startswith("the remote"):
            self.set_remote(down="away" in what)
        elif what.startswith("pushes") and not self.remote_down:
            self.set_refused(refused="refused" in what)
        elif "policy" in what:
            mirror.policy = replace(policy, new_keys="hold" if "hold" in what else "publish")
        elif "requires" in what:
            mirror.require_push = what == "a mirror requires pushes"
        elif "revokes" in what and len(self.may_leave) < FEW:
            stolen = SHOWN[self.chance.choice(sorted(SHOWN))].thumbprint
            self.may_leave.add(stolen)
            mirror.policy = replace(policy, revoked=policy.revoked | {stolen})
        elif "clock" in what:
            mirror.clock_ahead = AHEAD
        elif "disk" in what and self.has_pods:
            self.commits[which].clear()
            mirror.empty_disk()
        else:
            return
        self.happens(what)

    def set_remote(self, *, down: bool) -> None:
        if down != self.remote_down:
            (self.fleet.away if down else self.fleet.back)()
            self.remote_down = down

    def set_refused(self, *, refused: bool) -> None:
        hook = self.fleet.remote / "hooks" / "pre-receive"
        hook.write_text(f'#!/bin/sh\n[ -n "${PUSHER}" ] || {{ echo no >&2; exit 1; }}\n' if refused else "#!/bin/sh\n")
        hook.chmod(0o755)
        self.refused = refused

    # ------------------------------------------------------------------------------------------- the attackers

    def attacker_acts(self) -> None:
        for _ in range(self.chance.choice([1, 2, 3])):
            self.attack()
            self.pass_of(self.chance.choice(PASSES))

    def attack(self) -> None:
        """One push or write of the attacker."""
        if self.may_push and not (self.may_write and self.chance.random() < WRITES_OF_BOTH):
            self.push(self.chance.choice(PUSHES), self.chance.choice(self.heads))
        elif self.may_write:
            self.write(self.chance.choice(WRITES))

    def write(self, kind: str) -> None:
        self.happens(f"bucket: {kind}")
        self.writes += 1
        bucket, key = self.fleet.bucket, ObjectKey(JWKS_KEY)
        snapshot = bucket.objects[key].snapshot if key in bucket.objects else None
        if kind == "delete":
            bucket.objects.pop(key, None)
            if self.chance.random() < 0.5:
                bucket.objects.pop(ObjectKey(DISCOVERY_KEY), None)
        elif kind == "replay":
            bucket.write(JWKS_KEY, self.earlier_public())
        elif kind == "steals-the-snapshot":
            body = documents(ISSUER, (POOL[0], EVIL)).jwks
            bucket.write(JWKS_KEY, body, "application/jwk-set+json", "public, max-age=300", snapshot)
        else:
            bucket.write(JWKS_KEY, b"garbage" if kind == "garbage" else b" " * 3_000_000)

    def earlier_public(self) -> bytes:
        path = f"public/oidc-bucket.s3-ap-southeast-2.amazonaws.com/{JWKS_KEY}"
        found = blob(self.mirrors[0].disk / "snapshots.git", path, at=self.chance.choice(self.heads))
        return found or b"garbage"

    def pass_of(self, who: str) -> None:
        """A pass of that mirror; "nobody" makes none."""
        if who == "pod" and self.has_pods:
            self.pod_passes()
        elif who.startswith("mirror"):
            self.one_pass(int(who[-1]))

    def push(self, kind: str, old: str) -> None:
        if kind == UNLISTED_KEY and self.kind == "open":
            return  # mirrors without a signing key stop at a signed ledger: `repository.signed` (SECURITY.md)
        self.happens(f"push: {kind}")
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
            pusher.delete(LEDGER, *([SIGNATURE] if self.chance.random() < 0.5 else []))
        elif kind == "damages":
            pusher.write(LEDGER, b"garbage %d" % self.chance.randrange(9))
        elif kind == "damages-signature":
            pusher.write(SIGNATURE, b"garbage..%d\n" % self.chance.randrange(9))
        elif kind == "signs-for-another-repository":
            pusher.write_records(_with(records, record(EVIL)), signer=MIRROR, repository="another")
        elif kind == UNLISTED_KEY:
            pusher.write_records(_with(records, record(EVIL)), signer=UNLISTED_SIGNER)
        else:
            pusher.write_records(_edited(kind, records, self.chance))
        if pusher.push() != head:
            self.heads.append(head)

    # ------------------------------------------------------------------------------------------- the operators

    def operator_decides(self) -> None:
        """An operator approves a held key or revokes a key."""
        held = [each for each in self.records() if each["status"] == "held" and each["thumbprint"] != EVIL.thumbprint]
        place = self.chance.choice(PLACES)
        if held and self.chance.random() < APPROVALS:
            self.approve(place, self.chance.choice(held))
        else:
            self.revoke(place, self.chance.choice(sorted(SHOWN)))

    def approve(self, place: str, held: Record) -> None:
        self.happens(f"approve on {place}")
        # Recorded first: the key may become public during the command, or later if the push fails.
        self.allowed.add((Kid(held["kid"]), Thumbprint(held["thumbprint"])))
        self.decide(place, "approve", held["thumbprint"])

    def revoke(self, place: str, name: str) -> None:
        chosen = SHOWN[name].thumbprint
        if len(self.may_leave) < FEW:
            self.happens(f"revoke on {place}")
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

    def identities_of(self, *statuses: str) -> set[KeyId]:
        """The keys of the remote's ledger with one of these statuses."""
        found = (each for each in self.records() if each.get("status") in statuses)
        return {(Kid(each["kid"]), Thumbprint(each["thumbprint"])) for each in found}

    def records(self) -> list[Record]:
        """The records of the remote's ledger, which any writer may have written."""
        try:
            found = json.loads(blob(self.fleet.remote, LEDGER) or b"")["keys"]
        except (ValueError, KeyError, TypeError):
            return []
        return [each for each in found if isinstance(each, dict)]

    # ---------------------------------------------------------------------------------------------- the passes

    def mirror_passes(self) -> None:
        self.one_pass(self.chance.choice(MIRRORS))

    def one_pass(self, which: int) -> None:
        self.happens("a pass without the bucket" if which == WITHOUT_BUCKET else "a pass")
        self.run(self.mirrors[which], ASKED[which])

    def pod_passes(self) -> None:
        self.happens("a pod's pass")
        with self.pod() as pod:
            self.run(pod, ASKED[0])

    @contextmanager
    def pod(self) -> Iterator[GitMirror]:
        """A mirror with an empty disk and the first mirror's configuration."""
        pod = self.new_mirror()
        pod.policy = self.mirrors[0].policy
        yield pod
        shutil.rmtree(pod.disk)

    def mirror_dies(self) -> None:
        at, which = self.chance.randrange(MOMENTS), self.chance.choice(MIRRORS)
        if self.has_pods and self.chance.random() < 0.5:
            self.happens("a pod dies")
            with self.pod() as pod:
                self.die(pod, ASKED[0], at)
        else:
            self.happens("a mirror dies")
            self.die(self.mirrors[which], ASKED[which], at)

    def die(self, mirror: GitMirror, asked: tuple[int, int], at: int) -> None:
        self.interruption.countdown, self.interruption.act = at, _die
        try:
            self.run(mirror, asked)
        except Killed:
            self.running.clear()
        finally:
            self.interruption.act = None

    def something_happens_in_the_middle(self) -> None:
        which, who = self.chance.choice(MIRRORS), self.chance.choice(MEANWHILE)
        other = self.chance.choice([each for each in MIRRORS if each != which])
        acts: dict[str, Callable[[], object]] = {
            "another mirror": lambda: self.run(self.mirrors[other], ASKED[other]),
            "an operator": self.operator_decides,
            "an attacker": self.attack,
        }

        def meanwhile() -> None:
            self.happens(f"in the middle of a pass: {who}")
            acts[who]()

        self.interruption.countdown, self.interruption.act = self.chance.randrange(MOMENTS), meanwhile
        try:
            self.run(self.mirrors[which], ASKED[which])
        finally:
            self.interruption.act = None

    def days_pass(self) -> None:
        """Three days: enough for a key to return, to be missing again, to retire, and to be dropped."""
        self.happens("three days pass")
        for count in range(4):
            self.fleet.now += 18 * HOUR
            self.one_pass(count % 2)

    # ------------------------------------------------------------------ sequences that are rare by chance alone

    def disconnected_mirrors(self) -> None:
        self.happens("story: mirrors that did not hear of each other")
        self.set_remote(down=True)
        self.all_replicas_show(self.some_keys())
        self.one_pass(0)
        self.all_replicas_show(self.some_keys())
        self.one_pass(1)
        self.set_remote(down=False)

    def key_waits_for_an_operator(self) -> None:
        self.happens("story: a key waits for an operator")
        self.set_remote(down=False)
        self.set_refused(refused=False)
        for mirror in self.mirrors:
            mirror.policy = replace(mirror.policy or self.fleet.policy, new_keys="hold")
        self.all_replicas_show(sorted(SHOWN.keys() - {"a2", "b2"}))
        for which in (0, 1):
            self.one_pass(which)
        self.operator_decides()
        self.pass_of(self.chance.choice(PASSES))

    def stolen_key_comes_back_under_another_kid(self) -> None:
        if len(self.may_leave) >= FEW:
            return
        self.happens("story: a stolen key comes back under another kid")
        self.set_remote(down=False)
        self.set_refused(refused=False)
        self.all_replicas_show(["a", "b"])
        self.one_pass(0)
        self.revoke(self.chance.choice(PLACES), "a")
        self.one_pass(1)
        self.all_replicas_show(["a2", "b"])
        self.one_pass(0)

    def revoked_key_is_wanted_back(self) -> None:
        """A key is revoked, sometimes after it was dropped; then an attacker pushes the state before the revocation."""
        if len(self.may_leave) >= FEW:
            return
        self.happens("story: a pusher brings back the state before a revocation")
        self.set_remote(down=False)
        self.set_refused(refused=False)
        self.all_replicas_show(["a", "b"])
        for which in (0, 1):
            self.one_pass(which)
        if self.chance.random() < 0.5:
            self.all_replicas_show(["a"])
            self.days_pass()
        before = self.fleet.head()
        self.revoke("mirror 0", "b")
        self.one_pass(0)
        if self.may_push:
            self.push(self.chance.choice(["rewinds", "replays"]), before)
        self.all_replicas_show(["a", "b"])
        self.pass_of(self.chance.choice(PASSES))

    def settle(self) -> None:
        """Without faults and attacks a few rounds of passes suffice; one more round changes nothing."""
        self.happens("everything settles")
        self.set_remote(down=False)
        self.set_refused(refused=False)
        for each in self.replicas:
            each.mood = "good"
            each.keys = tuple(key for key in each.keys if key != SAME_KID) if not each.is_believed else each.keys
        for mirror in self.mirrors:
            mirror.clock_ahead = timedelta(0)
        for _ in range(3):
            self.fleet.now += AUDIT
            self.round()
        self.round()
        before = self.fleet.commits(), self.fleet.puts(), self.fleet.head()
        ended = self.round()
        after = self.fleet.commits(), self.fleet.puts(), self.fleet.head()
        self.expect(before == after, f"a quiet round made {after[0] - before[0]} commits, {after[1] - before[1]} puts")
        for who, done in ended.items():
            good = {1} if who == WITHOUT_BUCKET else {0, 3}
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
        """All heads are equal, no pushed commit is lost, git and bucket agree; in signed mode the ledger is signed."""
        head = self.fleet.head()
        self.expect({mirror.head() for mirror in self.mirrors} == {head}, "the heads differ")
        lost = {commit for commit in set[str]().union(*self.commits) if not contains(self.fleet.remote, commit)}
        # After a reset of the branch a pod may commit the same tree again; then our commit has nothing more.
        self.expect(not lost or self.was_rewound, f"commits were lost: {sorted(lost)}")
        public = self.identities_of("published", "retiring")
        stored = self.fleet.bucket.objects.get(ObjectKey(JWKS_KEY))
        found = {(key.kid, key.thumbprint) for key in keys_of(stored.body if stored is not None else b"")}
        held = any(each["status"] == "revoked" for each in self.records()) and not public
        self.expect(found == public or held, f"the bucket has {reported(found)}, the ledger {reported(public)}")
        signers = (MIRROR, OPERATOR)
        is_signed = any(signed_by(self.fleet.remote, signer) is not None for signer in signers)
        self.expect(is_signed or not self.is_signed, "the ledger is not signed in the end")
        shown = {key_id(key) for replica in self.replicas for key in replica.keys}
        if not self.remote_down and self.kind != "open":
            statuses = {(each["kid"], each["thumbprint"]): each["status"] for each in self.records()}
            may_miss = {i for i in shown if i[1] in self.may_leave or statuses.get(i) == "held"}
            missing = shown - found - may_miss
            self.expect(not missing, f"shown keys are not public in the end: {reported(missing)}")

    # --------------------------------------------------------------------------------------------------- checks

    def expect(self, holds: bool, what: str) -> None:
        # Collected instead of raised: a pass reports an exception in its threads as a defect of one issuer.
        if not holds:
            self.violations.append(what)

    def judge_put(self, before: StoredObject | None, put: PublicObject) -> None:
        """Check which keys a put publishes and removes."""
        if put.key != JWKS_KEY or self.kind == "open":
            return
        new = identities(keys_of(put.body))
        self.expect(bool(new), "the public set became empty")
        self.expect(
            new <= self.allowed, f"keys are public that nobody may have published: {reported(new - self.allowed)}"
        )
        gone = self.meant - new
        # Removing a revoked key does not wait for the remote, so it may also remove keys that only another mirror has.
        is_urgent = self.remote_down and any(identity[1] in self.may_leave for identity in gone)
        for identity in gone:
            if identity[1] not in self.may_leave and identity not in KEYS_WITH_SAME_KID and not is_urgent:
                self.judge_removal(identity)
        self.meant = new

    def judge_removal(self, identity: KeyId) -> None:
        since, name = self.last_shown.get(identity), NAMES[identity]
        enough = since is None or since + RETAIN <= self.fleet.now
        self.expect(enough, f"{name} left before its time: last shown at {since}, now {self.fleet.now}")
        self.expect(not self.remote_down, f"{name} left while the remote was down")
        shown = {key_id(key) for key in self.shown_to(self.running[-1])}
        # A mirror publishes a key while the remote is unreachable; another mirror's policy may hold it.
        is_held = identity not in self.pushed and identity in self.identities_of("held")
        self.expect(identity not in shown or is_held, f"{name} left although an apiserver shows it")

    def judge_pass(self, ended: Ended, mirror: GitMirror, revoked: AbstractSet[Thumbprint]) -> None:
        """After a complete pass without faults, every accepted key is public unless it is held or revoked."""
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
        self.expect(not guilty or guilty == public, f"revoked keys are public after a pass: {reported(guilty)}")
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
        self.expect(not missing, f"keys that are shown are not public: {reported(missing)}")
        held = {identity for identity, status in statuses.items() if status is Status.HELD}
        self.expect(not held & public, f"held keys are public: {reported(held & public)}")

    # -------------------------------------------------------------------------------------------------- helpers

    def asked_by(self, mirror: GitMirror) -> tuple[Replica, ...]:
        which = next((at for at, each in enumerate(self.mirrors) if each is mirror), 0)
        return tuple(self.replicas[at] for at in ASKED[which])

    def shown_to(self, mirror: GitMirror) -> tuple[Key, ...]:
        return tuple(key for replica in self.asked_by(mirror) if replica.is_believed for key in replica.keys)

    def run(self, mirror: GitMirror, asked: tuple[int, int]) -> Ended:
        if any(each is mirror for each in self.running):
            return Ended(0, frozenset())
        answers = (self.replicas[at].answer(url, self.fleet.now) for at, url in zip(asked, REPLICAS, strict=True))
        mirror.source.answers = {NAME: tuple(answers)}
        if (mirror.policy or self.fleet.policy).new_keys == "publish":
            self.allowed |= identities(self.shown_to(mirror))
        revoked, writes = set(self.revoked), self.writes
        self.running.append(mirror)
        ended = mirror.run(after=timedelta(0))
        self.running.pop()
        if writes == self.writes:  # else another writer may have written after the pass read the bucket
            self.judge_pass(ended, mirror, revoked)
        for which, each in enumerate(self.mirrors):
            head = each.head() if each is mirror and not self.remote_down else ""
            if head and contains(self.fleet.remote, head):
                self.commits[which].add(head)
        if not self.remote_down and (head := git(self.fleet.remote, "for-each-ref", "--format=%(objectname)")):
            self.heads.append(head)
            self.pushed = self.identities_of("published", "retiring")
        return ended


def _with(records: list[Record], *more: Record) -> list[Record]:
    found = {(each["kid"], each["thumbprint"]): each for each in (*records, *more)}
    return list(found.values())


def _edited(kind: str, records: list[Record], chance: Random) -> list[Record]:
    """The records as an attacker changes them."""
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


FEW_HISTORIES, MANY_HISTORIES = 2, 100
"""The default number of histories, and the number from which each event must happen."""
HISTORIES = scale().histories
FIRST = scale().seed - 1
STEPS = range(12 if HISTORIES > FEW_HISTORIES else 6)


def live(number: int, steps: Iterable[int]) -> tuple[list[str], list[str]]:
    """Run a history up to its first violation. Returns the violations and the events."""
    shared_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared_memory if shared_memory.is_dir() else None) as folder:
        contract = Contract(Path(folder), number)
        contract.begin()
        for at in steps:
            if not contract.violations:
                contract.step(at)
        if not contract.violations:
            contract.settle()  # every history ends with this check
        return contract.violations, contract.trace


def shortened(number: int) -> tuple[int, ...]:
    """The steps of a failing history, without those that it also fails without."""
    steps = tuple(STEPS)
    for at in STEPS:
        fewer = tuple(each for each in steps if each != at)
        if live(number, fewer)[0]:
            steps = fewer
    return steps


@pytest.mark.timeout(600)  # two busy cores
@pytest.mark.parametrize("number", range(FIRST, FIRST + HISTORIES))
def test_contract_holds_in_random_histories(number: int) -> None:
    """No mirror is stuck, no revocation is lost, no unknown key is public, no shown key is removed, and it settles."""
    violations, trace = live(number, STEPS)
    if violations:
        steps = shortened(number)
        violations, trace = live(number, steps)
        pytest.fail(f"history {number}, steps {steps}: {violations}\n" + "\n".join(trace))


def test_everything_happens_in_many_histories() -> None:
    """Every kind of push, write, change and moment occurs, so the histories test what they claim."""
    print("\n".join(f"{HAPPENED[what]:6} {what}" for what in sorted(EVERYTHING)))
    assert HAPPENED.keys() == EVERYTHING or HISTORIES < MANY_HISTORIES
