"""Terraform's language, written from values (HCL native syntax specification; strings are JSON strings there)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Expression:
    """Something that Terraform computes, such as `data.aws_partition.current.partition`."""

    text: str


@dataclass(frozen=True, slots=True)
class Template:
    """A string that is put together of texts and expressions."""

    parts: tuple[str | Expression, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function of Terraform, with one argument."""

    function: str
    argument: Any


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its type and labels, and its attributes in their order."""

    labels: tuple[str, ...]
    attributes: Mapping[str, Any]


def write(blocks: tuple[Block, ...]) -> str:
    """The text of a file of these blocks, as `terraform fmt` likes it but for the alignment of its signs."""
    return "\n".join("\n".join(_block(each)) + "\n" for each in blocks)


def _block(block: Block) -> Iterator[str]:
    kind, *labels = block.labels
    head = " ".join([kind, *(json.dumps(label) for label in labels)])
    if not block.attributes:
        yield f"{head} {{}}"
        return
    yield f"{head} {{"
    for name, value in block.attributes.items():
        yield f"  {name} = {_value(value, '  ')}"
    yield "}"


def _value(value: Any, indent: str) -> str:
    deeper = f"{indent}  "
    match value:
        case Expression():
            return value.text
        case Template():
            return f'"{"".join(_part(each) for each in value.parts)}"'
        case Call():
            return f"{value.function}({_value(value.argument, indent)})"
        case Mapping():
            entries = "".join(f"{deeper}{_text(key)} = {_value(each, deeper)}\n" for key, each in value.items())
            return f"{{\n{entries}{indent}}}"
        case list() | tuple():
            return f"[{', '.join(_value(each, indent) for each in value)}]"
        case str():
            return _text(value)
        case _:
            return json.dumps(value)


def _part(part: str | Expression) -> str:
    return f"${{{part.text}}}" if isinstance(part, Expression) else _text(part)[1:-1]


def _text(text: str) -> str:
    """A string that means itself: Terraform reads `${` and `%{` as the beginning of a template."""
    return json.dumps(text, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")
