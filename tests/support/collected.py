"""Hooks for pytest: the order of the collected tests, and which of them are not measured for coverage."""

import gc
from collections import defaultdict
from collections.abc import Generator

import pytest

_WHOLE_PROGRAMS = frozenset({"browser", "e2e", "machines", "torture"})
"""Folders whose tests take seconds: they start the program or run complete histories."""
_MEASURED = frozenset({"attacks", "unit"})
"""The folders whose tests reach every line that a gate requires; other tests reach the same lines again."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without the garbage collector, and freeze the collected objects.

    They live until the end of the run, and the collector would scan them repeatedly.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(specname="pytest_sessionstart", tryfirst=True)  # before pytest-cov starts to measure a worker
def pytest_measure_once(session: pytest.Session) -> None:
    """Stop the measurement that pytest-cov starts in a worker of xdist before it knows that it is one.

    Nobody reads what it measures, but it would go on in every test with `no_cover` and make it twice as slow.
    """
    measuring = session.config.pluginmanager.getplugin("_cov")
    if measuring is not None and hasattr(session.config, "workerinput"):
        measuring.cov_controller.cov.stop()


@pytest.hookimpl(trylast=True)  # after Hypothesis has added its markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Exclude property tests and whole programs from coverage, and run long tests first.

    Hypothesis draws random inputs, and a coverage gate must not depend on chance. Measuring the same lines hundreds of
    times also takes longer than running them. Explicit examples reach each line that a gate requires.

    An idle worker of xdist takes over tests from the end of another worker's queue. If those are short, all workers end
    together. The first tests of a queue are never taken over, so a file with an expensive fixture, such as an image,
    stays with one worker.
    """
    limits: defaultdict[str, float] = defaultdict(float)
    for item in items:
        if item.get_closest_marker("hypothesis") or _MEASURED.isdisjoint(_file(item).split("/")):
            item.add_marker("no_cover")  # a marker of pytest-cov
        limits[_file(item)] = max(limits[_file(item)], _own_limit(item))

    def rank(item: pytest.Item) -> tuple[float, bool]:
        return -limits[_file(item)], _WHOLE_PROGRAMS.isdisjoint(_file(item).split("/"))

    items.sort(key=rank)  # the sort is stable: each file stays together, in its order


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _own_limit(item: pytest.Item) -> float:
    """The timeout of a test that sets a longer one, which makes it a long test; else 0."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker is not None and marker.args else 0.0
