"""A mistake in a configuration file: where it stands, and what to do about it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mirror.errors import UsageError

Location = tuple[str | int, ...]
"""The way to a value: keys of mappings and indexes of lists."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_KEY_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `file` is "" in the main file; `line` counts from 1, 0 where it is not known."""

    file: str
    path: Location
    text: str
    line: int = 0

    def __str__(self) -> str:
        where = self.file + path_text(self.path, inside=bool(self.file))
        place = f"{where or 'the file'} (line {self.line})" if self.line else where or "the file"
        return f"{place}: {self.text}"


def path_text(path: Location, *, inside: bool = False) -> str:
    """A path for people, such as `issuers[2].tls.ca_file`; `inside` begins it with a dot where it needs one."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{key_text(part)}" for part in path)
    return text if inside else text.removeprefix(".")


def key_text(key: str) -> str:
    """A key as the operator wrote it, quoted, escaped and shortened where it is no plain word."""
    if _PLAIN_KEY.fullmatch(key):
        return key
    cut = "" if len(key) <= _MAX_KEY_CHARACTERS else "…"
    return ascii(key[:_MAX_KEY_CHARACTERS]) + cut


def refusal(problems: Iterable[Problem], lines: Mapping[str, Mapping[Location, int]]) -> UsageError:
    """The one error that carries every problem, in the order of the files and their lines.

    Args:
        problems: At least one; repeated ones are told once.
        lines: For each file the line of each path; a missing path stands at its nearest known parent.
    """
    placed = {_placed(problem, lines.get(problem.file, {})) for problem in problems}
    told = tuple(str(problem) for problem in sorted(placed, key=_order))
    mistakes = "one mistake" if len(told) == 1 else f"{len(told)} mistakes"
    return UsageError(
        f"The configuration has {mistakes}, so nothing was done.",
        remedy="Correct what is listed and start again.",
        problems=told,
    )


def _placed(problem: Problem, lines: Mapping[Location, int]) -> Problem:
    known = (lines[problem.path[:end]] for end in range(len(problem.path), 0, -1) if problem.path[:end] in lines)
    return Problem(problem.file, problem.path, problem.text, problem.line or next(known, 0))


def _order(problem: Problem) -> tuple[str, int, str]:
    return (problem.file, problem.line, str(problem))
