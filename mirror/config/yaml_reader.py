"""Strict YAML or JSON text to plain data, with every mistake and where it stands.

Only what reads the same to people and to every parser gets through: no duplicate keys, anchors, aliases, tags,
merge keys, keys that are no text, nor several documents. A plain word is `true`, `false`, `null`, a decimal number
or text (the core schema of YAML 1.2, section 10.3.2, without octal and hexadecimal numbers): `no`, `on`, `012`,
`12:30` and `2027-01-31` are text, whatever YAML 1.1 makes of them.

The parser's events are read one by one with an own stack, so that neither deep nesting nor repetition costs more
than the length of the text.

JSON text to plain data, for configurations that programs write.
YAML readers take most JSON but not all of it: libyaml refuses the escaped surrogate pairs of RFC 8259, section 7.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

import yaml

from mirror.errors import UsageError

_MAX_DIGITS = 18


def read_json(text: str, *, max_depth: int) -> object | None:
    """Read a strict JSON object or array; None when it is none, so that the YAML reader says what is wrong and where.

    None is also the answer to duplicate names, huge numbers, lone surrogates and nesting beyond `max_depth`.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_int=_integer, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return data if _is_plain(data, max_depth) else None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("duplicate name")
    return members


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("huge number")
    return int(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _is_plain(data: object, max_depth: int) -> bool:
    """Whether nothing is nested too deeply and every text and number can be written out again."""
    level = [data]
    for _ in range(max_depth + 1):
        if not all(map(_is_writable, level)):
            return False
        level = [part for value in level for part in _parts(value)]
        if not level:
            return True
    return False


def _parts(value: object) -> list[object]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def _is_writable(value: object) -> bool:
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
    return not isinstance(value, float) or abs(value) < float("inf")


Location = tuple[str | int, ...]
"""The way to a value: keys of mappings and indexes of lists."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_KEY_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `file` is "" in the main file; `line` counts from 1, 0 where it is not known.

    `main` is what the main file is called, where that is known: then `file:line` comes first, as compilers write it.
    """

    file: str
    path: Location
    text: str
    line: int = 0
    main: str = ""

    def __str__(self) -> str:
        if self.main:
            place = f"{self.file or self.main}:{self.line}" if self.line else self.file or self.main
            return ": ".join(part for part in (place, path_text(self.path), self.text) if part)
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


def refusal(problems: Iterable[Problem], lines: Mapping[str, Mapping[Location, int]], *, main: str = "") -> UsageError:
    """The one error that carries every problem, in the order of the files and their lines.

    Args:
        problems: At least one; repeated ones are reported once.
        lines: For each file the line of each path; a missing path stands at its nearest known parent.
        main: What the main file is called.
    """
    placed = {replace(_placed(problem, lines.get(problem.file, {})), main=main) for problem in problems}
    texts = tuple(str(problem) for problem in sorted(placed, key=_order))
    mistakes = "one mistake" if len(texts) == 1 else f"{len(texts)} mistakes"
    return UsageError(
        f"The configuration has {mistakes}, so nothing was done.",
        remedy="Correct what is listed and start again.",
        problems=texts,
    )


def _placed(problem: Problem, lines: Mapping[Location, int]) -> Problem:
    known = (lines[problem.path[:end]] for end in range(len(problem.path), 0, -1) if problem.path[:end] in lines)
    return Problem(problem.file, problem.path, problem.text, problem.line or next(known, 0))


def _order(problem: Problem) -> tuple[str, int, str]:
    return (problem.file, problem.line, str(problem))


MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 32
MAX_PROBLEMS = 100  # of one file; a file with more mistakes is probably another kind of file

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same events, ten times as fast where libyaml is there
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_LONG_INTEGER = re.compile(r"-?[1-9][0-9]{18,}")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17}(?:[eE][+-]?[0-9]{1,2})?|[eE][+-]?[0-9]{1,2})")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}


@dataclass(slots=True)
class YamlDocument:
    """What a file holds. `data` is only worth a look where `readable`; `lines` is filled when it was asked for."""

    data: object = None
    readable: bool = False
    problems: list[Problem] = field(default_factory=list)
    lines: dict[Location, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Open:
    """A mapping or a list whose end has not come yet; `key` is the mapping's key that waits for its value."""

    path: Location
    value: dict[str, object] | list[object]
    key: str | None = None


def load_strict_yaml(text: str, *, file: str = "", with_lines: bool = False) -> YamlDocument:
    """Read one file's text; every mistake is a problem of the result, and nothing is raised.

    Args:
        text: The whole file, at most `MAX_FILE_BYTES` long in UTF-8. A byte order mark at its start is ignored.
        file: What the file is called in problems.
        with_lines: Whether `lines` is wanted (it costs time and memory, so only once there is a problem to report).
    """
    text = text.removeprefix("\ufeff")
    refused = _refused(text)
    if refused:
        return YamlDocument(problems=[Problem(file, (), refused)])
    data = read_json(text, max_depth=MAX_DEPTH) if not with_lines and text.lstrip()[:1] in ("{", "[") else None
    if data is not None:
        return YamlDocument(data=data, readable=True)
    return _Builder(file, with_lines=with_lines).build(text)


def _refused(text: str) -> str | None:
    if len(text) > MAX_FILE_BYTES:
        return "The file is larger than 16 MiB. Split the issuers over several files in issuers_dir."
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "The file is not UTF-8. Save it as UTF-8."
    return None


class _Builder:
    """Turns events into plain data, and notes every mistake on the way."""

    def __init__(self, file: str, *, with_lines: bool) -> None:
        self._file = file
        self._with_lines = with_lines
        self._stack: list[_Open] = []
        self._document = YamlDocument()
        self._documents = 0

    def build(self, text: str) -> YamlDocument:
        try:
            for event in _events(text):
                if not self._take(event):
                    return self._document
        except yaml.YAMLError as error:
            self._document.problems.append(_syntax_problem(self._file, error))
            return self._document
        self._document.readable = self._documents == 1
        if self._documents == 0:
            self._problem((), 0, "The file is empty. Start from config/mirror.example.yaml.")
        return self._document

    def _take(self, event: yaml.Event) -> bool:
        """Handle one event; False when there is no point in going on."""
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        if isinstance(event, yaml.DocumentStartEvent):
            return self._document_start(line)
        if isinstance(event, yaml.CollectionEndEvent):
            self._stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._refuse_indirection(event, line)
            return self._node(event, line) and len(self._document.problems) < MAX_PROBLEMS
        return True

    def _document_start(self, line: int) -> bool:
        self._documents += 1
        if self._documents == 1:
            return True
        self._problem((), line, "A second document begins here. Put everything into one document.")
        return False

    def _node(self, event: yaml.NodeEvent, line: int) -> bool:
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.value, dict) and parent.key is None:
            return self._key(parent, event, line)
        path = self._path()
        value = self._value(event, path, line)
        self._attach(parent, path, value, line)
        if isinstance(value, dict | list) and isinstance(event, yaml.CollectionStartEvent):
            self._stack.append(_Open(path, value))
        if len(self._stack) > MAX_DEPTH:
            self._problem((), line, f"The file is nested deeper than {MAX_DEPTH} levels. No key needs that.")
            return False
        return True

    def _key(self, parent: _Open, event: yaml.NodeEvent, line: int) -> bool:
        if not isinstance(event, yaml.ScalarEvent):
            self._problem(parent.path, line, "A key is a list, a mapping or an alias. Write a plain word as key.")
            return False  # what follows could not be read from its value
        if event.value == "<<" and event.implicit[0]:
            self._problem(parent.path, line, "A merge key (<<) is not allowed. Use the section defaults instead.")
        elif event.implicit[0] and not isinstance(_plain(event.value), str):
            text = f"The key {key_text(event.value)} is not text. Write it in quotes if it is meant so."
            self._problem(parent.path, line, text)
        elif event.value in parent.value:
            text = f"The key {key_text(event.value)} stands twice in one mapping. Remove one of them."
            self._problem((*parent.path, event.value), line, text)
        parent.key = event.value
        return True

    def _path(self) -> Location:
        """The way to the value that comes next; at a key, the way to its mapping."""
        if not self._stack:
            return ()
        parent = self._stack[-1]
        if isinstance(parent.value, list):
            return (*parent.path, len(parent.value))
        return parent.path if parent.key is None else (*parent.path, parent.key)

    def _value(self, event: yaml.NodeEvent, path: Location, line: int) -> object:
        if isinstance(event, yaml.MappingStartEvent):
            return {}
        if isinstance(event, yaml.SequenceStartEvent):
            return []
        if not isinstance(event, yaml.ScalarEvent) or not event.implicit[0]:
            return getattr(event, "value", None)
        if _LONG_INTEGER.fullmatch(event.value):
            self._problem(path, line, "The number has more than 18 digits. Write it in quotes if it is meant as text.")
            return None
        return _plain(event.value)

    def _attach(self, parent: _Open | None, path: Location, value: object, line: int) -> None:
        if parent is None:
            self._document.data = value
        elif isinstance(parent.value, list):
            parent.value.append(value)
        else:
            parent.value[str(parent.key)] = value
            parent.key = None
        if self._with_lines:
            self._document.lines.setdefault(path, line)

    def _refuse_indirection(self, event: yaml.NodeEvent, line: int) -> None:
        path = self._path()
        if isinstance(event, yaml.AliasEvent):
            self._problem(path, line, "An alias (*) is not allowed. Write the value out, or use the section defaults.")
        elif event.anchor is not None:
            self._problem(path, line, "An anchor (&) is not allowed. Remove it.")
        if getattr(event, "tag", None) is not None:
            self._problem(path, line, "A tag (!) is not allowed. Remove it.")

    def _problem(self, path: Location, line: int, text: str) -> None:
        self._document.problems.append(Problem(self._file, path, text, line))


def _events(text: str) -> Iterator[yaml.Event]:
    loader = _LOADER(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


def _plain(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if not (text[0] == "-" or "0" <= text[0] <= "9"):
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _syntax_problem(file: str, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    text = f"This is not valid YAML ({said}). Check indentation, colons and quotes here and in the line above."
    return Problem(file, (), text, mark.line + 1 if mark is not None else 0)
