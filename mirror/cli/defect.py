"""The last resort: an exception that nobody foresaw, told as people can use it. Imported only when there is one."""

import traceback
from pathlib import Path

import mirror
from mirror.errors import MirrorError
from mirror.log import LogFormat, configure, escaped

_MAX_CHARACTERS = 300
_PACKAGE = Path(mirror.__file__).parent


def told(error: BaseException) -> MirrorError:
    """`error` in one sentence: what it is, and which line of ours it came from."""
    said = f"{type(error).__name__}: {error}".removesuffix(": ")[:_MAX_CHARACTERS]
    return MirrorError(
        f"oidc-mirror met a defect of its own: {said} ({_place(error)}).",
        remedy="Please report it with this line; with `--log-level debug` the traceback is logged too.",
    )


def log(error: BaseException, log_format: LogFormat) -> None:
    """Write the traceback as one event of level debug."""
    lines = [escaped(line) for part in traceback.format_exception(error) for line in part.splitlines()]
    configure("debug", log_format).debug("program.defect", traceback=lines)


def _place(error: BaseException) -> str:
    """The innermost line of this package that the error came through, such as `mirror/reconcile/controller.py:12`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(_PACKAGE):
            return f"{file.relative_to(_PACKAGE.parent)}:{frame.lineno}"
    return "outside of its own files"
