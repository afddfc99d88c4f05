"""Hooks for pytest: which of the collected tests begin first, and which are not measured."""

import gc
from collections import defaultdict
from collections.abc import Generator

import pytest

_WHOLE_PROGRAMS = frozenset({"browser", "e2e", "machines", "torture"})
"""The folders whose tests take seconds: they start the program, or live through whole histories."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without the garbage collector: all that is made here stays to the end, and it would look at it again and
    again, here and during the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)  # after Hypothesis has marked its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure no property, and put what is long first.

    What Hypothesis draws is chance: a gate must not hang on it, and to measure the same lines hundreds of times takes
    longer than to run them. Each line that a gate demands is reached by an explicit example.

    A worker of xdist that has nothing left takes over the tail of another one's tests: where that is short tests, all
    workers end together. What is first in line is never taken over, so a file whose fixture serves the whole file,
    such as an image, stays with one worker.
    """
    limits: defaultdict[str, float] = defaultdict(float)
    for item in items:
        if item.get_closest_marker("hypothesis"):
            item.add_marker("no_cover")  # pytest-cov's
        limits[_file(item)] = max(limits[_file(item)], _own_limit(item))

    def rank(item: pytest.Item) -> tuple[float, bool]:
        return -limits[_file(item)], _WHOLE_PROGRAMS.isdisjoint(_file(item).split("/"))

    items.sort(key=rank)  # stable: files stay whole, and in their order


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _own_limit(item: pytest.Item) -> float:
    """The seconds of a test that asked for more than the others get: it is long; else 0."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker is not None and marker.args else 0.0
