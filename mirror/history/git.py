"""Running git: which arguments, which environment, which words of its errors may be shown.

Nothing of the surroundings leaks in: no inherited repository, no prompt, no hook, no protocol but https, ssh and file.
The users' own git configuration (credentials, proxies, signing keys, `url.insteadOf`) does hold.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from mirror.errors import HistoryError
from mirror.history.git_command import Child, Finished, run
from mirror.history.locks import busy

LOCAL_TIMEOUT_SECONDS = 60.0
SHOWN_CHARACTERS = 600

# Faults of form in somebody's commit (git-fsck(1)): they harm nobody, and must not keep everybody from fetching.
_HARMLESS = (
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badFilemode",
    "badName",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "multipleAuthors",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
)
_CONFIG = (
    "core.fsync=committed",
    "core.hooksPath=/dev/null",
    # Two mirrors on one machine take turns on a reference within milliseconds; git's default gives up after 0.1 s.
    "core.filesRefLockTimeout=3000",
    "core.packedRefsTimeout=3000",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.fsckObjects=true",
    *(f"fetch.fsck.{fault}=warn" for fault in _HARMLESS),
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "protocol.file.allow=always",
)
_KEPT = re.compile(
    r"GIT_(SSH|SSH_COMMAND|SSH_VARIANT|EXEC_PATH|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)"
    r"|SSL_\w+|HTTP_\w+|PROXY_\w+)"
)
_FIXED = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    # Set and empty: git then asks neither core.askPass nor SSH_ASKPASS.
    "GIT_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "GCM_INTERACTIVE": "never",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
_DROPPED = frozenset({"LANGUAGE", "SSH_ASKPASS"})
_USER_INFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/]*@")
_OTHER_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]+")


def git_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What git may see of `environ`: no `GIT_*` variable but how to reach remotes and where its configuration is.

    Dropped are, among others, `GIT_DIR`, `GIT_INDEX_FILE`, `GIT_OBJECT_DIRECTORY`, `GIT_NAMESPACE` (they point
    elsewhere), `GIT_TRACE*` (prints headers), and `GIT_ALLOW_PROTOCOL` (allows more than we do).
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _DROPPED and (not name.startswith("GIT_") or _KEPT.fullmatch(name))
    }
    return {**kept, **_FIXED}


def presentable(text: str) -> str:
    """The end of what git said, on one line, shortened, without user info in URLs and without control characters."""
    lines = (line.strip() for line in _OTHER_CONTROLS.sub(" ", _USER_INFO.sub(r"\1***@", text)).splitlines())
    joined = "; ".join(line for line in lines if line)
    return joined if len(joined) <= SHOWN_CHARACTERS else "…" + joined[-SHOWN_CHARACTERS:]


def why(finished: Finished) -> str:
    """What went wrong with a git command, in git's words or ours."""
    return "; ".join(part for part in (finished.stopped, presentable(finished.err)) if part) or (
        f"git ended with status {finished.status}"
    )


class Git:
    """The git command for one repository directory. Every call ends within its timeout, and when `stop` is set."""

    def __init__(
        self,
        directory: Path,
        environ: Mapping[str, str],
        *,
        stop: threading.Event,
        timeout_seconds: float = LOCAL_TIMEOUT_SECONDS,
    ) -> None:
        self.directory = directory
        self.environ = environ
        self.stop = stop
        self.timeout_seconds = timeout_seconds

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        config: Sequence[str] = (),
        extra_environ: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        max_file_bytes: int | None = None,
    ) -> Finished:
        """Run a git command to its end; no file that it writes gets larger than `max_file_bytes` (on Linux).

        Raises:
            HistoryError: git could not be started.
        """
        environ = {**git_environment(self.environ), **(extra_environ or {})}
        with busy(self.directory) as held:
            try:
                return run(
                    self._argv(arguments, config),
                    environ=environ,
                    stdin=stdin,
                    stop=self.stop,
                    # git inherits the lock: it stays held while git lives, even when we are killed.
                    pass_fds=held,
                    timeout_seconds=self.timeout_seconds if timeout_seconds is None else timeout_seconds,
                    max_file_bytes=max_file_bytes,
                )
            except OSError as error:
                raise _no_git(error) from error

    def demand(self, *arguments: str, sentence: str, remedy: str = "", stdin: bytes = b"") -> bytes:
        """Run a git command that must succeed, and give what it printed.

        Raises:
            HistoryError: It did not, with `sentence` and `remedy`.
        """
        finished = self.run(*arguments, stdin=stdin)
        if not finished.ok:
            raise HistoryError(sentence, cause=why(finished), remedy=remedy)
        return finished.out

    def start(self, *arguments: str) -> Child:
        """Start a git command to talk with.

        Raises:
            HistoryError: git could not be started.
        """
        try:
            return Child.start(self._argv(arguments, ()), environ=git_environment(self.environ))
        except OSError as error:
            raise _no_git(error) from error

    def _argv(self, arguments: Sequence[str], config: Sequence[str]) -> list[str]:
        settings = [word for setting in (*_CONFIG, *config) for word in ("-c", setting)]
        return ["git", f"--git-dir={self.directory}", "--literal-pathspecs", *settings, *arguments]


def _no_git(error: OSError) -> HistoryError:
    return HistoryError(
        "The git command could not be started.",
        cause=error.strerror or "",
        remedy="Install git 2.36 or newer, and see that PATH names its folder.",
    )
