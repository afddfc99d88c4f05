"""A piece as the text that is printed."""

import json
import shlex
from typing import Any, assert_never

from mirror.federation.render import hcl
from mirror.federation.render.kind import Rendered


def text_of(piece: Rendered) -> str:
    """The text of a piece, comments in front where its syntax has them, with a line break at its end."""
    match piece.syntax:
        case "json":
            return json.dumps(piece.value, indent=2) + "\n"
        case "yaml":
            return _comments(piece) + _yaml(piece.value)
        case "hcl":
            return _comments(piece) + hcl.write(piece.value)
        case "shell":
            return _comments(piece) + "".join(f"{_command(each)}\n" for each in piece.value)
        case _:
            assert_never(piece.syntax)


def _comments(piece: Rendered) -> str:
    # What came from the configuration has no line break where it matters; one would end the comment.
    return "".join(f"# {' '.join(line.splitlines())}\n" for line in piece.comments)


def _yaml(value: Any) -> str:
    """One document, or several where the value is a tuple."""
    import yaml  # noqa: PLC0415  only where it is needed

    documents = value if isinstance(value, tuple) else (value,)
    written: str = yaml.safe_dump_all(
        documents, sort_keys=False, width=120, allow_unicode=True, explicit_start=len(documents) > 1
    )
    return written


class Assignment(tuple[str, ...]):
    """A shell command that is a variable's name and the text after its sign, quoted already."""

    __slots__ = ()


class Quoted(tuple[str, ...]):
    """A shell command whose words are quoted already."""

    __slots__ = ()


def _command(words: tuple[str, ...]) -> str:
    match words:
        case Assignment():
            return "=".join(words)
        case Quoted():
            return " ".join(words)
        case _:
            return shlex.join(words)
