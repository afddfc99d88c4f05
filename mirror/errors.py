"""Every exception that this program raises on purpose, split by whose fault it is.

A rejected answer of an apiserver is no exception: it is a value
(`mirror.model.Unusable`), because the pass goes on without it.
"""


class MirrorError(Exception):
    """Base of all: one sentence for people, the cause below it, and what to do about it.

    `sentence` says what did not work, `cause` what the outside world said (may be empty), `remedy` what to do.
    None of them ever holds a secret; text from outside is not escaped here but where it is printed.
    """

    def __init__(self, sentence: str, *, cause: str = "", remedy: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return " ".join(part for part in (self.sentence, self.cause and f"({self.cause})", self.remedy) if part)


BUSY_CODE = "busy"
"""The `code` of a `UsageError` that passes by itself: another process works here. Exit status 75."""


class UsageError(MirrorError):
    """The operator's words or configuration are off; nothing was done. Exit status 2."""

    def __init__(
        self, sentence: str, *, cause: str = "", remedy: str = "", problems: tuple[str, ...] = (), code: str = ""
    ) -> None:
        super().__init__(sentence, cause=cause, remedy=remedy)
        self.code = code
        """What a report calls it, such as `repository.signed`; empty for plain mistakes."""
        self.problems = problems
        """Every mistake of a configuration at once, each as `path: sentence remedy`."""


class HistoryError(MirrorError):
    """The local git repository could not be read or written (disk, rights, damage, a missing git)."""


class BranchMovedError(HistoryError):
    """Another process moved the branch between our read and our write; read again and retry once."""


class RemoteError(MirrorError):
    """The git remote could not be fetched from or pushed to (network, credentials, a refusing hook).

    `damaged` says that it answered, and sent objects that `git fsck` refuses.
    """

    def __init__(self, sentence: str, *, cause: str = "", remedy: str = "", damaged: bool = False) -> None:
        super().__init__(sentence, cause=cause, remedy=remedy)
        self.damaged = damaged


class PushRefusedError(RemoteError):
    """The remote's branch has commits that we have not; fetch, merge and push again."""


class BucketError(MirrorError):
    """The bucket could not be listed, read or written. `code` is the store's own, such as `AccessDenied`."""

    def __init__(self, sentence: str, *, cause: str = "", remedy: str = "", code: str = "") -> None:
        super().__init__(sentence, cause=cause, remedy=remedy)
        self.code = code
