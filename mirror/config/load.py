"""Configuration files to `Settings`: read, checked whole, with every mistake at once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from mirror.config import rules, yaml_reader
from mirror.config.fleet import fleet_findings
from mirror.config.layers import Entry, Layers, stack
from mirror.config.places import publish_findings
from mirror.config.problems import Location, Problem, refusal
from mirror.config.resolve import to_settings
from mirror.config.settings import Settings
from mirror.errors import UsageError

_NOTHING: Mapping[str, str] = MappingProxyType({})
_NO_FILE = (
    "Name the file with `--config` or in `$OIDC_MIRROR_CONFIG`; config/mirror.example.yaml shows how to write one."
)
SIGNING_KEY_VARIABLE = "OIDC_MIRROR_SIGNING_KEY"
_PUBLISH_RULE = rules.Rule(frozenset({"publish", "issuer", "former_issuers"}), publish_findings)


class _TooLargeError(ValueError):
    """The file is larger than `MAX_FILE_BYTES`."""


def load(path: Path, environ: Mapping[str, str] = _NOTHING) -> Settings:
    """Read the configuration file and, where it names one, every `*.yaml` file of `issuers_dir`.

    Args:
        path: The file.
        environ: The environment, of which `SIGNING_KEY_VARIABLE` replaces `repository.signing_key`; a relative path
            there begins at the working directory.

    Raises:
        UsageError: A file cannot be read, or anything in them is wrong; `problems` has every mistake.
    """
    settings = _loaded(path)
    signing_key = environ.get(SIGNING_KEY_VARIABLE)
    if not signing_key:
        return settings
    return replace(settings, repository=replace(settings.repository, signing_key=Path(signing_key).absolute()))


def _loaded(path: Path) -> Settings:
    text = _main_text(path)
    base = path.absolute().parent
    main = yaml_reader.read(text)
    folder = _issuers_dir(main)
    if folder is None:
        return _settings({"": text}, main, base)
    found = _folder(base / folder, folder)
    settings = _settings({"": text, **found.texts}, main, base, found.problems)
    return replace(settings, warnings=(*settings.warnings, *found.warnings))


def issuers_folder(text: str, *, base: Path) -> Path | None:
    """The folder of issuers that a configuration names, whatever else is wrong in it; nothing is read from the disk."""
    folder = _issuers_dir(yaml_reader.read(text))
    return None if folder is None else base / folder


def _issuers_dir(main: yaml_reader.Document) -> str | None:
    folder = main.data.get("issuers_dir") if isinstance(main.data, dict) else None
    return folder if isinstance(folder, str) and folder and folder.isprintable() else None


def parse(text: str, *, base: Path, issuer_files: Mapping[str, str] = _NOTHING) -> Settings:
    """Turn the text of a configuration file into settings; nothing is read from the disk.

    Args:
        text: YAML or JSON.
        base: The absolute folder that relative paths begin at.
        issuer_files: The texts of the files of `issuers_dir`, by the name that problems call them.

    Raises:
        UsageError: Anything is wrong; `problems` has every mistake, each as `path: sentence remedy`.
    """
    return _settings({"": text, **issuer_files}, yaml_reader.read(text), base)


def _settings(
    texts: Mapping[str, str], main: yaml_reader.Document, base: Path, unfound: Iterable[Problem] = ()
) -> Settings:
    files = {file: yaml_reader.read(text, file=file) for file, text in texts.items() if file}
    unfound = tuple(unfound)
    layers = stack(main, files | {problem.file: yaml_reader.Document() for problem in unfound})
    unread = [*unfound, *(problem for read in (main, *files.values()) for problem in read.problems)]
    problems = [*unread, *_uncovered(layers.problems, unread)]
    if main.readable:
        problems += _uncovered(_rule_problems(layers), unread)
    if problems:
        wanted = {problem.file for problem in problems}
        lines = {file: yaml_reader.read(texts[file], with_lines=True).lines for file in wanted & texts.keys()}
        raise refusal(problems, lines)
    return to_settings(layers, base, tuple(dict.fromkeys(_warnings(layers))))


def _uncovered(found: Iterable[Problem], unread: Iterable[Problem]) -> list[Problem]:
    """Without what is at, above or below a value that could not be read properly: it was told already."""
    covers = {(problem.file, problem.path) for problem in unread}
    above = {(file, path[:end]) for file, path in covers for end in range(len(path))}
    return [
        problem
        for problem in found
        if (problem.file, problem.path) not in above
        and not any((problem.file, problem.path[:end]) in covers for end in range(len(problem.path) + 1))
    ]


def _rule_problems(layers: Layers) -> Iterator[Problem]:
    yield from (Problem("", path, text) for path, text in rules.root_findings(layers))
    for entry in layers.entries:
        for rule in (*rules.ISSUER_RULES, _PUBLISH_RULE):
            if not rule.needs & entry.bad:
                yield from (Problem(*layers.trace(entry, path), text) for path, text in rule.check(entry))
    for entry, path, text in fleet_findings(layers.entries):
        yield Problem(entry.file, entry.path + path, text)


def _warnings(layers: Layers) -> Iterator[str]:
    yield from (str(Problem("", path, text)) for path, text in rules.root_warnings(layers.root))
    for entry in layers.entries:
        yield from _entry_warnings(layers, entry)


def _entry_warnings(layers: Layers, entry: Entry) -> Iterator[str]:
    for path, text in rules.entry_warnings(entry):
        yield str(Problem(*layers.trace(entry, path), text))


@dataclass(frozen=True, slots=True)
class _Folder:
    """The files of `issuers_dir`: texts by the name that problems call them, and what is wrong with the others."""

    texts: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def _folder(folder: Path, shown: str) -> _Folder:
    """Read every `*.yaml` file in the order of the names; hidden files are Kubernetes' own."""
    result = _Folder()
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except (OSError, ValueError) as error:
        result.problems.append(_unread("", ("issuers_dir",), error))
        return result
    for file in files:
        name = f"{shown}/{file.name}"
        if file.suffix == ".yaml":
            _add_file(result, file, name)
        elif file.suffix in (".yml", ".json"):
            result.warnings.append(f"{name} is not read. End its name in .yaml.")
    return result


def _add_file(result: _Folder, file: Path, name: str) -> None:
    try:
        result.texts[name] = _text_of(file)
    except (OSError, ValueError) as error:
        result.problems.append(_unread(name, (), error))


def _unread(file: str, path: Location, error: Exception) -> Problem:
    return Problem(file, path, f"It cannot be read ({_cause(error)}). {_remedy(error)}")


def _main_text(path: Path) -> str:
    try:
        return _text_of(path)
    except (OSError, ValueError) as error:
        remedy = _NO_FILE if isinstance(error, FileNotFoundError) else _remedy(error)
        raise UsageError(f"The configuration {path} cannot be read.", cause=_cause(error), remedy=remedy) from None


def _text_of(path: Path) -> str:
    """The text of a file of at most `MAX_FILE_BYTES`.

    Raises:
        OSError: It cannot be read.
        _TooLargeError: It is larger than that.
        ValueError: It is not UTF-8, or no operating system has such a path.
    """
    with path.open("rb") as file:
        body = file.read(yaml_reader.MAX_FILE_BYTES + 1)
    if len(body) > yaml_reader.MAX_FILE_BYTES:
        raise _TooLargeError("larger than 16 MiB")
    return body.decode()


def _remedy(error: Exception) -> str:
    if isinstance(error, _TooLargeError):
        return "Spread the issuers over several files of `issuers_dir`."
    return "Check the path, the rights and the encoding."


def _cause(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
