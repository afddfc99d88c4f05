"""What somebody does to the git remote and the bucket, and what is public after the next pass: one test a row.

Git is signed or trusted (design, 4.4). In signed mode whoever pushes without a key changes nothing that is believed; in
trusted mode whoever may push is trusted. In both modes nothing that is pushed stops another key, another issuer, a
revocation, a retirement, a repair or a push. A and B are keys that apiservers show, R retires, V is revoked, K was
shown once, X and EVIL are nobody's. A disk is kept, or empty as that of a CronJob's pod.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror.model import ObjectKey
from support.apiserver import raw_answer
from support.fleets import (
    DAY,
    EC,
    EVIL,
    HOUR,
    MINUTE,
    MIRROR,
    OPERATOR,
    OTHER,
    POLICY,
    SECOND,
    SECOND_JWKS,
    SECOND_LEDGER,
    SECOND_URL,
    STRANGER,
    A,
    B,
    Ended,
    Fleet,
    GitMirror,
    K,
    Killed,
    R,
    V,
    X,
    kids,
    kill,
    once,
    public_bytes,
    public_kids,
)
from support.gits import bare, git
from support.keys import jwks_body, with_kid
from support.ledger_signers import canonical, signers_file
from support.pushers import SIGNATURE, Pusher, dropped, record, signed_by, statuses
from support.s3 import S3Server
from support.situations import DISCOVERY_KEY, ISSUER, JWKS_KEY, LEDGER, NAME
from support.stages import discovery_body
from support.worlds import World, running_world

GARBAGE_COMMITS = int(os.environ.get("OIDC_MIRROR_GARBAGE_COMMITS", "100000"))
IN_TIME_SECONDS = 30.0
HOLD = replace(POLICY, new_keys="hold")
REVOKES_V = replace(POLICY, revoked=frozenset({V.thumbprint}))

MODES = pytest.mark.parametrize("signed", [True, False], ids=["signed", "trusted"])
DISKS = pytest.mark.parametrize("disk", ["kept", "empty"])


@pytest.fixture
def signed() -> bool:
    """Whether the mirrors have a signing key; `MODES` makes a test of both."""
    return True


@pytest.fixture
def fleet(tmp_path: Path, *, signed: bool) -> Fleet:
    return Fleet(tmp_path, signed=signed)


def steady(fleet: Fleet, *keys: Any, **changes: Any) -> GitMirror:
    """A mirror whose apiservers show `keys`, which are public and pushed."""
    mirror = fleet.mirror(**changes)
    fleet.show(keys, keys)
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(*keys)
    return mirror


def retiring(fleet: Fleet) -> GitMirror:
    """A mirror with A public and R retiring."""
    mirror = steady(fleet, A, R)
    fleet.show((A,), (A,))
    assert mirror.run().status == 0
    assert statuses(fleet.remote) == {"A": "published", "R": "retiring"}
    return mirror


def on(disk: str, mirror: GitMirror) -> GitMirror:
    """The mirror that makes the next pass: the same one, or a pod with its configuration and an empty disk."""
    if disk == "kept":
        return mirror
    pod = mirror.fleet.mirror()
    return replace(mirror, disk=pod.disk)


def revoke_v(mirror: GitMirror) -> str:
    """V is revoked, so that git and the bucket say so; gives the commit before."""
    before = mirror.fleet.head()
    mirror.policy, configured = REVOKES_V, mirror.policy
    assert mirror.run().status == 0
    mirror.policy = configured
    assert "V" not in (public_kids(mirror.fleet) or frozenset("V"))
    return before


def overwrite(fleet: Fleet, *keys: Any, snapshot: str | None = None) -> None:
    """Somebody writes the JWKS object past the mirrors."""
    fleet.bucket.write(JWKS_KEY, public_bytes(*keys), "application/jwk-set+json", "public, max-age=300", snapshot)


def demand_quiet(fleet: Fleet, *mirrors: GitMirror, status: int = 0) -> None:
    """A further pass of each mirror does nothing at all."""
    before = fleet.commits(), fleet.puts(), fleet.head()
    for mirror in mirrors:
        ended = mirror.run()
        assert ended.status == status, ended.text()
    assert (fleet.commits(), fleet.puts(), fleet.head()) == before


def demand_signed(fleet: Fleet, path: str = LEDGER) -> None:
    """The ledger on the remote is signed by the mirrors' key, as another implementation reads it."""
    header = signed_by(fleet.remote, MIRROR, path=path)
    assert header is not None
    assert header["role"] == "mirror"


def event(ended: Ended, name: str) -> str:
    """What a pass reported under a name, as text."""
    assert ended.report is not None, ended.error
    found = [*ended.report.events, *(each for issuer in ended.report.issuers for each in issuer.events)]
    (first, *_) = [each for each in found if each.name == name] or pytest.fail(f"no {name} in {ended.names}")
    return f"{first.sentence} {dict(first.fields)}"


def push_x(fleet: Fleet, *, signer: Any = None, **more: Any) -> str:
    """The pusher adds X as published; gives the commit."""
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.add(record(X, **more), signer=signer)
    return pusher.push()


# ------------------------------------------------------------------------------- a pusher adds a published record


@DISKS
def test_added_key_is_reported_and_written_over(fleet: Fleet, disk: str) -> None:
    """A pass with nothing else to do: `ledger.unsigned` names the commit, X is never public, git is as before."""
    mirror = steady(fleet, A)
    commit, puts = push_x(fleet), fleet.puts()
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert commit[:7] in event(ended, "ledger.unsigned")
    assert public_kids(fleet) == kids(A)
    assert fleet.puts() == puts
    assert statuses(fleet.remote) == {"A": "published"}
    demand_signed(fleet)
    demand_quiet(fleet, on(disk, mirror))


@MODES
@DISKS
def test_added_key_does_not_stop_a_configured_revocation(fleet: Fleet, disk: str, *, signed: bool) -> None:
    """V leaves in the next pass; what is overwritten afterwards is drift, and is repaired."""
    mirror = steady(fleet, A, V)
    push_x(fleet)
    mirror.policy = REVOKES_V
    expected = kids(A) if signed else kids(A, X)
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert ("ledger.unsigned" in ended.names) is signed
    assert public_kids(fleet) == expected
    assert statuses(fleet.remote)["V"] == "revoked"
    overwrite(fleet, EVIL, V, A)
    repaired = on(disk, mirror).run()
    assert repaired.status == 0, repaired.text()
    assert "bucket.drift" in repaired.names
    assert public_kids(fleet) == expected
    demand_quiet(fleet, on(disk, mirror))


@pytest.mark.parametrize("claims", ["nothing", "the pusher's commit"])
def test_added_key_does_not_stop_a_repair(fleet: Fleet, claims: str) -> None:
    """The JWKS is overwritten with {EVIL, A}, whatever its metadata claims: drift, repaired in one put."""
    mirror = steady(fleet, A)
    commit = push_x(fleet)
    overwrite(fleet, EVIL, A, snapshot=commit if claims != "nothing" else None)
    puts = fleet.puts()
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    assert {"bucket.drift", "ledger.unsigned"} <= ended.names
    assert public_kids(fleet) == kids(A)
    assert fleet.puts() == puts + 1
    demand_quiet(fleet, mirror)


@DISKS
def test_added_key_does_not_stop_a_new_one(fleet: Fleet, disk: str) -> None:
    """B appears on one apiserver: {A, B} is public, and signed."""
    mirror = steady(fleet, A)
    push_x(fleet)
    fleet.show((A,), (A, B))
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, B)
    assert statuses(fleet.remote) == {"A": "published", "B": "published"}
    demand_signed(fleet)
    demand_quiet(fleet, on(disk, mirror))


@DISKS
@pytest.mark.parametrize("signed", [False], ids=["trusted"])
def test_added_key_is_trusted_without_a_signing_key(fleet: Fleet, disk: str) -> None:
    """Whoever may push is trusted, and the program says so: X is public, and retires in its time."""
    mirror = steady(fleet, A)
    push_x(fleet)
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, X)
    assert on("kept", mirror).run(after=25 * HOUR).status == 0
    assert mirror.run(after=25 * HOUR).status == 0
    assert public_kids(fleet) == kids(A)
    demand_quiet(fleet, mirror)


@pytest.mark.parametrize("signed", [False], ids=["trusted"])
def test_trusted_remote_is_said_by_check_and_status(fleet: Fleet) -> None:
    """`repository.unsigned` in `check`, and the mode in the JSON of `status`."""
    mirror = steady(fleet, A)
    check = mirror.command("check", "--output", "json")
    codes = {each["code"] for each in json.loads(check.stdout)["findings"]}
    assert "repository.unsigned" in codes
    status = mirror.command("status", "--output", "json")
    assert json.loads(status.stdout)["repository"]["mode"] == "trusted"
    assert "repository.unsigned" in status.stdout


def test_public_text_alone_is_written_over(fleet: Fleet) -> None:
    """`public/` is rendered from the ledger, and needs no signature: another text there is a mismatch, not a key."""
    mirror = steady(fleet, A)
    pusher = fleet.pusher()
    pusher.fetch()
    path = f"public/oidc-bucket.s3-ap-southeast-2.amazonaws.com/{JWKS_KEY}"
    pusher.write(path, public_bytes(A, EVIL))
    pusher.push()
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    assert "history.mismatch" in ended.names
    assert public_kids(fleet) == kids(A)
    assert git(fleet.remote, "cat-file", "blob", f"main:{path}").encode() == public_bytes(A).rstrip(b"\n")
    demand_quiet(fleet, mirror)


_REVOKED = {"at": "2026-11-01T08:00:00Z", "reason": "because I can", "last": True}
CHANGES: dict[str, Callable[[Pusher], object]] = {
    "adds": lambda p: p.add(record(X)),
    "adds-retiring": lambda p: p.add(record(X, "retiring", 9, missing_since="2026-11-01T08:00:00Z")),
    "adds-held": lambda p: p.add(record(X, "held", held_because="policy")),
    "demotes": lambda p: p.edit(
        lambda r: {**r, "status": "retiring", "generation": 9, "missing_since": "2026-11-01T08:00:00Z"}
    ),
    "drops": lambda p: p.write_records([dropped(r["kid"], r["thumbprint"], 9) for r in p.records()]),
    "revokes": lambda p: p.write_records(
        [{**r, "status": "revoked", "generation": 9, "revoked": _REVOKED} for r in p.records()]
    ),
    "ages": lambda p: p.edit(lambda r: {**r, "first_seen": "2000-01-01T00:00:00Z", "generation": 2**53}),
    "duplicates": lambda p: p.write_records([*p.records(), *p.records()]),
    "changes-the-alg": lambda p: p.edit(lambda r: {**r, "key": {**r["key"], "alg": "RS384"}}),
    "damages": lambda p: p.write(LEDGER, p.read()[:-40]),
    "damages-the-signature": lambda p: p.write(SIGNATURE, p.read(SIGNATURE)[:-9] + b"AAAAAAAA\n"),
    "lengthens-the-signature": lambda p: p.write(SIGNATURE, p.read(SIGNATURE) + b"\n"),
    "deletes-the-signature": lambda p: p.delete(SIGNATURE),
    "deletes-the-ledger": lambda p: p.delete(LEDGER, SIGNATURE),
    "deletes-everything": lambda p: p._git("rm", "-r", "--quiet", "."),
    "fills": lambda p: p.write(LEDGER, b" " * (5 * 1024 * 1024)),
    "fills-the-signature": lambda p: p.write(SIGNATURE, p.read(SIGNATURE).rstrip() * 100),
    "signs-with-another-key": lambda p: p.add(record(X), signer=STRANGER),
    "plants-a-private-key": lambda p: p.edit(lambda r: {**r, "key": {**r["key"], "d": "AQAB"}}),
    "links": lambda p: p.link(LEDGER, "/etc/passwd"),
    "makes-it-a-folder": lambda p: p.make_folder(LEDGER),
}


@DISKS
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_pusher_without_a_key_changes_nothing(fleet: Fleet, disk: str, change: Callable[[Pusher], object]) -> None:
    """No object is put, A stays public and signed, and a pass, a day and a new key later all is as it should be."""
    mirror = steady(fleet, A)
    pusher, objects, puts = fleet.pusher(), dict(fleet.bucket.objects), fleet.puts()
    pusher.fetch()
    change(pusher)
    pusher.push()
    for after in (MINUTE, 2 * HOUR, 25 * HOUR):
        on(disk, mirror).run(after=after)
        assert fleet.bucket.objects == objects
    assert fleet.puts() == puts
    fleet.show((A,), (A, B))
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, B)
    demand_signed(fleet)
    demand_quiet(fleet, on(disk, mirror))


# --------------------------------------------------------------------- mirrors that died, and disks that are empty


@MODES
@pytest.mark.parametrize("who", ["the mirror itself", "another mirror"])
def test_key_of_a_mirror_that_died_is_published_and_retires(fleet: Fleet, who: str) -> None:
    """It pushed K and died before its put; no apiserver shows K any more. Nobody waits: {A, B, K}, then {A, B}."""
    mirror = steady(fleet, A)
    other = fleet.mirror()
    assert other.run().status == 0
    fleet.show((A, K), (A, K))
    with pytest.raises(Killed):
        replace(mirror, before_put=kill).run()
    assert statuses(fleet.remote)["K"] == "published"
    fleet.show((A,), (A, B))
    goes_on = mirror if who == "the mirror itself" else other
    ended = goes_on.run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, B, K)
    fleet.show((A, B), (A, B))
    assert goes_on.run(after=25 * HOUR).status == 0
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, mirror, other)


@MODES
def test_new_key_never_waits_for_another_mirror(fleet: Fleet) -> None:
    """Both mirrors died with a key of their own that nobody shows any more; B is public in the very next pass."""
    one = steady(fleet, A)
    two = fleet.mirror()
    assert two.run().status == 0
    fleet.show((A, K), (A, K))
    with pytest.raises(Killed):
        replace(one, before_put=kill).run()
    fleet.show((A, OTHER), (A, OTHER))
    with pytest.raises(Killed):
        replace(two, before=lambda step: kill() if step == "push" else None).run()
    fleet.show((A, B), (A, B))
    for mirror in (two, one):
        ended = mirror.run()
        assert ended.status == 0, ended.text()
        assert public_kids(fleet) == kids(A, B, K, OTHER)
        assert ended.report is not None
        assert ended.report.unpushed_commits == 0
    for mirror in (one, two):
        mirror.run(after=13 * HOUR)
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, one, two)


@MODES
@DISKS
def test_overwritten_jwks_is_repaired_while_a_key_retires(fleet: Fleet, disk: str) -> None:
    """{EVIL, A} becomes {A, R} again: drift, reported and repaired, R is not lost."""
    mirror = retiring(fleet)
    overwrite(fleet, EVIL, A)
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert "bucket.drift" in ended.names
    assert public_kids(fleet) == kids(A, R)
    demand_quiet(fleet, on(disk, mirror))


@MODES
@DISKS
def test_deleted_objects_are_repaired_while_apiservers_are_silent(fleet: Fleet, disk: str) -> None:
    """Both objects are deleted: git says what they were; the silence is reported (exit 1)."""
    mirror = retiring(fleet)
    fleet.bucket.objects.clear()
    fleet.show(None, None)
    ended = on(disk, mirror).run()
    assert ended.status == 1, ended.text()
    assert "no_usable_apiserver" in ended.names
    assert public_kids(fleet) == kids(A, R)
    assert ObjectKey(DISCOVERY_KEY) in fleet.bucket.objects
    demand_quiet(fleet, on(disk, mirror), status=1)


@MODES
@DISKS
def test_overwritten_jwks_is_repaired_while_apiservers_are_silent(fleet: Fleet, disk: str) -> None:
    """No rotation at all: {EVIL, A} becomes {A} again, in a pod too."""
    mirror = steady(fleet, A)
    fleet.show(None, None)
    overwrite(fleet, EVIL, A)
    ended = on(disk, mirror).run()
    assert ended.status == 1, ended.text()
    assert {"bucket.drift", "no_usable_apiserver"} <= ended.names
    assert public_kids(fleet) == kids(A)


BODIES = {
    "empty": b"",
    "garbage": b"<html>",
    "no-key": b'{"keys":[]}',
    "oversized": b'{"keys":[]}' + b" " * (4 * 1024 * 1024),
}


@MODES
@DISKS
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_unreadable_object_is_written_over(fleet: Fleet, disk: str, body: bytes) -> None:
    """Whatever stands there, and whatever commit it claims, is overwritten with what the ledger says."""
    mirror = retiring(fleet)
    fleet.bucket.write(JWKS_KEY, body, "application/jwk-set+json", "public, max-age=300", "f" * 40)
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert "bucket.drift" in ended.names
    assert public_kids(fleet) == kids(A, R)
    demand_quiet(fleet, on(disk, mirror))


@MODES
def test_pod_without_a_remote_decides_nothing(fleet: Fleet) -> None:
    """An empty disk and a remote that is away: exit 1, nothing is put and no key is lost."""
    mirror = steady(fleet, A)
    fleet.away()
    puts = fleet.puts()
    fleet.show((B,), (B,))
    ended = on("empty", mirror).run()
    assert ended.status == 1, ended.text()
    assert (public_kids(fleet), fleet.puts()) == (kids(A), puts)


# ------------------------------------------------------------------------------ a pusher, and operators' decisions


def test_held_record_of_a_pusher_does_not_exist(fleet: Fleet) -> None:
    """X is `held` under a kid that is a prefix of B's thumbprint: B alone is offered, and `approve PREFIX` means B."""
    mirror = steady(fleet, A)
    mirror.policy = HOLD
    fleet.show((A, B), (A, B))
    assert mirror.run().status == 3
    prefix = B.thumbprint[:8]
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.add(record(with_kid(X, prefix), "held", held_because="policy"))
    pusher.push()
    ended = mirror.run()
    assert ended.report is not None
    assert [X.thumbprint in reason.sentence for reason in ended.report.issuers[0].held] == [False]
    pusher.fetch()
    pusher.add(record(with_kid(X, prefix), "held", held_because="policy"))
    pusher.push()
    done = mirror.command("approve", NAME, "--no-pass", "--yes", "--", prefix)
    assert done.returncode == 0, done.stderr
    assert mirror.run().status == 0
    assert public_kids(fleet) == kids(A, B)
    assert statuses(fleet.remote) == {"A": "published", "B": "published"}
    demand_quiet(fleet, mirror)


def test_held_record_of_an_allowed_signer_makes_a_prefix_ambiguous(fleet: Fleet) -> None:
    """The same in a ledger that an allowed signer signed: exit 2, nothing changes."""
    mirror = steady(fleet, A, allowed=(OPERATOR,))
    mirror.policy = HOLD
    fleet.show((A, B), (A, B))
    assert mirror.run().status == 3
    prefix = B.thumbprint[:8]
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.add(record(with_kid(X, prefix), "held", held_because="policy"), signer=OPERATOR, role="operator")
    pusher.push()
    before = fleet.head(), dict(fleet.bucket.objects)
    done = mirror.command("approve", NAME, "--no-pass", "--yes", "--", prefix)
    assert done.returncode == 2, done.stderr
    assert (fleet.head(), dict(fleet.bucket.objects)) == before


@MODES
@pytest.mark.parametrize("pushed_by", ["nobody", "an allowed signer"])
def test_dropped_records_do_not_hide_a_key_from_its_revocation(fleet: Fleet, pushed_by: str, *, signed: bool) -> None:
    """Two `dropped` records are named like V's thumbprint and like V's kid: the full thumbprint still means V."""
    mirror = steady(fleet, A, V, allowed=(OPERATOR,) if signed else ())
    pusher = fleet.pusher()
    pusher.fetch()
    by_thumbprint, by_kid = dropped(V.thumbprint, X.thumbprint), dropped(V.kid, EVIL.thumbprint)
    pusher.add(by_thumbprint, by_kid, signer=OPERATOR if signed and pushed_by != "nobody" else None, role="operator")
    pusher.push()
    done = mirror.command("revoke", NAME, "--reason", "stolen", "--no-pass", "--yes", "--", V.thumbprint)
    assert done.returncode == 0, done.stderr
    assert "still" in done.stdout + done.stderr, "the text says that the key is still public"
    assert mirror.run().status == 0
    assert public_kids(fleet) == kids(A)
    demand_quiet(fleet, mirror)


@MODES
@pytest.mark.parametrize("count", [511, 3000])
def test_dropped_records_never_keep_a_new_key_out(fleet: Fleet, count: int, *, signed: bool) -> None:
    """An external signer's half year, and four years: what is shown is published, and nothing is forgotten."""
    mirror = steady(fleet, A, allowed=(OPERATOR,) if signed else ())
    pusher = fleet.pusher()
    pusher.fetch()
    old = [dropped(f"signer/{n:05}", _thumbprint(n)) for n in range(count)]
    pusher.add(*old, signer=OPERATOR if signed else None, role="operator")
    pusher.push()
    fleet.show((A, B), (A, B))
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, B)
    assert len(statuses(fleet.remote)) == count + 2
    fleet.show((B, K), (B, K))
    assert mirror.run().status == 0
    assert public_kids(fleet) == kids(A, B, K)
    demand_quiet(fleet, mirror)


def _thumbprint(number: int) -> str:
    return f"{number:043}"


# ------------------------------------------------------------------------------------------------- damaged ledgers


GARBAGE = [
    pytest.param(True, LEDGER, b"garbage", id="signed-ledger"),
    pytest.param(True, LEDGER, b"", id="signed-empty-ledger"),
    pytest.param(True, SIGNATURE, b"\xff" * 9, id="signed-signature"),
    pytest.param(False, LEDGER, b"garbage", id="trusted-ledger"),
    pytest.param(False, LEDGER, b"\xff" * 9, id="trusted-binary-ledger"),
]


@DISKS
@pytest.mark.parametrize(("signed", "path", "garbage"), GARBAGE)
def test_garbage_delays_nobody(fleet: Fleet, disk: str, path: str, garbage: bytes, *, signed: bool) -> None:
    """A key appears on the damaged issuer and on another one: both publish it, and the commit heals the damage."""
    fleet.issuers[SECOND] = SECOND_URL
    fleet.show((OTHER,), (OTHER,), name=SECOND)
    mirror = steady(fleet, A)
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.write(path, garbage)
    pusher.push()
    fleet.show((A,), (A, B))
    fleet.show((OTHER, EC), (OTHER,), name=SECOND)
    ended = on(disk, mirror).run()
    assert ended.report is not None
    assert ended.status in (0, 1), "1 at most, until the commit has healed it"
    assert {"ledger.damaged", "ledger.unsigned"} & ended.of(NAME)
    assert not ended.report.failures
    assert not ended.report.issuers[1].all_failures()
    assert public_kids(fleet) == kids(A, B)
    assert public_kids(fleet, SECOND_JWKS) == kids(OTHER, EC)
    assert statuses(fleet.remote) == {"A": "published", "B": "published"}
    if signed:
        demand_signed(fleet)
        demand_signed(fleet, SECOND_LEDGER)
    demand_quiet(fleet, on(disk, mirror))


@MODES
@DISKS
def test_deleted_ledger_is_no_takeover(fleet: Fleet, disk: str) -> None:
    """The file is gone from the branch, and a key appears: it is added to what was known, nobody is asked."""
    mirror = retiring(fleet)
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.delete(LEDGER, SIGNATURE)
    pusher.push()
    fleet.show((A,), (A, B))
    ended = on(disk, mirror).run()
    assert "takeover.held" not in ended.names
    assert public_kids(fleet) == kids(A, B, R)
    assert statuses(fleet.remote) == {"A": "published", "B": "published", "R": "retiring"}
    demand_quiet(fleet, on(disk, mirror))


def test_bad_record_that_an_allowed_signer_signed_stops_no_other(fleet: Fleet) -> None:
    """One record of a signed ledger does not validate: it is reported alone, and the others go on."""
    mirror = steady(fleet, A, allowed=(OPERATOR,))
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.add({**record(X), "status": "trusted"}, signer=OPERATOR, role="operator")
    pusher.push()
    fleet.show((A,), (A, B))
    mirror.run()
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, mirror)


@pytest.fixture
def garbage_commits(fleet: Fleet) -> Callable[[], None]:
    """A function that puts many commits on top of the remote's head, each of which changes the ledger."""

    def stream(head: str) -> Iterator[bytes]:
        for number in range(GARBAGE_COMMITS):
            yield b"commit refs/heads/main\ncommitter x <x@y> %d +0000\ndata 1\nx\n" % (1800000000 + number)
            yield b"from %s\n" % head.encode() if number == 0 else b""
            yield b"M 100644 inline %s\ndata 9\ngarbage %d\n" % (LEDGER.encode(), number % 2)

    def push() -> None:
        command = ["git", f"--git-dir={fleet.remote}", "fast-import", "--quiet", "--force"]
        subprocess.run(command, input=b"".join(stream(fleet.head())), check=True, capture_output=True)

    return push


@pytest.mark.timeout(300)
@DISKS
def test_garbage_commits_delay_nothing_for_long(fleet: Fleet, disk: str, garbage_commits: Callable[[], None]) -> None:
    """A hundred thousand commits whose ledgers are garbage, the believed one far below: {A, B} in time."""
    mirror = steady(fleet, A)
    garbage_commits()
    fleet.show((A,), (A, B))
    ended, seconds = _timed(on(disk, mirror))
    assert ended.status in (0, 1), ended.text()
    assert public_kids(fleet) == kids(A, B)
    assert seconds < IN_TIME_SECONDS
    demand_signed(fleet)
    ended, seconds = _timed(on(disk, mirror))
    assert (ended.status, public_kids(fleet)) == (0, kids(A, B))
    assert seconds < IN_TIME_SECONDS


def _timed(mirror: GitMirror) -> tuple[Ended, float]:
    begin = os.times().elapsed
    return mirror.run(), os.times().elapsed - begin


# ------------------------------------------------------------------------------------------- old states brought back


@pytest.mark.parametrize("what", ["the branch", "one ledger"])
@DISKS
def test_older_signed_state_brings_no_revoked_key_back(fleet: Fleet, disk: str, what: str) -> None:
    """The branch, or one ledger with its signature, is what it was before V was revoked: `history.rewritten`."""
    mirror = steady(fleet, A, V)
    before = revoke_v(mirror)
    puts = fleet.puts()
    _bring_back(fleet, before, what)
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert "history.rewritten" in ended.names
    assert public_kids(fleet) == kids(A)
    assert fleet.puts() == puts
    assert statuses(fleet.remote) == {"A": "published", "V": "revoked"}
    demand_signed(fleet)
    demand_quiet(fleet, on(disk, mirror))


def _bring_back(fleet: Fleet, commit: str, what: str) -> None:
    pusher = fleet.pusher()
    pusher.fetch()
    if what == "the branch":
        pusher.rewind(commit)
    else:
        pusher.restore(commit, LEDGER, SIGNATURE)
        pusher.push()


@pytest.mark.parametrize("what", ["the branch", "one ledger"])
def test_older_state_deceives_no_kept_disk_that_did_not_hear_of_the_revocation(fleet: Fleet, what: str) -> None:
    """Another mirror was at the older state itself, so that its disk tells it nothing: the objects do."""
    mirror = steady(fleet, A, V)
    behind = fleet.mirror()
    assert behind.run().status == 0
    before = revoke_v(mirror)
    _bring_back(fleet, before, what)
    ended = behind.run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A)
    assert statuses(fleet.remote)["V"] == "revoked"
    demand_quiet(fleet, mirror, behind)


def test_older_state_is_what_a_pod_knows_when_the_server_lost_the_newer_one(fleet: Fleet) -> None:
    """Nothing tells a pod that V was revoked: it says `snapshot.unknown`. SECURITY.md names this rewind."""
    mirror = steady(fleet, A, V)
    before = revoke_v(mirror)
    fleet.forget(before)
    ended = on("empty", mirror).run()
    assert "snapshot.unknown" in ended.names
    assert public_kids(fleet) == kids(A, V)
    assert mirror.run().status == 0, "the kept disk brings the revocation back"
    assert public_kids(fleet) == kids(A)


def test_older_ledger_on_top_of_ours_loses_nothing(fleet: Fleet) -> None:
    """Without force: an older signed pair on our head, from before B was added."""
    mirror = steady(fleet, A)
    before = fleet.head()
    fleet.show((A, B), (A, B))
    assert mirror.run().status == 0
    _bring_back(fleet, before, "one ledger")
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    assert "history.rewritten" in ended.names
    assert public_kids(fleet) == kids(A, B)
    assert statuses(fleet.remote) == {"A": "published", "B": "published"}
    demand_quiet(fleet, mirror)


@DISKS
def test_key_that_was_revoked_while_dropped_stays_out(fleet: Fleet, disk: str) -> None:
    """The revocation changed no byte of the public set; the object names its commit all the same."""
    mirror = steady(fleet, A, V)
    fleet.show((A,), (A,))
    assert mirror.run().status == 0
    assert mirror.run(after=25 * HOUR).status == 0
    assert public_kids(fleet) == kids(A)
    before = revoke_v(mirror)
    named = fleet.bucket.objects[ObjectKey(JWKS_KEY)].snapshot
    assert named == fleet.head(), "the object names a commit that knows the revocation"
    _bring_back(fleet, before, "one ledger")
    fleet.show((A, V), (A, V))
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert "history.rewritten" in ended.names
    assert public_kids(fleet) == kids(A)
    assert statuses(fleet.remote)["V"] == "revoked"
    demand_quiet(fleet, on(disk, mirror))


@DISKS
def test_orphan_branch_on_a_server_that_lost_ours_is_merged_with_what_the_disk_has(fleet: Fleet, disk: str) -> None:
    """A kept disk merges its own head back; a pod decides nothing, because it knows no revocation (`ledger.lost`)."""
    mirror = steady(fleet, A, V)
    revoke_v(mirror)
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.write_records([record(A), record(V)])
    fleet.forget(pusher.orphan())
    puts = fleet.puts()
    ended = on(disk, mirror).run()
    assert (public_kids(fleet), fleet.puts()) == (kids(A), puts)
    if disk == "empty":
        assert (ended.status, "ledger.lost" in ended.names) == (1, True)
    assert mirror.run().status == 0
    assert statuses(fleet.remote) == {"A": "published", "V": "revoked"}
    demand_quiet(fleet, mirror)


# ----------------------------------------------------------------------------------------------- borrowed signatures


@DISKS
@pytest.mark.parametrize("of", ["another repository", "another issuer"])
def test_ledger_that_was_signed_for_something_else_counts_nothing(fleet: Fleet, disk: str, of: str) -> None:
    """The same key signed it, for another repository or another issuer: `ledger.unsigned`, {A}."""
    fleet.issuers[SECOND] = SECOND_URL
    fleet.show((X,), (X,), name=SECOND)
    mirror = steady(fleet, A)
    pusher, puts = fleet.pusher(), fleet.puts()
    pusher.fetch()
    if of == "another repository":
        pusher.write_records([record(A), record(X)], signer=MIRROR, repository="oidc-mirror-test")
    else:
        pusher.write(LEDGER, pusher.read(SECOND_LEDGER))
        pusher.write(SIGNATURE, pusher.read(f"{SECOND_LEDGER}.jws"))
    pusher.push()
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert "ledger.unsigned" in ended.of(NAME)
    assert (public_kids(fleet), fleet.puts()) == (kids(A), puts)
    demand_signed(fleet)
    demand_quiet(fleet, on(disk, mirror))


HEADERS: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "another-typ": lambda header: {**header, "typ": "JWT"},
    "another-issuer": lambda header: {**header, "issuer": SECOND_URL},
    "another-kid": lambda header: {**header, "kid": STRANGER.fingerprint()},
    "one-more-member": lambda header: {**header, "cty": "JWT"},
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS)
def test_good_signature_under_another_header_counts_nothing(
    fleet: Fleet, change: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    """The right key, but not the header that we would write (attacks/test_ledger_signature.py has all of them)."""
    mirror = steady(fleet, A)
    pusher, puts = fleet.pusher(), fleet.puts()
    pusher.fetch()
    pusher.add(record(X))
    header = canonical(change(MIRROR.header(ISSUER)))
    pusher.write(SIGNATURE, MIRROR.sign_header(pusher.read(), header))
    pusher.push()
    for after in (MINUTE, HOUR, MINUTE):
        mirror.run(after=after)
    assert (public_kids(fleet), fleet.puts()) == (kids(A), puts)
    assert statuses(fleet.remote) == {"A": "published"}
    demand_signed(fleet)
    demand_quiet(fleet, mirror)


@DISKS
def test_ledger_signed_by_the_key_is_believed_whoever_pushed_it(fleet: Fleet, disk: str) -> None:
    """The other way round: a good signature of another implementation is all that counts."""
    mirror = steady(fleet, A)
    push_x(fleet, signer=MIRROR)
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, X)
    assert not {"ledger.unsigned", "ledger.damaged", "ledger.unknown_signer"} & ended.names


@DISKS
def test_note_on_top_of_a_pusher_lends_him_nothing(fleet: Fleet, disk: str) -> None:
    """An operator's own commit on top of the pusher's X: {A}, as without it."""
    mirror = steady(fleet, A)
    push_x(fleet)
    ada = fleet.pusher("ada")
    ada.fetch()
    ada.write("NOTES.md", b"Seen and fine.\n")
    ada.push("A note by hand")
    puts = fleet.puts()
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert "ledger.unsigned" in ended.names
    assert (public_kids(fleet), fleet.puts()) == (kids(A), puts)
    assert git(fleet.remote, "cat-file", "blob", "main:NOTES.md") == "Seen and fine."
    demand_quiet(fleet, on(disk, mirror))


@DISKS
def test_unsigned_commit_stops_no_fetch(fleet: Fleet, disk: str) -> None:
    """With `allowed_signers`, a commit that nobody signed and that changes no ledger is nobody's trouble."""
    mirror = steady(fleet, A, allowed=(OPERATOR,))
    ada = fleet.pusher("ada")
    ada.fetch()
    ada.write("NOTES.md", b"x\n")
    ada.push()
    fleet.show((A, B), (A, B))
    ended = on(disk, mirror).run()
    assert ended.status == 0, ended.text()
    assert not {"remote.unreachable", "push.failed", "ledger.unsigned"} & ended.names
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, on(disk, mirror))


SIGNERS = {
    "missing": None,
    "empty": b"",
    "only-a-comment": b"# nobody yet\n",
    "no-key": b"not a key\n",
    "a-good-line-and-a-bad-one": f"{OPERATOR.line()}\nssh-ed25519 AAAA\n".encode(),
    "options": f"cert-authority {OPERATOR.line()}\n".encode(),
    "principals": f"ada@example.com {OPERATOR.line()}\n".encode(),
}


@pytest.mark.parametrize("body", SIGNERS.values(), ids=SIGNERS)
def test_useless_allowed_signers_are_a_usage_error(fleet: Fleet, body: bytes | None) -> None:
    """Missing, empty, or with a line that is no key: exit 2, and nothing changes."""
    mirror = steady(fleet, A)
    push_x(fleet)
    config = mirror.config()
    path = mirror.disk / "bad_signers"
    if body is not None:
        path.write_bytes(body)
    config["repository"]["allowed_signers"] = str(path)
    before = fleet.head(), git(mirror.disk / "snapshots.git", "rev-parse", "main")
    done = mirror.command("--once", config=config)
    assert done.returncode == 2, done.stderr
    assert "bad_signers" in done.stderr
    assert (fleet.head(), git(mirror.disk / "snapshots.git", "rev-parse", "main")) == before


# --------------------------------------------------------------------------------------------- several mirrors, keys


@pytest.mark.parametrize("signed", [False], ids=["trusted at first"])
def test_first_pass_with_a_signing_key_signs_what_it_trusted(fleet: Fleet) -> None:
    """A kept disk with a trusted head: that one pass signs what it finds; a pod does not sign what it finds."""
    mirror = steady(fleet, A, V)
    mirror.signing_key = MIRROR
    pod = on("empty", mirror)
    waiting = pod.run()
    assert (waiting.status, "ledger.lost" in waiting.names) == (1, True), waiting.text()
    assert signed_by(fleet.remote, MIRROR) is None
    ended = mirror.run()
    assert ended.status == 0, ended.text()
    demand_signed(fleet)
    assert public_kids(fleet) == kids(A, V)
    demand_quiet(fleet, mirror, on("empty", mirror))
    push_x(fleet)
    assert "ledger.unsigned" in mirror.run().names
    assert public_kids(fleet) == kids(A, V)


@pytest.mark.parametrize("signed", [False], ids=["mixed"])
def test_mirror_without_a_signing_key_stops_at_a_signature(fleet: Fleet) -> None:
    """One of two mirrors has no `signing_key` yet: exit 2, `repository.signed`, and it changes nothing."""
    one = steady(fleet, A)
    two = fleet.mirror()
    assert two.run().status == 0
    one.signing_key = MIRROR
    assert one.run().status == 0
    fleet.show((A,), (A, B))
    two.source = replace(fleet.source, answers=dict(fleet.source.answers))
    fleet.show((A,), (A,))
    before = fleet.commits(), fleet.puts()
    for _ in range(40):
        stopped = two.run()
        assert stopped.status == 2, stopped.text()
        assert "repository.signed" in stopped.names or "signing_key" in stopped.error
        assert one.run().status == 0
    assert (fleet.commits(), fleet.puts()) == before
    assert public_kids(fleet) == kids(A)


def test_mirrors_that_do_not_know_each_others_keys_shout_and_do_not_fight(fleet: Fleet) -> None:
    """`ledger.unknown_signer`, exit 1, with the line to add; at most one ledger and one put an `audit_interval`."""
    one = steady(fleet, A)
    two = replace(fleet.mirror(), signing_key=STRANGER)
    before = fleet.commits(), fleet.puts()
    ended = [mirror.run() for _ in range(10) for mirror in (two, one)]
    assert "ledger.unknown_signer" in ended[0].names
    assert ended[0].status == 1
    assert MIRROR.line().split()[1] in ended[0].text() or MIRROR.fingerprint() in ended[0].text()
    assert fleet.commits() - before[0] <= 2
    assert fleet.puts() - before[1] <= 2
    assert public_kids(fleet) == kids(A)


def test_signing_key_is_rotated_without_a_gap(fleet: Fleet) -> None:
    """The new key is listed, then used, then the old one goes: V, which was revoked before, stays out."""
    mirror = steady(fleet, A, V)
    revoke_v(mirror)
    mirror.allowed = (MIRROR, OPERATOR)
    demand_quiet(fleet, mirror)
    mirror.signing_key = OPERATOR
    fleet.show((A, V, B), (A, V, B))
    assert mirror.run().status == 0
    assert signed_by(fleet.remote, OPERATOR) is not None
    mirror.allowed = ()
    pod = on("empty", mirror)
    ended = pod.run()
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, mirror, on("empty", mirror))


def test_operators_line_may_go_after_the_next_pass(fleet: Fleet) -> None:
    """He signs `revoke V`; a mirror's pass signs the ledger anew, so that without his line V stays out."""
    mirror = steady(fleet, A, V, allowed=(OPERATOR,))
    key = OPERATOR.private_file(fleet.folder / "operators_key")
    laptop = fleet.mirror()
    config = laptop.config()
    config["repository"]["signing_key"] = str(fleet.folder / "not-on-this-machine")
    config["repository"]["allowed_signers"] = str(signers_file(fleet.folder / "signers", MIRROR, OPERATOR))
    words = ("--reason", "stolen", "--no-pass", "--yes", "--signing-key", str(key), "--", V.thumbprint)
    done = laptop.command("revoke", NAME, *words, config=config)
    assert done.returncode == 0, done.stderr
    header = signed_by(fleet.remote, OPERATOR)
    assert header is not None
    assert header["role"] == "operator"
    assert mirror.run().status == 0
    assert public_kids(fleet) == kids(A)
    demand_signed(fleet)
    mirror.allowed = ()
    ended = on("empty", mirror).run()
    assert ended.status == 0, ended.text()
    assert "ledger.unknown_signer" not in ended.names
    assert public_kids(fleet) == kids(A)
    assert statuses(fleet.remote)["V"] == "revoked"
    demand_quiet(fleet, mirror)


def test_operator_who_cannot_sign_what_is_believed_decides_nothing(fleet: Fleet) -> None:
    """His key is not listed: the command fails before it commits, with the remedy."""
    mirror = steady(fleet, A, V, allowed=(OPERATOR,))
    key = STRANGER.private_file(fleet.folder / "strangers_key")
    config = mirror.config()
    config["repository"]["signing_key"] = str(fleet.folder / "not-on-this-machine")
    config["repository"]["allowed_signers"] = str(signers_file(fleet.folder / "signers", MIRROR, OPERATOR))
    before = fleet.head()
    words = ("--reason", "stolen", "--no-pass", "--yes", "--signing-key", str(key), "--", V.thumbprint)
    done = fleet.mirror().command("revoke", NAME, *words, config=config)
    assert done.returncode != 0
    assert "allowed_signers" in done.stderr
    assert fleet.head() == before


@MODES
@DISKS
def test_revoking_the_last_key_brings_no_older_one_back(fleet: Fleet, disk: str) -> None:
    """V was revoked long ago; `revoke --last A` empties the set, and it stays empty though both are shown."""
    mirror = steady(fleet, A, V)
    revoke_v(mirror)
    fleet.now += 90 * DAY
    done = mirror.command("revoke", NAME, "--last", "--yes", "--reason", "stolen", "--no-pass", "--", A.thumbprint)
    assert done.returncode == 0, done.stderr
    for _ in range(3):
        ended = on(disk, mirror).run()
        assert "issuer.emptied" in ended.names, ended.text()
        assert public_kids(fleet) == frozenset()
    demand_quiet(fleet, on(disk, mirror))


@MODES
def test_two_mirrors_without_the_remote_do_not_fight(fleet: Fleet) -> None:
    """B is shown to one of them alone: it publishes B, the other one leaves it public; one put in 20 passes."""
    one = steady(fleet, A)
    two = fleet.mirror()
    assert two.run().status == 0
    two.source = replace(fleet.source, answers=dict(fleet.source.answers))
    fleet.show((A, B), (A, B))
    fleet.away()
    puts = fleet.puts()
    for _ in range(10):
        for mirror in (one, two):
            mirror.run()
            assert public_kids(fleet) == kids(A, B)
    assert fleet.puts() == puts + 1
    fleet.back()
    for mirror in (one, two, one):
        mirror.run()
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, one, two)


@MODES
@pytest.mark.parametrize("apart", [MINUTE, 2 * HOUR], ids=["a minute", "two hours"])
def test_mirrors_with_different_replicas_agree_about_a_held_key(fleet: Fleet, apart: Any) -> None:
    """K is shown to one of them and held: in 40 passes each no put, and at most three commits in all."""
    one = steady(fleet, A)
    two = fleet.mirror()
    assert two.run().status == 0
    for mirror in (one, two):
        mirror.policy = HOLD
    two.source = replace(fleet.source, answers=dict(fleet.source.answers))
    fleet.show((A, K), (A, K))
    before = fleet.commits(), fleet.puts()
    for _ in range(40):
        one.run(after=apart)
        two.run(after=MINUTE)
    assert public_kids(fleet) == kids(A)
    assert fleet.puts() == before[1]
    assert fleet.commits() - before[0] <= 3


# ---------------------------------------------------------------------------------------------- races between mirrors


@MODES
def test_slow_mirror_does_not_bring_a_revoked_key_back(fleet: Fleet) -> None:
    """ABA: it pushed {A, V} and is slow; meanwhile another one puts {A, V}, revokes V and puts {A}, the old ETag."""
    slow = steady(fleet, A)
    other = fleet.mirror()
    assert other.run().status == 0
    fleet.show((A, V), (A, V))

    def overtake() -> None:
        assert other.run(after=0 * MINUTE).status == 0
        assert public_kids(fleet) == kids(A, V)
        revoke_v(other)

    ended = replace(slow, before_put=once(overtake)).run()
    assert public_kids(fleet) == kids(A), ended.text()
    for mirror in (slow, other):
        assert mirror.run().status == 0
    demand_quiet(fleet, slow, other)


@MODES
def test_revocations_that_would_empty_the_set_together_are_held_at_once(fleet: Fleet) -> None:
    """One mirror drops A while another one revokes B, the last but one: one key is kept, exit 3 in that very pass."""
    one = steady(fleet, A, B)
    two = fleet.mirror()
    assert two.run().status == 0
    fleet.show((B,), (B,))
    assert one.run().status == 0
    two.policy = replace(POLICY, revoked=frozenset({B.thumbprint}))

    def overtake() -> None:
        assert two.run(after=0 * MINUTE).status == 0

    racing = replace(one, before=once(overtake, at="commit"))
    ended = racing.run(after=25 * HOUR)
    assert statuses(fleet.remote)["B"] == "revoked"
    assert ended.status == 3, ended.text()
    assert {"revocation.held", "emptied.held"} & ended.names
    for mirror in (two, one):
        ended = mirror.run()
        assert ended.status == 3, ended.text()
        assert public_kids(fleet) == kids(B), "the key is kept that was revoked last"
    demand_quiet(fleet, two, one, status=3)


@MODES
def test_equal_commits_of_two_mirrors_are_one_success(fleet: Fleet) -> None:
    """Another mirror pushes the same commit between our asking and our writing: no `push.failed`, no lock to remove."""
    mirror = steady(fleet, A)
    fleet.show((A, B), (A, B))
    hook = fleet.remote / "hooks" / "pre-receive"
    hook.write_text(
        '#!/bin/sh\nread old new ref\nrm -f "$0"\nunset GIT_QUARANTINE_PATH\ngit update-ref "$ref" "$new"\n'
    )
    hook.chmod(0o755)
    ended = mirror.run()
    assert not hook.exists()
    assert ended.status == 0, ended.text()
    assert "push.failed" not in ended.names
    assert ended.report is not None
    assert (ended.report.commit, ended.report.unpushed_commits) == (fleet.head(), 0)
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, mirror)


@MODES
def test_mirrors_that_work_in_step_make_one_commit(fleet: Fleet) -> None:
    """The same change in the same second on two pods, one inside the other's push: both succeed, one commit."""
    mirror = steady(fleet, A)
    pods = [on("empty", mirror), on("empty", mirror)]
    fleet.show((A, B), (A, B))
    commits = fleet.commits()

    def overtake() -> None:
        ended = pods[1].run(after=0 * MINUTE)
        assert ended.status == 0, ended.text()

    first = replace(pods[0], before=once(overtake, at="push"))
    ended = first.run()
    assert ended.status == 0, ended.text()
    assert "push.failed" not in ended.names
    assert fleet.commits() == commits + 1
    assert public_kids(fleet) == kids(A, B)


# ----------------------------------------------------------------------------------------------- objects that git minds


FAULTS = {
    "time zone +9999": "a <a@b> 1800000000 +9999",
    "time zone +99999": "a <a@b> 1800000000 +99999",
    "no address": "a 1800000000 +0000",
}


@MODES
@pytest.mark.parametrize("who", FAULTS.values(), ids=FAULTS)
def test_fault_of_form_in_a_commit_stops_nobody(fleet: Fleet, who: str) -> None:
    """What `git fsck` calls an error in somebody's commit harms nobody, and is no unreachable remote."""
    mirror = steady(fleet, A)
    _push_raw(fleet, git(fleet.remote, "rev-parse", "main^{tree}"), who)
    fleet.show((A,), (A, B))
    ended = mirror.run()
    assert "remote.unreachable" not in ended.names
    assert ended.status == 0, ended.text()
    assert public_kids(fleet) == kids(A, B)
    demand_quiet(fleet, mirror)


@MODES
def test_tree_that_git_refuses_is_no_unreachable_remote(fleet: Fleet) -> None:
    """A file named `.git`: the remote is reported as damaged (exit 1), and additions and revocations go on."""
    mirror = steady(fleet, A, V)
    blob = git(fleet.remote, "hash-object", "-w", "--stdin", stdin=b"x")
    entry = b"100644 .git\0" + bytes.fromhex(blob)
    _push_raw(fleet, git(fleet.remote, "hash-object", "-w", "--literally", "-t", "tree", "--stdin", stdin=entry))
    fleet.show((A, V), (A, V, B))
    mirror.policy = REVOKES_V
    ended = mirror.run()
    assert "remote.unreachable" not in ended.names
    assert ended.status == 1, ended.text()
    assert public_kids(fleet) == kids(A, B)


def _push_raw(fleet: Fleet, tree: str, who: str = "a <a@b> 1800000000 +0000") -> None:
    """Give the branch a commit that no honest git makes."""
    body = f"tree {tree}\nparent {fleet.head()}\nauthor {who}\ncommitter {who}\n\nx\n".encode()
    made = git(fleet.remote, "hash-object", "-w", "--literally", "-t", "commit", "--stdin", stdin=body)
    git(fleet.remote, "update-ref", "refs/heads/main", made)


@MODES
@pytest.mark.parametrize("newer", [False, True], ids=["this git", "newer git"])
def test_submodule_at_a_ledger_stops_no_other_issuer(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, newer: bool
) -> None:
    """A submodule entry stands where a ledger belongs; newer gits answer `<oid> submodule` instead of `missing`."""
    fleet.issuers[SECOND] = SECOND_URL
    fleet.show((OTHER,), (OTHER,), name=SECOND)
    mirror = steady(fleet, A)
    pusher = fleet.pusher()
    pusher.fetch()
    pusher.delete(LEDGER, SIGNATURE)
    pusher._git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},{LEDGER}")
    pusher._git("commit", "--quiet", "-m", "x")
    pusher._git("push", "--quiet", "origin", "HEAD:main")
    if newer:
        monkeypatch.setenv("PATH", f"{_newer_git(tmp_path / 'bin')}:{os.environ['PATH']}")
    fleet.show((A, B), (A, B))
    fleet.show((OTHER, EC), (OTHER, EC), name=SECOND)
    ended = mirror.run()
    assert ended.report is not None
    assert not ended.report.failures
    assert not ended.report.issuers[1].all_failures()
    assert public_kids(fleet) == kids(A, B)
    assert public_kids(fleet, SECOND_JWKS) == kids(OTHER, EC)
    assert statuses(fleet.remote) == {"A": "published", "B": "published"}
    demand_quiet(fleet, mirror)


def _newer_git(folder: Path) -> Path:
    """A folder with a `git` that tells submodules from what is missing, as git 2.45 and newer do."""
    folder.mkdir()
    program = folder / "git"
    program.write_text(f"#!{sys.executable}\n{_NEWER_GIT}")
    program.chmod(0o755)
    return folder


_NEWER_GIT = f"""
import os, subprocess, sys
words = [{shutil.which("git")!r}, *sys.argv[1:]]
if "cat-file" not in words:
    os.execv(words[0], words)
child = subprocess.Popen(words, stdout=subprocess.PIPE)
for line in child.stdout:
    is_submodule = line.endswith(b":{LEDGER} missing\\n")
    sys.stdout.buffer.write(b"{"1" * 40} submodule\\n" if is_submodule else line)
    sys.stdout.buffer.flush()
sys.exit(child.wait())
"""


# --------------------------------------------------------------------------------- operators, with the whole program


@pytest.fixture
def world(s3_server: S3Server, tmp_path: Path, *, signed: bool) -> Iterator[World]:
    """Two apiservers, an S3 server and a git remote, all real."""
    with running_world(s3_server, tmp_path) as made:
        repository = {"remote": str(bare(tmp_path / "remote.git"))}
        if signed:
            repository["signing_key"] = str(MIRROR.private_file(tmp_path / "signing_key"))
        made.config["repository"] = repository
        made.issuer["keys"] = {"kid": "opaque"}
        git(tmp_path / "remote.git", "config", "uploadpack.allowAnySHA1InWant", "true")
        yield made


def shows(world: World, *shown: tuple[Any, ...]) -> None:
    for replica, keys in zip(world.replicas, shown, strict=True):
        replica.serve(
            discovery=raw_answer("200 OK", discovery_body(ISSUER, keys), content_type="application/json"),
            jwks=raw_answer("200 OK", jwks_body(*keys), content_type="application/jwk-set+json"),
        )


def seen(world: World) -> frozenset[str]:
    """The kids that anybody gets from the public URL."""
    return frozenset(each["kid"] for each in json.loads(world.public(JWKS_KEY).body)["keys"])


@pytest.mark.s3
@DISKS
def test_revoke_is_about_the_key_whatever_a_pusher_added(world: World, disk: str) -> None:
    """`revoke V` exits 0 when V is gone from what is public, and not before; X never was there."""
    remote = world.folder / "remote.git"
    shows(world, (A, V), (A, V))
    assert world.mirror("--once").status == 0
    pusher = Pusher(world.folder / "pusher", remote)
    pusher.fetch()
    pusher.add(record(X))
    commit = pusher.push()
    if disk == "empty":
        (world.folder / "state").rename(world.folder / "gone")
    done = world.mirror("revoke", "syd-prod", "--reason", "stolen", "--yes", "--", V.thumbprint)
    assert done.status == 0, (done.out, done.err)
    assert seen(world) == kids(A)
    assert "ledger.unsigned" in done.out + done.err
    assert commit[:7] in done.out + done.err
    assert statuses(remote) == {"A": "published", "V": "revoked"}
    assert signed_by(remote, MIRROR) is not None
    world.overwrite(JWKS_KEY, public_bytes(A, EVIL))
    repaired = world.mirror("--once")
    assert (repaired.status, "bucket.drift" in repaired.err) == (0, True), repaired.err
    assert seen(world) == kids(A)


@pytest.mark.s3
def test_revoke_fails_while_the_key_is_public(world: World) -> None:
    """The bucket takes no put: V is revoked in git and still public, so the command says so and does not exit 0."""
    shows(world, (A, V), (A, V))
    assert world.mirror("--once").status == 0
    world.config["publish"]["expected_bucket_owner"] = "1" * 12
    world.further_environ["AWS_SECRET_ACCESS_KEY"] = "wrong"
    world.config["publish"]["endpoint_url"] = "https://localhost:1"
    done = world.mirror("revoke", "syd-prod", "--reason", "stolen", "--yes", "--", V.thumbprint)
    assert done.status == 1, (done.out, done.err)
    assert seen(world) == kids(A, V)
    assert statuses(world.folder / "remote.git")["V"] == "revoked"


@pytest.mark.s3
def test_approve_is_done_when_the_key_is_public(world: World) -> None:
    """`approve PREFIX` with a pusher's X under that very kid: exit 0, {A, B}."""
    remote = world.folder / "remote.git"
    shows(world, (A,), (A,))
    assert world.mirror("--once").status == 0
    world.issuer["keys"] = {"kid": "opaque", "new_keys": "hold"}
    shows(world, (A, B), (A, B))
    assert world.mirror("--once").status == 3
    pusher = Pusher(world.folder / "pusher", remote)
    pusher.fetch()
    pusher.add(record(with_kid(X, B.thumbprint[:8]), "held", held_because="policy"))
    pusher.push()
    done = world.mirror("approve", "syd-prod", "--yes", "--", B.thumbprint[:8])
    assert done.status == 0, (done.out, done.err)
    assert seen(world) == kids(A, B)


@pytest.mark.s3
def test_adopt_branch_signs_what_a_person_looked_at(world: World) -> None:
    """A signing key on a repository that nobody signed: pods wait (`ledger.lost`) until `adopt --branch`."""
    remote = world.folder / "remote.git"
    key = world.config["repository"].pop("signing_key")
    shows(world, (A, V), (A, V))
    assert world.mirror("--once").status == 0
    (world.folder / "state").rename(world.folder / "gone")
    world.config["repository"]["signing_key"] = key
    waiting = world.mirror("--once")
    assert (waiting.status, "ledger.lost" in waiting.err) == (1, True), waiting.err
    assert seen(world) == kids(A, V)
    (world.folder / "state").rename(world.folder / "gone-too")
    done = world.mirror("adopt", "--branch", "--yes")
    assert done.status == 0, (done.out, done.err)
    assert signed_by(remote, MIRROR) is not None
    assert world.mirror("--once").status == 0
    assert seen(world) == kids(A, V)
