"""Many things at once, and an early end."""

from threading import Event

import pytest

from mirror.pool import each_at_once


def test_results_keep_the_order() -> None:
    """Whoever is faster, the results stand as the things did."""
    assert each_at_once(lambda n: n * n, range(50), workers=4, cancel=lambda: None) == tuple(n * n for n in range(50))


def test_early_end_cancels_what_runs() -> None:
    """An exception ends the others by `cancel`, and what has not begun never begins."""
    ended, began = Event(), []

    def work(number: int) -> None:
        began.append(number)
        if number == 0:
            raise KeyboardInterrupt
        assert ended.wait(30)

    with pytest.raises(KeyboardInterrupt):
        each_at_once(work, range(100), workers=2, cancel=ended.set)
    assert ended.is_set()
    assert len(began) < 100
