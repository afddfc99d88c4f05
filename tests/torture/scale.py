"""The amount of each test: little in the suite, more with `make torture`. Passed cases are recorded.

`OIDC_MIRROR_TORTURE` is a JSON object with the fields of `Scale` that differ from those of the suite.
`OIDC_MIRROR_TORTURE_TALLY` is a file that gets one JSON object per line for each passed case.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Scale:
    """The amount of each part.

    `kills` are spread evenly over the calls of a situation and mode. If it is 0, `calls` are used, or else every
    `every`-th call from call `seed` on. `cases` are situations; none means all. `modes` are those of `crashes.Mode`.
    `inputs` is the total for all parsers; `histories` is the number with real git.
    """

    kills: int = 1
    every: int = 1
    everything: bool = False
    cases: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("all", "one")
    calls: tuple[int, ...] = ()
    seconds: float = 2.0
    inputs: int = 2_000
    histories: int = 2
    seed: int = 1


def scale() -> Scale:
    given: dict[str, Any] = json.loads(os.environ.get("OIDC_MIRROR_TORTURE", "{}"))
    lists = {name: tuple(each) for name, each in given.items() if isinstance(each, list)}
    return Scale(**given | lists)


def tally(part: str, case: str, **figures: int) -> None:
    """Record a case after it passed."""
    path = os.environ.get("OIDC_MIRROR_TORTURE_TALLY")
    if path is not None:
        with Path(path).open("a", encoding="utf-8") as out:
            out.write(json.dumps({"part": part, "case": case, **figures}) + "\n")
