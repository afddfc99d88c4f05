"""What a reader of untrusted bytes gives instead of a value."""

from dataclasses import dataclass

from mirror.model import Reason


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that is not believed, with every reason found in it, in the order of the document.

    Raises:
        ValueError: there is no reason; a refusal that nobody can explain is a fault of ours.
    """

    reasons: tuple[Reason, ...]

    def __post_init__(self) -> None:
        if not self.reasons:
            raise ValueError("a refusal needs a reason")


MAX_REASONS = 256
"""How many reasons one document may have: a hostile one could hold as many faults as it has bytes."""


def refused(reasons: tuple[Reason, ...]) -> Refused:
    """Refuse with the reasons of `limited`.

    Raises:
        ValueError: there is no reason.
    """
    return Refused(limited(reasons))


def limited(reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Give the first 256 of `reasons`, and one more where there are others."""
    if len(reasons) <= MAX_REASONS:
        return reasons
    more = Reason("more_reasons", "Further reasons are left out.", "Correct those that are listed first.")
    return (*reasons[:MAX_REASONS], more)
