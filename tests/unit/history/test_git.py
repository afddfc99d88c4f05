import os
import threading
from pathlib import Path

import pytest

from mirror.errors import HistoryError
from mirror.history.git import SHOWN_CHARACTERS, Git, git_environment, presentable, why
from mirror.history.git_command import Finished
from support.gits import bare, commit, environment, git, head_of, open_repository, program


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
    """What points git elsewhere, makes it talk or lets it do more is not inherited."""
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
    """What a user needs to reach the remote, to log in and to sign is kept."""
    assert git_environment({name: "x"})[name] == "x"


def test_nobody_is_asked() -> None:
    """Every way in which git or ssh could ask somebody is shut, whatever the user's environment says."""
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
    """What git says is shown on one line without credentials and without control characters."""
    assert presentable(said) == shown


def test_long_words_are_shortened() -> None:
    """Of a long text the end is shown, which holds git's own verdict."""
    shown = presentable("x" * 5000 + " fatal: end")
    assert len(shown) == SHOWN_CHARACTERS + 1
    assert shown.endswith("fatal: end")


def test_silent_failure_has_words() -> None:
    """A git that fails without a word is told by its exit status."""
    assert why(Finished(7, b"", "")) == "git ended with status 7"
    assert why(Finished(-15, b"", "fatal: x", "it did not end within 1 s")) == "it did not end within 1 s; fatal: x"


def test_inherited_repository_is_ignored(tmp_path: Path) -> None:
    """A mirror that is started from a git hook or alias works on its own repository."""
    other = bare(tmp_path / "other.git")
    with open_repository(tmp_path, extra_environ={"GIT_DIR": str(other), "GIT_NAMESPACE": "n"}) as repository:
        commit(repository, {"public/a": b"x"})
    assert git(tmp_path / "snapshots.git", "rev-parse", "main")
    assert git(other, "for-each-ref") == ""


def test_users_configuration_cannot_turn_our_rules_off(tmp_path: Path) -> None:
    """Hooks, automatic gc, detached maintenance and other protocols stay off, whatever the user's file says."""
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_repository_of_another_owner_is_used(tmp_path: Path) -> None:
    """A state folder that belongs to somebody else (a volume) is used: we named it, git did not find it."""
    with open_repository(tmp_path) as mine:
        first = commit(mine, {"public/a": b"x"})
    for path in (tmp_path / "snapshots.git", *(tmp_path / "snapshots.git").rglob("*")):
        os.chown(path, 4242, 4242)
    with open_repository(tmp_path) as mine:
        assert head_of(mine) == first
        commit(mine, {"public/a": b"y"})


def test_demanded_command_that_fails_is_an_error(tmp_path: Path) -> None:
    """A command that must succeed and does not gives our sentence with git's reason."""
    here = Git(bare(tmp_path / "x.git"), environment(tmp_path), stop=threading.Event())
    with pytest.raises(HistoryError, match="It did not work"):
        here.demand("rev-parse", "--verify", "nothing", sentence="It did not work.")
