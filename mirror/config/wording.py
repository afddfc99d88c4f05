"""pydantic's findings in operators' words: one table, and the nearest known key for an unknown one."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from mirror.config.problems import Location, key_text
from mirror.config.shape import LIST_FORM, MAP_FORM

_WORDS: Mapping[str, str] = {
    "missing": "This key is missing. Add it.",
    "bool_type": "This is neither true nor false. Write one of them, without quotes.",
    "int_type": "This is no whole number. Write one, without quotes, unit and leading zeros.",
    "tuple_type": "This is no list. Write [a, b], or each item on its own line after a hyphen.",
    "dict_type": "This is no section. Write its keys below it, indented, each as key: value.",
    "model_type": "This is no section. Write its keys below it, indented, each as key: value.",
    "literal_error": "This is none of the allowed words. Write {expected}.",
    "greater_than_equal": "The number is too small. Write {ge} or more.",
    "less_than_equal": "The number is too large. Write {le} or less.",
    "too_long": "The list has more than {max_length} items. Remove some.",
}
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
    known = list(_section(model, path[:-1]).model_fields)
    key = str(path[-1])
    from difflib import get_close_matches  # noqa: PLC0415 - only needed once there is a mistake to tell

    near = get_close_matches(key, known, n=1)
    remedy = f"Did you mean {near[0]}?" if near else f"Known here are: {', '.join(known)}."
    return f"There is no key {key_text(key)} here. {remedy}"


def _section(model: type[BaseModel], path: Location) -> type[BaseModel]:
    for part in path:
        if isinstance(part, str):
            model = _models(model.model_fields[part].annotation)[0]
    return model


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The shapes in a type such as `Publish | None` or `tuple[FormerIssuer, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
