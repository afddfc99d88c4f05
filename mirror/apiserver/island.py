"""The event loop of a pass: asyncio's, except that a name lookup which hangs holds nothing up."""

import asyncio
import socket
from collections.abc import Callable
from threading import Thread
from typing import Any

Resolve = Callable[..., list[Any]]
"""As `socket.getaddrinfo`."""


class Island(asyncio.SelectorEventLoop):
    """A loop that looks each name up in a daemon thread of its own.

    asyncio's thread pool has few threads, so that a handful of hanging lookups would stop everybody's, and both
    the loop's end and the interpreter's would wait for them.
    """

    def __init__(self, resolve: Resolve = socket.getaddrinfo) -> None:
        super().__init__()
        self._resolve = resolve

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the signature is asyncio's
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """As in asyncio.

        Raises:
            OSError: The name could not be resolved.
        """
        found: asyncio.Future[list[Any]] = self.create_future()

        def look_up() -> None:
            try:
                addresses = self._resolve(host, port, family, type, proto, flags)
            except Exception as error:  # noqa: BLE001 - a future carries it to who asked
                self._tell(found, error)
            else:
                self._tell(found, addresses)

        Thread(target=look_up, name="resolver", daemon=True).start()
        return await found

    def _tell(self, found: asyncio.Future[list[Any]], result: list[Any] | Exception) -> None:
        try:
            self.call_soon_threadsafe(_settle, found, result)
        except RuntimeError:  # the loop has ended meanwhile: nobody waits any more
            return


def _settle(found: asyncio.Future[list[Any]], result: list[Any] | Exception) -> None:
    if found.done():  # cancelled: the deadline came first
        return
    if isinstance(result, Exception):
        found.set_exception(result)
    else:
        found.set_result(result)
