"""The daemon's main thread: signals, the systemd watchdog, the status line and the failure budget.

It only listens, so that it is always quick: passes run in the scheduler's worker, answers in the server's thread.
"""

import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING

from mirror.daemon.config_watcher import Configuration
from mirror.daemon.pass_history import PassHistory
from mirror.daemon.runner import PassRunner
from mirror.daemon.scheduler import BEAT_SECONDS, HealthResult, Schedule, health, max_silence_seconds, readiness
from mirror.report import ExitStatus, State
from mirror.text import counted, moment

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


_MICROSECONDS = 1_000_000
_NANOSECONDS_IN_A_MICROSECOND = 1000


class SystemdNotifier:
    """Sends states to the socket that systemd named; silent where it named none. Never raises: it is only logged.

    `watchdog_seconds` is how often at least `WATCHDOG=1` is expected; None without a watchdog.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = _watchdog_seconds(environ)

    def send(self, *states: str) -> None:
        """Send assignments such as `READY=1`, all in one datagram."""
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)  # a manager that does not read must not hold the daemon
                out.sendto("\n".join(states).encode(), self._address)
        except OSError:
            return

    def status(self, text: str) -> str:
        """The assignment that shows `text` in `systemctl status`: one line."""
        return f"STATUS={' '.join(text.split())}"

    def reloading(self) -> None:
        """Reloading begins: systemd 253 requires the time with it (`Type=notify-reload`)."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // _NANOSECONDS_IN_A_MICROSECOND}")


def _address(text: str) -> str | bytes | None:
    """A path, or the name of an abstract socket, which is written with an `@`."""
    if text.startswith("/"):
        return text
    return b"\0" + os.fsencode(text[1:]) if text.startswith("@") and len(text) > 1 else None


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """sd_watchdog_enabled(3): the time is meant for one process alone."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / _MICROSECONDS if text.isdecimal() and text.isascii() and int(text) > 0 else None


MOST_EXHAUSTED_PASSES = 3
"""After so many passes in a row that met a limit of processes or threads, `/healthz` asks for a restart."""
STOP_SECONDS = 8.0
"""How long git and puts may still work after SIGTERM."""
END_SECONDS = 1.3
"""How long their cancelling may take: git's children get 1 s between SIGTERM and SIGKILL."""
_LOOK_AT_FILES_SECONDS = 10.0


class Command(Enum):
    """What the main thread receives."""

    STOP = auto()
    RELOAD = auto()
    NOW = auto()
    ENDED = auto()


_SIGNALS = {
    signal.SIGTERM: Command.STOP,
    signal.SIGINT: Command.STOP,
    signal.SIGHUP: Command.RELOAD,
    signal.SIGUSR1: Command.NOW,
}


class Daemon:
    """Runs until it is asked to stop, or until the failure budget is spent."""

    def __init__(
        self,
        configuration: Configuration,
        passes: PassRunner,
        notifier: SystemdNotifier,
        logger: "FilteringBoundLogger",
    ) -> None:
        self._configuration = configuration
        self._passes = passes
        self._notifier = notifier
        self._logger = logger
        # Made to be filled by a signal handler that interrupts whatever holds it.
        self._words: SimpleQueue[Command] = SimpleQueue()
        self._schedule = Schedule(
            passes.run,
            lambda: self._words.put(Command.ENDED),
            logger,
            interval=configuration.settings.interval,
        )
        self._looked_at_files = time.monotonic()

    def health(self) -> HealthResult:
        """Whether process and scheduler are alive, and the system still gives them processes and threads."""
        exhausted = self._passes.exhausted_in_a_row
        if exhausted >= MOST_EXHAUSTED_PASSES:
            sentence = f"The last {exhausted} passes could start no further process or thread; a restart may help."
            return HealthResult(ok=False, sentence=sentence)
        return health(self._schedule.heartbeat(), time.monotonic(), self._max_silence_seconds())

    def readiness(self) -> HealthResult:
        """Whether a pass has ended lately, and the daemon did not start with a copy of its configuration."""
        refused = self._configuration.refused
        if self._configuration.is_last_good and refused is not None:
            return HealthResult(ok=False, sentence=refused.sentence)
        return readiness(self._schedule.heartbeat(), time.monotonic(), self._max_silence_seconds())

    def _max_silence_seconds(self) -> float:
        return max_silence_seconds(self._configuration.settings)

    def run(self) -> int:
        """Serve, and give the exit status: 0 after a stop, 1 when the failure budget is spent.

        Only in the main thread, because of the signals.
        """
        with self._listening():
            self._schedule.start()
            self._logger.info("service.started", interval=str(self._configuration.settings.interval))
            # Ready: the configuration is good, lock and port are ours. What apiservers say takes a pass: /readyz.
            refused = self._passes.pass_history.refused
            said = "The first pass runs." if refused is None else f"{refused.sentence} The first pass runs."
            self._notifier.send("READY=1", self._notifier.status(said))
            while True:
                word = self._next_command(self._tick_seconds())
                if word is Command.STOP:
                    return self._stop()
                if word is Command.ENDED and self._ended():
                    self._stop()
                    return ExitStatus.FAILED
                if word is Command.RELOAD:
                    self._reload()
                if word is Command.NOW:
                    self._schedule.now()
                self._on_tick()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        def on_signal(number: int, _: FrameType | None) -> None:
            self._words.put(_SIGNALS[signal.Signals(number)])

        before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _next_command(self, seconds: float) -> Command | None:
        try:
            return self._words.get(timeout=max(seconds, 0.0))
        except Empty:
            return None

    # -- while it runs ----------------------------------------------------------------------------------

    def _tick_seconds(self) -> float:
        watchdog = self._notifier.watchdog_seconds
        return BEAT_SECONDS if watchdog is None else min(BEAT_SECONDS, watchdog / 2)

    def _on_tick(self) -> None:
        self._schedule.recover_from_clock_step()
        if self._notifier.watchdog_seconds is not None and self.health().ok:
            self._notifier.send("WATCHDOG=1")
        if time.monotonic() - self._looked_at_files >= _LOOK_AT_FILES_SECONDS:
            self._looked_at_files = time.monotonic()
            good = self._configuration.refresh()
            self._note_configuration()
            if good:
                self._schedule.set_interval(self._configuration.settings.interval)
                self._schedule.now()

    def _reload(self) -> None:
        self._notifier.reloading()
        self._configuration.reload()
        self._schedule.set_interval(self._configuration.settings.interval)
        self._schedule.now()
        self._passes.note_configuration()
        self._notifier.send("READY=1", self._notifier.status(summary(self._passes.pass_history)))

    def _note_configuration(self) -> None:
        before = self._passes.pass_history.refused
        self._passes.note_configuration()
        if self._passes.pass_history.refused != before:
            self._notifier.send(self._notifier.status(summary(self._passes.pass_history)))

    def _ended(self) -> bool:
        """After a pass; True when the failure budget is spent."""
        self._schedule.set_interval(self._configuration.settings.interval)
        pass_history = self._passes.pass_history
        self._notifier.send(self._notifier.status(summary(pass_history)))
        most = self._configuration.settings.max_failures
        if not 0 < most <= pass_history.failed_in_a_row:
            return False
        self._logger.error(
            "service.gave_up", sentence=f"{pass_history.failed_in_a_row} passes failed in a row (max_failures: {most})."
        )
        return True

    # -- the end ----------------------------------------------------------------------------------------

    def _stop(self) -> int:
        """End within 10 s: asking at once, git and puts soon. The next pass finishes what this one began."""
        deadline = time.monotonic() + STOP_SECONDS
        self._notifier.send("STOPPING=1", self._notifier.status("Stopping."))
        self._logger.info("service.stopping", running=self._schedule.running)
        self._schedule.stop()
        self._passes.stop_polling()
        self._wait_for_end(deadline)
        if self._schedule.running:
            self._passes.cancel()
            self._wait_for_end(time.monotonic() + END_SECONDS)
        if self._schedule.running:  # its threads end with the process
            self._logger.warning("service.cut_off", sentence="A pass was cut off; the next one finishes what it began.")
        else:
            self._passes.close()
        self._logger.info("service.stopped")
        return ExitStatus.CURRENT

    def _wait_for_end(self, deadline: float) -> None:
        """Until no pass runs, the deadline is over, or another stop signal arrives."""
        while self._schedule.running and (left := deadline - time.monotonic()) > 0:
            if self._next_command(min(left, BEAT_SECONDS)) is Command.STOP:
                return


def summary(pass_history: PassHistory) -> str:
    """How things stand, in one line for `systemctl status`."""
    refused = "" if pass_history.refused is None else f"{pass_history.refused.sentence} "
    return refused + _of_pass(pass_history)


def _of_pass(pass_history: PassHistory) -> str:
    report = pass_history.report
    if report is None or pass_history.ended_at is None or pass_history.seconds is None:
        return "No pass has ended yet."
    ended = f"pass ended {moment(pass_history.ended_at)} after {pass_history.seconds:.1f} s"
    if report.failures:
        return f"FAILED: {report.failures[0].sentence} ({ended})"
    states = [each.state for each in report.issuers]
    by_state = ", ".join(f"{states.count(state)} {state}" for state in State if state in states) or "no issuer"
    unpushed = f"; {report.unpushed_commits} not pushed" if report.unpushed_commits else ""
    return f"{by_state} of {counted(len(states), 'issuer')}{unpushed}; {ended}"
