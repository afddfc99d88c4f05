"""Making commits: objects first, and only then, by compare-and-swap, the branch."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from mirror.config.settings import Repository as Settings
from mirror.errors import HistoryError
from mirror.history.git import Git, why
from mirror.history.references import DISK_REMEDY
from mirror.history.stream import commit_stream, identity
from mirror.model import CommitId


def write_commit(
    git: Git,
    settings: Settings,
    *,
    tree: str | None,
    parents: Sequence[CommitId],
    changes: Mapping[str, bytes | None],
    message: str,
    when: datetime,
) -> CommitId:
    """Write a commit that no reference names yet, durably; signed when the settings say so. `when` is aware.

    Raises:
        HistoryError: It could not be written or signed.
    """
    author = identity(settings.author_name, settings.author_email, when)
    stream = commit_stream(tree=tree, parents=parents, changes=changes, message=message, author=author)
    finished = git.run("fast-import", "--quiet", "--done", stdin=stream)
    if not finished.ok:
        raise HistoryError("A commit could not be written.", cause=why(finished), remedy=DISK_REMEDY)
    commit = CommitId(finished.out.decode().strip())
    if not settings.sign:
        return commit
    # fast-import cannot sign: its commit was a draft that carries the tree.
    return _signed(git, settings, f"{commit}^{{tree}}", parents=parents, message=message, when=when)


def _signed(
    git: Git, settings: Settings, tree: str, *, parents: Sequence[CommitId], message: str, when: datetime
) -> CommitId:
    """A commit with the signature that the user's git configuration names."""
    names = {"NAME": settings.author_name, "EMAIL": settings.author_email, "DATE": f"@{int(when.timestamp())} +0000"}
    environ = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in names.items()}
    words = [word for parent in parents for word in ("-p", parent)]
    finished = git.run("commit-tree", "-S", *words, "-F", "-", tree, stdin=message.encode(), extra_environ=environ)
    if not finished.ok:
        raise HistoryError(
            "The commit could not be signed.",
            cause=why(finished),
            remedy="Give this user a signing key that needs no passphrase (git config user.signingKey, gpg.format), "
            "or set `repository.sign: false`.",
        )
    return CommitId(finished.out.decode().strip())
