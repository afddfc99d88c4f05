"""The loop of a pass: a name lookup that hangs, fails or comes late holds nobody up."""

import asyncio
import socket
import threading
from functools import partial
from typing import Any

import pytest

from mirror.apiserver.island import Island


def look_up(resolve: Any, timeout_seconds: float = 5.0) -> list[Any]:
    async def once() -> list[Any]:
        async with asyncio.timeout(timeout_seconds):
            return await asyncio.get_running_loop().getaddrinfo("name", 1, type=socket.SOCK_STREAM)

    with asyncio.Runner(loop_factory=partial(Island, resolve)) as runner:
        return runner.run(once())


def test_found_addresses_come_back() -> None:
    """The resolver's addresses come back as they are."""
    assert look_up(lambda *_: ["address"]) == ["address"]


def test_failed_lookup_raises_its_error() -> None:
    """The resolver's error reaches who asked."""

    def fail(*_: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(socket.gaierror, match="not known"):
        look_up(fail)


def test_hanging_lookups_hold_nothing_up() -> None:
    """A lookup that never ends is given up at the deadline, and neither loop nor thread waits for it."""
    release = threading.Event()
    entered = threading.Event()

    def hang(*_: object) -> list[Any]:
        entered.set()
        release.wait()
        return []

    with pytest.raises(TimeoutError):
        look_up(hang, 0.1)
    assert entered.is_set()
    hanging = [thread for thread in threading.enumerate() if thread.name == "resolver"]
    assert all(thread.daemon for thread in hanging)
    release.set()
    for thread in hanging:  # they end quietly although their loop is gone
        thread.join(5)
        assert not thread.is_alive()


def test_lookup_that_ends_after_its_deadline_is_ignored() -> None:
    """A result that comes when nobody waits any more, but the loop still runs, does no harm."""
    release = threading.Event()
    failures: list[object] = []

    def late(*_: object) -> list[Any]:
        release.wait()
        return ["late"]

    async def give_up_then_release() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.getaddrinfo("name", 1), 0.05)
        release.set()
        await asyncio.sleep(0.1)

    with asyncio.Runner(loop_factory=partial(Island, late)) as runner:
        runner.run(give_up_then_release())
    assert failures == []
