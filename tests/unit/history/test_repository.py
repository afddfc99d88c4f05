"""Whose name stands on an operator's commit."""

import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror.config.settings import RepositorySettings as Settings
from mirror.errors import BranchMovedError, HistoryError, PushRefusedError
from mirror.history.ledger_store import readme_files
from mirror.history.objects import MAX_TREE_FILE_BYTES
from mirror.history.repository import GitRepository, commit_stream, identity, quoted, with_operator_identity
from mirror.model import CommitId, Heads
from support.gits import (
    WHEN,
    bare,
    commit,
    counting_git,
    environment,
    files_at,
    fsck_strict,
    git,
    head_of,
    log,
    open_repository,
    program,
)

A, B, C = "ledger/a/keys.json", "public/a/jwks", "public/b/jwks"


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[GitRepository]:
    with open_repository(tmp_path) as repository:
        yield repository


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    return bare(tmp_path / "remote.git")


def shared(tmp_path: Path, name: str, remote: Path) -> GitRepository:
    """A mirror with a repository of its own and a common remote, which it has fetched."""
    repository = open_repository(tmp_path, name=name, remote=remote)
    repository.fetch(shallow=False)
    return repository


# ------------------------------------------------------------------------------------------------ the branch


def test_missing_repository_is_created(tmp_path: Path) -> None:
    """prepare makes a whole bare repository in folders that do not exist yet, and a second one changes nothing."""
    repository = open_repository(tmp_path, name="state/deep/x/y.git")
    repository.prepare()
    with repository:
        assert repository.heads() == Heads(None, None)
    path = tmp_path / "state/deep/x"
    assert [each.name for each in path.iterdir()] == ["y.git"]
    assert git(path / "y.git", "symbolic-ref", "HEAD") == "refs/heads/main"


def test_commit_is_read_back(repo: GitRepository, tmp_path: Path) -> None:
    """A commit holds exactly the files given, with our identity and date, and the branch names it."""
    first = commit(repo, {**readme_files(None), A: b"one", B: b"\x00\xff\n"}, message="first")
    assert repo.heads() == Heads(first, None)
    assert repo.read(first, [A, B, C]) == {A: b"one", B: b"\x00\xff\n"}
    path = tmp_path / "snapshots.git"
    assert git(path, "log", "-1", "--format=%an <%ae> %cn %at %ct %s") == (
        f"oidc-mirror <oidc-mirror@localhost> oidc-mirror {WHEN.timestamp():.0f} {WHEN.timestamp():.0f} first"
    )
    fsck_strict(path)


def test_changes_apply_to_the_tree_of_the_base(repo: GitRepository, tmp_path: Path) -> None:
    """Files that a commit does not mention stay, None removes one, and a file may give way to a folder."""
    commit(repo, {A: b"one", B: b"two", "x": b"file"})
    second = commit(repo, {B: None, C: b"three", "x": None, "x/y": b"inside"})
    assert repo.read(second, [A, B, C, "x/y"]) == {A: b"one", C: b"three", "x/y": b"inside"}
    fsck_strict(tmp_path / "snapshots.git")


def test_merge_keeps_both_parents_in_order(repo: GitRepository, tmp_path: Path) -> None:
    """A commit may stand on the tree of its second parent; both parents are recorded as given."""
    first = commit(repo, {A: b"base"})
    left = commit(repo, {A: b"left"})
    git(tmp_path / "snapshots.git", "update-ref", "refs/heads/main", first)
    right = commit(repo, {B: b"right"})
    merged = repo.commit(base=right, parents=(left, right), changes={}, message="m", when=WHEN, expect=right)
    assert git(tmp_path / "snapshots.git", "log", "-1", "--format=%P") == f"{left} {right}"
    assert repo.read(merged, [A, B]) == {A: b"base", B: b"right"}
    assert repo.is_ancestor(left, merged)
    assert not repo.is_ancestor(merged, left)


@pytest.mark.parametrize("expected_exists", [True, False])
def test_moved_branch_refuses_the_commit(repo: GitRepository, tmp_path: Path, expected_exists: bool) -> None:
    """A commit made for an older head, or for an empty branch, changes nothing once the branch has moved."""
    first = commit(repo, {A: b"one"})
    second = commit(repo, {A: b"two"})
    stale = first if expected_exists else None
    with pytest.raises(BranchMovedError):
        repo.commit(base=second, parents=(second,), changes={A: b"lost"}, message="x", when=WHEN, expect=stale)
    with pytest.raises(BranchMovedError):
        repo.fast_forward(second, expect=stale)
    assert repo.heads().local == second
    assert len(log(tmp_path / "snapshots.git")) == 2


def test_vanished_branch_refuses_the_commit(repo: GitRepository, tmp_path: Path) -> None:
    """Somebody who deletes the branch does not get it made anew from an old state."""
    first = commit(repo, {A: b"one"})
    git(tmp_path / "snapshots.git", "update-ref", "-d", "refs/heads/main")
    with pytest.raises(BranchMovedError):
        repo.commit(base=first, parents=(first,), changes={}, message="x", when=WHEN, expect=first)


def test_racing_writers_lose_no_commit(tmp_path: Path) -> None:
    """Of many writers at once each commit either stands in the history or was refused; none vanishes."""
    done: list[CommitId] = []

    def write(number: int) -> None:
        with open_repository(tmp_path) as mine:
            while True:
                try:
                    done.append(commit(mine, {f"public/{number}": b"x"}, message=str(number)))
                except BranchMovedError:
                    continue
                return

    open_repository(tmp_path).close()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 5
    assert sorted(files_at(tmp_path / "snapshots.git")) == [f"public/{n}" for n in range(5)]


@pytest.mark.parametrize("content", ["", "nonsense\n", "1" * 40 + "\n"], ids=["empty", "garbage", "missing-object"])
def test_damaged_branch_is_no_empty_branch(repo: GitRepository, tmp_path: Path, content: str) -> None:
    """A reference that a power cut emptied is an error with a remedy, never the beginning of a new history."""
    commit(repo, {A: b"one"})
    (tmp_path / "snapshots.git" / "refs" / "heads" / "main").write_text(content)
    with pytest.raises(HistoryError, match="damaged"):
        repo.heads()


def test_full_disk_is_no_moved_branch(repo: GitRepository, tmp_path: Path) -> None:
    """A branch that cannot be written though it is as expected gives an error about the disk."""
    first = commit(repo, {A: b"one"})
    (tmp_path / "snapshots.git" / "refs" / "heads" / "main.lock").mkdir()
    with pytest.raises(HistoryError, match="could not be moved") as caught:
        repo.fast_forward(first, expect=first)
    assert not isinstance(caught.value, BranchMovedError)


def test_unusable_folder_is_an_error(tmp_path: Path) -> None:
    """A path that holds something else, or whose parent is a file, is left alone and told with a remedy."""
    other = tmp_path / "snapshots.git"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    with pytest.raises(HistoryError, match="could not be made"):
        open_repository(tmp_path)
    assert [each.name for each in other.iterdir()] == ["letter.txt"]
    with pytest.raises(HistoryError, match="could not be made"):
        open_repository(tmp_path, name="snapshots.git/letter.txt/x.git")


def test_bad_branch_name_leaves_no_folder(tmp_path: Path) -> None:
    """A repository that git refuses to make leaves nothing behind."""
    with pytest.raises(HistoryError, match="could not be made"):
        open_repository(tmp_path, branch="a..b")
    assert [each.name for each in tmp_path.iterdir()] == ["home"]


def test_concurrent_creation_gives_one_repository(tmp_path: Path) -> None:
    """Two that create the repository at once end up with the same, whole one."""
    failures: list[BaseException] = []

    def create() -> None:
        try:
            open_repository(tmp_path).close()
        except HistoryError as error:
            failures.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(each.name for each in tmp_path.iterdir()) == ["home", "snapshots.git"]


# -------------------------------------------------------------------------------------------------- reading


def test_steady_pass_starts_one_git(tmp_path: Path) -> None:
    """A pass without remote that changes nothing starts exactly one git process."""
    extra, notes = counting_git(tmp_path)
    with open_repository(tmp_path, extra_environ=extra) as repository:
        commit(repository, {A: b"one"})
    notes.unlink()
    with open_repository(tmp_path, extra_environ=extra) as repository:
        head = head_of(repository)
        assert repository.read(head, [A, B]) == {A: b"one"}
        assert list(repository.list_paths(head, "ledger")) == [A]
        assert repository.unpushed() == 0
        assert repository.has_commit(head)
    assert len(notes.read_text().splitlines()) == 1


def test_open_conversation_sees_what_others_write(repo: GitRepository, tmp_path: Path) -> None:
    """Objects, packs and references that come later are seen by the process that is already running."""
    first = commit(repo, {A: b"one"})
    assert repo.heads().local == first
    with open_repository(tmp_path) as other:
        second = commit(other, {A: b"two"})
        path = tmp_path / "snapshots.git"
        git(path, "repack", "-adq")
        git(path, "pack-refs", "--all")
    assert repo.heads().local == second
    assert repo.read(second, [A]) == {A: b"two"}


def test_many_and_large_files_do_not_deadlock(repo: GitRepository) -> None:
    """Ten thousand questions with more bytes in both directions than any pipe holds are all answered."""
    files = {f"public/{number:05}/{'x' * 60}": b"y" * (number % 50) for number in range(10_000)}
    files |= {f"ledger/{number}": bytes([number]) * 1_000_000 for number in range(5)}
    head = commit(repo, files)
    assert repo.read(head, [*files, "absent"]) == files
    assert set(repo.list_paths(head, "public")) == {path for path in files if path.startswith("public/")}


@pytest.mark.parametrize("path", ["a\nb", "a\0b", "../x", "./x", "a//b", "/a", f"{A}/below-a-file"])
def test_path_that_is_not_ours_counts_as_absent(repo: GitRepository, path: str) -> None:
    """A path that would break the conversation, or leave the tree is absent, and the next answers fit."""
    head = commit(repo, {A: b"one"})
    assert repo.read(head, [path, A]) == {A: b"one"}


def test_oversized_file_is_not_read(repo: GitRepository) -> None:
    """A huge file costs no memory, reads as no bytes, and the next answer is right."""
    head = commit(repo, {A: b"x" * (MAX_TREE_FILE_BYTES + 1), B: b"two"})
    assert repo.read(head, [A, B]) == {A: b"", B: b"two"}


def test_unknown_commit_is_an_error(repo: GitRepository) -> None:
    """A commit that does not exist is never taken for an empty one."""
    head = commit(repo, {A: b"one"})
    nobody = CommitId("1" * 40)
    with pytest.raises(HistoryError, match="never had that commit"):
        repo.commit(base=nobody, parents=(head,), changes={}, message="x", when=WHEN, expect=head)
    with pytest.raises(HistoryError, match="could not be compared"):
        repo.is_ancestor(nobody, head)
    with pytest.raises(HistoryError, match="could not be written"):
        repo.commit(base=None, parents=(nobody,), changes={}, message="x", when=WHEN, expect=head)
    with pytest.raises(HistoryError, match="never had that commit"):
        repo.read(nobody, [A])
    with pytest.raises(HistoryError, match="never had that commit"):
        repo.list_paths(nobody, "ledger")
    assert not repo.has_commit(nobody)


def test_listed_paths(repo: GitRepository) -> None:
    """list_paths gives the blobs of one folder."""
    first = commit(repo, {"README.md": b"r", A: b"one", B: b"same"})
    second = commit(repo, {"README.md": b"R", A: b"two", C: b"new"})
    assert list(repo.list_paths(second, "public")) == [B, C]
    assert repo.list_paths(first, "public/a") == {B: repo.list_paths(second, "public")[B]}
    assert repo.list_paths(first, "absent") == {}


def test_damaged_object_has_no_bytes(repo: GitRepository, tmp_path: Path) -> None:
    """The bytes of a corrupt object are none, and it can be read again once it is mended."""
    head = commit(repo, {A: b"one"})
    blob = repo.list_paths(head, "ledger")[A]
    repo.close()
    loose = tmp_path / "snapshots.git" / "objects" / blob[:2] / blob[2:]
    whole = loose.read_bytes()
    loose.chmod(0o644)
    loose.write_bytes(b"garbage")
    assert repo.read(head, [A]) == {A: b""}
    loose.write_bytes(whole)
    assert repo.read(head, [A]) == {A: b"one"}


def test_missing_tree_is_an_error(repo: GitRepository, tmp_path: Path) -> None:
    """A folder whose tree object is gone is damage, never an empty folder."""
    head = commit(repo, {A: b"one"})
    tree = git(tmp_path / "snapshots.git", "rev-parse", f"{head}:ledger/a")
    (tmp_path / "snapshots.git" / "objects" / tree[:2] / tree[2:]).unlink()
    with pytest.raises(HistoryError, match="could not be read"):
        repo.list_paths(head, "ledger")
    with pytest.raises(HistoryError, match="could not be read"):
        repo.read(head, [A])
    with pytest.raises(HistoryError, match="could not be read"):
        repo.list_paths(head, "ledger/a")


def test_garbled_tree_is_an_error(repo: GitRepository, tmp_path: Path) -> None:
    """A tree object that is no tree stops the reading; nothing below it counts as absent."""
    path = tmp_path / "snapshots.git"
    blob = git(path, "hash-object", "-w", "--stdin", stdin=b"x")
    short = git(path, "hash-object", "-w", "--literally", "-t", "tree", "--stdin", stdin=b"100644 x\0short")
    body = f"040000 tree {short}\tledger\n100644 blob {blob}\tREADME.md\n".encode()
    head = CommitId(git(path, *_AUTHOR, "commit-tree", "-m", "x", git(path, "mktree", stdin=body)))
    with pytest.raises(HistoryError, match=r"could not be read|has lost"):
        repo.read(head, [A])
    with pytest.raises(HistoryError, match="could not be read"):
        repo.list_paths(head, "ledger")


_AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@b")


# --------------------------------------------------------------------------------------------------- the past


def test_known_commits_are_known(repo: GitRepository, tmp_path: Path) -> None:
    """Only the full id of a commit of ours is known: no prefix, no reference, no blob, no text from outside."""
    head = commit(repo, {A: b"one"})
    blob = repo.list_paths(head, "ledger")[A]
    assert repo.has_commit(head)
    for text in (head[:12], "main", "refs/heads/main", blob, "", f"{head}\n", f"{head}^{{tree}}", head.upper() + "X"):
        assert not repo.has_commit(text), text


def test_bytes_of_the_past_are_held(repo: GitRepository, tmp_path: Path) -> None:
    """Bytes that any commit of the branch had are held; those of an object that was never accepted are not."""
    assert not repo.contains_blob(b"one")
    commit(repo, {"README.md": b"readme", A: b"one"})
    head = commit(repo, {A: b"two"})
    path = tmp_path / "snapshots.git"
    git(path, "hash-object", "-w", "--stdin", stdin=b"foreign")
    side = repo.commit(base=head, parents=(head,), changes={B: b"merged"}, message="m", when=WHEN, expect=head)
    repo.commit(base=side, parents=(side, head), changes={C: b"by merge"}, message="m", when=WHEN, expect=side)
    assert [repo.contains_blob(body) for body in (b"one", b"two", b"merged", b"by merge")] == [True] * 4
    assert [repo.contains_blob(body) for body in (b"foreign", b"readme", b"never")] == [False] * 3


def test_time_of_a_change_is_told(repo: GitRepository) -> None:
    """changed_at is the date of the newest commit that changed the file, whatever came after it."""
    assert repo.last_changed_at(A) is None
    commit(repo, {A: b"one", B: b"x"}, minutes=1)
    commit(repo, {B: b"y"}, minutes=2)
    assert repo.last_changed_at(A) == datetime(2026, 11, 23, 8, 1, tzinfo=UTC)
    assert repo.last_changed_at(B) == WHEN + timedelta(minutes=2)
    assert repo.last_changed_at("public/*") is None


# -------------------------------------------------------------------------------------------------- the remote


def test_empty_remote_is_fine(tmp_path: Path, remote: Path) -> None:
    """Fetching from a remote without the branch tells that there is none, and the first push makes it."""
    with shared(tmp_path, "a.git", remote) as repository:
        assert repository.heads() == Heads(None, None)
        first = commit(repository, {A: b"one"}, message="first")
        assert repository.unpushed() == 1
        repository.push()
        assert repository.heads() == Heads(first, first)
        assert repository.unpushed() == 0
    assert log(remote) == ["first"]


def test_branch_that_vanished_on_the_remote_is_pushed_again(tmp_path: Path, remote: Path) -> None:
    """A remote that lost its branch gets the whole history back."""
    with shared(tmp_path, "a.git", remote) as repository:
        first = commit(repository, {A: b"one"})
        repository.push()
        git(remote, "update-ref", "-d", "refs/heads/main")
        repository.fetch(shallow=False)
        assert repository.heads() == Heads(first, None)
        assert repository.unpushed() == 1
        repository.push()
    assert len(log(remote)) == 1


def test_second_pusher_is_refused_and_converges(tmp_path: Path, remote: Path) -> None:
    """Whoever pushes second is told so, fetches, merges with both parents, and no commit is lost."""
    with shared(tmp_path, "a.git", remote) as one, shared(tmp_path, "b.git", remote) as two:
        ours, theirs = commit(one, {A: b"one"}, message="one"), commit(two, {B: b"two"}, message="two")
        one.push()
        with pytest.raises(PushRefusedError):
            two.push()
        two.fetch(shallow=False)
        assert two.heads() == Heads(theirs, ours)
        assert not two.is_ancestor(ours, theirs)
        assert two.unpushed() == 1
        two.commit(base=ours, parents=(theirs, ours), changes={B: b"two"}, message="m", when=WHEN, expect=theirs)
        two.push()
        one.fetch(shallow=False)
        merged = one.heads().remote
        assert merged is not None
        one.fast_forward(merged, expect=ours)
    assert sorted(log(remote)) == ["m", "one", "two"]
    assert files_at(remote) == {A: b"one", B: b"two"}
    fsck_strict(remote)


def test_remote_is_asked_for_nothing_without_one(repo: GitRepository) -> None:
    """Without a configured remote, fetch and push are errors with the remedy, and nothing waits to be pushed."""
    with pytest.raises(HistoryError, match="no commit to push"):
        repo.push()
    commit(repo, {A: b"one"})
    with pytest.raises(HistoryError, match=r"repository\.remote"):
        repo.fetch(shallow=False)
    with pytest.raises(HistoryError, match=r"repository\.remote"):
        repo.push()
    assert repo.unpushed() == 0


def history_of(remote: Path, tmp_path: Path, length: int) -> list[CommitId]:
    """A remote with `length` commits, oldest first."""
    with shared(tmp_path, "author.git", remote) as author:
        made = [commit(author, {A: str(n).encode(), f"public/{n}": b"x"}, minutes=n) for n in range(length)]
        author.push()
    return made


def test_shallow_pod_commits_and_pushes(tmp_path: Path, remote: Path) -> None:
    """A pod with an empty disk fetches one commit, commits on top of it and pushes."""
    made = history_of(remote, tmp_path, 4)
    with open_repository(tmp_path, name="pod.git", remote=f"file://{remote}") as pod:
        pod.fetch(shallow=True)
        assert pod.heads() == Heads(None, made[-1])
        assert len(log(tmp_path / "pod.git", made[-1])) == 1
        pod.fast_forward(made[-1], expect=None)
        commit(pod, {A: b"pod"}, message="pod")
        assert pod.unpushed() == 1
        pod.push()
    assert len(log(remote)) == 5
    fsck_strict(remote)


def test_shallow_pod_that_lost_a_race_merges(tmp_path: Path, remote: Path) -> None:
    """A shallow pod whose push was refused fetches the other's commit, merges it and pushes."""
    made = history_of(remote, tmp_path, 3)
    with (
        open_repository(tmp_path, name="pod.git", remote=f"file://{remote}") as pod,
        open_repository(tmp_path, name="author.git", remote=remote) as author,
    ):
        pod.fetch(shallow=True)
        pod.fast_forward(made[-1], expect=None)
        ours = commit(pod, {B: b"pod"}, message="pod")
        theirs = commit(author, {C: b"author"})
        author.push()
        with pytest.raises(PushRefusedError):
            pod.push()
        pod.fetch(shallow=False)
        assert not pod.is_ancestor(theirs, ours)
        pod.commit(base=theirs, parents=(ours, theirs), changes={B: b"pod"}, message="m", when=WHEN, expect=ours)
        pod.push()
    assert len(log(remote)) == 6


def test_shallow_history_is_completed_on_demand(tmp_path: Path, remote: Path) -> None:
    """A question about commits beyond the shallow border is answered after the rest was fetched."""
    made = history_of(remote, tmp_path, 4)
    pods = [open_repository(tmp_path, name=f"pod{n}.git", remote=f"file://{remote}") for n in range(3)]
    for pod in pods:
        pod.fetch(shallow=True)
        pod.fast_forward(made[-1], expect=None)
    assert pods[0].has_commit(made[0])
    assert pods[0].is_ancestor(made[0], made[-1])
    assert pods[1].contains_blob(b"0")
    assert pods[2].last_changed_at("public/1") == WHEN + timedelta(minutes=1)
    for pod in pods:
        assert not (tmp_path / "pod0.git" / "shallow").exists()
        pod.close()


def test_shallow_history_without_remote_answers_from_what_it_has(tmp_path: Path, remote: Path) -> None:
    """When the rest cannot be fetched the known part answers, and the remote is not tried a second time."""
    made = history_of(remote, tmp_path, 3)
    extra, notes = counting_git(tmp_path)
    with open_repository(tmp_path, name="pod.git", remote=f"file://{remote}", extra_environ=extra) as pod:
        pod.fetch(shallow=True)
        pod.fast_forward(made[-1], expect=None)
        remote.rename(tmp_path / "gone.git")
        notes.unlink()
        assert not pod.has_commit(made[0])
        assert not pod.contains_blob(b"0")
        assert pod.last_changed_at(A) == WHEN + timedelta(minutes=2)
        assert notes.read_text().count("--unshallow") == 1


def test_unrelated_history_in_a_shallow_pod_is_no_ancestor(tmp_path: Path, remote: Path) -> None:
    """Commits with nothing in common stay unrelated after the whole history was fetched."""
    made = history_of(remote, tmp_path, 3)
    with open_repository(tmp_path, name="pod.git", remote=f"file://{remote}") as pod:
        pod.fetch(shallow=True)
        own = pod.commit(base=None, parents=(), changes={A: b"x"}, message="own", when=WHEN, expect=None)
        assert not pod.is_ancestor(made[-1], own)
        assert pod.has_commit(made[0])


def test_shallow_is_for_empty_repositories_alone(tmp_path: Path, remote: Path) -> None:
    """A whole history never becomes shallow."""
    history_of(remote, tmp_path, 3)
    with open_repository(tmp_path, name="author.git", remote=f"file://{remote}") as author:
        author.fetch(shallow=True)
    assert len(log(tmp_path / "author.git")) == 3
    assert not (tmp_path / "author.git" / "shallow").exists()


# ---------------------------------------------------------------------------------------------------- upkeep


def test_garbage_is_collected_daily(tmp_path: Path) -> None:
    """gc packs the objects at once, not again within a day, again after it, and also when the clock jumped back."""
    now = [1_000_000.0]
    extra, notes = counting_git(tmp_path)
    with open_repository(tmp_path, extra_environ=extra, clock=lambda: now[0]) as repository:
        commit(repository, {A: b"one"})
        runs = []
        for moment in (1_000_000.0, 1_080_000.0, 1_086_401.0, 5.0):
            now[0] = moment
            repository.collect_garbage()
            runs.append(sum(line.split()[-2:] == ["gc", "--quiet"] for line in notes.read_text().splitlines()))
        assert runs == [1, 1, 2, 3]
        (tmp_path / "snapshots.git.gc").write_text("nonsense")
        repository.collect_garbage()
        assert repository.read(head_of(repository), [A]) == {A: b"one"}
    assert list((tmp_path / "snapshots.git" / "objects" / "pack").glob("*.pack"))


def test_failing_gc_is_told_and_waits_a_day(repo: GitRepository, tmp_path: Path) -> None:
    """A gc that fails is an error once a day, not in every pass; so is a stamp that cannot be written."""
    commit(repo, {A: b"one"})
    (tmp_path / "snapshots.git" / "packed-refs.lock").mkdir()
    with pytest.raises(HistoryError, match="tidied up"):
        repo.collect_garbage()
    repo.collect_garbage()
    (tmp_path / "snapshots.git.gc").unlink()
    (tmp_path / "snapshots.git.gc").mkdir()
    with pytest.raises(HistoryError, match="could not be written"):
        repo.collect_garbage()


# --------------------------------------------------------------------------------------------------- signing


def signing(tmp_path: Path, name: str = "signer") -> tuple[Path, str]:
    """An ssh key pair in `tmp_path`: the private key's path and a line for an allowed-signers file."""

    key = tmp_path / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key], check=True)
    return key, f"{name}@example.com {key.with_suffix('.pub').read_text()}"


def sign_with(tmp_path: Path, key: Path) -> None:
    """Let git sign with `key` in the home folder of the tests."""
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
    """Without a key nothing is committed, and the remedy names the setting."""
    sign_with(tmp_path, tmp_path / "absent")
    with open_repository(tmp_path, sign=True) as repository:
        with pytest.raises(HistoryError, match=r"repository\.sign"):
            commit(repository, {A: b"one"})
        assert repository.heads().local is None


# ---------------------------------------------------------------------------------------------- the git command


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("echo git version 2.35.9", "too old", id="old"),
        pytest.param("echo git version unknown", "could not be told", id="unreadable"),
        pytest.param("exit 3", "could not be told", id="failing"),
    ],
)
def test_unfit_git_is_refused(tmp_path: Path, script: str, said: str) -> None:
    """A git that cannot do what we need is refused before anything is made, with the version to install."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "git", script)
    with pytest.raises(HistoryError, match=said) as caught:
        open_repository(tmp_path, extra_environ={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"})
    assert "2.36" in caught.value.remedy
    assert not (tmp_path / "snapshots.git").exists()


def test_missing_git_is_told(tmp_path: Path, repo: GitRepository) -> None:
    """Without a git command every call says what to install."""
    empty = {**environment(tmp_path), "PATH": str(tmp_path / "nothing")}
    fresh = GitRepository(Settings(path=tmp_path / "other.git"), empty)
    with pytest.raises(HistoryError, match="Install git"):
        fresh.prepare()
    existing = GitRepository(Settings(path=tmp_path / "snapshots.git"), empty)
    with pytest.raises(HistoryError, match="Install git"):
        existing.heads()


def test_git_that_got_older_is_told(tmp_path: Path, repo: GitRepository) -> None:
    """A git that does not know the conversation gives the version to install, also for an existing repository."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "git", 'echo "error: unknown option \\`batch-command\'" >&2; exit 129')
    old = GitRepository(Settings(path=tmp_path / "snapshots.git"), {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"})
    with pytest.raises(HistoryError, match="too old"):
        old.heads()


def test_git_that_dies_silently_is_told(tmp_path: Path, repo: GitRepository) -> None:
    """A git that ends in the middle of a conversation is told by its exit status."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "git", "exit 7")
    dying = GitRepository(Settings(path=tmp_path / "snapshots.git"), {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"})
    with pytest.raises(HistoryError, match="status 7"):
        dying.heads()


def test_puzzling_answer_is_an_error(tmp_path: Path, repo: GitRepository) -> None:
    """An answer that git never gives is an error, not a guess."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "git", "echo hello; sleep 60")
    odd = GitRepository(Settings(path=tmp_path / "snapshots.git"), {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"})
    with pytest.raises(HistoryError, match="does not understand"):
        odd.heads()


@pytest.mark.parametrize("call", ["heads", "commit"])
def test_hanging_git_is_killed(tmp_path: Path, repo: GitRepository, call: str) -> None:
    """A git that hangs is killed with its children at the timeout, and the error says how long it was waited for."""
    first = commit(repo, {A: b"one"})
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "git", f"sleep 300 & echo $! > {tmp_path}/child; wait")
    path = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    hung = GitRepository(Settings(path=tmp_path / "snapshots.git"), path, timeout_seconds=0.5)
    with pytest.raises(HistoryError, match=r"0\.5 s"):
        hung.heads() if call == "heads" else hung.is_ancestor(first, CommitId("1" * 40))
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 30  # it was sent SIGKILL; on a busy machine it dies a little later
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_cancelled_repository_ends_soon(tmp_path: Path, repo: GitRepository) -> None:
    """cancel ends a running git within a second or two and lets no other one start its work."""
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
    """A mirror that was killed while it made its repository leaves a draft, which the next one removes."""
    (tmp_path / "snapshots.git.new-1-1" / "refs").mkdir(parents=True)
    open_repository(tmp_path).close()
    assert [path.name for path in tmp_path.glob("snapshots.git*")] == ["snapshots.git"]


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
    """Git's own is taken whole or not at all; one made up from the host's name is never used."""
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
    """Whatever the configuration says, author and date are one line that git reads."""
    assert identity(name, email, datetime(2026, 11, 23, 8, 0, tzinfo=UTC)) == wanted


def test_zone_of_the_clock_changes_nothing() -> None:
    """The same instant gives the same bytes in every zone."""
    assert identity("a", "b", WHEN.astimezone(timezone(timedelta(hours=10)))) == identity("a", "b", WHEN)


def test_path_is_quoted() -> None:
    """Quotes, backslashes, line feeds and non-ASCII letters of a path are escaped, so that none ends a command."""
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
