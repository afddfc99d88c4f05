"""Executes documents: runs every command of each ```console block, and compares its output with the written output.

    ```console
    $ oidc-mirror --once        a command; after a backslash at its end it continues in the next line, after `> `
    ...                         its output, up to the next command
    ```

Other blocks (```sh, ```yaml …) are not run. Between blocks, an HTML comment on a line of its own describes a change
from outside: `<!-- world: replicas show keys 1, 2 -->`. Readers do not see it; the stage implements it.

If a command exits with a status other than 0, the next command is `$ echo $?`, so that the document shows the status.

Two runs differ in dates, durations, commits, ETags, role ids and ports. Dates and durations are not compared. Every
other such value of the document stands for exactly one value of the run, so swapped values are detected. All other
text is compared literally, including kids and thumbprints: the keys of a stage are always the same.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

ASK_STATUS = "echo $?"
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\s*$")
_DIRECTION = re.compile(r"^ *<!-- world: (?P<text>.+?) -->\s*$")
_UNIT = "(?:ms|s|min|h|d|(?:second|minute|hour|day)s?)"
_VALUE = re.compile(
    r"(?P<moment>\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:Z|\+00:00)| UTC)|\b1\d{9}\b)"  # or seconds since 1970
    rf"|(?P<duration>\b\d+(?:\.\d+)? {_UNIT}\b(?: \d+ {_UNIT}\b)*)"
    r"|(?P<hash>\b[0-9a-f]{7,40}\b)"
    r"|(?P<role>\bAROA[A-Z0-9]{17}\b)"
    r"|(?P<port>(?<=127\.0\.0\.1:)\d+|(?<=localhost:)\d+)"
)
_CHANGING = frozenset({"moment", "duration"})
_ABBREVIATION = 7
"""Characters that identify a commit: git's shortest default abbreviation."""


@dataclass(frozen=True, slots=True)
class Direction:
    """A change from outside. `block` is the next fenced block, for directions that use it."""

    line: int
    text: str
    block: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command and its output: the lines from `start` up to `end`, counted from 0; `indent` is that of its block."""

    script: str
    output: str
    start: int
    end: int
    indent: str


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of a command."""

    output: str
    status: int


class Stage(Protocol):
    """The environment in which a document is executed."""

    def direct(self, direction: Direction) -> None:
        """Carry out the direction. Raises ValueError if it is unknown."""

    def run(self, script: str, status: int) -> Ran:
        """Run `script` in a shell that starts with `$?` set to `status`."""


class DocumentError(Exception):
    """The document itself is wrong, not the output of its commands."""


def parse(text: str) -> tuple[Direction | Command, ...]:
    """The directions and commands of a document, in their order."""
    lines = text.splitlines()
    parts: list[Direction | Command] = []
    number = 0
    while number < len(lines):
        direction, fence = _DIRECTION.match(lines[number]), _FENCE.match(lines[number])
        if direction:
            parts.append(Direction(number + 1, direction["text"], _next_block(lines, number + 1)))
        elif fence:
            end = _end_of_block(lines, number)
            if fence["language"] == "console":
                parts += _commands(lines, number + 1, end, fence["indent"])
            number = end
        number += 1
    return tuple(parts)


def rehearse(text: str, stage: Stage, *, refresh: bool = False) -> str:
    """Return the document with the output of this run; output that agrees with the document stays as written.

    Args:
        text: the document.
        stage: the environment; it executes the directions and commands in the order of the document.
        refresh: replace every output with that of this run, even if it agrees.

    Raises:
        DocumentError: a direction is unknown, or a command failed and the document does not show its status.
    """
    lines, values, status = text.splitlines(), Values(), 0
    outputs: list[tuple[Command, str]] = []
    for part, after in pairwise((*parse(text), None)):
        if isinstance(part, Direction):
            _direct(stage, part)
        elif part is not None:
            ran = stage.run(part.script, status)
            status = ran.status
            if status and not (isinstance(after, Command) and after.script == ASK_STATUS):
                raise DocumentError(f"line {part.start}: {part.script!r} ended with {status}:\n{ran.output}")
            outputs.append((part, ran.output if refresh else values.as_written(ran.output, part.output)))
    for command, output in reversed(outputs):
        lines[command.start : command.end] = [f"{command.indent}{line}".rstrip() for line in output.splitlines()]
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class Values:
    """Maps values of the document to values of the run, by kind; one to one."""

    of_run: dict[tuple[str, str], str] = field(default_factory=dict)
    of_document: dict[tuple[str, str], str] = field(default_factory=dict)

    def as_written(self, ran: str, written: str) -> str:
        """Return `written` if both agree; else `ran`, with its values replaced by those of the document where known."""
        pairs = list(zip(_VALUE.finditer(ran), _VALUE.finditer(written), strict=False))
        if _shape(ran) == _shape(written) and all(self._agree(a, b) for a, b in pairs):
            return written
        return _VALUE.sub(self._translated, ran)

    def _agree(self, ran: re.Match[str], written: re.Match[str]) -> bool:
        kind = str(ran.lastgroup)
        if kind in _CHANGING:
            return True
        if len(ran[0]) != len(written[0]) and kind == "hash":
            return False
        here, there = (kind, _short(ran[0], kind)), (kind, _short(written[0], kind))
        if here not in self.of_document and there not in self.of_run:
            self.of_document[here], self.of_run[there] = written[0], ran[0]
        known, back = self.of_document.get(here, ""), self.of_run.get(there, "")
        return (_short(known, kind), _short(back, kind)) == (there[1], here[1])

    def _translated(self, ran: re.Match[str]) -> str:
        kind = str(ran.lastgroup)
        known = self.of_document.get((kind, _short(ran[0], kind)), ran[0])
        return known if kind in ("port", "role") or len(known) < len(ran[0]) else known[: len(ran[0])]


def _short(value: str, kind: str) -> str:
    return value[:_ABBREVIATION] if kind == "hash" else value


def _shape(text: str) -> str:
    """The text with each value replaced by its kind, and without spaces at line ends."""
    return "\n".join(line.rstrip() for line in _VALUE.sub(lambda m: f"<{m.lastgroup}>", text).splitlines())


def _direct(stage: Stage, direction: Direction) -> None:
    try:
        stage.direct(direction)
    except ValueError as error:
        raise DocumentError(f"line {direction.line}: {error}") from error


def _end_of_block(lines: list[str], start: int) -> int:
    for number in range(start + 1, len(lines)):
        if lines[number].strip() == "```":
            return number
    raise DocumentError(f"line {start + 1}: the block does not end")


def _next_block(lines: list[str], start: int) -> str:
    for number in range(start, len(lines)):
        fence = _FENCE.match(lines[number])
        if fence:
            inside = lines[number + 1 : _end_of_block(lines, number)]
            return "\n".join(line.removeprefix(fence["indent"]) for line in inside)
    return ""


def _commands(lines: list[str], start: int, end: int, indent: str) -> Iterator[Command]:
    plain = [line.removeprefix(indent) for line in lines[start:end]]
    if plain and not plain[0].startswith("$ "):
        raise DocumentError(f"line {start + 1}: a console block begins with a command")
    number = 0
    while number < len(plain):
        script = plain[number].removeprefix("$ ")
        number += 1
        while script.endswith("\\"):
            script += "\n" + plain[number].removeprefix("> ")
            number += 1
        first = number
        while number < len(plain) and not plain[number].startswith("$ "):
            number += 1
        yield Command(script, "\n".join(plain[first:number]), start + first, start + number, indent)
