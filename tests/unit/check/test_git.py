"""The git station."""

from pathlib import Path

import pytest

from mirror.check.git import git
from mirror.check.ports import HistoryState
from mirror.config.settings import Repository
from mirror.model import Reason
from support.doctor import HEAD, FakeHistoryView, told

REASON = Reason("code", "It is so.", "Do it.")
REMOTE = "https://git.example.com/x"
FETCHED, MAY_PUSH = ("ok", "git.fetched"), ("ok", "git.may_push")
WHOLE = ("ok", "git.whole")
UNSIGNED = ("warning", "repository.unsigned")


@pytest.mark.parametrize(
    ("state", "remote", "expected"),
    [
        pytest.param(
            HistoryState(HEAD, remote=HEAD, unpushed=0), REMOTE, [WHOLE, FETCHED, MAY_PUSH, UNSIGNED], id="in-order"
        ),
        pytest.param(HistoryState(HEAD), None, [WHOLE, ("note", "git.no_remote")], id="no-remote"),
        pytest.param(HistoryState(), None, [("note", "git.empty"), ("note", "git.no_remote")], id="empty"),
        pytest.param(HistoryState(unreadable=REASON), REMOTE, [("failed", "code")], id="unreadable"),
        pytest.param(
            HistoryState(HEAD, damaged=REASON), None, [("failed", "code"), ("note", "git.no_remote")], id="damaged"
        ),
        pytest.param(
            HistoryState(HEAD, broken=(REASON, REASON)),
            None,
            [WHOLE, ("failed", "code"), ("failed", "code"), ("note", "git.no_remote")],
            id="ledgers-broken",
        ),
        pytest.param(HistoryState(HEAD, fetch=REASON), REMOTE, [WHOLE, ("failed", "code"), UNSIGNED], id="remote-down"),
        pytest.param(
            HistoryState(HEAD, push=REASON, unpushed=1),
            REMOTE,
            [WHOLE, FETCHED, ("failed", "code"), UNSIGNED],
            id="denied",
        ),
        pytest.param(
            HistoryState(HEAD, unpushed=2),
            REMOTE,
            [WHOLE, FETCHED, MAY_PUSH, ("warning", "git.unpushed"), UNSIGNED],
            id="unpushed",
        ),
    ],
)
def test_history_is_told(
    tmp_path: Path, state: HistoryState, remote: str | None, expected: list[tuple[str, str]]
) -> None:
    """Local repository, remote, right to push: each with its own finding."""
    assert told(git(Repository(tmp_path, remote=remote), FakeHistoryView(state), issuers=1)) == expected


def test_absent_repository_is_a_note(tmp_path: Path) -> None:
    """Before the first pass there is none."""
    found = git(Repository(tmp_path / "none.git"), FakeHistoryView(HistoryState()), issuers=1)
    assert told(found) == [("note", "git.absent"), ("note", "git.no_remote")]
