"""Pure: how `git rev-list` is asked for the versions of a file, and what its answer says."""

from datetime import UTC, datetime

from mirror.model import CommitId, Version

MOST_VERSIONS = 10_000
"""Of one file; a key changes a few times a year."""
_SHOWN_CHARACTERS = 200
_FIELDS = 5

# `rev-list` obeys no configuration of people, as `log` does. The path's history is simplified, but all branches are
# followed: what another mirror decided and a merge took over is part of a key's life.
LISTED = (
    "--full-history",
    "--simplify-merges",
    "--topo-order",
    "--reverse",
    "--no-commit-header",
    "--encoding=UTF-8",
    f"--format=%H%x00%P%x00%ct%x00%<({_SHOWN_CHARACTERS},trunc)%an%x00%<({_SHOWN_CHARACTERS},trunc)%s",
)


def read_versions(out: bytes) -> tuple[Version, ...]:
    """What `git rev-list` printed for `LISTED`, in its order: one line a commit, its fields divided by zero bytes."""
    lines = out.decode("utf-8", "replace").split("\n")
    found = (line.split("\0") for line in lines if line)
    return tuple(_version(fields) for fields in found if len(fields) == _FIELDS)


def _version(fields: list[str]) -> Version:
    commit, parents, seconds, author, subject = fields
    return Version(
        commit=CommitId(commit),
        parents=tuple(CommitId(parent) for parent in parents.split()),
        when=moment(int(seconds)),
        author=author.rstrip()[:_SHOWN_CHARACTERS],
        # git counts columns, of which some characters take none.
        subject=subject.rstrip()[:_SHOWN_CHARACTERS],
    )


def moment(seconds: int) -> datetime:
    """A committer's date, which is whatever the committer said; one that no calendar holds counts as 1970."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)
