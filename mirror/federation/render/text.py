"""A piece as the text that is printed."""

import json
import shlex
from textwrap import wrap
from typing import Any, assert_never

from mirror.federation.render import hcl
from mirror.federation.render.base import Rendered, Step


def text_of(piece: Rendered) -> str:
    """The text of a piece, comments in front where its syntax has them, with a line break at its end."""
    match piece.syntax:
        case "json":
            return json.dumps(piece.value, indent=2) + "\n"
        case "yaml":
            return _comments(piece.comments) + _yaml(piece.value)
        case "hcl":
            return _comments(piece.comments) + hcl.write(piece.value)
        case "shell":
            return "#!/bin/sh\n" + _comments(piece.comments) + "".join(map(_line, piece.value))
        case _:
            assert_never(piece.syntax)


def _comments(lines: tuple[str, ...]) -> str:
    return "".join(f"# {part}\n" for line in lines for part in _wrapped(line))


def _wrapped(line: str) -> list[str]:
    """A sentence in lines that can be read; what is indented is a command, and stays whole."""
    # What came from the configuration has no line break where it matters; one would end the comment.
    safe = " ".join(line.splitlines())
    return [safe] if safe.startswith(" ") else wrap(safe, 118, break_long_words=False, break_on_hyphens=False)


def _yaml(value: Any) -> str:
    """One document, or several where the value is a tuple; a step has its comments before it."""
    import yaml  # noqa: PLC0415  only where it is needed

    if isinstance(value, tuple):
        return "".join(f"---\n{_yaml(each)}" for each in value)
    if isinstance(value, Step):
        return _comments(value.comments) + _yaml(value.value)
    written: str = yaml.safe_dump(value, sort_keys=False, width=120, allow_unicode=True)
    return written


class Assignment(tuple[str, ...]):
    """A shell command that is a variable's name and the text after its sign, quoted already."""

    __slots__ = ()


class Quoted(tuple[str, ...]):
    """A shell command whose words are quoted already."""

    __slots__ = ()


class Lines(tuple[str, ...]):
    """Lines of a shell script that are written already."""

    __slots__ = ()


STRICT = Lines(("# shellcheck disable=SC2016  # what stands in single quotes means itself", "set -eu"))
"""The first lines of a script that makes something: it stops at the first error and at a name that is not set."""


def _line(command: Any) -> str:
    if isinstance(command, Step):
        return _comments(command.comments) + _line(command.value)
    return f"{_command(command)}\n"


def _command(words: tuple[str, ...]) -> str:
    match words:
        case Assignment():
            return "=".join(words)
        case Quoted():
            return " ".join(words)
        case Lines():
            return "\n".join(words)
        case _:
            return shlex.join(words)


def quoted(word: str) -> str:
    """A word as a shell takes it, for a command that is not quoted as a whole."""
    return shlex.quote(word)
