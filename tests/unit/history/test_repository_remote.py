"""A repository and its remote: fetches, pushes, shallow clones, and concurrent changes."""

import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.errors import HistoryError, PushRefusedError, RemoteError
from mirror.history.repository import GitRepository
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
    log,
    open_repository,
)

A, B, C = "ledger/a/keys.json", "public/a/jwks", "public/b/jwks"


def shared(tmp_path: Path, name: str, remote: Path) -> GitRepository:
    """A mirror with its own repository, after a fetch from the common remote."""
    repository = open_repository(tmp_path, name=name, remote=remote)
    repository.fetch(shallow=False)
    return repository


def test_empty_remote_is_fine(tmp_path: Path, remote: Path) -> None:
    """A fetch from an empty remote finds no branch, and the first push creates it."""
    with shared(tmp_path, "a.git", remote) as repository:
        assert repository.heads() == Heads(None, None)
        first = commit(repository, {A: b"one"}, message="first")
        assert repository.unpushed() == 1
        repository.push()
        assert repository.heads() == Heads(first, first)
        assert repository.unpushed() == 0
    assert log(remote) == ["first"]


def test_branch_that_vanished_on_the_remote_is_pushed_again(tmp_path: Path, remote: Path) -> None:
    """A remote that lost its branch gets the complete history again."""
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
    """The second push is rejected; that mirror fetches and merges with both parents. No commit is lost."""
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
    """Without a configured remote, fetch and push are errors with a remedy, and no commit counts as unpushed."""
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
    """A pod with an empty disk fetches one commit, adds a commit and pushes."""
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
    """After a rejected push, a shallow pod fetches the other's commit, merges it and pushes."""
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
    """A query beyond the shallow boundary fetches the older commits first."""
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
    """If the older commits cannot be fetched, the known part answers, and the fetch is not repeated."""
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


def test_completed_history_restores_a_lost_remote(tmp_path: Path, remote: Path) -> None:
    """A kept disk that began empty has all commits after `complete`, and can push them to an empty remote.

    git packed the history while it was shallow: the pack's bitmap must not hide the older commits from the push.
    """
    made = history_of(remote, tmp_path, 4)
    with open_repository(tmp_path, name="pod.git", remote=remote) as pod:
        pod.fetch(shallow=True)
        pod.fast_forward(made[-1], expect=None)
        pod.collect_garbage()
        pod.complete()
        bare(emptied(remote))
        pod.fetch(shallow=False)
        pod.push()
    assert len(log(remote)) == 4
    fsck_strict(remote)


def test_whole_history_is_completed_without_asking(tmp_path: Path, remote: Path) -> None:
    """A complete repository sends no request to the remote."""
    with shared(tmp_path, "a.git", remote) as repository:
        commit(repository, {A: b"one"})
        remote.rename(tmp_path / "gone.git")
        repository.complete()


def test_shallow_history_says_how_an_empty_remote_gets_the_newest_ledgers(tmp_path: Path, remote: Path) -> None:
    """A shallow history cannot be pushed to an empty remote. The remedy's command starts a history that it accepts."""
    made = history_of(remote, tmp_path, 3)
    with open_repository(tmp_path, name="it's a pod.git", remote=remote) as pod:
        pod.fetch(shallow=True)
        pod.fast_forward(made[-1], expect=None)
        bare(emptied(remote))
        pod.fetch(shallow=False)
        with pytest.raises(RemoteError, match="lost its history") as caught:
            pod.push()
        assert caught.value.cause == "shallow update not allowed"
        (command,) = re.findall("`(.*)`", caught.value.remedy)
        subprocess.run(["sh", "-ec", command], env=environment(tmp_path), check=True)
        pod.push()
        files = files_at(tmp_path / "it's a pod.git", made[-1])
    assert log(remote) == ["Begin anew"]
    assert files_at(remote) == files
    fsck_strict(remote)


def emptied(remote: Path) -> Path:
    shutil.rmtree(remote)
    return remote


def test_unrelated_history_in_a_shallow_pod_is_no_ancestor(tmp_path: Path, remote: Path) -> None:
    """Unrelated commits stay unrelated after the complete history is fetched."""
    made = history_of(remote, tmp_path, 3)
    with open_repository(tmp_path, name="pod.git", remote=f"file://{remote}") as pod:
        pod.fetch(shallow=True)
        own = pod.commit(base=None, parents=(), changes={A: b"x"}, message="own", when=WHEN, expect=None)
        assert not pod.is_ancestor(made[-1], own)
        assert pod.has_commit(made[0])


def test_shallow_is_for_empty_repositories_alone(tmp_path: Path, remote: Path) -> None:
    """A complete history never becomes shallow."""
    history_of(remote, tmp_path, 3)
    with open_repository(tmp_path, name="author.git", remote=f"file://{remote}") as author:
        author.fetch(shallow=True)
    assert len(log(tmp_path / "author.git")) == 3
    assert not (tmp_path / "author.git" / "shallow").exists()
