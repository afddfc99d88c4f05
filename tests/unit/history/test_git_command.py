import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mirror.errors import BranchMovedError, HistoryError
from mirror.history.locks import ABANDONED_SECONDS, busy, remove_stale_locks
from mirror.history.repository import Repository
from support.gits import bare, commit, fsck_strict, git, log, open_repository, program

LOCKS = ("refs/heads/main.lock", "packed-refs.lock", "shallow.lock", "objects/info/commit-graph.lock", "gc.pid")
COMMITTER = """
import os, sys
from support.gits import commit, open_repository
from pathlib import Path
with open_repository(Path(sys.argv[1]), extra_environ={"PATH": os.environ["PATH"]}) as repository:
    number = 0
    while True:
        number += 1
        commit(repository, {f"public/{os.getpid()}": str(number).encode()})
        print(number, flush=True)
"""


def commit_again(repository: Repository, changes: dict[str, bytes]) -> None:
    """Commit as a pass does: the git of a killed mirror may still move the branch, then it is read again."""
    for _ in range(5):
        try:
            commit(repository, changes)
        except BranchMovedError:
            continue
        return
    raise AssertionError("the branch never stood still")


def leave(repository: Path, *names: str, age_seconds: float = 0) -> None:
    for name in names:
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        os.utime(path, (time.time() - age_seconds,) * 2)


def git_path() -> str:
    found = shutil.which("git")
    assert found is not None
    return found


def start_committer(tmp_path: Path, path: str = os.environ["PATH"]) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[3]
    environ = {"PATH": path, "PYTHONPATH": f"{root}:{root / 'tests'}"}
    return subprocess.Popen([sys.executable, "-c", COMMITTER, tmp_path], env=environ, stdout=subprocess.PIPE)


def test_nothing_left_costs_nothing(tmp_path: Path) -> None:
    """A repository without leftovers is not touched."""
    assert remove_stale_locks(bare(tmp_path / "r.git")) == ()
    assert remove_stale_locks(tmp_path / "absent.git") == ()


def test_old_locks_of_dead_processes_are_removed(tmp_path: Path) -> None:
    """Lock files that nobody alive can hold are removed at once, all kinds of them, and nothing else."""
    repository = bare(tmp_path / "r.git")
    leave(repository, *LOCKS, "fast_import_crash_4242", "keep.me", age_seconds=60)
    begun = time.monotonic()
    removed = remove_stale_locks(repository, settled_seconds=5)
    assert time.monotonic() - begun < 3
    assert {str(path.relative_to(repository)) for path in removed} == {*LOCKS, "fast_import_crash_4242"}
    assert (repository / "keep.me").exists()
    assert not any((repository / name).exists() for name in LOCKS)


def test_young_lock_is_watched_first(tmp_path: Path) -> None:
    """A young lock file is removed only after it stood still; one that changes meanwhile stays."""
    repository = bare(tmp_path / "r.git")
    leave(repository, LOCKS[0], age_seconds=0)
    begun = time.monotonic()
    assert len(remove_stale_locks(repository, settled_seconds=0.3)) == 1
    assert time.monotonic() - begun >= 0.3


def test_lock_that_moves_is_alive(tmp_path: Path) -> None:
    """A lock file that somebody takes anew while it is watched belongs to a living git and stays."""
    repository = bare(tmp_path / "r.git")
    leave(repository, LOCKS[0])
    script = f"import os, time; time.sleep(0.5); os.utime({str(repository / LOCKS[0])!r})"
    toucher = subprocess.Popen([sys.executable, "-S", "-c", script])
    assert remove_stale_locks(repository, settled_seconds=1.5) == ()
    assert toucher.wait() == 0
    assert (repository / LOCKS[0]).exists()


def test_lock_beside_a_living_git_of_ours_stays(tmp_path: Path) -> None:
    """While a git of any mirror or operator command is alive only files older than every timeout are removed."""
    repository = bare(tmp_path / "r.git")
    leave(repository, LOCKS[0], age_seconds=60)
    leave(repository, LOCKS[1], age_seconds=ABANDONED_SECONDS + 60)
    with busy(repository):
        assert [path.name for path in remove_stale_locks(repository, settled_seconds=0)] == [LOCKS[1]]
    assert [path.name for path in remove_stale_locks(repository, settled_seconds=0)] == ["main.lock"]


def test_orphaned_git_counts_as_alive(tmp_path: Path) -> None:
    """Killed with -9, a mirror leaves a git that goes on: its lock file stays until that git is gone, too."""
    open_repository(tmp_path).close()
    (tmp_path / "bin").mkdir()
    note = tmp_path / "pid"
    hang = f"echo $$ > {note}.new; mv {note}.new {note}; exec sleep 60"
    program(tmp_path / "bin" / "git", f'case "$*" in *fast-import*) {hang};; esac\nexec {git_path()} "$@"')
    committer = start_committer(tmp_path, f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    orphan = _pid(note)
    committer.kill()
    committer.communicate()
    repository = tmp_path / "snapshots.git"
    leave(repository, LOCKS[0], age_seconds=60)
    assert remove_stale_locks(repository, settled_seconds=0) == ()
    os.kill(orphan, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not remove_stale_locks(repository, settled_seconds=0):
        assert time.monotonic() < deadline


def _pid(note: Path) -> int:
    deadline = time.monotonic() + 20
    while not note.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(note.read_text())


def test_unremovable_lock_is_told(tmp_path: Path) -> None:
    """A leftover that cannot be removed is an error with its remedy, not a silent failure of every later commit."""
    open_repository(tmp_path).close()
    (tmp_path / "snapshots.git" / LOCKS[0]).mkdir()
    with pytest.raises(HistoryError, match="could not be removed"):
        open_repository(tmp_path, settled_seconds=0)


def test_repository_that_is_read_only_is_left_alone(tmp_path: Path) -> None:
    """Where our own lock file cannot be opened nothing is removed, and reading goes on."""
    repository = bare(tmp_path / "r.git")
    leave(repository, LOCKS[0], age_seconds=60)
    (repository / "oidc-mirror.busy").mkdir()
    assert remove_stale_locks(repository) == ()
    with busy(repository) as held:
        assert held == ()


def test_kill_between_objects_and_branch_leaves_nothing_stale(tmp_path: Path) -> None:
    """Killed after the objects and before the branch, the next pass finds the old branch and commits at once."""
    with open_repository(tmp_path) as repository:
        first = commit(repository, {"public/a": b"1"}, message="first")
    (tmp_path / "bin").mkdir()
    program(
        tmp_path / "bin" / "git", f'case "$*" in *update-ref*) kill -9 $PPID; exit 1;; esac\nexec {git_path()} "$@"'
    )
    committer = start_committer(tmp_path, f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert committer.communicate()[0] == b""
    assert committer.returncode == -signal.SIGKILL
    with open_repository(tmp_path) as repository:
        assert repository.heads().local == first
        commit(repository, {"public/a": b"2"}, message="second")
    path = tmp_path / "snapshots.git"
    assert log(path) == ["second", "first"]
    assert git(path, "for-each-ref", "--format=%(refname)") == "refs/heads/main"
    fsck_strict(path)


def test_git_killed_inside_the_reference_update_is_cleaned_up(tmp_path: Path) -> None:
    """When mirror and git die together with the branch's lock file on disk, the next pass removes it and commits."""
    with open_repository(tmp_path) as repository:
        commit(repository, {"public/a": b"1"})
    lock = tmp_path / "snapshots.git" / "refs" / "heads" / "main.lock"
    (tmp_path / "bin").mkdir()
    program(
        tmp_path / "bin" / "git",
        f'case "$*" in *update-ref*) : > {lock}; kill -9 $PPID; exit 1;; esac\nexec {git_path()} "$@"',
    )
    committer = start_committer(tmp_path, f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    committer.communicate()
    assert lock.exists()
    with open_repository(tmp_path, settled_seconds=0.2) as repository:
        commit(repository, {"public/a": b"2"}, message="second")
    assert log(tmp_path / "snapshots.git")[0] == "second"


def test_kill_at_any_instant_is_survived(tmp_path: Path) -> None:
    """Killed at random instants, the repository is always whole, the branch keeps every commit told, and takes more."""
    chance = random.Random(4)  # noqa: S311 - instants, not secrets
    for _ in range(6):
        committer = start_committer(tmp_path)
        assert committer.stdout is not None
        committer.stdout.readline()
        time.sleep(chance.uniform(0, 0.15))
        committer.kill()
        told = len(committer.communicate()[0].splitlines()) + 1
        with open_repository(tmp_path, settled_seconds=0.5) as repository:
            head = repository.heads().local
            assert head is not None
            stored = repository.read(head, [f"public/{committer.pid}"])[f"public/{committer.pid}"]
            assert int(stored) >= told
            commit_again(repository, {"public/after": str(committer.pid).encode()})
        fsck_strict(tmp_path / "snapshots.git")
