"""Reading objects and references through one long-lived `git cat-file --batch-command` (git 2.36).

One process answers thousands of questions, and it sees what other processes write meanwhile: git reads loose
references anew each time, and looks for new packs whenever an object seems to be missing.
"""

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mirror.errors import HistoryError
from mirror.history.git import Git, presentable
from mirror.history.git_command import TICK_SECONDS, Child

MAX_OBJECT_BYTES = 64 * 1024 * 1024
"""A folder of more than a million names; a file is not read above 4 MiB, see `Snapshots.contents`."""
_HEADER = re.compile(rb"([0-9a-f]{40,64}) (blob|tree|commit|tag) (\d+)")
_QUESTIONS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """One object: its id, its kind (`blob`, `tree`, `commit`, `tag`), its size, and its bytes where asked for.

    `body` is cut at `MAX_OBJECT_BYTES` + 1 bytes: what is larger is not ours, and whoever reads it refuses it.
    """

    id: str
    kind: str
    size_bytes: int
    body: bytes = b""


class Objects:
    """The conversation; it begins with the first question and ends with `close`. Callable from any thread."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._child: Child | None = None
        self._lock = threading.Lock()

    def info(self, names: Sequence[str]) -> tuple[Found | None, ...]:
        """What `names` (ids, references, `<commit>:<path>`) are; None for each that does not exist.

        Raises:
            HistoryError: git did not answer, or an object is damaged.
        """
        return self._ask("info", names)

    def contents(self, names: Sequence[str]) -> tuple[Found | None, ...]:
        """As `info`, with the objects' bytes.

        Raises:
            HistoryError: git did not answer, or an object is damaged.
        """
        return self._ask("contents", names)

    def close(self) -> None:
        """End the process; the next question starts another."""
        with self._lock:
            self._drop()

    def _ask(self, command: str, names: Sequence[str]) -> tuple[Found | None, ...]:
        with self._lock:
            answers: list[Found | None] = []
            try:
                for begin in range(0, len(names), _QUESTIONS_AT_ONCE):
                    answers += self._exchange(command, names[begin : begin + _QUESTIONS_AT_ONCE])
            except BaseException:
                # Half an answer may be on its way: this process can no longer be asked.
                self._drop()
                raise
            return tuple(answers)

    def _exchange(self, command: str, names: Sequence[str]) -> list[Found | None]:
        if self._child is None:
            self._child = self._git.start("cat-file", "--batch-command", "--buffer")
        child, deadline = self._child, time.monotonic() + self._git.timeout_seconds
        asked = [name if is_askable(name.partition(":")[2]) else None for name in names]
        lines = "".join(f"{command} {name}\n" for name in asked if name is not None)
        child.send(f"{lines}flush\n".encode("utf-8", "surrogateescape"))
        return [None if name is None else self._answer(child, command, deadline) for name in asked]

    def _answer(self, child: Child, command: str, deadline: float) -> Found | None:
        line = self._line(child, deadline)
        header = _HEADER.fullmatch(line)
        if header is None:
            if line.endswith((b" missing", b" submodule")):  # of a submodule git has at most the id
                return None
            raise HistoryError("git gave an answer that this program does not understand.", cause=_shown(line))
        found = Found(header[1].decode(), header[2].decode(), int(header[3]))
        if command == "info":
            return found
        body = self._body(child, found.size_bytes, deadline)
        return Found(found.id, found.kind, found.size_bytes, body)

    def _line(self, child: Child, deadline: float) -> bytes:
        while (end := child.out.find(b"\n")) < 0:
            self._wait(child, deadline)
        line = bytes(child.out[:end])
        del child.out[: end + 1]
        return line

    def _body(self, child: Child, size_bytes: int, deadline: float) -> bytes:
        """The next `size_bytes` bytes and the line feed behind them; what is over the limit is read but not kept."""
        body, missing = bytearray(), size_bytes + 1
        while missing:
            if not child.out:
                self._wait(child, deadline)
            part = child.out[:missing]
            del child.out[: len(part)]
            missing -= len(part)
            body += part[: max(0, MAX_OBJECT_BYTES + 1 - len(body))]
        return bytes(body[:size_bytes])

    def _wait(self, child: Child, deadline: float) -> None:
        moved = child.pump(TICK_SECONDS)
        if not moved and child.silent():
            child.kill()
            raise _ended(child)
        if self._git.stop.is_set() or time.monotonic() >= deadline:
            seconds = f"{self._git.timeout_seconds:g}"
            cause = "the program is ending" if self._git.stop.is_set() else f"no answer within {seconds} s"
            raise HistoryError(
                "Reading the git repository was given up.", cause=cause, remedy="See that its disk is not overloaded."
            )

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()


def is_askable(path: str) -> bool:
    """Whether git reads `path` as we mean it: one line, and not relative to a folder. The empty path is the root.

    None of our own paths is otherwise; of a remote's tree they may be, and count as absent.
    """
    return "\n" not in path and "\0" not in path and (not path or not {"", ".", ".."} & set(path.split("/")))


def _shown(line: bytes) -> str:
    return presentable(line.decode("utf-8", "replace"))


def _ended(child: Child) -> HistoryError:
    said = presentable(child.err)
    if "batch-command" in child.err:
        return HistoryError("The git command is too old.", remedy="Install git 2.36 or newer.")
    return HistoryError(
        "The git repository could not be read.",
        cause=said or f"git ended with status {child.process.returncode}",
        remedy="Check it with `git fsck`; when it is damaged and a remote is set, move it away: it is fetched anew.",
    )
