from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror.history.stream import commit_stream, identity, quoted
from mirror.model import CommitId
from support.gits import WHEN, bare, git


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
