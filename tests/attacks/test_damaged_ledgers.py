"""Ledgers, signatures, commits and trees that are damaged on the remote: one issuer's trouble at most, and healed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.fleet_states import (
    DISKS,
    MODES,
    REVOKES_V,
    demand_quiet,
    demand_signed,
    on,
    retiring,
    steady,
)
from support.fleets import (
    EC,
    OPERATOR,
    OTHER,
    SECOND,
    SECOND_JWKS,
    SECOND_LEDGER,
    SECOND_URL,
    A,
    B,
    Fleet,
    R,
    V,
    X,
    kids,
    public_kids,
)
from support.gits import git
from support.pushers import SIGNATURE, record, statuses
from support.situations import LEDGER, NAME

pytestmark = pytest.mark.unmeasured  # unit tests reach the same lines

GARBAGE_COMMITS = int(os.environ.get("OIDC_MIRROR_GARBAGE_COMMITS", "5000"))
"""The long form is 100000."""


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
def test_garbage_delays_no_issuer(fleet: Fleet, disk: str, path: str, garbage: bytes, *, signed: bool) -> None:
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
    """The file is deleted from the branch, and a new key appears: it is added to the known keys without an operator."""
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
    """Many commits with invalid ledgers above the trusted one: {A, B} in time."""
    mirror = steady(fleet, A)
    garbage_commits()
    fleet.show((A,), (A, B))
    ended = on(disk, mirror).run()
    assert ended.status in (0, 1), ended.text()
    assert public_kids(fleet) == kids(A, B)
    demand_signed(fleet)
    ended = on(disk, mirror).run()
    assert (ended.status, public_kids(fleet)) == (0, kids(A, B))


# ----------------------------------------------------------------------------------------------- objects that git minds


FAULTS = {
    "time zone +9999": "a <a@b> 1800000000 +9999",
    "time zone +99999": "a <a@b> 1800000000 +99999",
    "no address": "a 1800000000 +0000",
}


@MODES
@pytest.mark.parametrize("who", FAULTS.values(), ids=FAULTS)
def test_malformed_commit_stops_no_issuer(fleet: Fleet, who: str) -> None:
    """An error of `git fsck` in another commit has no effect, and is not an unreachable remote."""
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
    """A folder with a `git` that distinguishes submodules from missing objects, as git 2.45 and newer do."""
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
