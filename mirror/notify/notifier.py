"""After a pass: report what changed to the webhook, and give the sign of life.

What was reported stands in `notified.json`, and is written only when the webhook took the message: what it did not
take is tried again after the next pass. A kill between the message and the file makes the message come twice.
"""

import json
import socket
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING

from mirror.config.settings import NotifySettings, Settings
from mirror.errors import HistoryError
from mirror.files import DAMAGED, write_atomically
from mirror.model import IssuerUrl, Reason
from mirror.notify.changes import Memory, Notification, Notified, compose, compose_test, find_notification
from mirror.report import ExitStatus, Report, State, reason_from
from mirror.text import iso_time, read_time

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


WEBHOOK, HEARTBEAT = "notify.webhook_url_file", "notify.heartbeat_url_file"
MOST_WAITING = 10
"""As many reports wait for a slow webhook; of more the oldest are dropped. States are compared, so none is lost."""


class Notifier:
    """Reports one pass after another, each in its turn.

    Args:
        quiet: Without any memory, take what is found for known (see `find_notification`).
    """

    def __init__(self, logger: "FilteringBoundLogger", *, quiet: bool) -> None:
        self._logger = logger
        self._quiet = quiet
        self._memory: Memory | None = None

    def notify(self, settings: Settings, report: Report) -> None:
        """Send what is due after `report`; takes at most two tries for each URL, and never raises."""
        for send in (self._webhook, self._heartbeat):
            try:
                send(settings, report)
            except Exception as error:  # noqa: BLE001  a pass must not end by its message
                self._failed(Reason("notify.failed", f"The message failed unexpectedly: {type(error).__name__}.", ""))

    def _webhook(self, settings: Settings, report: Report) -> None:
        notify = settings.notify
        if notify.webhook_url_file is None:
            return
        known = load_memory(settings.state_dir) if self._memory is None else self._memory
        configured = frozenset(url for each in (*settings.issuers, *settings.left_out) for url in each.urls)
        notification = find_notification(known, report, notify.events, configured=configured, quiet=self._quiet)
        failure = self._send(settings, report, notification) if notification else None
        self._memory = notification.memory if failure is None else notification.unchanged
        if failure is not None:
            self._failed(failure)
        if self._memory != known:
            try:
                save_memory(settings.state_dir, self._memory)
            except HistoryError as error:
                self._failed(reason_from("notify.failed", error))

    def _send(self, settings: Settings, report: Report, notification: Notification) -> Reason | None:
        body = compose(notification, report.now, report.exit_status, sender(settings), settings.notify.message_format)
        failure = post(settings.notify, body)
        if failure is None:
            self._logger.info("notify.sent", changes=len(notification.changes), events=len(notification.events))
        return failure

    def _heartbeat(self, settings: Settings, report: Report) -> None:
        """A change that waits for an operator (3) is no reason for silence: nothing failed."""
        path = settings.notify.heartbeat_url_file
        if path is None or report.exit_status not in (ExitStatus.CURRENT, ExitStatus.HELD):
            return
        from mirror.notify.delivery import read_url, send  # noqa: PLC0415  httpx only where something is sent

        url = read_url(HEARTBEAT, path)
        failure = url if isinstance(url, Reason) else send(settings.notify, "GET", url)
        if failure is not None:
            self._failed(failure)

    def _failed(self, reason: Reason) -> None:
        self._logger.warning("notify.failed", sentence=reason.sentence, remedy=reason.remedy)


class BackgroundNotifier:
    """Reports in a thread of its own, so that no pass waits for a webhook; the process does not wait for it either."""

    def __init__(self, notify: Callable[[Settings, Report], None]) -> None:
        self._notify = notify
        self._lock = Lock()
        self._waiting: deque[tuple[Settings, Report]] = deque(maxlen=MOST_WAITING)
        self._thread: Thread | None = None

    def notify(self, settings: Settings, report: Report) -> None:
        """Report soon; returns at once."""
        if settings.notify.is_off:
            return
        with self._lock:
            self._waiting.append((settings, report))
            if self._thread is None:
                self._thread = Thread(target=self._work, name="notifications", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                settings, report = self._waiting.popleft()
            self._notify(settings, report)


def post(notify: NotifySettings, body: bytes) -> Reason | None:
    """POST a message to the webhook; None when it was taken."""
    from mirror.notify.delivery import read_url, send  # noqa: PLC0415  httpx only where something is sent

    if notify.webhook_url_file is None:
        remedy = "Put the webhook's URL into a file, and name it in `notify.webhook_url_file`."
        return Reason("notify.unset", "No webhook is configured.", remedy)
    url = read_url(WEBHOOK, notify.webhook_url_file)
    return url if isinstance(url, Reason) else send(notify, "POST", url, body)


def post_test(settings: Settings, now: datetime) -> Reason | None:
    """Send a test message; None when it was taken."""
    return post(settings.notify, compose_test(now, sender(settings), settings.notify.message_format))


def sender(settings: Settings) -> str:
    """Which mirror reports: the repository's name and this machine's."""
    return f"{settings.repository.name} on {socket.gethostname()}"


MEMORY_FILE = "notified.json"
MEMORY_VERSION = 1


def load_memory(state_dir: Path) -> Memory | None:
    """What was reported; None when there is no file, or none that can be read."""
    try:
        content = json.loads((state_dir / MEMORY_FILE).read_bytes())
        if content["version"] != MEMORY_VERSION:
            return None
        return {
            IssuerUrl(url): Notified(
                State(each["state"]),
                tuple(read_time(at) for at in each["sent"]),
                {str(name): read_time(at) for name, at in each["events"].items()},
            )
            for url, each in content["issuers"].items()
        }
    except DAMAGED:
        return None


def save_memory(state_dir: Path, memory: Memory) -> None:
    """Write the file by rename.

    Raises:
        HistoryError: The state directory cannot be written.
    """
    issuers = {
        url: {
            "state": str(each.state),
            "sent": [iso_time(at) for at in each.sent],
            "events": {name: iso_time(at) for name, at in sorted(each.events.items())},
        }
        for url, each in sorted(memory.items())
    }
    write_atomically(
        state_dir / MEMORY_FILE, json.dumps({"version": MEMORY_VERSION, "issuers": issuers}, indent=1) + "\n"
    )
