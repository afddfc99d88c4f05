"""The git remote is lost: what a mirror whose disk began empty does with the empty one that takes its place."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.gits import bare, environment, git, log
from support.situations import JWKS_KEY
from support.worlds import PROJECT, Done, World

pytestmark = [pytest.mark.s3, pytest.mark.timeout(240)]  # several passes, each a process

AUTHOR = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
OVERLAP = "02-rsa1-ec2-overlap/"


@pytest.fixture
def shared(request: pytest.FixtureRequest, world: World) -> World:
    """A cluster whose history on the remote has two commits, published by a mirror that is gone."""
    world.config["repository"] = {"remote": str(make_remote(world))}
    if getattr(request, "param", "") == "signed":
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(world.folder / "signing_key")]
        subprocess.run(words, check=True)
        world.config["repository"]["signing_key"] = "signing_key"
    world.show("01-rsa1/anonymous-bound-", "01-rsa1/anonymous-bound-")
    succeed(world.mirror("--once"))
    world.show(OVERLAP, OVERLAP)
    succeed(world.mirror("--once"))
    shutil.rmtree(world.folder / "state")
    return world


def make_remote(world: World) -> Path:
    path = world.folder / "remote.git"
    shutil.rmtree(path, ignore_errors=True)
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(path)], check=True)
    return path


def succeed(done: Done) -> Done:
    assert done.status == 0, done.out + done.err
    return done


def is_shallow(world: World) -> bool:
    return world.git("rev-parse", "--is-shallow-repository").strip() == "true"


def test_kept_disk_gets_the_whole_history_and_restores_the_remote(shared: World) -> None:
    """A first pass takes the newest commit alone; the second one of the same disk takes the rest."""
    succeed(shared.mirror("--once"))
    assert is_shallow(shared)
    succeed(shared.mirror("--once"))
    assert not is_shallow(shared)
    before = log(shared.folder / "remote.git")
    assert len(before) == 2
    remote = make_remote(shared)
    succeed(shared.mirror("--once"))
    assert log(remote) == before


@pytest.mark.parametrize("shared", ["unsigned", "signed"], indirect=True)
def test_shallow_history_starts_again_with_the_command_of_the_message(shared: World) -> None:
    """The pass says what happened; its command begins a history that any server takes, and no key is lost."""
    succeed(shared.mirror("--once"))
    published = shared.public(JWKS_KEY).body
    remote = make_remote(shared)
    done = shared.mirror("--once")
    assert done.status == 1
    assert "The git remote lost its history" in done.out
    (command,) = re.findall(r"`(git --git-dir=.*? update-ref .*?)`", done.out)
    subprocess.run(["sh", "-ec", command], env=shared.environ(), check=True)
    succeed(shared.mirror("--once"))
    assert log(remote) == ["Begin anew"]
    assert shared.public(JWKS_KEY).body == published
    shutil.rmtree(shared.folder / "state")
    again = succeed(shared.mirror("--once", "--output", "json")).report()
    assert [key["status"] for issuer in again["issuers"] for key in issuer["keys"]] == ["published", "published"]


def test_runbook_has_the_command_of_the_message(tmp_path: Path) -> None:
    """Typed from the runbook, with the paths of this machine, it does the same."""
    remote = bare(tmp_path / "remote.git")
    made = git(remote, "commit-tree", "-m", "old", git(remote, "mktree"), environ=environment(tmp_path) | AUTHOR)
    git(remote, "update-ref", "refs/heads/main", made)
    blocks = re.findall(r"```sh\n(.*?)```", (PROJECT / "docs" / "runbook.md").read_text("utf-8"), re.DOTALL)
    (command,) = (block for block in blocks if "Begin anew" in block)
    script = command.replace("/var/lib/oidc-mirror/snapshots.git", str(remote))
    subprocess.run(["bash", "-ec", script], env=environment(tmp_path), check=True)
    assert log(remote) == ["Begin anew"]
