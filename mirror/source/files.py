"""Reading the operator's small files without ever hanging on them or taking in more than they may hold."""

import os
import stat
from errno import EFBIG, EINVAL
from pathlib import Path


def read_small(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file of at most `max_bytes` bytes; symbolic links are followed.

    Raises:
        OSError: it is missing, may not be read, is too large, or is no regular file (opening a pipe would hang).
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(EINVAL, "it is no regular file")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(EFBIG, f"it is larger than {max_bytes} bytes")
    return content


def why_unreadable(error: OSError) -> str:
    """What the system says about `error`, without the file's name."""
    return error.strerror or os.strerror(error.errno or EINVAL)
