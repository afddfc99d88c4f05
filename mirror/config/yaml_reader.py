"""YAML or JSON text to plain data, without YAML's surprises.

Only what reads the same to people and to every parser gets through: no duplicate keys, anchors, aliases, tags,
merge keys, keys that are no text, nor several documents. A plain word is `true`, `false`, `null`, a decimal number
or text (the core schema of YAML 1.2, section 10.3.2, without octal and hexadecimal numbers): `no`, `on`, `012`,
`12:30` and `2027-01-31` are text, whatever YAML 1.1 makes of them.

The parser's events are read one by one with an own stack, so that neither deep nesting nor repetition costs more
than the length of the text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from mirror.config import jsontext
from mirror.config.problems import Location, Problem, key_text

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 32
MAX_PROBLEMS = 100  # of one file; somebody who makes more of them has another file in mind

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same events, ten times as fast where libyaml is there
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_LONG_INTEGER = re.compile(r"-?[1-9][0-9]{18,}")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17}(?:[eE][+-]?[0-9]{1,2})?|[eE][+-]?[0-9]{1,2})")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}


@dataclass(slots=True)
class Document:
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


def read(text: str, *, file: str = "", with_lines: bool = False) -> Document:
    """Read one file's text; every mistake is a problem of the result, and nothing is raised.

    Args:
        text: The whole file, at most `MAX_FILE_BYTES` long in UTF-8. A byte order mark at its start is ignored.
        file: What the file is called in problems.
        with_lines: Whether `lines` is wanted (it costs time and memory, so only once there is a problem to tell).
    """
    text = text.removeprefix("\ufeff")
    refused = _refused(text)
    if refused:
        return Document(problems=[Problem(file, (), refused)])
    plain = jsontext.read(text, max_depth=MAX_DEPTH) if not with_lines and text.lstrip()[:1] in ("{", "[") else None
    if plain is not None:
        return Document(data=plain.data, readable=True)
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
        self._document = Document()
        self._documents = 0

    def build(self, text: str) -> Document:
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
            return False  # what follows could not be told from its value
        if event.value == "<<" and event.implicit[0]:
            self._problem(parent.path, line, "A merge key (<<) is not allowed. Use the section defaults instead.")
        elif event.implicit[0] and not isinstance(_plain(event.value), str):
            text = f"The key {key_text(event.value)} is no text. Write it in quotes if it is meant so."
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
    text = f"This is no valid YAML ({said}). Check indentation, colons and quotes here and in the line above."
    return Problem(file, (), text, mark.line + 1 if mark is not None else 0)
