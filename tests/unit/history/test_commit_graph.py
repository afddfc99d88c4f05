"""Queries of the commit history from many threads: git answers each once, and a shallow history is completed once."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirror.history.commit_graph import MOST_ANSWERS, Memo
from mirror.history.repository import GitRepository
from mirror.model import CommitId
from support.gits import WHEN, bare, commit, counting_git, git, head_of, open_repository

A, B = "ledger/a/keys.json", "public/a/jwks"


@pytest.fixture
def noted(tmp_path: Path) -> Iterator[tuple[GitRepository, Path]]:
    """A repository with two commits, and the file that records each start of git from now on."""
    extra, notes = counting_git(tmp_path)
    with open_repository(tmp_path, extra_environ=extra) as repository:
        commit(repository, {A: b"one", B: b"public"}, minutes=1)
        commit(repository, {A: b"two"}, minutes=2)
        notes.write_text("")
        yield repository, notes


def logs(notes: Path) -> int:
    return sum(" log " in f" {line} " for line in notes.read_text().splitlines())


def test_base_of_two_commits_is_searched_once(noted: tuple[GitRepository, Path], tmp_path: Path) -> None:
    """Git is asked once about two commits, whichever of them is the older one."""
    repository, notes = noted
    second = head_of(repository)
    first = CommitId(git(tmp_path / "snapshots.git", "rev-parse", "main~1"))
    for _ in range(2):
        assert repository.is_ancestor(first, second)
        assert not repository.is_ancestor(second, first)
    assert notes.read_text().count(" merge-base ") == 1


def test_second_question_starts_no_git(noted: tuple[GitRepository, Path]) -> None:
    """A query about one head starts git once, even if the answer was no."""
    repository, notes = noted
    for _ in range(3):
        assert repository.last_changed_at(A) == WHEN + timedelta(minutes=2)
        assert repository.last_changed_at("public/never") is None
        assert repository.contains_blob(b"one")
        assert not repository.contains_blob(b"never")
    assert logs(notes) == 3


def test_new_head_is_read_again(noted: tuple[GitRepository, Path], tmp_path: Path) -> None:
    """After any writer moves the branch, the answers are those of the new head."""
    repository, _ = noted
    assert repository.last_changed_at(A) == WHEN + timedelta(minutes=2)
    assert not repository.contains_blob(b"three")
    commit(repository, {A: b"three"}, minutes=3)
    assert repository.last_changed_at(A) == WHEN + timedelta(minutes=3)
    assert repository.contains_blob(b"three")
    with open_repository(tmp_path) as other:
        commit(other, {A: b"four"}, minutes=4)
    assert repository.last_changed_at(A) == WHEN + timedelta(minutes=4)
    assert repository.contains_blob(b"four")


def test_many_threads_ask_each_question_once(noted: tuple[GitRepository, Path]) -> None:
    """Concurrent queries, equal or different, get the right answers, and git starts once for each."""
    repository, notes = noted
    head = head_of(repository)
    questions = (
        lambda: repository.last_changed_at(A) == WHEN + timedelta(minutes=2),
        lambda: repository.last_changed_at(B) == WHEN + timedelta(minutes=1),
        lambda: repository.contains_blob(b"one"),
        lambda: not repository.contains_blob(b"never"),
        lambda: repository.has_commit(head),
        lambda: not repository.has_commit("1" * 40),
        lambda: repository.read(head, [A]) == {A: b"two"},
    )
    with ThreadPoolExecutor(14) as pool:
        answers = list(pool.map(lambda question: question(), questions * 10))
    assert answers == [True] * 70
    assert logs(notes) == 3


def test_date_that_no_calendar_holds_is_long_ago(noted: tuple[GitRepository, Path], tmp_path: Path) -> None:
    """A commit with a date out of range does not stop a pass: it counts as made in 1970."""
    repository, _ = noted
    path = tmp_path / "snapshots.git"
    head = head_of(repository)
    tree = git(path, "hash-object", "-w", "--stdin", "-t", "tree", stdin=b"")
    text = f"tree {tree}\nparent {head}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 99999999999999 +0000\n\nx\n"
    odd = CommitId(git(path, "hash-object", "-w", "-t", "commit", "--stdin", stdin=text.encode()))
    repository.fast_forward(odd, expect=head)
    assert repository.last_changed_at(A) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A remote with four commits."""
    path = bare(tmp_path / "remote.git")
    with open_repository(tmp_path, name="author.git", remote=path) as author:
        for number in range(4):
            commit(author, {A: str(number).encode(), f"public/{number}": b"x%d" % number}, minutes=number)
        author.push()
    return path


def shallow(tmp_path: Path, remote: Path, extra: dict[str, str]) -> GitRepository:
    pod = open_repository(tmp_path, name="pod.git", remote=f"file://{remote}", extra_environ=extra)
    pod.fetch(shallow=True)
    newest = pod.heads().remote
    assert newest is not None
    pod.fast_forward(newest, expect=None)
    return pod


def test_many_threads_complete_a_shallow_history_once(tmp_path: Path, remote: Path) -> None:
    """Concurrent queries beyond the shallow boundary get the answers of the whole history, from one fetch."""
    first = git(remote, "rev-list", "--max-parents=0", "main")
    extra, notes = counting_git(tmp_path)
    with shallow(tmp_path, remote, extra) as pod:
        questions = (
            lambda: pod.has_commit(first),
            lambda: pod.contains_blob(b"0"),
            lambda: pod.contains_blob(b"x1"),
            lambda: pod.last_changed_at("public/1") == WHEN + timedelta(minutes=1),
            lambda: pod.is_ancestor(CommitId(first), head_of(pod)),
            lambda: len(pod.versions(A)) == 4,
        )
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda question: question(), questions * 3))
    assert answers == [True] * 18
    assert notes.read_text().count("--unshallow") == 1


def test_answer_of_a_shallow_history_lasts_until_the_next_fetch(tmp_path: Path, remote: Path) -> None:
    """A query that a shallow history could not answer is repeated only after a fetch."""
    extra, notes = counting_git(tmp_path)
    with shallow(tmp_path, remote, extra) as pod:
        remote.rename(tmp_path / "away.git")
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(pod.contains_blob, [b"0"] * 16)) == [False] * 16
        assert notes.read_text().count("--unshallow") == 1
        assert pod.last_changed_at("public/1") == WHEN + timedelta(minutes=3)
        (tmp_path / "away.git").rename(remote)
        assert not pod.contains_blob(b"0")
        pod.fetch(shallow=False)
        assert pod.contains_blob(b"0")
        assert pod.last_changed_at("public/1") == WHEN + timedelta(minutes=1)
    assert notes.read_text().count("--unshallow") == 2


def test_shallow_remote_is_asked_for_the_rest_once(tmp_path: Path, remote: Path) -> None:
    """A shallow remote has only part of the history, so later queries do not fetch from it again."""
    copy = tmp_path / "copy.git"
    git(tmp_path, "clone", "--quiet", "--bare", "--depth=2", f"file://{remote}", str(copy))
    extra, notes = counting_git(tmp_path)
    with shallow(tmp_path, copy, extra) as pod:
        assert pod.contains_blob(b"2")
        for _ in range(2):
            assert not pod.contains_blob(b"0")
            assert not pod.contains_blob(b"1")
    assert notes.read_text().count("--unshallow") == 1


def test_answer_is_searched_once_a_state() -> None:
    """A cached result is reused for the same state. Another state drops it, even if the first one returns."""
    known: Memo[bool] = Memo()
    searched: list[str] = []

    def ask(state: str, question: str) -> bool:
        return known.get(state, question, lambda: _noted(searched, f"{state} {question}") == 1)

    for state, question in (("s", "a"), ("s", "a"), ("s", "b"), ("s", "a"), ("t", "a"), ("t", "a"), ("s", "a")):
        assert ask(state, question) is False
    assert searched == ["s a", "s b", "t a", "s a"]


def test_none_is_an_answer() -> None:
    """The result None is cached too."""
    known: Memo[int | None] = Memo()
    searched: list[str] = []

    def search() -> int | None:
        searched.append("a")
        return None

    for _ in range(2):
        assert known.get("s", "a", search) is None
    assert searched == ["a"]


def test_failed_search_is_not_cached() -> None:
    """The caller gets the exception, and the next caller searches again."""
    known: Memo[int] = Memo()
    with pytest.raises(ZeroDivisionError):
        known.get("s", "a", lambda: 1 // 0)
    assert known.get("s", "a", lambda: 7) == 7


def test_same_question_of_two_threads_is_searched_once() -> None:
    """A second caller with the same query waits for the first search; other queries run at the same time."""
    known: Memo[int] = Memo()
    searching, go_on = threading.Event(), threading.Event()
    searches: list[str] = []
    found: list[int] = []

    def slow() -> int:
        searches.append("a")
        searching.set()
        assert go_on.wait(10)
        return 7

    threads = [threading.Thread(target=lambda: found.append(known.get("s", "a", slow))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert searching.wait(10)
    assert known.get("s", "b", lambda: 8) == 8
    assert not found
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == [7] * 4
    assert searches == ["a"]


def test_memory_is_bounded() -> None:
    """The cache is limited: a writer that causes new queries cannot fill the memory."""
    known: Memo[int] = Memo()
    searched: list[str] = []

    def ask(question: str) -> None:
        known.get("s", question, lambda: _noted(searched, question))

    for number in range(MOST_ANSWERS):
        ask(str(number))
    ask("0")
    assert len(searched) == MOST_ANSWERS
    ask("one more")
    ask("0")
    assert searched[MOST_ANSWERS:] == ["one more", "0"]


def _noted(searched: list[str], question: str) -> int:
    searched.append(question)
    return 0
