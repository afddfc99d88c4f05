"""HTTP notifications as operators configure them: one for each change, and no pass waits for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.apiserver import close_without_answer
from support.daemons import running_daemon
from support.s3 import S3Server
from support.webhook import Webhook, running_webhook
from support.worlds import World, running_world

pytestmark = pytest.mark.s3

ONE = "01-rsa1/anonymous-bound-"
PING = "/ping/0d2c6d6f-8f55-secret"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as made:
        yield made


@pytest.fixture
def world(s3_server: S3Server, tmp_path: Path, webhook: Webhook) -> Iterator[World]:
    with running_world(s3_server, tmp_path) as made:
        made.show(ONE, ONE)
        made.config["notify"] = {
            "webhook_url_file": webhook.url_file(tmp_path).name,
            "heartbeat_url_file": webhook.url_file(tmp_path, "heartbeat-url", PING).name,
            "ca_file": webhook.ca_file(tmp_path).name,
        }
        yield made


def titles(webhook: Webhook) -> list[str]:
    return [body["text"].partition(": ")[2].partition("\n")[0] for body in webhook.bodies()]


def test_once_reports_a_failure_and_its_end_and_nothing_between(world: World, webhook: Webhook) -> None:
    """Five passes of cron: good, three that fail, good. No message has a token, none of the logs the URL."""
    statuses = [world.mirror("--once").status]
    world.respond_with(close_without_answer)
    statuses += [world.mirror("--once").status for _ in range(3)]
    world.show(ONE, ONE)
    done = world.mirror("--once")
    assert [*statuses, done.status] == [0, 1, 1, 1, 0]
    assert titles(webhook) == ["1 issuer failed", "1 issuer recovered"]
    assert webhook.paths("GET") == [PING] * 2
    assert "no_usable_apiserver" in webhook.bodies()[0]["text"]
    assert "s3cr3t" not in done.out + done.err


def test_daemon_reports_once_and_its_passes_do_not_wait(world: World, webhook: Webhook) -> None:
    """The webhook hangs, and passes go on; a stop does not wait either; what was not taken comes after the restart."""
    with running_daemon(world, interval="200ms") as daemon:
        daemon.wait_until(lambda: len(webhook.paths("GET")) >= 2, "a sign of life after each pass")
        webhook.hangs = True
        world.respond_with(close_without_answer)
        daemon.wait_until(lambda: bool(webhook.bodies()), "the message")
        passes = len(daemon.events("pass.finished"))
        daemon.wait_for("pass.finished", count=passes + 5)
        assert titles(webhook) == ["1 issuer failed"]
        status, _ = daemon.stop()
        assert status == 0
    webhook.hangs = False
    webhook.released.set()
    before = len(webhook.bodies())
    with running_daemon(world, interval="200ms") as daemon:
        daemon.wait_for("notify.sent")
        daemon.wait_for("pass.finished", count=6)
        world.show(ONE, ONE)
        daemon.wait_for("notify.sent", count=2)
        daemon.wait_for("pass.finished", count=len(daemon.events("pass.finished")) + 3)
        assert "s3cr3t" not in (world.folder / "err").read_text()
    assert titles(webhook)[before:] == ["1 issuer failed", "1 issuer recovered"]


def test_check_sends_a_test_and_looks_at_the_files(world: World, webhook: Webhook) -> None:
    """Exit 0 when it was taken, 1 when not, with the remedy; `--configuration --files` reads the files alone."""
    done = world.mirror("check", "--notify")
    assert (done.status, titles(webhook)) == (0, ["this is a test of notify.webhook_url_file; nothing happened."])
    webhook.statuses = [404]
    refused = world.mirror("check", "--notify", "--output", "json")
    assert refused.status == 1
    (finding,) = refused.report()["findings"]
    assert (finding["station"], finding["code"]) == ("notify", "notify.failed")
    assert "s3cr3t" not in done.out + done.err + refused.out + refused.err
    assert world.mirror("check", "--notify", "syd-prod").status == 2
    world.config["notify"]["heartbeat_url_file"] = "missing"
    (world.folder / "webhook-url").write_text("http://hooks.example.com/x")
    found = world.mirror("check", "--configuration", "--files", "--output", "json").report()["findings"]
    assert {"notify.unencrypted", "notify.unreadable"} <= {each["code"] for each in found}
    assert len(webhook.bodies()) == 2
    del world.config["notify"]
    assert "notify.webhook_url_file" in world.mirror("check", "--notify").out
