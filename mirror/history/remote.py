"""Fetch from and push to the git remote with explicit arguments, and explain its refusals.

Data from a remote is untrusted: objects are checked (`fetch.fsckObjects`), and size and time are limited. The remote
can move nothing but our record of its own branch.
"""

import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from mirror.errors import PushRefusedError, RemoteError
from mirror.history.git_command import CompletedProcess, Git, presentable, why

REMOTE_TIMEOUT_SECONDS = 120.0
MAX_FETCHED_FILE_BYTES = 1024 * 1024 * 1024
"""The largest file that a fetch may write (a pack, an object): a hostile remote must not fill the disk."""
DEFAULT_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=15"
_LOST_RACE = re.compile(
    r"fetch first|non-fast-forward|stale info|but expected|incorrect old value|reference already exists"
)
# Servers send this after a concurrent push, and also when the branch is locked or cannot be written.
_NOT_WRITTEN = re.compile(r"failed to lock|cannot lock ref|failed to update ref|lock error", re.IGNORECASE)
# git-receive-pack(1), `receive.shallowUpdate`: a server rejects commits if neither side has their ancestors.
_TOO_SHALLOW = "shallow update not allowed"
_NOT_RESTORED = (
    "The git remote lost its history, and this mirror cannot restore it: its disk began empty, so it has the newest "
    "commits only."
)
_NO_BRANCH = re.compile(r"^fatal: couldn't find remote ref ", re.MULTILINE)
_DAMAGED_REMEDY = "Check the remote's repository with `git fsck --strict`, and find out who pushed to it last."
_REMEDIES = (
    # The first match decides. The server's own message about its rules comes before git's interpretation.
    (
        r"must have (verified|valid) signatures",
        (
            "A rule of GitHub asks for signed commits: set `repository.sign: true`, and give git a key that it knows "
            "(`user.signingKey`, `gpg.format ssh`), or exempt the mirror's user from the rule."
        ),
    ),
    (
        r"GH013|Repository rule violations",
        "A rule of the repository refuses the push: let the mirror's user or deploy key bypass it for this branch.",
    ),
    (
        r"GH007|email privacy restrictions",
        "GitHub refuses the author's address: set `repository.author` with an `…@users.noreply.github.com` address.",
    ),
    (
        r"archived so it is read-only|to an archived project|is archived|repository has been archived",
        "The repository is archived and cannot be written: take it out of the archive, or name another one.",
    ),
    (
        r"marked as read only|deploy key does not have write access|Write access to repository not granted",
        "The key is read-only: add it again as a deploy key with write access.",
    ),
    (
        r"TF402455|must use a pull request",
        "A policy of Azure DevOps refuses pushes: give the mirror's user `Bypass policies when pushing` on the branch.",
    ),
    (
        r"hook declined|protected branch|TF401027|GH006|not allowed to push",
        "Allow this user to push to the branch, as the remote's message says.",
    ),
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        (
            "The remote shows another host key than known_hosts has. It may be an attack: compare it with what "
            "the host's operator publishes, and only then put the new one into known_hosts."
        ),
    ),
    (
        r"Host key verification failed|host key is known",
        "Put the remote's host key into known_hosts (`ssh-keyscan HOST`, compared with what its operator publishes).",
    ),
    (
        r"SSL certificate problem|certificate verif|self.signed certificate|unable to get local issuer",
        (
            "The server's certificate is not trusted. Configure its CA: `git config --global http.sslCAInfo FILE` or "
            "$GIT_SSL_CAINFO."
        ),
    ),
    (
        r"mismatched algorithms|object format|unsupported hash algorithm",
        (
            "The remote is a SHA-256 repository, and the history is one of SHA-1: make it with "
            "`git init --bare --object-format=sha1`."
        ),
    ),
    (
        r"dubious ownership",
        (
            "The remote's folder belongs to another user, and git takes that for an attack: run "
            "`git config --global --add safe.directory FOLDER` as the mirror's user, or give it the folder."
        ),
    ),
    (
        r"publickey|Authentication failed|could not read (Username|Password)|Permission denied|error: 40[13]",
        "Give this user an ssh key without passphrase or a credential helper; prompts are never answered.",
    ),
    (
        r"resolve host|Failed to connect|Connection (refused|timed out|reset)|unreachable",
        "See that the remote's host can be reached.",
    ),
    (r"transport '?\w+'? not allowed", "Use https://, ssh:// or an absolute path."),
    (
        r"does not appear to be a git repository|not found|does not exist",
        "See that `repository.remote` names a git repository that this user may read.",
    ),
    (r"File too large|signal 25", "The remote sends more than a history of keys can be; see who writes to it."),
    (r"fsck|corrupt|bad object|invalid|index-pack|unpack", _DAMAGED_REMEDY),
)
_NO_LOGIN = re.compile(r"Authentication failed|could not read (Username|Password)|error: 401|terminal prompts disabled")
_NO_HOST_KEY = re.compile(r"Host key verification failed|host key is known")
_KNOWN_HOSTS = re.compile(r"UserKnownHostsFile[= ]\"?([^\s\"']+)")
_OTHERWISE = "Try `git ls-remote` with `repository.remote` as the user that runs the mirror."


@dataclass(eq=False, repr=False)
class GitRemote:
    """One branch of one remote, seen from one local repository.

    One fetch or push may take `timeout_seconds`, and write no file over `max_file_bytes`.
    """

    git: Git
    url: str
    branch: str
    _: KW_ONLY
    timeout_seconds: float = REMOTE_TIMEOUT_SECONDS
    max_file_bytes: int = MAX_FETCHED_FILE_BYTES
    _ssh: Mapping[str, str] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._reference = f"refs/heads/{self.branch}"

    def fetch(self, into: str, *, depth: int | None = None) -> str | None:
        """Fetch the branch into the reference `into`.

        Returns:
            The harmless faults of form that `git fsck` reports in the new objects (empty: none); None when the remote
            has no such branch yet.

        Raises:
            RemoteError: It could not be fetched; `into` is as before.
        """
        depth_words = () if depth is None else (f"--depth={depth}",)
        finished = self._talk("fetch", *_FETCH_WORDS, *depth_words, "--", self.url, f"+{self._reference}:{into}")
        if not finished.ok and not finished.stopped and _NO_BRANCH.search(finished.err):
            return None
        if not finished.ok:
            raise self._failed("The git remote could not be fetched from.", finished)
        faults = dict.fromkeys(line for line in finished.err.splitlines() if line.startswith("warning: object "))
        return presentable("\n".join(faults))

    def fetch_commit(self, commit: str, *, depth: int | None) -> None:
        """Fetch one commit by its id; no reference moves. Servers may refuse this.

        Raises:
            RemoteError: It could not be fetched.
        """
        depth_words = () if depth is None else (f"--depth={depth}",)
        finished = self._talk("fetch", *_FETCH_WORDS, *depth_words, "--", self.url, commit)
        if not finished.ok:
            raise self._failed("A commit could not be fetched by its id.", finished)

    def head(self) -> str | None:
        """The commit of the branch on the remote, without fetching it; None where there is no such branch.

        Raises:
            RemoteError: The remote did not answer.
        """
        listed = self._talk("ls-remote", "--quiet", "--refs", "--", self.url, self._reference)
        if not listed.ok:
            raise self._failed("The branch of the git remote could not be looked up.", listed)
        lines = listed.out.decode("utf-8", "replace").splitlines()
        heads = [line.partition("\t")[0] for line in lines if line.endswith(f"\t{self._reference}")]
        return heads[0] if heads else None

    def deepen(self) -> None:
        """Fetch the whole history into a shallow repository; no reference moves.

        Raises:
            RemoteError: It could not be fetched.
        """
        finished = self._talk("fetch", *_FETCH_WORDS, "--unshallow", "--", self.url, self._reference)
        if not finished.ok:
            raise self._failed("The remote's earlier history could not be fetched.", finished)

    def push(self, commit: str, *, rehearse: bool = False) -> None:
        """Make `commit` the remote's branch, as a fast-forward only.

        With `rehearse` git only checks the push: it sends and moves nothing, and hooks of the remote do not run.

        Raises:
            PushRefusedError: The remote has commits that `commit` does not contain, or another push came first.
            RemoteError: It could not be pushed for another reason; the remote's branch may be locked.
        """
        words = (*_PUSH_WORDS, "--dry-run") if rehearse else _PUSH_WORDS
        finished = self._talk("push", *words, "--", self.url, f"{commit}:{self._reference}")
        if finished.ok:
            return
        lines = finished.out.decode("utf-8", "replace").splitlines()
        refusal = "" if finished.stopped else "\n".join(line for line in lines if line.startswith("!\t"))
        unwritten = _NOT_WRITTEN.search(refusal) is not None
        lost = _LOST_RACE.search(refusal) is not None
        if (lost or unwritten) and not rehearse:
            head = None
            with suppress(RemoteError):
                head = self.head()
            if head is not None and self._contains(commit, head=head):
                return  # another mirror made the same commit and was faster
            lost = lost or (head is not None and not self._contains(head, head=commit))
        if lost:
            raise PushRefusedError(
                "The remote's branch has commits that this mirror has not.",
                cause=why(finished),
                remedy="They are fetched and merged before the next try.",
            )
        if unwritten:
            raise _locked(finished, refusal)
        if _TOO_SHALLOW in refusal:
            raise RemoteError(_NOT_RESTORED, cause=_TOO_SHALLOW, remedy=self._new_history(commit))
        raise self._failed("The git remote refused the push or could not be reached.", finished, also=refusal)

    def _new_history(self, commit: str) -> str:
        """The remedy if no repository has the earlier commits: start a new history with the files of `commit`."""
        git = f"git --git-dir={shlex.quote(str(self.git.directory))}"
        made = (
            f"{git} -c user.name=oidc-mirror -c user.email=oidc-mirror@localhost commit-tree -m 'Begin anew' {commit}"
        )
        return (
            "If another mirror has the whole history, let it make a pass. If none has, begin a new history with the "
            "newest ledgers, as the user that runs the mirror: "
            f'`{git} update-ref {shlex.quote(self._reference)} "$({made}^{{tree}})"`'
        )

    def _contains(self, commit: str, *, head: str) -> bool:
        """Whether `head` contains `commit`, as far as this repository knows; it need not even have `head`."""
        return commit == head or self.git.run("merge-base", "--is-ancestor", commit, head).ok

    def _failed(self, sentence: str, finished: CompletedProcess, *, also: str = "") -> RemoteError:
        said = f"{finished.err}\n{also}"
        remedy = next((words for pattern, words in _REMEDIES if re.search(pattern, said)), _OTHERWISE)
        hint = self._unused_askpass() if _NO_LOGIN.search(said) else ""
        hint = hint or (self._unreadable_known_hosts() if _NO_HOST_KEY.search(said) else "")
        shown = CompletedProcess(finished.status, b"", f"{hint}\n{said}" if hint else said, finished.stopped)
        return RemoteError(sentence, cause=why(shown), remedy=remedy, damaged=remedy == _DAMAGED_REMEDY)

    def _unused_askpass(self) -> str:
        """A note that a configured password program is not used; empty where none is configured."""
        if self.git.environ.get("GIT_ASKPASS"):
            return "GIT_ASKPASS is set and not used, because a mirror answers no prompt: use a credential helper"
        if self.git.run("config", "--get", "core.askPass").out.strip():
            return "core.askPass is set and not used, because a mirror answers no prompt: use a credential helper"
        return ""

    def _unreadable_known_hosts(self) -> str:
        """A known_hosts file that this user may not read: ssh silently treats it as empty."""
        environ = self.git.environ
        named = _KNOWN_HOSTS.search(environ.get("GIT_SSH_COMMAND", ""))
        path = Path(named[1]) if named else Path(environ.get("HOME", "/")) / ".ssh" / "known_hosts"
        try:
            with path.open("rb"):
                return ""
        except PermissionError:
            return f"this user may not read {path}, and ssh takes it for an empty file: run `chmod a+r {path}`"
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"

    def _talk(self, *arguments: str) -> CompletedProcess:
        return self.git.run(
            *arguments,
            extra_environ=self._ssh_environment(),
            timeout_seconds=self.timeout_seconds,
            max_file_bytes=self.max_file_bytes,
        )

    def _ssh_environment(self) -> Mapping[str, str]:
        """Our ssh command, which never asks, unless the user set one (as GIT_SSH_COMMAND, GIT_SSH or in git config).

        GIT_SSH_COMMAND comes before `core.sshCommand`, so git is asked for the latter, once.
        """
        if self._ssh is None:
            uses_ssh = self.url.startswith("ssh://") or not (self.url.startswith("/") or "://" in self.url)
            ours = uses_ssh and not {"GIT_SSH_COMMAND", "GIT_SSH"} & self.git.environ.keys()
            ours = ours and not self.git.run("config", "--get", "core.sshCommand").ok
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


def _locked(finished: CompletedProcess, refusal: str) -> RemoteError:
    """The remote has nothing new and yet rejected the push. Of git's advice only the line with the reason is kept."""
    telling = [line for line in finished.err.splitlines() if _NOT_WRITTEN.search(line)]
    return RemoteError(
        "The remote's branch is locked, or the remote cannot write it.",
        cause=why(CompletedProcess(finished.status, b"", "\n".join((*telling, refusal)))),
        remedy="Another push may be running: try again. If it stays, check that the remote's disk is not full "
        "and that it may be written to, and remove the `.lock` file that a push which died left there.",
    )
