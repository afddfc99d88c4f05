"""Connections to apiservers that are kept from one pass to the next: a handshake costs more than two questions."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mirror.apiserver.client import Connection, ConnectionSettings, Response
from mirror.model import IssuerName

LONGEST_INTERVAL = timedelta(seconds=75)
"""With a longer one, and the tenth by which a pass may be late, connections would be idle for `client.IDLE_SECONDS`."""
MOST_CONNECTIONS = 2000
"""Each takes some 30 KiB, and an open file."""
MOST_PASSES = 10
LONGEST_SECONDS = 600.0
"""A connection is replaced after so many passes or seconds. Otherwise an unconfigured load balancer would always show
the same replica."""

Place = tuple[IssuerName, int, str]
"""An issuer, which of its apiservers, and that one's address."""


def most_connections(interval: timedelta, files: int | None = None) -> int:
    """How many connections may be kept by a daemon with passes every `interval`; 0 where none would live so long.

    `files`: how many this process may have open; None for what the system says.
    """
    if interval > LONGEST_INTERVAL:
        return 0
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if files is None else files
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, files // 2)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A connection that waits. `passes` used it; it is used no more after `ends_at`, by the clock of the owner."""

    connection: Connection
    passes: int
    ends_at: float
    in_pass: int


class KeptConnections:
    """The connections that the next pass may use. All methods belong to one event loop.

    Args:
        most: How many are kept.
        clock: Seconds of a clock that only goes forward.
        now: The time, aware: when a server's certificate ends, the connection ends with it.
    """

    def __init__(
        self,
        most: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._most = most
        self._clock = clock
        self._now = now
        self._kept: dict[Place, _Kept] = {}
        self._taken: dict[Place, _Kept] = {}
        self._pass = 0

    def begin_pass(self) -> None:
        """What is given back from now on was used in this pass."""
        self._pass += 1
        self._taken = {}

    async def take(self, place: Place, access: ConnectionSettings) -> Connection | None:
        """The connection to `place`, if one is kept that was made with this very `access` and is not too old."""
        found = self._kept.pop(place, None)
        if found is None:
            return None
        if found.connection.access != access or self._clock() >= found.ends_at:
            await found.connection.close()
            return None
        self._taken[place] = found
        return found.connection

    def keep(self, place: Place, connection: Connection, response: Response) -> None:
        """Keep `connection`, over which `response` came, unless that refused anything or the connection is too old."""
        before = self._taken.pop(place, None) if connection.is_kept else None
        passes = 1 if before is None else before.passes + 1
        ends_at = self._ends_at(response) if before is None else before.ends_at
        if response.reasons or passes >= MOST_PASSES or self._clock() >= ends_at or len(self._kept) >= self._most:
            return
        connection.stays_open = True
        connection.notice_death()
        self._kept[place] = _Kept(connection, passes, ends_at, self._pass)

    async def end_pass(self) -> None:
        """Close what this pass did not use: who was asked there is no longer configured, or time was over."""
        for place in [place for place, each in self._kept.items() if each.in_pass != self._pass]:
            await self._kept.pop(place).connection.close()

    async def close(self) -> None:
        """Close all."""
        while self._kept:
            _, found = self._kept.popitem()
            await found.connection.close()

    def _ends_at(self, response: Response) -> float:
        """A certificate is checked when a connection is made: none lives longer than the certificate."""
        seconds = LONGEST_SECONDS
        if response.certificate_expires_at is not None:
            seconds = min(seconds, (response.certificate_expires_at - self._now()).total_seconds())
        return self._clock() + seconds
