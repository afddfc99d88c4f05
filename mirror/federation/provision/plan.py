"""What a provisioning would change, as a value: a dry run shows it, applying it is another call."""

from dataclasses import dataclass

from mirror.model import Note, Reason


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be: `code` says which call mends it, `before` and `after` are words.

    `payload` is what the call sends, such as the text of a policy, where the code alone does not tell.
    """

    code: str
    what: str
    before: str
    after: str
    payload: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about one resource, `title`, in the order in which it is mended.

    `problems` are what keeps the resource from being as it should, and what this program does not touch.
    """

    title: str
    differences: tuple[Difference, ...] = ()
    problems: tuple[Reason, ...] = ()
    notes: tuple[Note, ...] = ()
