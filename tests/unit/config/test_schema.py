"""The JSON Schema and the example describe the same configuration."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mirror.config import yaml_reader
from mirror.config.load import load, parse
from mirror.config.schema import DIALECT, json_schema

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "config" / "mirror.example.yaml"
DATA = ROOT / "tests" / "data" / "config"


def _uncommented(*, without: frozenset[str] = frozenset()) -> str:
    """The example with every `#key:` line uncommented, except some keys and their children."""
    lines: list[str] = []
    skipped_indent: int | None = None
    for line in EXAMPLE.read_text().splitlines():
        bare = re.sub(r"^( *)#(?=[-a-z])", r"\1", line)
        indent = len(bare) - len(bare.lstrip())
        if skipped_indent is not None and indent > skipped_indent and bare.strip():
            continue
        skipped_indent = indent if bare.strip().partition(":")[0] in without else None
        if skipped_indent is None:
            lines.append(bare)
    return "\n".join(lines)


def _keys(
    schema: dict[str, Any], definitions: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key of the schema with its path and its own schema. References are resolved."""
    for option in (schema, *schema.get("anyOf", ())):
        inner = definitions[option["$ref"].rpartition("/")[2]] if "$ref" in option else option
        inner = definitions[inner["items"]["$ref"].rpartition("/")[2]] if "$ref" in inner.get("items", {}) else inner
        for key, value in inner.get("properties", {}).items():
            yield (*path, key), value
            yield from _keys(value, definitions, (*path, key))


SCHEMA: dict[str, Any] = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
KEYS: dict[tuple[str, ...], dict[str, Any]] = dict(_keys(SCHEMA, SCHEMA["$defs"]))


def _written(data: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        data = (data[0] if isinstance(data, list) else data)[key]
    return data


def test_schema_is_valid_and_describes_every_key() -> None:
    """The schema is JSON Schema 2020-12 and describes each key."""
    assert SCHEMA["$schema"] == DIALECT
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert [".".join(path) for path, value in KEYS.items() if not value.get("description")] == []


def test_example_is_a_valid_configuration() -> None:
    """The reader and the schema accept the unchanged example without a warning."""
    assert load(EXAMPLE).warnings == ()
    VALIDATOR.validate(yaml_reader.load_strict_yaml(EXAMPLE.read_text()).data)


def test_example_with_every_key_is_a_valid_configuration() -> None:
    """Commented-out keys are valid too, except keys of a later version and exclusive keys."""
    text = _uncommented(without=frozenset({"issuers_dir", "discover", "kubeconfig", "context", "in_cluster"}))
    settings = parse(text, base=Path("/x"))
    assert settings.issuers[0].publish.profile == "syd"
    VALIDATOR.validate(yaml_reader.load_strict_yaml(text).data)


def test_example_shows_every_key() -> None:
    """The example contains every key. `defaults` repeats those of an issuer."""
    data = yaml_reader.load_strict_yaml(_uncommented())
    assert data.problems == []
    missing = []
    for path in KEYS:
        if path[0] != "defaults" and path[:2] != ("issuers", "publish"):
            try:
                _written(data.data, path)
            except (KeyError, TypeError):
                missing.append(".".join(path))
    assert missing == []


def test_example_shows_the_defaults() -> None:
    """Where a key has a default, the example shows it."""
    data = yaml_reader.load_strict_yaml(_uncommented()).data
    shown = {
        path: (_written(data, path), value["default"])
        for path, value in KEYS.items()
        if value.get("default") not in (None, [], {}) and path[0] != "defaults" and path[:2] != ("issuers", "publish")
    }
    assert len(shown) > 20
    assert [path for path, (written, default) in shown.items() if written != default] == []


@pytest.mark.parametrize(
    "key",
    [
        "interval: 300",
        "http: true",
        "limits: {puts: 0}",
        "x: 1",
        "issuers: [{name: a}]",
        "issuers: []",
        "issuers: [{name: a, issuer: 'http://a.example.com'}]",
        "issuers: [{name: a, issuer: 'https://a.example', former_issuers: [{issuer: 'http://b', until: 2027-01-01}]}]",
        "state_dir: ~/state",
        "state_dir: $HOME/state",
    ],
)
def test_schema_refuses_what_the_reader_refuses(key: str) -> None:
    """Units, types, bounds, and unknown and missing keys are in the schema."""
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(yaml_reader.load_strict_yaml(key).data)


def test_schema_takes_http_false() -> None:
    """The schema allows both types of this key."""
    for text in ("http: false", "http: {listen: '127.0.0.1:1'}"):
        VALIDATOR.validate(yaml_reader.load_strict_yaml(text).data)
