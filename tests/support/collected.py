"""Hooks for pytest: the order of the collected tests, and which of them are measured for coverage."""

import gc
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Protocol

import coverage
import pytest

_WHOLE_PROGRAMS = ("torture", "machines", "browser", "e2e")
"""Folders whose tests take seconds: they start the program or run complete histories. The longest tests come first."""
_MEASURED = frozenset({"attacks", "unit"})
"""The folders whose tests reach every line that a gate requires; other tests reach the same lines again."""

_RARELY = (100_000, 20, 20)
"""Thresholds of the garbage collector: with Python's own it looks through all objects often, and finds almost nothing.

The program sets higher ones for itself. A socket that a test leaves open in a cycle is reported by a later test.
"""


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collect without the garbage collector, freeze the collected objects, and measure it in one process alone.

    These objects live until the end of the run, and the collector would scan them repeatedly. Modules are imported, so
    their own lines must be measured; which worker does it makes no difference.
    """
    worker = getattr(session.config, "workerinput", {}).get("workerid")
    _measure(session.config, worker in (None, "gw0"))
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(*_RARELY)
        gc.enable()


@pytest.hookimpl(specname="pytest_sessionstart", tryfirst=True)  # before pytest-cov starts to measure a worker
def pytest_measure_once(session: pytest.Session) -> None:
    """Stop the measurement that pytest-cov starts in a worker of xdist before it knows that it is one.

    Nobody reads what it measures, but it would go on in every unmeasured test and make it twice as slow.
    """
    controller = _controller(session.config)
    if controller is not None and hasattr(session.config, "workerinput"):
        controller.cov.stop()


@pytest.hookimpl(trylast=True)  # after Hypothesis has added its markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Exclude property tests and whole programs from coverage, and run long tests first.

    Hypothesis draws random inputs, and a coverage gate must not depend on chance. Measuring the same lines hundreds of
    times also takes longer than running them. Explicit examples reach each line that a gate requires.

    An idle worker of xdist takes over tests from the end of another worker's queue. If those are short, all workers end
    together. The first tests of a queue are never taken over, so a file with an expensive fixture, such as an image,
    stays with one worker.
    """
    ranks: dict[str, tuple[float, int]] = {}
    for item in items:
        file = item.nodeid.partition("::")[0]  # relative: where the checkout lies makes no difference
        folders = file.split("/")
        if item.get_closest_marker("hypothesis") or _MEASURED.isdisjoint(folders):
            item.add_marker("unmeasured")
        programs = [number for number, name in enumerate(_WHOLE_PROGRAMS) if name in folders]
        rank = -_own_limit(item), min(programs, default=len(_WHOLE_PROGRAMS))
        ranks[file] = min(rank, ranks.get(file, rank))
    items.sort(
        key=lambda item: ranks[item.nodeid.partition("::")[0]]
    )  # the sort is stable: each file stays together, in its order


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Measure nothing until the test's fixtures are made, and then only if it is not `unmeasured`.

    pytest-cov's own marker `no_cover` leaves out the call alone, and goes on measuring fixtures and pytest itself.
    """
    item.config.stash[_IS_MEASURED] = item.get_closest_marker("unmeasured") is None
    _measure(item.config, False)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, object, object]:
    """Measure what makes a fixture."""
    with _measured(request.config):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Measure the test function."""
    with _measured(pyfuncitem.config):
        return (yield)


_IS_MEASURED = pytest.StashKey[bool]()


class _Controller(Protocol):
    """What this module uses of pytest-cov's controller."""

    started: bool
    cov: coverage.Coverage

    def pause(self) -> None: ...
    def resume(self) -> None: ...


def _controller(config: pytest.Config) -> _Controller | None:
    """pytest-cov's, where the run is measured."""
    controller: _Controller | None = getattr(config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    return controller


@contextmanager
def _measured(config: pytest.Config) -> Iterator[None]:
    controller = _controller(config)
    before = controller is not None and controller.started
    _measure(config, config.stash[_IS_MEASURED])
    try:
        yield
    finally:
        _measure(config, before)


def _measure(config: pytest.Config, wanted: bool) -> None:
    controller = _controller(config)
    if controller is not None and controller.started is not wanted:
        (controller.resume if wanted else controller.pause)()


def _own_limit(item: pytest.Item) -> float:
    """The timeout of a test that sets a longer one, which makes it a long test; else 0."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker is not None and marker.args else 0.0
