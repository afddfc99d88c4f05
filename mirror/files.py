"""Files of the state directory, written so that a reader or a kill never sees half of one."""

import os
from pathlib import Path

from mirror.errors import HistoryError


def write_atomically(path: Path, text: str) -> None:
    """Write `text` beside `path` and rename it into place.

    Raises:
        HistoryError: The folder cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise HistoryError(
            f"The state directory {path.parent} cannot be written.",
            cause=str(error.strerror),
            remedy="Give the mirror's user the right to write there, or free space on the disk.",
        ) from error
