"""The versions of a file in real git: merges, shallow clones, untrusted texts."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirror.history.commit_graph import MOST_VERSIONS, read_versions
from mirror.history.repository import GitRepository
from mirror.model import CommitId
from support.gits import WHEN, bare, commit, git, head_of, open_repository

A, B = "ledger/a/keys.json", "ledger/b/keys.json"


def merge(repository: GitRepository, *parents: CommitId, body: bytes, message: str) -> CommitId:
    return repository.commit(
        base=parents[0], parents=parents, changes={A: body}, message=message, when=WHEN, expect=parents[0]
    )


def subjects(
    repository: GitRepository, path: str | None = A, *, most: int = MOST_VERSIONS, at: CommitId | None = None
) -> list[str]:
    return [version.subject for version in repository.versions(path, most=most, at=at)]


def test_versions_come_oldest_first_without_untrusted_ones(tmp_path: Path) -> None:
    """Only commits that changed the file are returned, oldest first, each with its parent, date and author."""
    with open_repository(tmp_path) as repository:
        assert repository.versions(A) == ()
        first = commit(repository, {A: b"1"}, message="one\n\nbody")
        commit(repository, {B: b"1"}, message="other")
        second = commit(repository, {A: b"2"}, message="two", minutes=5)
        found = repository.versions(A)
        assert [(v.commit, v.parents, v.subject, v.author) for v in found] == [
            (first, (), "one", "oidc-mirror"),
            (second, (first,), "two", "oidc-mirror"),
        ]
        assert [v.when for v in found] == [WHEN, datetime(2026, 11, 23, 8, 5, tzinfo=UTC)]
        assert subjects(repository, None) == ["one", "other", "two"]
        assert subjects(repository, None, most=1) == ["two"]


def test_merged_branch_is_shown_without_its_needless_merge(tmp_path: Path) -> None:
    """Another mirror's change is a version. A merge is one only if it changes the file."""
    with open_repository(tmp_path) as repository:
        base = commit(repository, {A: b"1"}, message="base")
        ours = commit(repository, {A: b"2"}, message="ours")
        repository.commit(base=base, parents=(base,), changes={A: b"3"}, message="theirs", when=WHEN, expect=ours)
        theirs = head_of(repository)
        decided = merge(repository, theirs, ours, body=b"4", message="decides")
        repository.commit(base=base, parents=(base,), changes={B: b"x"}, message="aside", when=WHEN, expect=decided)
        aside = head_of(repository)
        merge(repository, aside, decided, body=b"4", message="joins")
        assert subjects(repository)[0] == "base"
        assert sorted(subjects(repository)[1:3]) == ["ours", "theirs"]
        assert subjects(repository)[3:] == ["decides"]
        assert set(repository.versions(A)[-1].parents) == {ours, theirs}


def test_shallow_history_is_completed(tmp_path: Path) -> None:
    """In a shallow clone, the history of a file fetches the older commits; its last version does not need them."""
    remote = bare(tmp_path / "remote.git")
    with open_repository(tmp_path, name="first.git", remote=remote) as repository:
        for number in range(3):
            commit(repository, {A: str(number).encode()}, message=str(number))
        repository.push()
    with open_repository(tmp_path, name="second.git", remote=remote) as shallow:
        shallow.fetch(shallow=True)
        newest = shallow.heads().remote
        assert newest is not None
        shallow.fast_forward(newest, expect=None)
        assert subjects(shallow, None, most=1) == ["2"]
        assert (tmp_path / "second.git" / "shallow").exists()
        assert subjects(shallow) == ["0", "1", "2"]


def test_shallow_history_without_its_remote_shows_what_it_has(tmp_path: Path) -> None:
    """If the older commits cannot be fetched, the known versions are returned."""
    remote = bare(tmp_path / "remote.git")
    with open_repository(tmp_path, name="first.git", remote=remote) as repository:
        for number in range(3):
            commit(repository, {A: str(number).encode()}, message=str(number))
        repository.push()
    git(tmp_path, "clone", "-q", "--bare", "--depth=1", f"file://{remote}", str(tmp_path / "second.git"))
    remote.rename(tmp_path / "gone.git")
    with open_repository(tmp_path, name="second.git", remote=remote) as shallow:
        assert subjects(shallow) == ["2"]


def test_untrusted_texts_are_cut_and_stay_one_version(tmp_path: Path) -> None:
    """A long subject or author with escapes and line breaks gives one version with shortened texts."""
    with open_repository(tmp_path, author_name="A" * 500) as repository:
        commit(repository, {A: b"1"}, message="\x1b[31mred\r" + "s" * 5000)
        (version,) = repository.versions(A)
        assert len(version.subject) <= 200
        assert len(version.author) <= 200
        assert version.subject.startswith("\x1b[31mred")


def test_peoples_configuration_changes_nothing(tmp_path: Path) -> None:
    """The user's git settings, such as log.follow, mailmaps and formats, do not change the result."""
    with open_repository(tmp_path) as repository:
        commit(repository, {A: b"1"}, message="one")
        plain = repository.versions(A)
        (tmp_path / "home" / ".gitconfig").write_text(
            "[log]\nfollow = true\nshowSignature = true\ndate = relative\n[format]\npretty = fuller\n"
            "[i18n]\nlogOutputEncoding = latin1\n[color]\nui = always\n"
        )
        assert repository.versions(A) == plain


@pytest.mark.parametrize(
    ("out", "years"),
    [
        (b"", []),
        (b"a\0\0" + b"1\0n\0s\n", [1970]),
        (b"a\0\0" + b"99999999999999999\0n\0s\n", [1970]),
        (b"a\0\0" + b"-99999999999999999\0n\0s\n", [1970]),
        (b"no version\n", []),
        (b"a\0\0" + b"0\0\xff\0\xfe\n", [1970]),
    ],
    ids=["empty", "plain", "far_future", "far_past", "other_line", "no_utf8"],
)
def test_strange_lines_are_read_or_left_out(out: bytes, years: list[int]) -> None:
    """A date out of range counts as 1970, and a line that is not a version is ignored."""
    assert [version.when.year for version in read_versions(out)] == years
