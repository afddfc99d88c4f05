"""Answers that stay right as long as a state does, each found once, however many threads ask."""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

MOST_ANSWERS = 100_000
"""What is kept at most: whoever writes to a bucket could make us ask something else in every pass."""
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Slot(Generic[Answer]):
    """The place of one answer; empty until it is found."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    found: tuple[Answer, ...] = ()


class Answers(Generic[Answer]):
    """The answers of one state, such as the head of a branch; those of another state are forgotten.

    Callable from any thread. Two that ask the same thing wait for one search; different things are searched at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: Hashable = None
        self._slots: dict[str, _Slot[Answer]] = {}

    def get(self, state: Hashable, question: str, search: Callable[[], Answer]) -> Answer:
        """The answer to `question` in `state`: the one that is known, or what `search` finds.

        Whatever `search` raises is passed on, and kept by nobody: the next one who asks searches again.
        """
        slot = self._slot(state, question)
        with slot.lock:
            if not slot.found:
                slot.found = (search(),)
            return slot.found[0]

    def _slot(self, state: Hashable, question: str) -> _Slot[Answer]:
        with self._lock:
            is_full = question not in self._slots and len(self._slots) >= MOST_ANSWERS
            if state != self._state or is_full:
                self._state, self._slots = state, {}
            return self._slots.setdefault(question, _Slot())
