"""Real git for tests: repositories in temporary folders, and no git configuration but what a test writes."""

import atexit
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from mirror.config.settings import RepositorySettings as Settings
from mirror.history.repository import GitRepository
from mirror.model import CommitId

WHEN = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def environment(tmp: Path, **extra: str) -> dict[str, str]:
    """An environment with an empty home, in which no configuration of this machine's user holds."""
    home = tmp / "home"
    home.mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        **extra,
    }


def git(directory: Path, *args: str, environ: Mapping[str, str] | None = None, stdin: bytes = b"") -> str:
    """What git prints, without the last line feed; fails the test when git fails."""
    return git_bytes(directory, *args, environ=environ, stdin=stdin).decode().rstrip("\n")


def git_bytes(directory: Path, *args: str, environ: Mapping[str, str] | None = None, stdin: bytes = b"") -> bytes:
    """What git prints; fails the test when git fails."""
    clean = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", f"--git-dir={directory}", *args], env=environ or clean, input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def bare(path: Path) -> Path:
    """A new bare repository with branch `main`. It collects no garbage by itself: its tests are too short for that."""
    shutil.copytree(_template(), path, dirs_exist_ok=True)
    return path


@cache
def _template() -> Path:
    """A repository that is copied: files are copied faster than git makes them. Tests as another user read it too."""
    folder = Path(mkdtemp(prefix="oidc-mirror-bare-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    git(folder, "init", "--quiet", "--bare", "--template=", "--initial-branch=main")
    git(folder, "config", "receive.autoGC", "false")
    for name in ("hooks", "info"):  # git's own template has them; its sample hooks are not needed
        (folder / name).mkdir(exist_ok=True)
    return folder


def log(directory: Path, ref: str = "main") -> list[str]:
    """The subjects of the commits that `ref` contains, newest first."""
    return git(directory, "log", "--topo-order", "--format=%s", ref).splitlines()


def files_at(directory: Path, commit: str = "main") -> dict[str, bytes]:
    """Every file of a commit."""
    paths = [path for path in git(directory, "ls-tree", "-r", "-z", "--name-only", commit).split("\0") if path]
    return {path: git_bytes(directory, "cat-file", "blob", f"{commit}:{path}") for path in paths}


def fsck_strict(directory: Path) -> None:
    """Fail the test unless the repository is whole."""
    git(directory, "fsck", "--strict", "--full", "--no-dangling")


def open_repository(
    tmp: Path, *, name: str = "snapshots.git", remote: str | Path | None = None, **options: object
) -> GitRepository:
    """A prepared repository of ours in `tmp`; `options` are fields of the settings, `extra_environ` goes to git."""
    extra = options.pop("extra_environ", {})
    assert isinstance(extra, dict)
    limits = {key: options.pop(key) for key in tuple(options) if key in _CONSTRUCTOR}
    settings = Settings(path=tmp / name, remote=None if remote is None else str(remote), **options)  # type: ignore[arg-type]  # fields by name
    repository = GitRepository(settings, environment(tmp, **extra), **limits)  # type: ignore[arg-type]  # arguments by name
    repository.prepare()
    return repository


_CONSTRUCTOR = ("timeout_seconds", "remote_timeout_seconds", "max_fetched_file_bytes", "settled_seconds", "clock")


def commit(
    repository: GitRepository, changes: Mapping[str, bytes | None], *, message: str = "change", minutes: int = 0
) -> CommitId:
    """A commit on top of the local branch."""
    head = repository.heads().local
    return repository.commit(
        base=head,
        parents=() if head is None else (head,),
        changes=changes,
        message=message,
        when=WHEN + timedelta(minutes=minutes),
        expect=head,
    )


def head_of(repository: GitRepository) -> CommitId:
    """The local branch, which must exist."""
    local = repository.heads().local
    assert local is not None
    return local


def program(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def counting_git(tmp: Path) -> tuple[dict[str, str], Path]:
    """An environment whose `git` notes each start in a file, and that file."""
    real, folder, notes = shutil.which("git"), tmp / "counting", tmp / "started"
    folder.mkdir()
    program(folder / "git", f'echo "$*" >> {notes}\nexec {real} "$@"')
    return {"PATH": f"{folder}:{os.environ['PATH']}"}, notes


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[GitRepository]:
    """A new repository of ours without a remote."""
    with open_repository(tmp_path) as repository:
        yield repository


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """An empty bare repository, to serve as a remote."""
    return bare(tmp_path / "remote.git")
