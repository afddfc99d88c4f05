"""What a look at the supply chain comes to."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """Lines to print, and whether a change may not go on."""

    lines: tuple[str, ...]
    fails: bool
