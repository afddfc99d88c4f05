"""A git remote that is huge, rewritten or damaged, or that refuses every login."""

import shutil
from pathlib import Path

import pytest

from mirror.report import ExitStatus
from support.gits import fsck_strict, git, program
from support.mirrors import branch
from support.situations import BOTH, ONE
from torture.damages import DAMAGES
from torture.on_disk import OnDisk
from torture.scale import scale, tally


def grown(remote: Path, commits: int) -> None:
    """Add `commits` commits to the remote's branch, as years of other clusters would."""
    head = branch(remote)
    stream = [f"reset refs/heads/main\nfrom {head}\n\n"]
    for number in range(commits):
        body = f"of the year {number}\n"
        stream.append(
            f"commit refs/heads/main\ncommitter o <o@example.com> {1_700_000_000 + number} +0000\ndata 2\nx\n"
            f"M 100644 inline public/other.example.com/{number % 500}/openid/v1/jwks\ndata {len(body)}\n{body}\n"
        )
    git(remote, "fast-import", "--quiet", stdin="".join(stream).encode())


def test_huge_history_is_fetched_and_added_to(world: OnDisk) -> None:
    """Others add thousands of commits: the next pass fetches all and adds its own."""
    count = 20_000 if scale().everything else 2_000
    remote = world.tmp / "remote.git"
    grown(remote, count)
    before = branch(remote)
    assert world.run(BOTH).exit_status is ExitStatus.CURRENT
    git(remote, "merge-base", "--is-ancestor", before, "main")
    assert branch(remote) == branch(world.repository) != before
    assert int(git(remote, "rev-list", "--count", "main")) >= count + 2
    fsck_strict(world.repository)
    tally("remote", "a huge history", commits=count)


def test_credentials_that_end_delay_no_addition(world: OnDisk) -> None:
    """ssh begins to refuse the login: the new key is published. When it accepts again, all is pushed."""
    remote, ended = world.tmp / "remote.git", world.tmp / "ended"
    said = 'echo "git@git.example.com: Permission denied (publickey)." >&2; exit 255'
    # git passes the remote command as the last argument: it runs on this machine.
    ssh = program(world.tmp / "ssh", f'[ ! -e {ended} ] || {{ {said}; }}\nfor last; do :; done\neval "exec $last"')
    world.environ, world.situation.remote = {"GIT_SSH_COMMAND": str(ssh)}, f"ssh://git@git.example.com{remote}"
    assert world.run(ONE).exit_status is ExitStatus.CURRENT
    ended.touch()
    report = world.run(BOTH)
    (reported,) = [event.sentence for event in report.events if event.name == "remote.unreachable"]
    assert "Permission denied" in reported
    assert world.public_kids() == 2
    assert branch(remote) != branch(world.repository)
    ended.unlink()
    assert world.run(BOTH).exit_status is ExitStatus.CURRENT
    assert branch(remote) == branch(world.repository)
    tally("remote", "credentials ended between passes", passes=4)


def test_force_pushed_branch_gets_our_commits_back(world: OnDisk) -> None:
    """The branch is reset: an error event reports it, and no commit is lost."""
    remote = world.tmp / "remote.git"
    first = branch(remote)
    world.run(BOTH)
    second = branch(remote)
    git(remote, "update-ref", "refs/heads/main", first)
    report = world.run(BOTH)
    assert any(event.name == "history.rewritten" for event in report.events)
    git(remote, "merge-base", "--is-ancestor", second, "main")
    tally("remote", "a force-pushed branch", passes=1, lost=0)


def test_hook_that_refuses_delays_no_addition(world: OnDisk) -> None:
    """The remote's hook rejects our push: the new key is published. When it accepts, all is pushed."""
    remote = world.tmp / "remote.git"
    before = branch(remote)
    hook = program(remote / "hooks" / "pre-receive", 'echo "no changes on Fridays" >&2; exit 1')
    report = world.run(BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    (reported,) = [event.sentence for event in report.events if event.name == "push.failed"]
    assert "hook declined" in reported
    assert world.public_kids() == 2
    assert (branch(remote), report.unpushed_commits) == (before, 1)
    hook.unlink()
    assert world.run(BOTH).exit_status is ExitStatus.CURRENT
    assert branch(remote) == branch(world.repository) != before
    tally("remote", "a hook refused the push", passes=2, lost=0)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_remote_delays_no_addition(world: OnDisk, damage: str) -> None:
    """The remote is damaged by a power cut: the new key is published. After its repair it gets every commit."""
    remote, backup = world.tmp / "remote.git", world.tmp / "backup.git"
    shutil.copytree(remote, backup)
    DAMAGES[damage](remote)
    world.run(BOTH)
    assert world.public_kids() == 2
    fsck_strict(world.repository)
    second = branch(world.repository)
    shutil.rmtree(remote)
    backup.rename(remote)
    assert world.run(BOTH).exit_status is ExitStatus.CURRENT
    assert branch(remote) == branch(world.repository)
    git(remote, "merge-base", "--is-ancestor", second, "main")
    fsck_strict(remote)
    tally("remote", "a power cut damaged the remote", damages=1, lost=0)
