"""Talking to the git remote: fetch and push with nothing implied, and its refusals in words that help.

What a remote sends is untrusted: objects are checked (`fetch.fsckObjects`), its size and its time are limited, and it
can move nothing but our record of its own branch.
"""

import re
from collections.abc import Mapping

from mirror.errors import PushRefusedError, RemoteError
from mirror.history.git import Git, why
from mirror.history.process import Finished

REMOTE_TIMEOUT_SECONDS = 120.0
MAX_FETCHED_FILE_BYTES = 1024 * 1024 * 1024
"""No file that a fetch writes (a pack, an object) may be larger: a hostile remote must not fill the disk."""
DEFAULT_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=15"
_LOST_RACE = re.compile(
    r"fetch first|non-fast-forward|stale info|but expected|incorrect old value|reference already exists"
)
# Servers say this both when somebody pushed in between and when the branch is locked or cannot be written.
_NOT_WRITTEN = re.compile(r"failed to lock|cannot lock ref|failed to update ref|lock error", re.IGNORECASE)
_NO_BRANCH = re.compile(r"^fatal: couldn't find remote ref ", re.MULTILINE)
_REMEDIES = (
    (
        r"publickey|Authentication failed|could not read (Username|Password)|Permission denied|error: 40[13]",
        "Give this user an ssh key without passphrase or a credential helper; prompts are never answered.",
    ),
    (r"Host key verification failed", "Put the remote's host key into known_hosts."),
    (
        r"resolve host|Failed to connect|Connection (refused|timed out|reset)|unreachable",
        "See that the remote's host can be reached.",
    ),
    (r"hook declined|protected branch", "Allow this user to push to the branch, as the remote's message says."),
    (r"transport '?\w+'? not allowed", "Use https://, ssh:// or an absolute path."),
    (
        r"does not appear to be a git repository|not found|does not exist|dubious ownership",
        "See that `repository.remote` names a git repository that this user may read.",
    ),
    (r"File too large|signal 25", "The remote sends more than a history of keys can be; see who writes to it."),
    (r"fsck|corrupt|bad object|invalid|index-pack|unpack", "Check the remote's repository with `git fsck --strict`."),
)
_OTHERWISE = "Try `git ls-remote` with `repository.remote` as the user that runs the mirror."


class Remote:
    """One branch of one remote, seen from one local repository.

    One fetch or push may take `timeout_seconds`, and write no file over `max_file_bytes`.
    """

    def __init__(
        self,
        git: Git,
        url: str,
        branch: str,
        *,
        timeout_seconds: float = REMOTE_TIMEOUT_SECONDS,
        max_file_bytes: int = MAX_FETCHED_FILE_BYTES,
    ) -> None:
        self._git = git
        self._url = url
        self._branch = f"refs/heads/{branch}"
        self._timeout_seconds = timeout_seconds
        self._max_file_bytes = max_file_bytes
        self._ssh: Mapping[str, str] | None = None

    def fetch(self, into: str, *, depth: int | None = None) -> bool:
        """Fetch the branch into the reference `into`; False when the remote has no such branch yet.

        Raises:
            RemoteError: It could not be fetched; `into` is as before.
        """
        depth_words = () if depth is None else (f"--depth={depth}",)
        finished = self._talk("fetch", *_FETCH_WORDS, *depth_words, "--", self._url, f"+{self._branch}:{into}")
        if not finished.ok and not finished.stopped and _NO_BRANCH.search(finished.err):
            return False
        if not finished.ok:
            raise _failed("The git remote could not be fetched from.", finished)
        return True

    def deepen(self) -> None:
        """Fetch the whole history into a shallow repository; no reference moves.

        Raises:
            RemoteError: It could not be fetched.
        """
        finished = self._talk("fetch", *_FETCH_WORDS, "--unshallow", "--", self._url, self._branch)
        if not finished.ok:
            raise _failed("The remote's earlier history could not be fetched.", finished)

    def push(self, commit: str, *, rehearse: bool = False) -> None:
        """Make `commit` the remote's branch, as a fast-forward only.

        With `rehearse` everything is asked for and nothing sent or moved; hooks of the remote do not run then.

        Raises:
            PushRefusedError: The remote has commits that `commit` does not contain, or somebody pushed just now.
            RemoteError: It could not be pushed for another reason; the remote's branch may be locked.
        """
        words = (*_PUSH_WORDS, "--dry-run") if rehearse else _PUSH_WORDS
        finished = self._talk("push", *words, "--", self._url, f"{commit}:{self._branch}")
        if finished.ok:
            return
        lines = finished.out.decode("utf-8", "replace").splitlines()
        refusal = "" if finished.stopped else "\n".join(line for line in lines if line.startswith("!\t"))
        unwritten = _NOT_WRITTEN.search(refusal) is not None
        if _LOST_RACE.search(refusal) or (unwritten and self._has_moved_from(commit)):
            raise PushRefusedError(
                "The remote's branch has commits that this mirror has not.",
                cause=why(finished),
                remedy="They are fetched and merged before the next try.",
            )
        if unwritten:
            raise _locked(finished, refusal)
        raise _failed("The git remote refused the push or could not be reached.", finished, also=refusal)

    def _has_moved_from(self, commit: str) -> bool:
        """Whether the remote's branch has what `commit` does not contain; False when the remote does not tell."""
        listed = self._talk("ls-remote", "--quiet", "--refs", "--", self._url, self._branch)
        lines = listed.out.decode("utf-8", "replace").splitlines() if listed.ok else []
        heads = [line.partition("\t")[0] for line in lines if line.endswith(f"\t{self._branch}")]
        # A commit that we do not even have is no ancestor of ours either: git says so by another failure.
        return any(not self._git.run("merge-base", "--is-ancestor", head, commit).ok for head in heads)

    def _talk(self, *arguments: str) -> Finished:
        return self._git.run(
            *arguments,
            extra_environ=self._ssh_environment(),
            timeout_seconds=self._timeout_seconds,
            max_file_bytes=self._max_file_bytes,
        )

    def _ssh_environment(self) -> Mapping[str, str]:
        """Our ssh command, which never asks, unless the user set one (as GIT_SSH_COMMAND, GIT_SSH or in git config).

        GIT_SSH_COMMAND comes before `core.sshCommand`, so git has to be asked for that one: once.
        """
        if self._ssh is None:
            ours = _uses_ssh(self._url) and not {"GIT_SSH_COMMAND", "GIT_SSH"} & self._git.environ.keys()
            ours = ours and not self._git.run("config", "--get", "core.sshCommand").ok
            self._ssh = {"GIT_SSH_COMMAND": DEFAULT_SSH} if ours else {}
        return self._ssh


_FETCH_WORDS = (
    "--quiet",
    "--no-tags",
    "--no-prune",
    "--no-recurse-submodules",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--no-show-forced-updates",
)
_PUSH_WORDS = ("--porcelain", "--no-verify", "--no-follow-tags", "--no-signed", "--recurse-submodules=no")


def _uses_ssh(url: str) -> bool:
    return url.startswith("ssh://") or not (url.startswith("/") or "://" in url)


def _locked(finished: Finished, refusal: str) -> RemoteError:
    """The remote has nothing new and yet did not write; git's advice around the line that tells why is left out."""
    telling = [line for line in finished.err.splitlines() if _NOT_WRITTEN.search(line)]
    return RemoteError(
        "The remote's branch is locked, or the remote cannot write it.",
        cause=why(Finished(finished.status, b"", "\n".join((*telling, refusal)))),
        remedy="Somebody may be pushing just now: try again. When it stays so, see that the remote's disk is not full "
        "and that it may be written to, and remove the `.lock` file that a push which died left there.",
    )


def _failed(sentence: str, finished: Finished, *, also: str = "") -> RemoteError:
    said = f"{finished.err}\n{also}"
    remedy = next((words for pattern, words in _REMEDIES if re.search(pattern, said)), _OTHERWISE)
    shown = Finished(finished.status, b"", said, finished.stopped)
    return RemoteError(sentence, cause=why(shown), remedy=remedy)
