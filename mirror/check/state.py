"""The state directory: there or creatable, writable, and in whose hands."""

import os
from collections.abc import Iterator
from pathlib import Path

from mirror.check.ports import LockHolder
from mirror.check.result import Finding, Place, Station

_REMEDY = "Create it, give this user the right to write there, or set `state_dir` to another place."


def state(state_dir: Path, lock_holder: LockHolder) -> Iterator[Finding]:
    """The state directory is looked at, never written to."""
    place = Place(Station.STATE, str(state_dir))
    if not state_dir.exists():
        yield _absent(place, state_dir)
        return
    if not state_dir.is_dir():
        yield place.failed("state.no_folder", f"The state directory {state_dir} is no folder.", _REMEDY)
        return
    if not os.access(state_dir, os.R_OK | os.W_OK | os.X_OK):
        yield place.failed("state.unwritable", f"This user may not write to the state directory {state_dir}.", _REMEDY)
        return
    holder = lock_holder(state_dir / "lock")
    if holder is None:
        yield place.ok("state.writable", "The state directory can be written, and no pass runs in it now.")
    else:
        yield place.note("state.locked", f"The state directory can be written; {holder} works in it now.")


def _absent(place: Place, state_dir: Path) -> Finding:
    above = next(folder for folder in state_dir.parents if folder.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        sentence = "The state directory does not exist yet; the first pass creates it."
        return place.note("state.absent", sentence)
    sentence = f"The state directory does not exist, and this user may not create it below {above}."
    return place.failed("state.unwritable", sentence, _REMEDY)
