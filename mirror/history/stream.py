"""Pure: the text that tells `git fast-import` to write one commit, and to leave every reference alone."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from mirror.model import CommitId

_SCRATCH = b"refs/oidc-mirror/scratch"
_NOTHING = b"0" * 40


def commit_stream(
    *,
    tree: str | None,
    parents: Sequence[CommitId],
    changes: Mapping[str, bytes | None],
    message: str,
    author: bytes,
) -> bytes:
    """The stream of one commit whose id fast-import prints.

    The commit is made on a branch of that process's own which is given up before the end, so that no reference
    changes (git-fast-import(1), `reset` with an all-zero `from`): whoever is killed here leaves only objects that
    nobody names.

    Args:
        tree: The id of the tree that is changed; None for an empty one.
        parents: In this order.
        changes: Paths with their new bytes, None for a file that goes.
        message: Of the commit.
        author: From `identity`; also the committer.
    """
    lines = [b"commit " + _SCRATCH, b"mark :1", b"author " + author, b"committer " + author, _data(message.encode())]
    lines += [(b"merge " if n else b"from ") + parent.encode() for n, parent in enumerate(parents)]
    lines.append(b"deleteall" if tree is None else b'M 040000 %s ""' % tree.encode())
    # Removals come first: a file may give way to a folder of the same name.
    lines += [b"D " + quoted(path) for path, body in changes.items() if body is None]
    lines += [
        b"M 100644 inline " + quoted(path) + b"\n" + _data(body) for path, body in changes.items() if body is not None
    ]
    lines += [b"", b"reset " + _SCRATCH, b"from " + _NOTHING, b"", b"get-mark :1", b"done", b""]
    return b"\n".join(lines)


def identity(name: str, email: str, when: datetime) -> bytes:
    """Author and date as git writes them, in UTC; `when` is aware. What would break the line is left out."""
    clean = (" ".join(text.translate(_UNFIT).split()) for text in (name, email))
    return "{} <{}> {} +0000".format(*clean, int(when.timestamp())).encode()


def quoted(path: str) -> bytes:
    """A path in C quotes, as fast-import reads it; surrogates are bytes that are no UTF-8."""
    return b'"' + b"".join(_QUOTED[byte] for byte in path.encode("utf-8", "surrogateescape")) + b'"'


def _data(body: bytes) -> bytes:
    return b"data %d\n%s" % (len(body), body)


_UNFIT = {ord(c): " " for c in "<>"} | dict.fromkeys((*range(32), 127), " ")
_QUOTED = [bytes((c,)) if 32 <= c < 127 and c not in b'"\\' else b"\\%03o" % c for c in range(256)]  # noqa: PLR2004 - ASCII
