"""The client of the git checks, with real git."""

from pathlib import Path

import pytest

from mirror.check.clients import HistoryInspector
from mirror.check.ports import HistoryFacts
from mirror.config.settings import RepositorySettings as Settings
from support.gits import bare, commit, environment, git, head_of, open_repository, program
from support.situations import ISSUER, LEDGER


def look(tmp: Path, remote: Path | str | None = None, **extra: str) -> HistoryFacts:
    settings = Settings(tmp / "snapshots.git", remote=None if remote is None else str(remote))
    return HistoryInspector(settings, environment(tmp, **extra)).look()


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder except git's own lock file, which every command opens."""
    return {
        str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and "busy" not in path.name
    }


def test_whole_repository_and_remote_are_reported(tmp_path: Path) -> None:
    """Both heads are known, nothing is unpushed and a push is possible. No file changes on either side."""
    remote = bare(tmp_path / "remote.git")
    with open_repository(tmp_path, remote=remote) as repository:
        commit(repository, {"a": b"1"})
        repository.push()
        head = head_of(repository)
    before = tree(tmp_path)
    assert look(tmp_path, remote) == HistoryFacts(local=head, remote=head, unpushed=0)
    assert tree(tmp_path) == before


def test_unpushed_commits_are_counted_and_stay_unpushed(tmp_path: Path) -> None:
    """The push dry run sends nothing."""
    remote = bare(tmp_path / "remote.git")
    with open_repository(tmp_path, remote=remote) as repository:
        commit(repository, {"a": b"1"})
    state = look(tmp_path, remote)
    assert (state.remote, state.push, state.unpushed) == (None, None, 1)
    assert git(remote, "for-each-ref") == ""


@pytest.mark.parametrize("has_commit", [False, True], ids=["empty-remote", "remote-with-history"])
def test_before_the_first_pass_the_remote_is_tried(tmp_path: Path, has_commit: bool) -> None:
    """Without a local repository nothing is created, and the push dry run still happens."""
    remote = bare(tmp_path / "remote.git")
    if has_commit:
        with open_repository(tmp_path, name="other.git", remote=remote) as other:
            commit(other, {"a": b"1"})
            other.push()
    state = look(tmp_path, remote)
    assert (state.local, state.fetch, state.push) == (None, None, None)
    assert (state.remote is not None) == has_commit
    assert not (tmp_path / "snapshots.git").exists()


def test_remote_with_other_commits_may_be_pushed_to(tmp_path: Path) -> None:
    """The other commits are merged first, then the push succeeds."""
    remote = bare(tmp_path / "remote.git")
    for name in ("other.git", "snapshots.git"):
        with open_repository(tmp_path, name=name, remote=remote) as repository:
            commit(repository, {"a": name.encode()})
            if name == "other.git":
                repository.push()
    assert look(tmp_path, remote).push is None


def test_missing_remote_is_reported(tmp_path: Path) -> None:
    """The report quotes git's error and gives a remedy."""
    state = look(tmp_path, tmp_path / "none.git")
    assert state.fetch is not None
    assert (state.fetch.code, "repository.remote" in state.fetch.remedy) == ("git.unreachable", True)


def test_remote_that_denies_pushes_is_reported(tmp_path: Path) -> None:
    """Fetching works but receive-pack is denied, as with a read-only deploy key."""
    remote = bare(tmp_path / "remote.git")
    ssh = program(
        tmp_path / "ssh",
        f'case "$*" in *receive-pack*) echo "ERROR: no write access" >&2; exit 128;; esac\n'
        f"exec git-upload-pack {remote}",
    )
    state = look(tmp_path, "git@git.example.com:x/y.git", GIT_SSH=str(ssh), GIT_SSH_VARIANT="simple")
    assert state.fetch is None
    assert state.push is not None
    assert state.push.code == "git.push_denied"
    assert "no write access" in state.push.sentence


def test_damaged_repository_is_reported(tmp_path: Path) -> None:
    """A missing object is found without the remote."""
    with open_repository(tmp_path) as repository:
        commit(repository, {"a": b"1"})
    blob = git(tmp_path / "snapshots.git", "rev-parse", "main:a")
    (tmp_path / "snapshots.git/objects" / blob[:2] / blob[2:]).unlink()
    damaged = look(tmp_path).damaged
    assert damaged is not None
    assert blob in damaged.sentence


def test_repository_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    """A damaged branch stops the check, as it stops a pass."""
    with open_repository(tmp_path) as repository:
        commit(repository, {"a": b"1"})
    (tmp_path / "snapshots.git/refs/heads/main").write_text("no commit\n")
    unreadable = look(tmp_path).unreadable
    assert unreadable is not None
    assert unreadable.code == "git.unreadable"


@pytest.mark.parametrize("is_remote", [False, True], ids=["local", "remote"])
def test_ledger_that_does_not_count_is_reported(tmp_path: Path, is_remote: bool) -> None:
    """A rejected ledger is reported locally and on the remote. Nothing else is known of its issuer."""
    remote = bare(tmp_path / "remote.git")
    with open_repository(tmp_path, name="other.git" if is_remote else "snapshots.git", remote=remote) as repository:
        commit(repository, {LEDGER: b"{}"})
        repository.push()
    settings = Settings(tmp_path / "snapshots.git", remote=str(remote))
    (broken,) = HistoryInspector(settings, environment(tmp_path), issuers=[ISSUER]).look().broken
    assert broken.code == "ledger.damaged"
    assert broken.where.startswith(LEDGER)
