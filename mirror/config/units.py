"""Durations and sizes with their units, as operators write them. A number without a unit is refused."""

import re
from datetime import timedelta

DURATION_PATTERN = r"^(?=[0-9])(?:[0-9]{1,9}d)?(?:[0-9]{1,9}h)?(?:[0-9]{1,9}m)?(?:[0-9]{1,9}s)?(?:[0-9]{1,9}ms)?$"
SIZE_PATTERN = r"^[0-9]{1,9}(?:B|KiB|MiB|GiB)$"

_DURATION = re.compile(
    r"(?=[0-9])(?:(?P<days>[0-9]{1,9})d)?(?:(?P<hours>[0-9]{1,9})h)?(?:(?P<minutes>[0-9]{1,9})m)?"
    r"(?:(?P<seconds>[0-9]{1,9})s)?(?:(?P<milliseconds>[0-9]{1,9})ms)?",
)
_SIZE = re.compile(r"(?P<count>[0-9]{1,9})(?P<unit>B|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_LONGEST = timedelta(days=3650)  # what is longer is a slip of the keyboard, and would overflow dates


def duration(value: object) -> timedelta:
    """Read a duration such as `300s`, `5m`, `24h`, `7d`, `1h30m` or `500ms`; zero is one.

    Raises:
        ValueError: With a sentence and a remedy: no text, no unit, an unknown unit, or over ten years.
    """
    if _is_number(value):
        raise ValueError(f"The number has no unit. Write it with one, such as {value}s or {value}m.")
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("This is no duration. Write whole numbers with units, such as 300s, 5m, 24h or 1h30m.")
    length = timedelta(**{unit: int(count) for unit, count in match.groupdict("0").items()})
    if length > _LONGEST:
        raise ValueError("The duration is longer than ten years. Check its unit.")
    return length


def size_bytes(value: object) -> int:
    """Read a size such as `64KiB` or `1MiB`, in bytes.

    Raises:
        ValueError: With a sentence and a remedy: no text, no unit, or a unit that is not a power of 1024.
    """
    if _is_number(value):
        raise ValueError(f"The number has no unit. Write it with one, such as {value}KiB or {value}MiB.")
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("This is no size. Write a whole number with B, KiB, MiB or GiB, such as 64KiB or 1MiB.")
    return int(match["count"]) * _BYTES[match["unit"]]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
