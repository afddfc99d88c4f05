"""How git is run: stale locks, time limits, interrupts, and orphaned processes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mirror.errors import BranchMovedError, HistoryError
from mirror.history.git_command import (
    ABANDONED_SECONDS,
    KEPT_STDERR_BYTES,
    SHOWN_CHARACTERS,
    Child,
    CompletedProcess,
    Git,
    busy,
    git_environment,
    presentable,
    remove_stale_locks,
    run,
    why,
)
from mirror.history.repository import GitRepository
from support.gits import bare, commit, environment, fsck_strict, git, head_of, log, open_repository, program

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


def commit_again(repository: GitRepository, changes: dict[str, bytes]) -> None:
    """Commit as a pass does: if the git of a killed mirror moves the branch meanwhile, read it again."""
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
    """A repository without stale locks is not changed."""
    assert remove_stale_locks(bare(tmp_path / "r.git")) == ()
    assert remove_stale_locks(tmp_path / "absent.git") == ()


def test_old_locks_of_dead_processes_are_removed(tmp_path: Path) -> None:
    """Old lock files of any kind are removed at once if no git process runs; other files stay."""
    repository = bare(tmp_path / "r.git")
    leave(repository, *LOCKS, "fast_import_crash_4242", "keep.me", age_seconds=60)
    begun = time.monotonic()
    removed = remove_stale_locks(repository, settled_seconds=5)
    assert time.monotonic() - begun < 3
    assert {str(path.relative_to(repository)) for path in removed} == {*LOCKS, "fast_import_crash_4242"}
    assert (repository / "keep.me").exists()
    assert not any((repository / name).exists() for name in LOCKS)


def test_young_lock_is_watched_first(tmp_path: Path) -> None:
    """A recent lock file is removed only if it does not change for a while."""
    repository = bare(tmp_path / "r.git")
    leave(repository, LOCKS[0], age_seconds=0)
    begun = time.monotonic()
    assert len(remove_stale_locks(repository, settled_seconds=0.3)) == 1
    assert time.monotonic() - begun >= 0.3


def test_lock_that_moves_is_alive(tmp_path: Path) -> None:
    """A lock file that is recreated during the wait belongs to a running git and stays."""
    repository = bare(tmp_path / "r.git")
    leave(repository, LOCKS[0])
    script = f"import os, time; time.sleep(0.5); os.utime({str(repository / LOCKS[0])!r})"
    toucher = subprocess.Popen([sys.executable, "-S", "-c", script])
    assert remove_stale_locks(repository, settled_seconds=1.5) == ()
    assert toucher.wait() == 0
    assert (repository / LOCKS[0]).exists()


def test_lock_of_a_running_git_of_ours_stays(tmp_path: Path) -> None:
    """While git runs for any mirror or command, only lock files older than every timeout are removed."""
    repository = bare(tmp_path / "r.git")
    leave(repository, LOCKS[0], age_seconds=60)
    leave(repository, LOCKS[1], age_seconds=ABANDONED_SECONDS + 60)
    with busy(repository):
        assert [path.name for path in remove_stale_locks(repository, settled_seconds=0)] == [LOCKS[1]]
    assert [path.name for path in remove_stale_locks(repository, settled_seconds=0)] == ["main.lock"]


def test_orphaned_git_counts_as_alive(tmp_path: Path) -> None:
    """After kill -9 of a mirror its git continues: the lock file stays until that git ends."""
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


def test_unremovable_lock_is_reported(tmp_path: Path) -> None:
    """A lock file that cannot be removed is an error with a remedy; else every later commit would fail."""
    open_repository(tmp_path).close()
    (tmp_path / "snapshots.git" / LOCKS[0]).mkdir()
    with pytest.raises(HistoryError, match="could not be removed"):
        open_repository(tmp_path, settled_seconds=0)


def test_repository_that_is_read_only_is_left_alone(tmp_path: Path) -> None:
    """If our own lock file cannot be opened, nothing is removed, and reading still works."""
    repository = bare(tmp_path / "r.git")
    leave(repository, LOCKS[0], age_seconds=60)
    (repository / "oidc-mirror.busy").mkdir()
    assert remove_stale_locks(repository) == ()
    with busy(repository) as held:
        assert held == ()


def test_kill_between_objects_and_branch_leaves_nothing_stale(tmp_path: Path) -> None:
    """After a kill between writing objects and moving the branch, the next pass commits on the old branch at once."""
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
    """Mirror and git are killed while the branch's lock file exists: the next pass removes it and commits."""
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
    """After kills at random times the repository is intact, has every reported commit, and accepts more commits."""
    chance = random.Random(4)  # noqa: S311 - times, not secrets
    for _ in range(6):
        committer = start_committer(tmp_path)
        assert committer.stdout is not None
        committer.stdout.readline()
        time.sleep(chance.uniform(0, 0.15))
        committer.kill()
        reported = len(committer.communicate()[0].splitlines()) + 1
        with open_repository(tmp_path, settled_seconds=0.5) as repository:
            head = repository.heads().local
            assert head is not None
            stored = repository.read(head, [f"public/{committer.pid}"])[f"public/{committer.pid}"]
            assert int(stored) >= reported
            commit_again(repository, {"public/after": str(committer.pid).encode()})
        fsck_strict(tmp_path / "snapshots.git")


@pytest.mark.parametrize(
    "name",
    [
        "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_NAMESPACE", "GIT_COMMON_DIR", "GIT_TRACE", "GIT_TRACE_CURL", "GIT_TRACE_REDACT", "GIT_ALLOW_PROTOCOL",
        "GIT_AUTHOR_NAME", "GIT_COMMITTER_DATE", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_REPLACE_REF_BASE",
        "GIT_CEILING_DIRECTORIES", "GIT_EDITOR", "GIT_EXTERNAL_DIFF", "GIT_SHALLOW_FILE", "GIT_QUARANTINE_PATH",
        "SSH_ASKPASS", "LANGUAGE",
    ],
)  # fmt: skip
def test_variable_is_not_handed_on(name: str) -> None:
    """Git does not inherit variables that redirect it, make it print more or allow it more."""
    assert name not in git_environment({name: "x"})


@pytest.mark.parametrize(
    "name",
    [
        "HOME", "PATH", "SSH_AUTH_SOCK", "https_proxy", "XDG_CONFIG_HOME", "GIT_SSH_COMMAND", "GIT_SSH",
        "GIT_SSL_CAINFO", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_12",
        "GIT_EXEC_PATH", "GIT_HTTP_USER_AGENT", "GNUPGHOME",
    ],
)  # fmt: skip
def test_variable_is_handed_on(name: str) -> None:
    """Git inherits the variables for reaching the remote, logging in and signing."""
    assert git_environment({name: "x"})[name] == "x"


def test_git_never_prompts() -> None:
    """Every prompt of git and ssh is disabled, for any user environment."""
    found = git_environment({"GIT_TERMINAL_PROMPT": "1", "GIT_ASKPASS": "/bin/ask", "LC_ALL": "de_DE"})
    assert (found["GIT_TERMINAL_PROMPT"], found["GIT_ASKPASS"], found["LC_ALL"]) == ("0", "", "C")
    assert found["SSH_ASKPASS_REQUIRE"] == "never"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        pytest.param("fatal: x\n\n  hint: y\n", "fatal: x; hint: y", id="lines"),
        pytest.param("https://u:p@h/x", "https://***@h/x", id="password"),
        pytest.param("'https://ghp_token@h/x'", "'https://***@h/x'", id="token"),
        pytest.param("ssh://git:p@s@h/x http://h/a@b", "ssh://***@h/x http://h/a@b", id="at-in-the-password"),
        pytest.param("git@h:x", "git@h:x", id="scp-form"),
        pytest.param("a\x1b[31mb\x00c\x7f", "a [31mb c", id="terminal-controls"),
        pytest.param("10%\r20%\rdone", "10% 20% done", id="progress"),
    ],
)
def test_words_of_git_are_presentable(said: str, shown: str) -> None:
    """Output of git is shown on one line without credentials and control characters."""
    assert presentable(said) == shown


def test_long_words_are_shortened() -> None:
    """Long output is cut at the beginning, because git's error is at the end."""
    shown = presentable("x" * 5000 + " fatal: end")
    assert len(shown) == SHOWN_CHARACTERS + 1
    assert shown.endswith("fatal: end")


def test_silent_failure_has_words() -> None:
    """A git that fails without output is reported with its exit status."""
    assert why(CompletedProcess(7, b"", "")) == "git ended with status 7"
    assert (
        why(CompletedProcess(-15, b"", "fatal: x", "it did not end within 1 s"))
        == "it did not end within 1 s; fatal: x"
    )


def test_inherited_repository_is_ignored(tmp_path: Path) -> None:
    """A mirror started from a git hook or alias uses its own repository."""
    other = bare(tmp_path / "other.git")
    with open_repository(tmp_path, extra_environ={"GIT_DIR": str(other), "GIT_NAMESPACE": "n"}) as repository:
        commit(repository, {"public/a": b"x"})
    assert git(tmp_path / "snapshots.git", "rev-parse", "main")
    assert git(other, "for-each-ref") == ""


def test_users_configuration_cannot_turn_our_rules_off(tmp_path: Path) -> None:
    """Hooks, automatic gc, detached maintenance and other protocols stay disabled under any user configuration."""
    note = tmp_path / "hook-ran"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    program(hooks / "reference-transaction", f"touch {note}")
    environment(tmp_path)
    (tmp_path / "home" / ".gitconfig").write_text(f"[core]\n\thooksPath = {hooks}\n[gc]\n\tauto = 1\n")
    with open_repository(tmp_path) as repository:
        commit(repository, {"public/a": b"x"})
        assert head_of(repository)
    assert not note.exists()
    here = Git(tmp_path / "snapshots.git", environment(tmp_path), stop=threading.Event())
    wanted = {
        "core.hooksPath": "/dev/null", "core.fsync": "committed", "gc.auto": "0", "maintenance.auto": "false",
        "fetch.fsckObjects": "true", "protocol.allow": "never", "protocol.https.allow": "always",
    }  # fmt: skip
    assert {name: here.run("config", "--get", name).out.decode().strip() for name in wanted} == wanted


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_repository_of_another_owner_is_used(tmp_path: Path) -> None:
    """A state directory that another user owns, such as a volume, is used: git's owner check does not apply to it."""
    with open_repository(tmp_path) as mine:
        first = commit(mine, {"public/a": b"x"})
    for path in (tmp_path / "snapshots.git", *(tmp_path / "snapshots.git").rglob("*")):
        os.chown(path, 4242, 4242)
    with open_repository(tmp_path) as mine:
        assert head_of(mine) == first
        commit(mine, {"public/a": b"y"})


def test_demanded_command_that_fails_is_an_error(tmp_path: Path) -> None:
    """If a required command fails, the error has our message and git's output."""
    here = Git(bare(tmp_path / "x.git"), environment(tmp_path), stop=threading.Event())
    with pytest.raises(HistoryError, match="It did not work"):
        here.check_output("rev-parse", "--verify", "nothing", sentence="It did not work.")


ENVIRON = {"PATH": os.environ["PATH"]}


def run_python(
    code: str, *, stdin: bytes = b"", timeout_seconds: float = 20, max_out_bytes: int = 10**8
) -> CompletedProcess:
    return run(
        [sys.executable, "-S", "-c", code],
        environ=ENVIRON,
        stdin=stdin,
        timeout_seconds=timeout_seconds,
        max_out_bytes=max_out_bytes,
        stop=threading.Event(),
    )


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_all_pipes_are_served_at_once() -> None:
    """A child that fills stderr before it reads, and echoes more than a pipe's buffer, does not deadlock."""
    code = (
        "import sys; sys.stderr.write('e' * 1_000_000); sys.stderr.flush(); "
        "sys.stdout.buffer.write(sys.stdin.buffer.read())"
    )
    data = os.urandom(3_000_000)
    finished = run_python(code, stdin=data)
    assert finished.ok
    assert finished.out == data
    assert finished.err == "e" * KEPT_STDERR_BYTES


def test_without_input_nothing_is_inherited() -> None:
    """A child without input reads an end of file, not this program's stdin."""
    assert run_python("import sys; print(len(sys.stdin.read()))").out == b"0\n"


def test_exit_status_and_signal_are_reported() -> None:
    """The result has the child's exit status; a signal is its negative number."""
    assert run_python("raise SystemExit(7)").status == 7
    assert run_python("import os; os.kill(os.getpid(), 9)").status == -9


def test_child_that_closes_its_input_is_no_error_of_ours() -> None:
    """If a child exits without reading its input, the result is its status, not a broken pipe."""
    assert run_python("raise SystemExit(3)", stdin=b"x" * 1_000_000).status == 3


def test_child_that_closes_its_outputs_and_goes_on_is_waited_for() -> None:
    """A child that closes both outputs is still waited for."""
    code = "import os, time; os.close(1); os.close(2); time.sleep(0.4); os._exit(5)"
    assert run_python(code).status == 5


def test_too_much_output_is_cut_off() -> None:
    """A child that floods stdout is killed instead of filling the memory."""
    finished = run_python("while True: print('x' * 10_000)", max_out_bytes=1_000_000)
    assert "more than" in finished.stopped
    assert len(finished.out) < 3_000_000
    assert not finished.ok


@pytest.mark.parametrize("ignores", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "])
def test_deadline_ends_the_whole_family(tmp_path: Path, ignores: str) -> None:
    """At its deadline the child is killed with all its descendants, even if it ignores SIGTERM."""
    note = tmp_path / "pid"
    inner = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(300)"
    code = f"{ignores}import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {inner!r}])"
    begun = time.monotonic()
    finished = run_python(code, timeout_seconds=1.0)
    assert finished.stopped == "it did not end within 1 s"
    assert time.monotonic() - begun < 6
    time.sleep(0.1)
    assert not alive(int(note.read_text()))


def test_grandchild_that_holds_the_pipes_is_not_waited_for() -> None:
    """A background process of git, such as an ssh master, may keep the pipes open: the result is still returned."""
    code = "import subprocess; p = subprocess.Popen(['sleep', '30']); print(p.pid)"
    begun = time.monotonic()
    finished = run_python(code)
    os.kill(int(finished.out), 9)
    assert finished.ok
    assert time.monotonic() - begun < 10


def test_conversation_goes_back_and_forth() -> None:
    """A running child can answer any number of requests."""
    code = "import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)"
    child = Child.start([sys.executable, "-S", "-c", code], environ=ENVIRON)
    for _ in range(2):
        child.out.clear()
        child.send(b"hello\n")
        while b"\n" not in child.out:
            child.poll_pipes(1)
        assert child.out == b"HELLO\n"
    child.send(b"", last=True)
    while not child.at_eof():
        child.poll_pipes(1)
    child.kill()
    assert child.process.returncode == 0


def test_dead_child_is_closed_quietly() -> None:
    """Writing to an ended child, or killing it twice, raises nothing."""
    child = Child.start(["true"], environ=ENVIRON)
    child.process.wait()
    child.send(b"x" * 100_000)
    while not child.at_eof():
        child.poll_pipes(0.1)
    child.poll_pipes(0.1)
    child.send(b"more")
    child.kill()
    child.kill()
    assert child.poll_pipes(0) is False


def test_missing_program_is_an_oserror() -> None:
    """A missing program raises OSError before anything runs."""
    with pytest.raises(FileNotFoundError):
        run(["no-such-program-here"], environ=ENVIRON, timeout_seconds=1, stop=threading.Event())


def test_file_size_is_limited(tmp_path: Path) -> None:
    """A child cannot write a file larger than its limit."""
    big = tmp_path / "big"
    code = f"import time; time.sleep(0.3); f = open({str(big)!r}, 'wb', 0); [f.write(b'x' * 4096) for _ in range(99)]"
    child = Child.start([sys.executable, "-S", "-c", code], environ=ENVIRON, stdin=False, max_file_bytes=10_000)
    with pytest.raises(subprocess.TimeoutExpired):
        child.process.wait(0.05)
    while not child.at_eof():
        child.poll_pipes(0.1)
    assert child.process.wait(10) != 0
    child.kill()
    assert big.stat().st_size <= 10_000
