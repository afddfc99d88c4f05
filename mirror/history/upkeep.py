"""Garbage collection: in the foreground, after a pass, and at most daily."""

from collections.abc import Callable
from pathlib import Path

from mirror.errors import HistoryError
from mirror.history.git import Git, why

DAY_SECONDS = 24 * 3600.0
GC_TIMEOUT_SECONDS = 600.0


def collect(git: Git, *, clock: Callable[[], float]) -> None:
    """Run `git gc` unless it ran within a day of `clock` (seconds since 1970), as a stamp file beside tells.

    Raises:
        HistoryError: It failed; it is tried again a day later.
    """
    stamp = git.directory.with_name(f"{git.directory.name}.gc")
    now = clock()
    if 0 <= now - _stamped(stamp) < DAY_SECONDS:
        return
    # The stamp comes first: what makes gc fail or die must not make every pass slow.
    try:
        stamp.write_text(f"{now:.0f}\n", encoding="ascii")
    except OSError as error:
        raise HistoryError(f"The file {stamp} could not be written.", cause=error.strerror or "") from error
    finished = git.run("gc", "--quiet", timeout_seconds=GC_TIMEOUT_SECONDS)
    if not finished.ok:
        raise HistoryError(
            "The git repository could not be tidied up; nothing is lost.",
            cause=why(finished),
            remedy="Run `git gc` in it by hand and see what it says; the mirror tries again tomorrow.",
        )


def _stamped(stamp: Path) -> float:
    """When gc last ran; long ago when the stamp is missing or unreadable."""
    try:
        return float(stamp.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return float("-inf")
