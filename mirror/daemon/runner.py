"""One pass after another with the same adapters: what a pass needs from the outside world is opened when it must be."""

import gc
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING

from mirror.concurrency import EXHAUSTED_REMEDY, is_exhausted, refused_starts, sweep
from mirror.config.settings import Settings
from mirror.daemon import status_files
from mirror.daemon.config_watcher import Configuration, aws_digest
from mirror.errors import HistoryError, MirrorError
from mirror.log import log_report
from mirror.model import Reason, Version
from mirror.ports import Ports
from mirror.reconcile import local_state
from mirror.reconcile.controller import reconcile
from mirror.reconcile.local_state import load_last_pass, save_last_pass
from mirror.reconcile.state import publications
from mirror.redaction import describe
from mirror.report import Report, reason_from

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

OpenPorts = Callable[[Settings], AbstractContextManager[Ports]]
SHOWN_COMMITS = 5
WHOLE_COLLECTIONS_EVERY = 60
"""How many passes are between two searches of the whole memory for reference cycles; the others look at what is new."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """Adapters in use: what they were opened for, and the stack that closes them."""

    settings: Settings
    credentials: str
    ports: Ports
    stack: ExitStack


class PassRunner:
    """Makes passes, one at a time, and remembers what came of them in `pass_history`.

    Adapters live as long as the settings, the credentials on disk and the buckets are good. After a pass in which they
    failed the next one begins with new ones, so that nothing stale can make it fail again.
    """

    def __init__(
        self,
        configuration: Configuration,
        open_ports: OpenPorts,
        logger: "FilteringBoundLogger",
        *,
        on_report: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self._configuration = configuration
        self._open_ports = open_ports
        self._logger = logger
        self._on_report = on_report
        self._opened: _Opened | None = None
        self._stopping = Event()
        self._uncollected = 0
        self.exhausted_in_a_row = 0
        """How many passes just now met a limit of processes or threads."""
        settings = configuration.settings
        pass_history = status_files.load_counters(settings).configured(publications(settings))
        self.pass_history = replace(pass_history, last_pass=load_last_pass(settings.state_dir))
        self.note_configuration()
        # A daemon that starts looks at everything once: so the public view is never unknown for an hour.
        with suppress(OSError):
            (settings.state_dir / local_state.VERIFIED_FILE_NAME).unlink()

    def run(self) -> None:
        """One whole pass; whatever goes wrong in it is counted and logged, never raised."""
        if self._stopping.is_set():
            return
        began, now, refused = time.monotonic(), datetime.now(UTC), refused_starts()
        self._logger.debug("pass.began")
        report = self._pass(now)
        self.exhausted_in_a_row = self.exhausted_in_a_row + 1 if refused_starts() > refused else 0
        sweep()
        log_report(self._logger, report)
        if self._stopping.is_set():  # a pass that was broken off proves nothing
            return
        self._remember(report, time.monotonic() - began)
        self._note_end(report, now)
        # All but apiservers may have failed by the fault of what is kept open.
        if report.failures or any(issuer.failures for issuer in report.issuers):
            self.close()
        self._collect_garbage()

    def _collect_garbage(self) -> None:
        """Give back the reference cycles of this pass.

        They, and the megabytes of a closed boto3 client, would add up for hours: this process collects rarely by itself
        (see `mirror.cli.startup.speed_up_imports`). What stands after a whole collection is mostly modules: they are
        frozen, because looking at all of them costs as much as a quarter of a quiet pass.
        """
        is_whole = self._uncollected == 0
        self._uncollected = (self._uncollected + 1) % WHOLE_COLLECTIONS_EVERY
        if is_whole:
            gc.unfreeze()
        gc.collect()
        if is_whole:
            gc.freeze()

    def _pass(self, now: datetime) -> Report:
        try:
            self._configuration.refresh()
            settings = self._configuration.settings
            return reconcile(settings, self._ports(settings), now, is_broken_off=self._stopping.is_set)
        except MirrorError as error:
            return _broken(now, reason_from("pass.failed", error))
        except Exception as error:  # noqa: BLE001  the scheduler would swallow it: here it becomes a failed pass
            if is_exhausted(error):
                sentence = f"The pass ended because the system gave it no further process or thread: {describe(error)}."
                return _broken(now, Reason("pass.failed", sentence, EXHAUSTED_REMEDY))
            sentence = f"The pass failed unexpectedly: {type(error).__name__}: {describe(error)}"
            remedy = "This is a defect of oidc-mirror: please report it with this sentence."
            return _broken(now, Reason("pass.failed", sentence, remedy))

    def note_configuration(self) -> None:
        """Show at once, not only after the next pass, that the configuration on disk is refused, or no longer is."""
        if self.pass_history.refused != self._configuration.refused:
            self.pass_history = replace(self.pass_history, refused=self._configuration.refused)
            status_files.write_status_files(self._configuration.settings, self.pass_history, self._logger)

    def stop_polling(self) -> None:
        """The pass that runs asks no apiserver any more, and what it comes to is not counted; from any thread."""
        self._stopping.set()
        if self._opened is not None:
            self._opened.ports.source.cancel()

    def cancel(self) -> None:
        """Whatever still runs at git or a bucket ends soon; from any thread."""
        if self._opened is not None:
            self._opened.ports.cancel()

    def close(self) -> None:
        """Give connections and processes back; never while a pass runs."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.stack.close()
            self._uncollected = 0  # the adapters may be frozen

    def _remember(self, report: Report, seconds: float) -> None:
        settings, commits = self._configuration.settings, self._commits(report)
        pass_history = replace(self.pass_history, refused=self._configuration.refused).configured(
            publications(settings)
        )
        self.pass_history = pass_history.after(report, ended_at=datetime.now(UTC), seconds=seconds, commits=commits)
        status_files.write_status_files(settings, self.pass_history, self._logger)
        self._on_report(report)

    def _note_end(self, report: Report, began: datetime) -> None:
        """Mark what `reconcile` wrote as the end of a whole pass, for `run --now`; write it where it wrote nothing.

        Where `reconcile` did not end, it wrote nothing. What cannot be written is reported by every pass.
        """
        state_dir = self._configuration.settings.state_dir
        ended = load_last_pass(state_dir) if report.issuers else self.pass_history.last_pass
        if ended is not None:
            with suppress(HistoryError):
                save_last_pass(state_dir, replace(ended, whole_since=began))

    def _ports(self, settings: Settings) -> Ports:
        credentials = aws_digest(os.environ)
        opened = self._opened
        if opened is not None and (opened.settings != settings or opened.credentials != credentials):
            self.close()
            opened = None
        if opened is None:
            stack = ExitStack()
            opened = _Opened(settings, credentials, stack.enter_context(self._open_ports(settings)), stack)
            self._opened = opened
        if self._stopping.is_set():  # the stop came while nothing was open that it could have reached
            opened.ports.source.cancel()
        return opened.ports

    def _commits(self, report: Report) -> tuple[Version, ...]:
        """The newest commits, newest first; read only when there is a new one."""
        before = self.pass_history.report
        if self._opened is None or report.commit is None or (before is not None and before.commit == report.commit):
            return self.pass_history.commits
        try:
            return tuple(reversed(self._opened.ports.history.versions(None, most=SHOWN_COMMITS)))
        except MirrorError:
            return self.pass_history.commits


def _broken(now: datetime, reason: Reason) -> Report:
    return Report(now.replace(microsecond=0), dry_run=False, issuers=(), failures=(reason,))
