"""The daemon as users run it: a process with signals, a port, systemd's socket, and files that change under it."""

import json
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from support.apiserver import close_without_answer
from support.daemons import free_port, running_daemon
from support.processes import thread_heaps
from support.s3 import S3Server
from support.situations import JWKS_KEY
from support.worlds import PROJECT, World, running_world

pytestmark = pytest.mark.s3

ONE = "01-rsa1/anonymous-bound-"
BOTH = "02-rsa1-ec2-overlap/"
SCHEMA = json.loads((PROJECT / "docs/reference/daemon-pass.schema.json").read_text())


@pytest.fixture
def world(s3_server: S3Server, tmp_path: Path) -> Iterator[World]:
    with running_world(s3_server, tmp_path) as made:
        made.show(ONE, ONE)
        yield made


def commits(world: World) -> int:
    return len(world.git("log", "--format=%h", "main").split())


def write(world: World) -> None:
    (world.folder / "mirror.yaml").write_text(json.dumps(world.config))


def test_passes_go_on_and_cost_nothing(world: World) -> None:
    """20 passes: none overlaps, one commit, few connections, no further descriptor, little memory in one heap.

    `make soak` is the long form.
    """
    with running_daemon(world, interval="100ms") as daemon:
        daemon.wait_for("pass.finished", count=6)
        before = daemon.footprint()
        daemon.wait_for("pass.finished", count=20)
        after = daemon.footprint()
        maps = Path(f"/proc/{daemon.process.pid}/maps").read_text()
        order = [each["event"] for each in daemon.events("pass.began", "pass.finished")]
        status, _ = daemon.stop()
    assert status == 0
    assert order[:40] == ["pass.began", "pass.finished"] * 20
    # The stop may break a later pass off.
    failed = [each for each in daemon.events("pass.finished")[:20] if each["exit_status"] != 0]
    assert not failed, daemon.events()
    assert commits(world) == 1
    assert [each.connections <= len(order) // 2 // 10 + 1 for each in world.replicas] == [True, True]
    assert after.descriptors <= before.descriptors + 2  # a connection of a pass may be open while we look
    assert after.resident_bytes - before.resident_bytes < 5 * 1024 * 1024
    assert thread_heaps(maps) == 0


def test_pages_show_what_passes_did(world: World) -> None:
    """Alive, ready, metrics and the page; a rotation shows in all of them after the next pass."""
    with running_daemon(world, interval="300ms") as daemon:
        daemon.wait_for("pass.finished")
        daemon.wait_until(lambda: daemon.get("/readyz").status == 200, "ready")
        assert daemon.get("/healthz").status == 200
        world.show(BOTH, ONE)
        wanted = 'oidc_mirror_issuer_keys{issuer="syd-prod",status="published"} 2.0'
        daemon.wait_until(lambda: wanted in daemon.get("/metrics").body, "the new key in the metrics")
        page = daemon.get("/")
        kids = [key["kid"] for key in json.loads(world.public(JWKS_KEY).body)["keys"]]
        assert len(kids) == 2
        assert all(kid in page.body for kid in kids)
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert daemon.get("/", host="evil.example").status == 421
        assert daemon.get("/", method="POST").status == 405


def test_signals_reload_and_run(world: World) -> None:
    """USR1: a pass now. HUP: the new file, then a pass; all mistakes of a broken one are logged, the old one stays."""
    with running_daemon(world, interval="1h") as daemon:
        daemon.wait_for("pass.finished")
        daemon.send(signal.SIGUSR1)
        daemon.wait_for("pass.finished", count=2)
        world.issuer["name"] = "renamed"
        write(world)
        daemon.send(signal.SIGHUP)
        daemon.wait_for("pass.finished", count=3)
        assert 'issuer="renamed"' in daemon.get("/metrics").body
        (world.folder / "mirror.yaml").write_text("interval: soon\ncolour: red\n")
        daemon.send(signal.SIGHUP)
        daemon.wait_for("pass.finished", count=4)
        mistakes = [each["sentence"] for each in daemon.events("configuration.mistake")]
        assert len(mistakes) >= 2
        assert len(daemon.events("configuration.refused")) == 1
        assert 'issuer="renamed"' in daemon.get("/metrics").body
        assert daemon.events("pass.finished")[-1]["exit_status"] == 0
        assert daemon.stop()[0] == 0


def test_start_with_a_broken_file(world: World, tmp_path: Path) -> None:
    """By the copy of the last good configuration: alive, not ready, and it says so; --no-last-good ends with 2."""
    state = str(tmp_path / "state")
    with running_daemon(world, interval="1h", STATE_DIRECTORY=state) as first:
        first.wait_for("pass.finished")
        assert first.stop()[0] == 0
    assert (tmp_path / "state/last-good-config.json").stat().st_mode & 0o777 == 0o600
    world.config["colour"] = "red"
    with running_daemon(world, interval="1h", STATE_DIRECTORY=state) as daemon:
        daemon.wait_for("pass.finished")
        daemon.port = first.port  # the copy's
        assert [daemon.get(path).status for path in ("/healthz", "/readyz")] == [200, 503]
        assert "oidc_mirror_config_refused 1.0" in daemon.get("/metrics").body
        assert daemon.stop()[0] == 0
    for words in (("run", "--no-last-good"), ("run", "--once")):
        done = world.mirror(*words, STATE_DIRECTORY=state)
        assert done.status == 2, done.err
        assert "colour" in done.err


def test_changed_file_is_obeyed_without_a_signal(world: World) -> None:
    """A ConfigMap sends none: the next pass reads it."""
    with running_daemon(world, interval="300ms") as daemon:
        daemon.wait_for("pass.finished")
        world.issuer["name"] = "renamed"
        write(world)
        daemon.wait_until(lambda: 'issuer="renamed"' in daemon.get("/metrics").body, "the new name")
        assert 'issuer="syd-prod"' not in daemon.get("/metrics").body


def test_second_daemon_is_refused(world: World) -> None:
    """One `run` a state directory: exit 75, a clear sentence, and the first goes on. So is a port that is taken."""
    with running_daemon(world, interval="1h") as daemon:
        daemon.wait_for("pass.finished")
        world.config["http"] = {"listen": f"127.0.0.1:{free_port()}"}
        second = world.mirror("run")
        assert (second.status, second.out) == (75, "")
        assert f"another oidc-mirror, works in {world.folder / 'state'};" in second.err
        assert "systemctl kill -s USR1 oidc-mirror" in second.err
        assert "`oidc-mirror --once --now`" in second.err
        assert re.search(r"Process ([1-9][0-9]*), .*`kill -USR1 \1`", second.err, re.DOTALL)
        world.config |= {"state_dir": "other", "http": {"listen": f"127.0.0.1:{daemon.port}"}}
        third = world.mirror()
        assert third.status == 75
        assert f"The status page cannot listen on 127.0.0.1:{daemon.port}: the port is taken" in third.err
        assert daemon.get("/healthz").status == 200


def test_now_lets_the_daemon_make_a_pass_and_has_its_status(world: World) -> None:
    """The pass begins after the call and ends before it; what it finds is the exit status of the call."""
    with running_daemon(world, interval="1h") as daemon:
        daemon.wait_for("pass.finished")
        good = world.mirror("--once", "--now")
        # A command with this configuration starts the log again, shared with the daemon: one pass since then.
        assert (good.status, len(daemon.events("pass.finished"))) == (0, 1)
        assert f"of the daemon (process {daemon.process.pid}) ended with 0 (1 issuer)." in good.out
        world.respond_with(close_without_answer)
        bad = world.mirror("run", "--now")
        assert bad.status == 1
        assert "syd-prod: failed. `oidc-mirror status syd-prod` says why." in bad.out
        reported = world.mirror("--once", "--now", "--output", "json").report()
        jsonschema.Draft202012Validator(SCHEMA).validate(reported)
        outcome = reported["pid"], reported["exit_status"], reported["issuers"]
        assert outcome == (daemon.process.pid, 1, {"syd-prod": "failed"})
        assert len(daemon.events("pass.finished")) == 1
        (world.folder / "state" / "snapshots.git" / "HEAD").write_text("no reference")
        broken = world.mirror("--once", "--now", "--output", "json").report()
        jsonschema.Draft202012Validator(SCHEMA).validate(broken)
        assert [each["code"] for each in broken["failures"]] == ["history.failed"]
        for option in (("--only", "syd-prod"), ("--dry-run",), ("--shard", "0/2")):
            assert world.mirror("--now", *option).status == 2
        assert daemon.process.poll() is None


def test_now_without_a_daemon_makes_the_pass_itself(world: World) -> None:
    """Any user who may signal it gets a pass."""
    done = world.mirror("--once", "--now", "--output", "json")
    assert (done.status, done.report()["committed"]) == (0, True)


def test_failure_budget_ends_the_daemon(world: World) -> None:
    """`max_failures` failed passes in a row: exit 1, and `last_error` says why."""
    world.config |= {"max_failures": 2}
    world.respond_with(close_without_answer)
    with running_daemon(world, interval="100ms") as daemon:
        assert daemon.process.wait(60) == 1
        assert len(daemon.events("pass.finished")) >= 2  # another may start in between
        assert daemon.events("service.gave_up")
    assert "no_usable_apiserver" in (world.folder / "state" / "last_error").read_text()


def test_failures_are_forgiven(world: World) -> None:
    """Without a budget it never gives up; after a good pass `last_error` is gone."""
    world.config["metrics_file"] = "mirror.prom"
    world.respond_with(close_without_answer)
    error = world.folder / "state" / "last_error"
    with running_daemon(world, interval="200ms") as daemon:
        daemon.wait_for("pass.finished", count=2)
        daemon.wait_until(error.exists, "last_error")
        world.show(ONE, ONE)
        daemon.wait_until(lambda: not error.exists(), "no last_error")
        usable = 'oidc_mirror_issuer_apiservers{issuer="syd-prod",state="usable"} 2.0'
        metrics = world.folder / "mirror.prom"  # written after `last_error`
        daemon.wait_until(lambda: usable in metrics.read_text(), "two usable apiservers in the metrics file")
        assert 'oidc_mirror_passes_total{result="failed"}' in metrics.read_text()
        assert daemon.stop()[0] == 0


def test_systemd_gets_the_state_of_the_daemon(world: World) -> None:
    """READY, the state in a line, signs of life, reloading with its time, stopping."""
    with tempfile.TemporaryDirectory(prefix="n") as short, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{short}/notify")
        manager.settimeout(30)
        environ = {"NOTIFY_SOCKET": f"{short}/notify", "WATCHDOG_USEC": "400000"}
        heard: list[str] = []

        def hear(wanted: str) -> None:
            while not any(wanted in each for each in heard):
                heard.append(manager.recv(4096).decode())

        with running_daemon(world, interval="1h", **environ) as daemon:
            hear("READY=1\nSTATUS=The first pass runs.")
            hear("STATUS=1 changed of 1 issuer; pass ended")
            hear("WATCHDOG=1")
            daemon.send(signal.SIGHUP)
            hear("RELOADING=1\nMONOTONIC_USEC=")
            hear("READY=1\nSTATUS=1 changed of 1 issuer")
            daemon.send(signal.SIGTERM)
            hear("STOPPING=1")
            assert daemon.process.wait(30) == 0


def test_stuck_passes_silence_the_watchdog(world: World) -> None:
    """A pass that never ends, although the main thread works: /healthz fails and systemd gets no watchdog signal."""
    (world.folder / "bin").mkdir()
    git = world.folder / "bin" / "git"
    git.write_text("#!/bin/sh\nexec sleep 600\n")
    git.chmod(0o755)
    world.config["limits"] = {"source_deadline": "500ms"}
    with tempfile.TemporaryDirectory(prefix="n") as short, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{short}/notify")
        manager.setblocking(False)
        path = f"{git.parent}:{os.environ['PATH']}"
        environ = {"NOTIFY_SOCKET": f"{short}/notify", "WATCHDOG_USEC": "200000", "PATH": path}
        with running_daemon(world, interval="500ms", **environ) as daemon:
            daemon.wait_until(lambda: bool(daemon.events("service.started")), "started")
            daemon.wait_until(lambda: daemon.get("/healthz").status == 503, "unhealthy")
            assert "No pass has ended for" in daemon.get("/healthz").body
            assert daemon.get("/readyz").status == 503
            drain(manager)
            time.sleep(0.5)
            assert "WATCHDOG=1" not in drain(manager)


def drain(manager: socket.socket) -> list[str]:
    """Everything that was sent so far."""
    found: list[str] = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def test_shards_share_the_work(world: World) -> None:
    """Of two shards one has the issuer; the other has nothing to do, and that is fine."""
    found = [world.mirror("run", "--once", "--shard", f"{index}/2", "--output", "json") for index in range(2)]
    assert [each.status for each in found] == [0, 0]
    assert sorted(len(each.report()["issuers"]) for each in found) == [0, 1]


def test_one_pass_keeps_the_books_too(world: World) -> None:
    """`--once` writes the metrics file as the daemon does; `--only`, which knows a part alone, does not."""
    world.config["metrics_file"] = "mirror.prom"
    path = world.folder / "mirror.prom"
    assert world.mirror("--once", "--only", "syd-prod").status == 0
    assert not path.exists()
    path.write_text('oidc_mirror_passes_total{result="current"} 6.0\n')
    assert world.mirror("--once").status == 0
    assert 'oidc_mirror_passes_total{result="current"} 7.0' in path.read_text()


def test_reports_of_a_daemon_are_json_lines(world: World) -> None:
    """With `--output json`, one a pass; without it stdout is empty."""
    with running_daemon(world, "--output", "json", interval="200ms") as daemon:
        daemon.wait_for("pass.finished", count=3)
        daemon.stop()
    lines = (world.folder / "out").read_text().splitlines()
    assert len(lines) >= 2
    assert {json.loads(line)["exit_status"] for line in lines} == {0}
