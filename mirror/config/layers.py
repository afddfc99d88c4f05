"""An issuer's settings in layers: its own entry over `defaults`, its `publish` over the global one.

Layers are merged as they were written, before they are checked, so that a shape is filled once for each issuer;
afterwards a mistake is traced back to the layer that it came from.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from mirror.config.schema import LIST_FORM, MAP_FORM, IssuerEntry, Publish, Root, Section
from mirror.config.yaml_reader import Location, Problem, YamlDocument, key_text

Raw = Mapping[str, object]
FieldError = tuple[Location, str]
_Row = tuple[str, Location, object]
_Model = TypeVar("_Model", bound=Section)

_WHOLE = "discovery_extra"  # its members are JSON values: not merged deeper, and null is one of them
_STAND_INS = {"name": "stand-in", "issuer": "https://stand-in.invalid"}


@dataclass(frozen=True, slots=True)
class IssuerConfig:
    """One issuer with its layers merged.

    `own` is the entry as written; `publish` is in effect for it; `bad` are the keys of the entry in which a mistake
    was found already, so that rules which look at them are not asked.
    """

    file: str
    path: Location
    own: Raw
    shape: IssuerEntry
    publish: Publish
    bad: frozenset[str]


@dataclass(frozen=True, slots=True)
class MergedConfig:
    """What the files hold, filled into shapes as far as it fits; `bad` are the keys of the main file that do not."""

    root_raw: Raw
    root: Root
    entries: tuple[IssuerConfig, ...]
    bad: frozenset[str]
    problems: tuple[Problem, ...]

    def trace(self, entry: IssuerConfig, path: Location) -> tuple[str, Location]:
        """The file and the full way to the layer of `entry` in which the value at `path` was written."""
        return _trace(self.root_raw, entry.file, entry.path, entry.own, path)


def merged(below: Raw, above: Raw) -> dict[str, object]:
    """`above` over `below`, section by section; null in `above` takes the key away."""
    result = dict(below)
    for key, value in above.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            under = result.get(key)
            base = under if isinstance(under, dict) else {}
            result[key] = {**base, **value} if key == _WHOLE else merged(base, value)
        else:
            result[key] = value
    return result


def merge_layers(main: YamlDocument, issuer_files: Mapping[str, YamlDocument]) -> MergedConfig:
    """Fill the shapes with what the readable files hold, noting every mistake on the way."""
    raw = merged({}, main.data) if isinstance(main.data, dict) else {}
    listed = raw.pop("issuers", [])
    # What is no list stays, for its mistake to be reported.
    root, found, bad = _filled(Root, raw if isinstance(listed, list) else {**raw, "issuers": listed})
    problems = [Problem("", path, text) for path, text in found]
    if main.readable and not isinstance(main.data, dict):
        problems.append(Problem("", (), "The file is not a mapping of keys. Start from config/mirror.example.yaml."))
    rows: list[_Row] = [
        ("", ("issuers", index), row) for index, row in enumerate(listed if isinstance(listed, list) else ())
    ]
    for file, document in issuer_files.items():
        rows.extend(_rows(file, document, problems))
    entries = tuple(_entries(raw, bad, rows, problems))
    # Whether an unreadable file has issuers is not known, so it must not count as a file without issuers.
    unsure = frozenset() if all(document.readable for document in issuer_files.values()) else frozenset({"issuers"})
    return MergedConfig(raw, root, entries, bad | unsure, tuple(problems))


def _rows(file: str, document: YamlDocument, problems: list[Problem]) -> Iterator[_Row]:
    if isinstance(document.data, list):
        yield from ((file, (index,), row) for index, row in enumerate(document.data))
    elif document.readable:
        problems.append(Problem(file, (), "The file is not a list of issuers. Begin each entry with a hyphen."))


def _entries(
    raw: Raw, root_bad: frozenset[str], rows: Iterable[_Row], problems: list[Problem]
) -> Iterator[IssuerConfig]:
    defaults = _section(raw, "defaults")
    common_raw = merged(_section(raw, "publish"), _section(defaults, "publish"))
    common, _, common_bad = _filled(Publish, common_raw)
    inherited = {key: value for key, value in defaults.items() if key != "publish"}
    for file, path, own in rows:
        if not isinstance(own, dict):
            problems.append(Problem(file, path, "This is not an issuer. Write its keys below the hyphen, name first."))
            continue
        layer = merged(inherited, own)
        if isinstance(own.get("publish"), dict):
            layer["publish"] = merged(common_raw, own["publish"])
        filled, found, bad = _filled(IssuerEntry, layer)
        problems.extend(Problem(*_trace(raw, file, path, own, inner), text) for inner, text in found)
        unsure = frozenset({"publish"}) if common_bad or "publish" in root_bad else frozenset()
        yield IssuerConfig(file, path, own, filled, filled.publish or common, bad | unsure)


def _section(raw: Raw, key: str) -> Raw:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _filled(model: type[_Model], raw: Raw) -> tuple[_Model, list[FieldError], frozenset[str]]:
    """A shape with what fits; what does not is left at its default, found, and named by its first key."""
    try:
        return model.model_validate(raw), [], frozenset()
    except ValidationError as error:
        found = list(findings(model, error))
    bad = frozenset(str(path[0]) for path, _ in found)
    stand_ins = {key: value for key, value in _STAND_INS.items() if key in bad & model.model_fields.keys()}
    rest = {key: value for key, value in raw.items() if key not in bad}
    return model.model_validate({**rest, **stand_ins}), found, bad


def _trace(raw: Raw, file: str, entry: Location, own: Raw, path: Location) -> tuple[str, Location]:
    defaults = _section(raw, "defaults")
    if _has(own, path):
        return file, entry + path
    if _has(defaults, path):
        return "", ("defaults", *path)
    if path[0] == "publish" and (_has(raw, path) or "publish" not in own):
        return "", path
    return file, entry + path


def _has(value: object, path: Location) -> bool:
    """Whether something is written at `path`; lists count as mappings from their indexes."""
    for part in path:
        parts = dict(enumerate(value)) if isinstance(value, list) else value
        if not isinstance(parts, dict) or part not in parts:
            return False
        value = parts[part]
    return True


_WORDS: Mapping[str, str] = {
    "missing": "This key is missing. Add it.",
    "bool_type": "This is neither true nor false. Write one of them, without quotes.",
    "int_type": "This is not a whole number. Write one, without quotes, unit and leading zeros.",
    "tuple_type": "This is not a list. Write [a, b], or each item on its own line after a hyphen.",
    "dict_type": "This is not a section. Write its keys below it, indented, each as key: value.",
    "model_type": "This is not a section. Write its keys below it, indented, each as key: value.",
    "literal_error": "This is not one of the allowed words. Write {expected}.",
    "greater_than_equal": "The number is too small. Write {ge} or more.",
    "less_than_equal": "The number is too large. Write {le} or less.",
    "too_long": "The list has more than {max_length} items. Remove some.",
}
_NO_SUCH_SWITCH = re.compile(
    r"(insecure|skip|no|disable)[-_]?(skip[-_]?)?(tls|ssl|cert\w*)?[-_]?(verify|verification)?|(tls|ssl)?[-_]?verify(_\w+)?",
    re.IGNORECASE,
)
_UNNAMED = "This value does not fit here. Compare it with config/mirror.example.yaml."


def findings(model: type[BaseModel], error: ValidationError) -> Iterator[tuple[Location, str]]:
    """Every mistake that pydantic found: the way to it below `model`, and sentence with remedy."""
    for detail in error.errors(include_url=False, include_input=False):
        path = tuple(part for part in detail["loc"] if part not in (LIST_FORM, MAP_FORM))
        context = detail.get("ctx", {})
        if detail["type"] == "extra_forbidden":
            yield path, _unknown_key(model, path)
        elif detail["type"] == "value_error":
            yield from ((path, str(text)) for text in context["error"].args)
        else:
            yield path, _WORDS.get(detail["type"], _UNNAMED).format_map(context)


def _unknown_key(model: type[BaseModel], path: Location) -> str:
    known = list(_section_model(model, path[:-1]).model_fields)
    key = str(path[-1])
    from difflib import get_close_matches  # noqa: PLC0415 - only needed once there is a mistake to report

    if _NO_SUCH_SWITCH.fullmatch(key):
        return f"There is no key {key_text(key)}: TLS is always verified. Set tls.ca_file to the CA of the server."
    near = get_close_matches(key, known, n=1)
    remedy = f"Did you mean {near[0]}?" if near else f"Known here are: {', '.join(known)}."
    return f"There is no key {key_text(key)} here. {remedy}"


def _section_model(model: type[BaseModel], path: Location) -> type[BaseModel]:
    for part in path:
        if isinstance(part, str):
            model = _models(model.model_fields[part].annotation)[0]
    return model


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The shapes in a type such as `Publish | None` or `tuple[FormerIssuer, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
