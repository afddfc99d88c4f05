"""After a pass: a message when something changed, a sign of life when nothing failed, and never a delay."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

import pytest
from structlog.testing import capture_logs

from mirror.config.settings import NotifySettings, Settings
from mirror.log import configure
from mirror.model import Reason
from mirror.notify.notifier import (
    MEMORY_FILE,
    MOST_WAITING,
    BackgroundNotifier,
    Notifier,
    load_memory,
    post_test,
    save_memory,
)
from mirror.report import Report
from support.fakes import MOMENT
from support.pass_histories import issuer, report, settings, url_of
from support.webhook import SECRET_PATH, Webhook, running_webhook

LOGGER = configure("info", "json")
GOOD = report(issuer("a"))
BAD = report(issuer("a", failures=(Reason("put.failed", "No rights.", "Ask."),)))
HELD = report(issuer("a", held=(Reason("key.held", "A key waits.", "Approve it."),)))
PING = "/ping/0d2c6d6f-secret"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as made:
        yield made


def of(folder: Path, webhook: Webhook, *, heartbeat: bool = False) -> Settings:
    notify = NotifySettings(webhook.url_file(folder), ca_file=webhook.ca_file(folder))
    if heartbeat:
        notify = replace(notify, heartbeat_url_file=webhook.url_file(folder, "heartbeat-url", PING))
    return replace(settings("a"), state_dir=folder, notify=notify)


def once(where: Settings, *reports: Report) -> None:
    """Each pass in a process of its own."""
    for each in reports:
        Notifier(LOGGER, quiet=True).notify(where, each)


def texts(webhook: Webhook) -> list[str]:
    return [body["text"].partition(": ")[2].partition("\n")[0] for body in webhook.bodies()]


def test_restart_reports_nothing_twice(tmp_path: Path, webhook: Webhook) -> None:
    """The reported state is stored in the state directory, by a daemon and by `--once`."""
    where = of(tmp_path, webhook)
    once(where, GOOD, BAD, BAD)
    daemon = Notifier(LOGGER, quiet=False)
    daemon.notify(where, BAD)
    daemon.notify(where, GOOD)
    once(where, GOOD)
    assert texts(webhook) == ["1 issuer failed", "1 issuer recovered"]
    assert webhook.paths("POST") == [SECRET_PATH] * 2


def test_pod_with_an_empty_disk_does_not_repeat_itself(tmp_path: Path, webhook: Webhook) -> None:
    """Each pass of it starts without memory; the heartbeat is what such a one has."""
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        once(of(folder, webhook), BAD)
    assert webhook.got == []


def test_message_that_was_not_taken_comes_after_the_next_pass(tmp_path: Path, webhook: Webhook) -> None:
    """And the log says why, without the URL."""
    where = of(tmp_path, webhook)
    once(where, GOOD)
    webhook.statuses = [403]
    with capture_logs() as logs:
        once(where, BAD)
    once(where, BAD, BAD)
    assert texts(webhook) == ["1 issuer failed"] * 2
    assert [(each["event"], each["log_level"]) for each in logs] == [("notify.failed", "warning")]
    assert "403" in logs[0]["sentence"]
    assert "s3cr3t" not in str(logs)


def test_heartbeat_comes_after_each_pass_in_which_nothing_failed(tmp_path: Path, webhook: Webhook) -> None:
    """A change that waits for an operator is no failure; silence is what others notice."""
    where = of(tmp_path, webhook, heartbeat=True)
    where = replace(where, notify=replace(where.notify, webhook_url_file=None))
    once(where, GOOD, GOOD)
    assert webhook.paths("GET") == [PING] * 2
    once(where, BAD)
    assert webhook.paths("GET") == [PING] * 2
    once(where, HELD)
    assert webhook.paths("GET") == [PING] * 3
    assert not (tmp_path / MEMORY_FILE).exists()


def test_heartbeat_comes_although_the_webhook_fails(tmp_path: Path, webhook: Webhook) -> None:
    """A failing heartbeat is reported."""
    where = of(tmp_path, webhook, heartbeat=True)
    once(where, BAD)
    webhook.statuses = [404, 404]
    with capture_logs() as logs:
        once(where, GOOD)
    assert (len(webhook.bodies()), webhook.paths("GET")) == (1, [PING])
    assert [each["event"] for each in logs] == ["notify.failed"] * 2


def test_unwritable_memory_is_reported_and_the_daemon_repeats_nothing(tmp_path: Path, webhook: Webhook) -> None:
    """It also remembers by itself."""
    where = of(tmp_path, webhook)
    (tmp_path / MEMORY_FILE).mkdir()
    daemon = Notifier(LOGGER, quiet=False)
    with capture_logs() as logs:
        for each in (GOOD, BAD, BAD):
            daemon.notify(where, each)
    assert texts(webhook) == ["1 issuer failed"]
    assert "notify.failed" in {each["event"] for each in logs}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "issuers": {"x": {}}}'])
def test_damaged_memory_is_none(tmp_path: Path, text: str) -> None:
    """As that of a newer program is."""
    (tmp_path / MEMORY_FILE).write_text(text)
    assert load_memory(tmp_path) is None


def test_memory_is_read_as_it_was_written(tmp_path: Path, webhook: Webhook) -> None:
    """State, times of messages and events."""
    where = of(tmp_path, webhook)
    once(where, GOOD, BAD)
    found = load_memory(tmp_path)
    assert found is not None
    assert (found[url_of("a")].state, found[url_of("a")].sent) == ("failed", (MOMENT,))
    save_memory(tmp_path, found)
    assert load_memory(tmp_path) == found


def test_defect_in_a_message_ends_no_pass(tmp_path: Path, webhook: Webhook) -> None:
    """Any exception is reported, and the sign of life does not wait for the message."""
    broken = replace(of(tmp_path, webhook, heartbeat=True), issuers=None)  # type: ignore[arg-type]  # what no type allows
    with capture_logs() as logs:
        once(broken, GOOD)
    assert [each["event"] for each in logs] == ["notify.failed"]
    assert webhook.paths("GET") == [PING]


def test_pass_does_not_wait_for_a_webhook_that_hangs(tmp_path: Path) -> None:
    """What comes meanwhile is reported afterwards, each in its turn, the newest of too many."""
    begun, goes_on, done = Flag(), Flag(), Flag()
    reported: list[Report] = []
    last = replace(GOOD, message="last")

    def notify(_: Settings, each: Report) -> None:
        begun.set()
        goes_on.wait()
        reported.append(each)
        if each is last:
            done.set()

    where = replace(settings("a"), notify=NotifySettings(tmp_path / "url"))
    background = BackgroundNotifier(notify)
    background.notify(where, BAD)
    begun.wait()
    for _ in range(MOST_WAITING + 5):
        background.notify(where, GOOD)
    background.notify(where, last)
    assert reported == []  # every call came back although the first message still hangs
    goes_on.set()
    done.wait()
    assert len(reported) == 1 + MOST_WAITING
    assert (reported[0], reported[-1]) == (BAD, last)


def test_thread_of_the_background_ends_and_begins_again(tmp_path: Path) -> None:
    """Nothing runs while there is nothing to report, and nothing at all where nothing is configured."""
    reported: list[Report] = []
    background = BackgroundNotifier(lambda _, each: reported.append(each))
    background.notify(settings("a"), GOOD)
    where = replace(settings("a"), notify=NotifySettings(tmp_path / "url"))
    for count in (1, 2):
        background.notify(where, BAD)
        while len(reported) < count or background._thread is not None:
            time.sleep(0.005)
    assert reported == [BAD, BAD]


def test_test_message_needs_no_change(tmp_path: Path, webhook: Webhook) -> None:
    """It stores nothing; without a webhook it reports that."""
    where = of(tmp_path, webhook)
    assert post_test(where, MOMENT) is None
    assert "this is a test" in webhook.bodies()[0]["text"]
    assert not (tmp_path / MEMORY_FILE).exists()
    unset = post_test(settings("a"), MOMENT)
    assert unset is not None
    assert "notify.webhook_url_file" in unset.remedy
