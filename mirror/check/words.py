"""How moments, spans and keys are told in findings."""

from datetime import UTC, datetime, timedelta

from mirror.model import Key

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_MINUTE = timedelta(minutes=1)


def span(length: timedelta) -> str:
    """A length of time in its largest whole unit, without a sign: `3 days`, `1 hour`, `20 seconds`."""
    length = abs(length)
    for unit, noun in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if length >= unit:
            return counted(length // unit, noun)
    return counted(int(length.total_seconds()), "second")


def moment(when: datetime) -> str:
    """A moment in UTC, to the minute."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def counted(number: int, noun: str) -> str:
    """A number with its noun in the right form."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def named(key: Key) -> str:
    """A key by its full kid and its algorithm."""
    return f"{key.kid} ({key.alg})"
