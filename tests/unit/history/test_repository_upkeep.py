"""Maintenance of a repository: garbage collection, signatures, identities, and failing or hanging git commands."""

import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror.config.settings import RepositorySettings as Settings
from mirror.errors import HistoryError
from mirror.history.repository import GitRepository, commit_stream, identity, quoted, with_operator_identity
from mirror.model import CommitId
from support.gits import (
    WHEN,
    bare,
    commit,
    counting_git,
    environment,
    git,
    head_of,
    open_repository,
    program,
)

A, B, C = "ledger/a/keys.json", "public/a/jwks", "public/b/jwks"


def test_garbage_is_collected_daily(tmp_path: Path) -> None:
    """gc does not run within a day of the repository's creation or of its last run, but if the clock was set back."""
    now = [1_000_000.0]
    extra, notes = counting_git(tmp_path)
    with open_repository(tmp_path, extra_environ=extra, clock=lambda: now[0]) as repository:
        commit(repository, {A: b"one"})
        runs = []
        for moment in (1_000_000.0, 1_080_000.0, 1_086_401.0, 1_172_000.0, 1_172_802.0, 5.0):
            now[0] = moment
            repository.collect_garbage()
            runs.append(sum(line.split()[-2:] == ["gc", "--quiet"] for line in notes.read_text().splitlines()))
        assert runs == [0, 0, 1, 1, 2, 3]
        (tmp_path / "snapshots.git.gc").write_text("nonsense")
        repository.collect_garbage()
        assert repository.read(head_of(repository), [A]) == {A: b"one"}
    assert list((tmp_path / "snapshots.git" / "objects" / "pack").glob("*.pack"))


def test_failing_gc_is_reported_and_waits_a_day(repo: GitRepository, tmp_path: Path) -> None:
    """A failing gc is reported once a day, not in every pass; so is a timestamp file that cannot be written."""
    commit(repo, {A: b"one"})
    (tmp_path / "snapshots.git.gc").unlink()
    (tmp_path / "snapshots.git" / "packed-refs.lock").mkdir()
    with pytest.raises(HistoryError, match="tidied up"):
        repo.collect_garbage()
    repo.collect_garbage()
    (tmp_path / "snapshots.git.gc").unlink()
    (tmp_path / "snapshots.git.gc").mkdir()
    with pytest.raises(HistoryError, match="could not be written"):
        repo.collect_garbage()


def signing(tmp_path: Path, name: str = "signer") -> tuple[Path, str]:
    """An ssh key pair in `tmp_path`: the private key's path and a line for an allowed-signers file."""

    key = tmp_path / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key], check=True)
    return key, f"{name}@example.com {key.with_suffix('.pub').read_text()}"


def sign_with(tmp_path: Path, key: Path) -> None:
    """Configure git in the tests' home folder to sign with `key`."""
    environment(tmp_path)
    (tmp_path / "home" / ".gitconfig").write_text(f"[gpg]\n\tformat = ssh\n[user]\n\tsigningKey = {key}\n")


def test_commit_is_signed(tmp_path: Path) -> None:
    """With `sign` every commit carries the signature of the key in the user's git configuration."""
    key, line = signing(tmp_path)
    sign_with(tmp_path, key)
    signers = tmp_path / "signers"
    signers.write_text(line)
    with open_repository(tmp_path, sign=True, author_name="A <b>", author_email="a@b") as repository:
        commit(repository, {A: b"one"}, message="first")
        head = commit(repository, {A: b"two"}, message="second")
        assert repository.read(head, [A]) == {A: b"two"}
    path = tmp_path / "snapshots.git"
    verdicts = git(path, "-c", f"gpg.ssh.allowedSignersFile={signers}", "log", "--format=%G? %s %at")
    assert verdicts.splitlines() == [f"G {name} {WHEN.timestamp():.0f}" for name in ("second", "first")]


def test_missing_signing_key_is_an_error(tmp_path: Path) -> None:
    """Without a key nothing is committed, and the remedy has the setting."""
    sign_with(tmp_path, tmp_path / "absent")
    with open_repository(tmp_path, sign=True) as repository:
        with pytest.raises(HistoryError, match=r"repository\.sign"):
            commit(repository, {A: b"one"})
        assert repository.heads().local is None


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("echo git version 2.35.9", "too old", id="old"),
        pytest.param("echo git version unknown", "could not be read", id="unreadable"),
        pytest.param("exit 3", "could not be read", id="failing"),
    ],
)
def test_unfit_git_is_refused(tmp_path: Path, script: str, said: str) -> None:
    """A git version without the required features is refused with the version to install."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "git", script)
    with pytest.raises(HistoryError, match=said) as caught:
        open_repository(tmp_path, extra_environ={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"})
    assert "2.36" in caught.value.remedy
    assert not (tmp_path / "snapshots.git").exists()


def test_missing_git_is_reported(tmp_path: Path, repo: GitRepository) -> None:
    """Without a git command, every call reports what to install."""
    empty = {**environment(tmp_path), "PATH": str(tmp_path / "nothing")}
    fresh = GitRepository(Settings(path=tmp_path / "other.git"), empty)
    with pytest.raises(HistoryError, match="Install git"):
        fresh.prepare()
    existing = GitRepository(Settings(path=tmp_path / "snapshots.git"), empty)
    with pytest.raises(HistoryError, match="Install git"):
        existing.heads()


def test_downgraded_git_is_reported(tmp_path: Path, repo: GitRepository) -> None:
    """An older git is reported with the version to install, also for an existing repository."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "git", 'echo "error: unknown option \\`batch-command\'" >&2; exit 129')
    old = GitRepository(Settings(path=tmp_path / "snapshots.git"), {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"})
    with pytest.raises(HistoryError, match="too old"):
        old.heads()


def test_git_that_dies_silently_is_reported(tmp_path: Path, repo: GitRepository) -> None:
    """A git process that ends between requests is reported with its exit status."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "git", "exit 7")
    dying = GitRepository(Settings(path=tmp_path / "snapshots.git"), {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"})
    with pytest.raises(HistoryError, match="status 7"):
        dying.heads()


def test_puzzling_answer_is_an_error(tmp_path: Path, repo: GitRepository) -> None:
    """An unexpected answer of git is an error."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "git", "echo hello; sleep 60")
    odd = GitRepository(Settings(path=tmp_path / "snapshots.git"), {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"})
    with pytest.raises(HistoryError, match="does not understand"):
        odd.heads()


@pytest.mark.parametrize("call", ["heads", "commit"])
def test_hanging_git_is_killed(tmp_path: Path, repo: GitRepository, call: str) -> None:
    """A hanging git is killed with its children at the timeout, and the error has the timeout."""
    first = commit(repo, {A: b"one"})
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "git", f"sleep 300 & echo $! > {tmp_path}/child; wait")
    path = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    hung = GitRepository(Settings(path=tmp_path / "snapshots.git"), path, timeout_seconds=0.5)
    with pytest.raises(HistoryError, match=r"0\.5 s"):
        hung.heads() if call == "heads" else hung.is_ancestor(first, CommitId("1" * 40))
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 30  # after SIGKILL a process takes a moment to end on a busy machine
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_cancelled_repository_ends_soon(tmp_path: Path, repo: GitRepository) -> None:
    """`cancel` ends a running git within seconds, and prevents any other from starting."""
    commit(repo, {A: b"one"})
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "git", "sleep 300")
    slow = GitRepository(Settings(path=tmp_path / "snapshots.git"), {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"})
    timer = threading.Timer(0.3, slow.cancel)
    timer.start()
    with pytest.raises(HistoryError, match="program is ending"):
        slow.is_ancestor(CommitId("1" * 40), CommitId("2" * 40))
    with pytest.raises(HistoryError, match="program is ending"):
        slow.heads()
    timer.join()


def test_draft_of_a_killed_creation_is_removed(tmp_path: Path) -> None:
    """A mirror killed while it creates its repository leaves a temporary folder, which the next one removes."""
    (tmp_path / "snapshots.git.new-1-1" / "refs").mkdir(parents=True)
    open_repository(tmp_path).close()
    assert sorted(path.name for path in tmp_path.glob("snapshots.git*")) == ["snapshots.git", "snapshots.git.gc"]


ADA = "[user]\n\tname = Ada Operator\n\temail = ada@example.com\n"


@pytest.mark.parametrize(
    ("config", "environ", "expected"),
    [
        (ADA, {}, ("Ada Operator", "ada@example.com")),
        (ADA, {"GIT_AUTHOR_NAME": "Eve"}, ("Eve", "ada@example.com")),
        ("", {"GIT_AUTHOR_NAME": "Eve", "GIT_AUTHOR_EMAIL": "eve@example.com"}, ("Eve", "eve@example.com")),
        ("", {}, ("oidc-mirror", "oidc-mirror@localhost")),
        ("[user]\n\tname = Ada\n", {}, ("oidc-mirror", "oidc-mirror@localhost")),
        ("[user\n", {}, ("oidc-mirror", "oidc-mirror@localhost")),
    ],
    ids=[
        "configured",
        "environment over configuration",
        "environment",
        "nothing",
        "no address",
        "broken configuration",
    ],
)
def test_identity_is_the_operators_where_git_has_one(
    tmp_path: Path, config: str, environ: dict[str, str], expected: tuple[str, str]
) -> None:
    """Git's configured identity is used if it is complete; git's guess from the host name never is."""
    clean = environment(tmp_path, **environ)
    Path(clean["GIT_CONFIG_GLOBAL"]).write_text(config)
    settings = Settings(tmp_path / "absent.git")
    found = with_operator_identity(settings, clean)
    assert (found.author_name, found.author_email) == expected
    assert found.path == settings.path


@pytest.mark.parametrize(
    ("name", "email", "wanted"),
    [
        pytest.param("oidc-mirror", "a@b", b"oidc-mirror <a@b> 1795420800 +0000", id="plain"),
        pytest.param("A <x>\nfrom y", "a@b>\n", b"A x from y <a@b> 1795420800 +0000", id="breaking-the-line"),
        pytest.param("Zoë", "", "Zoë <> 1795420800 +0000".encode(), id="no-ascii"),
    ],
)
def test_identity_is_one_line(name: str, email: str, wanted: bytes) -> None:
    """Author and date are one line in git's format, for any configuration."""
    assert identity(name, email, datetime(2026, 11, 23, 8, 0, tzinfo=UTC)) == wanted


def test_zone_of_the_clock_changes_nothing() -> None:
    """The time zone of the clock does not change the bytes."""
    assert identity("a", "b", WHEN.astimezone(timezone(timedelta(hours=10)))) == identity("a", "b", WHEN)


def test_path_is_quoted() -> None:
    """Quotes, backslashes, line feeds and non-ASCII letters in a path are escaped, so that no path ends a command."""
    assert quoted('a"\\\né') == b'"a\\042\\134\\012\\303\\251"'


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name.lower() not in {".", "..", ".git"}
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(path=st.lists(names, min_size=1, max_size=3).map("/".join), body=st.binary(max_size=200), message=st.text())
def test_any_path_and_body_survive_git(tmp_path: Path, path: str, body: bytes, message: str) -> None:
    """fast-import stores exactly these bytes at exactly this path, and moves no reference."""
    repository = tmp_path / "r.git"
    if not repository.exists():
        bare(repository)
    clean = message.replace("\0", "")
    stream = commit_stream(tree=None, parents=(), changes={path: body}, message=clean, author=identity("a", "b", WHEN))
    commit = CommitId(git(repository, "fast-import", "--quiet", "--done", stdin=stream))
    entry, _, listed = git(repository, "ls-tree", "-r", "-l", "-z", commit).rstrip("\0").partition("\t")
    assert (listed, int(entry.split()[-1])) == (path, len(body))
    assert git(repository, "for-each-ref") == ""
