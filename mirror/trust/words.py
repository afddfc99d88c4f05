"""Text from outside, made fit for a sentence: short and printable."""

_SHOWN_CHARACTERS = 80


def quoted(text: str) -> str:
    r"""Give `text` in double quotes, at most 80 characters of it, with everything unprintable escaped.

    Control characters, line and bidirectional marks and lone surrogates become `\u....`, so that a hostile
    document can neither steer a terminal nor forge a line of a log.
    """
    shown = "".join(map(_visible, text[:_SHOWN_CHARACTERS]))
    return f'"{shown}…"' if len(text) > _SHOWN_CHARACTERS else f'"{shown}"'


def described(value: object) -> str:
    """Give a JSON value for a sentence: a text quoted, everything else by its type alone (it may be huge)."""
    if isinstance(value, str):
        return quoted(value)
    return _TYPES.get(type(value), "nothing")


def step(name: str) -> str:
    """Give a member name for the `where` of a reason: as it is when it is a plain word, else quoted."""
    return (
        f".{name}" if name.isidentifier() and name.isascii() and len(name) <= _SHOWN_CHARACTERS else f"[{quoted(name)}]"
    )


def as_argument(thumbprint: str) -> str:
    """Give a thumbprint as the last word of a command: one that begins with a hyphen (1 in 64) is no option."""
    return f"-- {thumbprint}" if thumbprint.startswith("-") else thumbprint


_TYPES: dict[type, str] = {
    bool: "a truth value",
    int: "a number",
    float: "a number",
    list: "an array",
    dict: "an object",
}


def _visible(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}"
