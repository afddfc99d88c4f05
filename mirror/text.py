"""The one text form of moments, lengths of time and numbers of things. Pure."""

from datetime import UTC, datetime, timedelta


def moment(when: datetime) -> str:
    """An aware moment for people, in UTC: `2026-11-23 08:00:00Z`."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def iso_time(when: datetime) -> str:
    """An aware moment in JSON: ISO 8601 in UTC, whole seconds (`2026-11-23T08:00:00+00:00`)."""
    return when.astimezone(UTC).replace(microsecond=0).isoformat()


def read_time(text: str) -> datetime:
    """The moment that an ISO 8601 text gives, in UTC.

    Raises:
        ValueError: It is no such text.
        TypeError: It is no text.
    """
    return datetime.fromisoformat(text).astimezone(UTC)


def iso_time_or_none(when: datetime | None) -> str | None:
    """`iso_time`, or None where there is no moment."""
    return None if when is None else iso_time(when)


def in_words(span: timedelta) -> str:
    """A length of time without its sign, in its two largest units: `3 h 12 min`, `2 d 5 h`, `40 s`."""
    seconds = int(abs(span).total_seconds())
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    first = next((at for at, (_, size) in enumerate(units) if seconds >= size), len(units) - 1)
    parts: list[str] = []
    for unit, size in units[first : first + 2]:
        parts += [f"{seconds // size} {unit}"] if seconds >= size or not parts else []
        seconds %= size
    return " ".join(parts)


def distance(when: datetime, now: datetime) -> str:
    """How far a moment is from now: `in 3 h 12 min`, `2 d 5 h ago`."""
    return f"in {in_words(when - now)}" if when > now else f"{in_words(now - when)} ago"


def moment_and_distance(when: datetime, now: datetime) -> str:
    """A moment with how far it is: `2026-11-23 08:00:00Z (in 3 h 12 min)`."""
    return f"{moment(when)} ({distance(when, now)})"


def counted(number: int, noun: str) -> str:
    """A number with its noun in the right form: `1 key`, `2 keys`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
