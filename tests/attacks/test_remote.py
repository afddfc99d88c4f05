"""A git remote that is absent, slow, hostile, rewritten or refusing: the error says so, and nothing local moves."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mirror.errors import HistoryError, PushRefusedError, RemoteError
from mirror.history.remote import DEFAULT_SSH
from mirror.history.repository import GitRepository
from support.gits import (
    WHEN,
    commit,
    environment,
    fsck_strict,
    git,
    head_of,
    open_repository,
    program,
)

pytestmark = pytest.mark.unmeasured  # unit tests reach the same lines

LEDGER = "ledger/a/keys.json"


@pytest.fixture
def mine(tmp_path: Path, remote: Path) -> Iterator[GitRepository]:
    """A mirror that has pushed one commit."""
    with open_repository(tmp_path, remote=remote) as repository:
        commit(repository, {LEDGER: b"one"}, message="ours")
        repository.push()
        yield repository


def state(tmp_path: Path) -> str:
    return git(tmp_path / "snapshots.git", "for-each-ref")


def object_in(directory: Path, kind: str, body: bytes) -> str:
    """Write an object without any check, as a hostile remote would have it."""
    return git(directory, "hash-object", "-w", "--literally", "-t", kind, "--stdin", stdin=body)


def tree_of(*entries: tuple[str, str, str]) -> bytes:
    return b"".join(f"{mode} {name}".encode() + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)


def commit_of(tree: str, *, parent: str = "", author: str = "a <a@b> 1 +0000") -> bytes:
    parents = f"parent {parent}\n" if parent else ""
    return f"tree {tree}\n{parents}author {author}\ncommitter a <a@b> 1 +0000\n\nx\n".encode()


def hostile(remote: Path, kind: str) -> None:
    """Give the remote's branch a commit that no honest git makes."""
    parent = git(remote, "rev-parse", "main")
    blob = object_in(remote, "blob", b"x")
    entries = {
        "git-folder": ("100644", ".git", blob),
        "dot-dot": ("40000", "..", object_in(remote, "tree", tree_of(("100644", "x", blob)))),
        "slash-in-name": ("100644", "a/b", blob),
        "missing-blob": ("100644", "x", "1" * 40),
    }
    if kind == "duplicate-names":
        pair = (("100644", "x", blob), ("100644", "x", object_in(remote, "blob", b"y")))
        body = commit_of(object_in(remote, "tree", tree_of(*pair)), parent=parent)
    elif kind == "garbled-tree":
        body = commit_of(object_in(remote, "tree", b"100644 x\0short"), parent=parent)
    else:
        body = commit_of(object_in(remote, "tree", tree_of(entries[kind])), parent=parent)
    bad = object_in(remote, "commit", body)
    (remote / "refs" / "heads" / "main").write_text(f"{bad}\n")


@pytest.mark.parametrize(
    "kind",
    ["git-folder", "dot-dot", "slash-in-name", "missing-blob", "duplicate-names", "garbled-tree"],
)
def test_hostile_objects_are_refused(tmp_path: Path, remote: Path, mine: GitRepository, kind: str) -> None:
    """Objects that git fsck refuses are not taken over, and no reference of ours moves."""
    before = state(tmp_path)
    hostile(remote, kind)
    with pytest.raises(RemoteError) as caught:
        mine.fetch(shallow=False)
    assert caught.value.remedy
    assert state(tmp_path) == before
    fsck_strict(tmp_path / "snapshots.git")
    commit(mine, {LEDGER: b"two"})


def test_corrupt_objects_are_refused(tmp_path: Path, remote: Path, mine: GitRepository) -> None:
    """A remote that reports false successes gives an error, and no reference of ours moves."""
    with open_repository(tmp_path, name="other.git", remote=remote) as other:
        other.fetch(shallow=False)
        theirs = other.heads().remote
        assert theirs is not None
        other.fast_forward(theirs, expect=None)
        second = commit(other, {LEDGER: b"two"})
        other.push()
    for path in remote.glob("objects/??/*"):
        path.chmod(0o644)
        path.write_bytes(b"garbage")
    before = state(tmp_path)
    with pytest.raises(RemoteError):
        mine.fetch(shallow=False)
    assert state(tmp_path) == before
    assert not mine.has_commit(second)


def test_huge_object_is_refused(tmp_path: Path, remote: Path, mine: GitRepository) -> None:
    """A remote that sends more than a history can hold is cut off before it fills the disk."""

    with open_repository(tmp_path, name="other.git", remote=remote) as other:
        other.fetch(shallow=False)
        theirs = other.heads().remote
        assert theirs is not None
        other.fast_forward(theirs, expect=None)
        commit(other, {LEDGER: os.urandom(3_000_000)})
        other.push()
    before = state(tmp_path)
    with (
        open_repository(tmp_path, remote=remote, max_fetched_file_bytes=1_000_000) as careful,
        pytest.raises(RemoteError) as caught,
    ):
        careful.fetch(shallow=False)
    assert "more than a history" in caught.value.remedy
    assert state(tmp_path) == before


def test_rewound_remote_moves_only_our_record_of_it(tmp_path: Path, remote: Path, mine: GitRepository) -> None:
    """A remote whose branch was rewritten is recorded as it is; our own commits stay and count as unpushed."""
    first = head_of(mine)
    second = commit(mine, {LEDGER: b"two"})
    mine.push()
    git(remote, "update-ref", "refs/heads/main", first)
    mine.fetch(shallow=False)
    assert mine.heads().local == second
    assert mine.heads().remote == first
    assert mine.unpushed() == 1
    mine.push()
    assert git(remote, "rev-parse", "main") == second


def test_unrelated_remote_is_never_overwritten(tmp_path: Path, remote: Path, mine: GitRepository) -> None:
    """A remote with another history is not overwritten by a push; both histories can be merged."""
    with open_repository(tmp_path, name="other.git") as other:
        foreign = commit(other, {"public/b": b"x"})
    git(remote, "fetch", "-q", str(tmp_path / "other.git"), "+main:main")
    with pytest.raises(PushRefusedError):
        mine.push()
    assert git(remote, "rev-parse", "main") == foreign
    mine.fetch(shallow=False)
    ours = head_of(mine)
    assert not mine.is_ancestor(ours, foreign)
    mine.commit(base=foreign, parents=(ours, foreign), changes={LEDGER: b"one"}, message="m", when=WHEN, expect=ours)
    mine.push()


@pytest.mark.parametrize(
    ("reason", "refused"),
    [
        pytest.param("fetch first", True, id="fetch-first"),
        pytest.param("cannot lock ref 'refs/heads/main': is at 1 but expected 2", True, id="moved-meanwhile"),
        pytest.param("failed to update ref", False, id="not-written-and-remote-silent"),
        pytest.param("incorrect old value provided", True, id="incorrect-old-value"),
        pytest.param("pre-receive hook declined", False, id="hook"),
        pytest.param("protected branch hook declined", False, id="protected"),
        pytest.param("shallow update not allowed", False, id="shallow"),
        pytest.param("unpacker error", False, id="unpacker"),
    ],
)
def test_refusal_is_distinguished_from_a_lost_race(
    tmp_path: Path, mine: GitRepository, reason: str, refused: bool
) -> None:
    """Only what a fetch and a merge can repair is a PushRefusedError; the rest needs an operator."""
    (tmp_path / "bin").mkdir()
    line = f"!\\trefs/heads/main:refs/heads/main\\t[remote rejected] ({reason})"
    program(
        tmp_path / "bin" / "git",
        f"""case "$*" in *" push "*) printf "{line}\\n"; echo "error: failed to push some refs" >&2; exit 1;; esac
PATH=/usr/local/bin:/usr/bin:/bin exec git "$@" """,
    )
    extra = {"PATH": f"{tmp_path / 'bin'}:/usr/local/bin:/usr/bin:/bin"}
    with (
        open_repository(tmp_path, remote="/somewhere/else.git", extra_environ=extra) as repository,
        pytest.raises(RemoteError) as caught,
    ):
        repository.push()
    assert isinstance(caught.value, PushRefusedError) is refused
    assert refused or reason in caught.value.cause


def test_race_inside_the_push_is_a_refusal(tmp_path: Path, remote: Path, mine: GitRepository) -> None:
    """A concurrent push between our read and our write makes it a refusal that a merge repairs."""
    with open_repository(tmp_path, name="other.git", remote=remote) as other:
        other.fetch(shallow=False)
        theirs = other.heads().remote
        assert theirs is not None
        other.fast_forward(theirs, expect=None)
        winner = commit(other, {"public/b": b"x"})
    git(remote, "fetch", "-q", str(tmp_path / "other.git"), "main")
    program(
        remote / "hooks" / "pre-receive",
        f"unset GIT_QUARANTINE_PATH; git --git-dir={remote} update-ref refs/heads/main {winner}",
    )
    commit(mine, {LEDGER: b"two"})
    with pytest.raises(PushRefusedError):
        mine.push()
    assert git(remote, "rev-parse", "main") == winner


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_locked_remote_branch_is_no_lost_race(tmp_path: Path, remote: Path, form: str) -> None:
    """A lock that a killed push left on the remote is reported with its file, and pushes work once it is removed."""
    with open_repository(tmp_path, remote=form.format(remote)) as mine:
        commit(mine, {LEDGER: b"one"})
        mine.push()
        second = commit(mine, {LEDGER: b"two"})
        lock = remote / "refs" / "heads" / "main.lock"
        lock.touch()
        with pytest.raises(RemoteError, match="branch is locked") as caught:
            mine.push()
        assert not isinstance(caught.value, PushRefusedError)
        assert "refs/heads/main.lock': File exists" in caught.value.cause
        assert ".lock" in caught.value.remedy
        assert mine.unpushed() == 1
        lock.unlink()
        mine.push()
    assert git(remote, "rev-parse", "main") == second


def test_locked_remote_branch_that_does_not_exist_yet_is_no_lost_race(tmp_path: Path, remote: Path) -> None:
    """The very first push to a locked branch is reported like that too: an empty remote has nothing to merge."""
    (remote / "refs" / "heads" / "main.lock").touch()
    with open_repository(tmp_path, remote=remote) as mine:
        commit(mine, {LEDGER: b"one"})
        with pytest.raises(RemoteError, match="branch is locked") as caught:
            mine.push()
    assert not isinstance(caught.value, PushRefusedError)


@pytest.mark.parametrize(("moved", "refused"), [(True, True), (False, False)], ids=["moved", "same"])
def test_unclear_refusal_is_decided_by_the_remotes_head(
    tmp_path: Path, remote: Path, mine: GitRepository, moved: bool, refused: bool
) -> None:
    """A server that says the same of a lock and of a lost race is asked for its branch, and that decides."""
    (tmp_path / "bin").mkdir()
    line = "!\\trefs/heads/main:refs/heads/main\\t[remote rejected] (failed to lock)"
    program(
        tmp_path / "bin" / "git",
        f"""case "$*" in *" push "*) printf "{line}\\n"; exit 1;; esac
PATH=/usr/local/bin:/usr/bin:/bin exec git "$@" """,
    )
    if moved:
        with open_repository(tmp_path, name="other.git", remote=remote) as other:
            other.fetch(shallow=False)
            theirs = other.heads().remote
            assert theirs is not None
            other.fast_forward(theirs, expect=None)
            commit(other, {"public/b": b"x"})
            other.push()
    commit(mine, {LEDGER: b"two"})
    extra = {"PATH": f"{tmp_path / 'bin'}:/usr/local/bin:/usr/bin:/bin"}
    with (
        open_repository(tmp_path, remote=remote, extra_environ=extra) as unlucky,
        pytest.raises(RemoteError) as caught,
    ):
        unlucky.push()
    assert isinstance(caught.value, PushRefusedError) is refused


def test_two_pushers_at_once_both_arrive(tmp_path: Path, remote: Path, mine: GitRepository) -> None:
    """Mirrors that push at the same instant all get their commits in by fetching, merging and pushing again."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with open_repository(tmp_path, name=f"m{number}.git", remote=remote) as mirror:
                _commit_and_push(mirror, f"public/{number}")
        except Exception as error:  # noqa: BLE001 - shown by the test's thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    names = git(remote, "ls-tree", "-r", "--name-only", "main").splitlines()
    assert names == [LEDGER, *(f"public/{number}" for number in range(4))]
    fsck_strict(remote)


def _commit_and_push(mirror: GitRepository, path: str) -> None:
    for _ in range(20):
        mirror.fetch(shallow=False)
        heads = mirror.heads()
        parents = tuple(dict.fromkeys(head for head in (heads.local, heads.remote) if head is not None))
        mirror.commit(
            base=heads.remote, parents=parents, changes={path: b"x"}, message=path, when=WHEN, expect=heads.local
        )
        try:
            mirror.push()
        except PushRefusedError:
            continue
        return
    raise AssertionError("never got through")


def test_output_of_the_hook_is_reported(remote: Path, mine: GitRepository) -> None:
    """A remote that refuses by a hook is quoted, without its control characters."""
    program(remote / "hooks" / "pre-receive", "printf 'only \\033[31msigned commits' >&2; exit 1")
    commit(mine, {LEDGER: b"two"})
    with pytest.raises(RemoteError, match="signed commits") as caught:
        mine.push()
    assert not isinstance(caught.value, PushRefusedError)
    assert "\x1b" not in str(caught.value)
    assert "Allow this user" in caught.value.remedy
    assert mine.unpushed() == 1


def test_talkative_remote_costs_no_memory(remote: Path, mine: GitRepository) -> None:
    """Megabytes of words from the remote are read, and their end is kept."""
    program(remote / "hooks" / "pre-receive", "head -c 5000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1")
    commit(mine, {LEDGER: b"two"})
    with pytest.raises(RemoteError) as caught:
        mine.push()
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("/no/such/repository.git", id="missing-path"),
        pytest.param("file:///no/such/repository.git", id="missing-file-url"),
        pytest.param("--upload-pack=touch /tmp/owned", id="option"),
        pytest.param("ext::sh -c 'echo owned >&2'", id="ext-transport"),
        pytest.param("git://127.0.0.1/x.git", id="git-protocol"),
        pytest.param("http://127.0.0.1:9/x.git", id="http"),
        pytest.param("https://user:hunter2@127.0.0.1:9/x.git", id="https-refused"),
        pytest.param("ssh://-oProxyCommand=echo/x.git", id="ssh-option"),
    ],
)
def test_remote_that_cannot_be_used_is_an_error(tmp_path: Path, url: str) -> None:
    """A remote that is missing, of another protocol or an option in disguise is an error without any side effect."""
    with open_repository(tmp_path, remote=url) as repository:
        commit(repository, {LEDGER: b"one"})
        before = state(tmp_path)
        calls: tuple[Callable[[], object], ...] = (partial(repository.fetch, shallow=True), repository.push)
        for call in calls:
            with pytest.raises(RemoteError) as caught:
                call()
            assert caught.value.cause
            assert caught.value.remedy
            assert "hunter2" not in str(caught.value)
            assert "owned" not in caught.value.cause.replace(url, "")
    assert state(tmp_path) == before


def test_folder_that_is_no_repository_is_an_error(tmp_path: Path) -> None:
    """An existing folder without a repository is reported with the setting to correct."""
    (tmp_path / "letters").mkdir()
    with (
        open_repository(tmp_path, remote=tmp_path / "letters") as repository,
        pytest.raises(RemoteError, match=r"repository\.remote"),
    ):
        repository.fetch(shallow=False)


def test_silent_server_is_given_up(tmp_path: Path) -> None:
    """A host that accepts connections and never answers costs the timeout and no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}/x.git"
        with open_repository(tmp_path, remote=url, remote_timeout_seconds=1.0) as repository:
            begun = time.monotonic()
            with pytest.raises(RemoteError, match="did not end within 1 s"):
                repository.fetch(shallow=True)
            assert time.monotonic() - begun < 5
            commit(repository, {LEDGER: b"additions never wait"})


# ------------------------------------------------------------------------------------------------------- ssh


def fake_ssh(tmp_path: Path, body: str) -> Path:
    (tmp_path / "fake").mkdir(exist_ok=True)
    return program(tmp_path / "fake" / "ssh", f'echo "$*" >> {tmp_path}/asked\n{body}')


def local_ssh(tmp_path: Path) -> Path:
    """An ssh that runs git's command on this machine."""
    return fake_ssh(tmp_path, 'for last in "$@"; do :; done\neval "exec $last"')


@pytest.mark.parametrize("form", ["ssh://git@localhost{}", "git@localhost:{}"])
def test_ssh_never_asks(tmp_path: Path, remote: Path, form: str) -> None:
    """Without a choice of the user's, ssh runs in batch mode with a time limit; fetch and push work through it."""
    ssh = local_ssh(tmp_path)
    path = {"PATH": f"{ssh.parent}:/usr/local/bin:/usr/bin:/bin"}
    with open_repository(tmp_path, remote=form.format(remote), extra_environ=path) as repository:
        repository.fetch(shallow=True)
        commit(repository, {LEDGER: b"one"})
        repository.push()
    assert git(remote, "rev-parse", "main")
    options = DEFAULT_SSH.removeprefix("ssh ")
    assert all(options in line for line in (tmp_path / "asked").read_text().splitlines())


@pytest.mark.parametrize("how", ["environment", "configuration", "program"])
def test_ssh_of_the_user_is_kept(tmp_path: Path, remote: Path, how: str) -> None:
    """An ssh command that the user set, in the environment or in git's configuration, is used as it is."""
    ssh = local_ssh(tmp_path)
    environment(tmp_path)
    extra = {"environment": {"GIT_SSH_COMMAND": f"{ssh} -x"}, "program": {"GIT_SSH": str(ssh)}}.get(how, {})
    if how == "configuration":
        (tmp_path / "home" / ".gitconfig").write_text(f"[core]\n\tsshCommand = {ssh} -x\n")
    with open_repository(tmp_path, remote=f"git@localhost:{remote}", extra_environ=extra) as repository:
        repository.fetch(shallow=True)
    assert "BatchMode" not in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        pytest.param("git@h: Permission denied (publickey).", "ssh key", id="no-key"),
        pytest.param("Host key verification failed.", "known_hosts", id="host-key"),
        pytest.param("ssh: Could not resolve hostname h: unknown", "can be reached", id="no-host"),
        pytest.param("strange", "git ls-remote", id="anything-else"),
    ],
)
def test_failure_of_ssh_has_its_remedy(tmp_path: Path, words: str, remedy: str) -> None:
    """What commonly goes wrong with ssh is answered by what to do."""
    ssh = fake_ssh(tmp_path, f'echo "{words}" >&2; exit 255')
    extra = {"GIT_SSH_COMMAND": str(ssh)}
    with (
        open_repository(tmp_path, remote="git@h:x.git", extra_environ=extra) as repository,
        pytest.raises(RemoteError) as caught,
    ):
        repository.fetch(shallow=False)
    assert words.split(";", maxsplit=1)[0] in caught.value.cause
    assert remedy in caught.value.remedy


def test_cancelled_fetch_is_an_error(tmp_path: Path) -> None:
    """A program that ends does not wait for its remote."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}/x.git"
        with open_repository(tmp_path, remote=url) as repository:
            timer = threading.Timer(0.3, repository.cancel)
            repository.heads()
            timer.start()
            with pytest.raises((RemoteError, HistoryError), match="program is ending"):
                repository.fetch(shallow=False)
            timer.join()
