"""Standard streams that outlive whoever reads them: a full disk or a closed pipe costs words, never the work."""

import io
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Output(io.FileIO):
    """A descriptor that takes everything; `lost` is why not all of it arrived, None when it did."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.lost: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write, or remember why not."""
        try:
            return super().write(data)
        except OSError as error:
            self.lost = error
            return memoryview(data).nbytes


def steady() -> Output:
    """Make `sys.stdout` and `sys.stderr` streams that never raise; call it before anything is written.

    Python has None for a stream that is closed when the process begins, and the next file that is opened gets its
    number, and with it what was meant for the stream. So the number is taken, by something that cannot be written.

    Returns:
        What stdout writes to.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)  # as the real ones; it takes the lowest number
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    output, errors = Output(1), Output(2)
    sys.stdout, sys.stderr = _text(output, sys.stdout), _text(errors, sys.stderr, line_buffering=True)
    return output


def _text(raw: Output, before: Any, *, line_buffering: bool = False) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", "utf-8"),
        errors="backslashreplace",  # a letter that the terminal does not know costs no report
        line_buffering=line_buffering or raw.isatty(),
    )
