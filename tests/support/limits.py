"""Hooks and a fixture for pytest: each test ends at its timeout, and its processes end with it.

pytest-timeout defines the timeout (`timeout`, `@pytest.mark.timeout`, `--timeout`), but raises only once and kills
nothing: a test that waits for a process in its clean-up would then never end.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
import pytest_timeout

from support.processes import (
    GRACE_SECONDS,
    adopt_orphans,
    children,
    end_children,
    kill_children,
    limited,
    open_standard_streams,
    use_default_signals,
)

_LIMIT = pytest.StashKey[tuple[float, pytest_timeout.Settings]]()
_OTHERS = pytest.StashKey[frozenset[int]]()


def pytest_configure() -> None:
    open_standard_streams()
    use_default_signals()
    adopt_orphans()


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test(request: pytest.FixtureRequest) -> Iterator[None]:
    # Servers of the session and of the module run already: their fixtures come first.
    others = request.node.stash[_OTHERS] = children()
    yield
    end_children(others)


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> bool:
    """Remember the limit; the hooks below keep it."""
    item.stash[_LIMIT] = (time.monotonic() + settings.timeout, settings)
    item.stash[_OTHERS] = children()
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer() -> bool:
    """Nothing to do: a failure, at which pytest-timeout calls this, does not lift the limit of the clean-up."""
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    with _within_limit(item):
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    with _within_limit(item):
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    with _within_limit(item, at_least_seconds=GRACE_SECONDS):
        yield


def _within_limit(item: pytest.Item, *, at_least_seconds: float = 0.001) -> AbstractContextManager[None]:
    if _LIMIT not in item.stash:
        return nullcontext()
    deadline, settings = item.stash[_LIMIT]

    def end() -> None:
        kill_children(item.stash[_OTHERS])
        pytest_timeout.timeout_sigalrm(item, settings)

    return limited(max(deadline - time.monotonic(), at_least_seconds), end)
