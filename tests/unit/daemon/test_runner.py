"""Successive passes with fake ports: adapters, counters and reports."""

import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mirror.config.settings import Settings
from mirror.daemon.config_watcher import Configuration
from mirror.daemon.daemon import Daemon, SystemdNotifier, summary
from mirror.daemon.runner import PassRunner
from mirror.errors import BucketError
from mirror.log import configure
from mirror.model import ListedObject, ObjectKey
from mirror.ports import Ports
from mirror.reconcile.local_state import load_last_pass
from mirror.report import ExitStatus, Report
from support.pass_histories import after, issuer, report
from support.situations import JWKS_KEY, ONE, Situation

LOGGER = configure("info", "json")


class RunnerSetup:
    """A situation with passes made by `PassRunner`. It records which adapters are opened and closed."""

    def __init__(self, state_dir: Path) -> None:
        self.situation = Situation(state_dir)
        self.situation.show(ONE, ONE)
        self.settings = self.situation.settings()
        self.opened = 0
        self.closed = 0
        self.cancelled = 0
        self.refuses: Exception | None = None
        self.reported: list[Report] = []
        path = state_dir / "mirror.yaml"
        path.write_text("{}")
        self.path = path
        self.configuration = Configuration(lambda: self.settings, path, LOGGER)
        self.passes = PassRunner(self.configuration, self.open_ports, LOGGER, on_report=self.reported.append)

    @contextmanager
    def open_ports(self, _: Settings) -> Iterator[Ports]:
        if self.refuses is not None:
            raise self.refuses
        self.opened += 1
        yield replace(self.situation.world.ports(), cancel=self.cancel)
        self.closed += 1

    def cancel(self) -> None:
        self.cancelled += 1

    def run(self) -> ExitStatus:
        self.passes.run()
        found = self.passes.pass_history.report
        assert found is not None
        return found.exit_status


@pytest.fixture
def setup(tmp_path: Path) -> RunnerSetup:
    return RunnerSetup(tmp_path)


def test_adapters_live_as_long_as_all_is_well(setup: RunnerSetup) -> None:
    """Three passes open the adapters once. The end closes them once."""
    assert [setup.run() for _ in range(3)] == [ExitStatus.CURRENT] * 3
    assert (setup.opened, setup.closed) == (1, 0)
    setup.passes.close()
    setup.passes.close()
    assert setup.closed == 1
    assert len(setup.reported) == 3


def test_bucket_that_fails_gets_new_adapters(setup: RunnerSetup) -> None:
    """After rotated credentials or a changed endpoint, stale adapters do not make the next pass fail too."""
    setup.situation.world.bucket.fails["list"] = BucketError("No.", code="ExpiredToken")
    assert setup.run() is ExitStatus.FAILED
    assert (setup.opened, setup.closed) == (1, 1)
    setup.situation.world.bucket.fails.clear()
    assert setup.run() is ExitStatus.CURRENT
    assert (setup.opened, setup.closed) == (2, 1)


def test_apiservers_that_fail_cost_no_adapter(setup: RunnerSetup) -> None:
    """Failing apiservers do not reopen the adapters."""
    setup.situation.world.source.answers = {}
    assert setup.run() is ExitStatus.FAILED
    assert (setup.opened, setup.closed) == (1, 0)


def test_new_settings_get_new_adapters(setup: RunnerSetup) -> None:
    """The adapters are replaced as soon as the file has changed."""
    setup.run()
    setup.settings = replace(setup.settings, max_failures=7)
    setup.path.write_text('{"changed": 1}')
    setup.run()
    assert (setup.opened, setup.closed) == (2, 1)


@pytest.mark.parametrize("error", [RuntimeError("a defect"), BucketError("No.", code="x")])
def test_pass_that_cannot_even_begin_is_a_failed_pass(setup: RunnerSetup, error: Exception) -> None:
    """The failure is counted, logged and shown on the page, but never raised. The next pass tries again."""
    setup.refuses = error
    with capture_logs() as logs:
        assert setup.run() is ExitStatus.FAILED
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["pass.failed"]
    assert setup.passes.pass_history.failed_in_a_row == 1
    setup.refuses = None
    assert setup.run() is ExitStatus.CURRENT
    assert setup.passes.pass_history.passes == {"failed": 1, "current": 1}


def test_first_pass_of_a_daemon_looks_at_everything(setup: RunnerSetup) -> None:
    """The page of this process does not know what an earlier process observed."""
    setup.run()
    assert setup.situation.world.web.looks
    setup.situation.world.web.looks.clear()
    setup.run()
    assert setup.situation.world.web.looks == []
    again = PassRunner(setup.configuration, setup.open_ports, LOGGER)
    again.run()
    assert setup.situation.world.web.looks


def test_commits_are_read_when_there_is_a_new_one(setup: RunnerSetup) -> None:
    """The commits are listed newest first."""
    setup.run()
    first = setup.passes.pass_history.commits
    assert [each.commit for each in first] == [setup.situation.world.history.head]
    setup.run()
    assert setup.passes.pass_history.commits is first


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_stopped_pass_is_not_counted(setup: RunnerSetup, when: str) -> None:
    """An interrupted pass proves nothing: no failure, no `last_error`, and no further pass."""
    source = setup.situation.world.source
    if when == "before":
        setup.passes.stop_polling()
    else:
        interrupt(setup, setup.passes.stop_polling)
    setup.passes.run()
    assert setup.passes.pass_history.report is None
    assert setup.reported == []
    assert not (setup.situation.state_dir / "last_error").exists()
    assert source.cancelled is (when == "meanwhile")


def test_stopped_pass_leaves_the_last_result_and_adds_its_events(setup: RunnerSetup) -> None:
    """`status` shows the result of the previous pass, not the interruption. Drift stays visible."""
    setup.run()
    before = load_last_pass(setup.situation.state_dir)
    assert before is not None
    setup.situation.world.bucket.write(JWKS_KEY, b"evil")
    interrupt(setup, setup.passes.stop_polling)
    setup.passes.run()
    found = load_last_pass(setup.situation.state_dir)
    assert found is not None
    assert [past.event.name for past in found.events] == ["bucket.drift", "drift.repaired"]
    assert found == replace(before, events=found.events)


def test_first_pass_that_is_stopped_leaves_no_result(setup: RunnerSetup) -> None:
    """An interrupted first pass has no result."""
    interrupt(setup, setup.passes.stop_polling)
    setup.passes.run()
    assert load_last_pass(setup.situation.state_dir) is None


def interrupt(setup: RunnerSetup, call: Callable[[], None]) -> None:
    """Calls it while the bucket is listed."""
    bucket = setup.situation.world.bucket
    really_list = bucket.list

    def listed(prefix: str) -> Mapping[ObjectKey, ListedObject]:
        call()
        return really_list(prefix)

    bucket.list = listed  # type: ignore[method-assign]  # hook of this test


def test_cancel_reaches_what_is_open(setup: RunnerSetup) -> None:
    """Without open adapters, cancel is harmless."""
    setup.passes.cancel()
    assert setup.cancelled == 0
    setup.run()
    setup.passes.cancel()
    assert setup.cancelled == 1


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (after(), "No pass has ended yet."),
        (
            after(report(issuer("a"), issuer("b"))),
            "2 current of 2 issuers; pass ended 2026-11-23 08:00:00Z after 0.5 s",
        ),
        (after(report()), "no issuer of 0 issuers; pass ended 2026-11-23 08:00:00Z after 0.5 s"),
        (
            after(report(issuer("a"), unpushed_commits=2)),
            "1 current of 1 issuer; 2 not pushed; pass ended 2026-11-23 08:00:00Z after 0.5 s",
        ),
    ],
)
def test_summary_is_one_line(found: object, line: str) -> None:
    """`systemctl status` shows this line."""
    assert summary(found) == line  # type: ignore[arg-type]  # a fake report


def test_summary_of_a_failed_pass_says_why(setup: RunnerSetup) -> None:
    """The summary gives the first reason."""
    setup.refuses = BucketError("The bucket is gone.", code="x")
    setup.run()
    assert summary(setup.passes.pass_history).startswith("FAILED: The bucket is gone. (pass ended ")
    assert json.dumps(summary(setup.passes.pass_history))


def test_limit_of_processes_is_no_defect_and_is_counted(setup: RunnerSetup) -> None:
    """A pass that could not start a thread names the limit to raise. Repeated failures make the daemon unhealthy."""
    setup.refuses = RuntimeError("can't start new thread")
    assert [setup.run() for _ in range(3)] == [ExitStatus.FAILED] * 3
    found = setup.passes.pass_history.report
    assert found is not None
    assert "defect" not in found.failures[0].sentence + found.failures[0].remedy
    assert "pids.max" in found.failures[0].remedy
    assert setup.passes.exhausted_in_a_row == 3
    setup.refuses = None
    setup.run()
    assert setup.passes.exhausted_in_a_row == 0


def test_daemon_that_gets_no_further_process_is_unwell_until_a_pass_can_start_one(setup: RunnerSetup) -> None:
    """`/healthz` is 503 after three such passes, so that an orchestrator restarts it. A good pass resets it to 200."""
    daemon = Daemon(setup.configuration, setup.passes, SystemdNotifier({}), LOGGER)
    setup.refuses = RuntimeError("can't start new thread")
    said = []
    for _ in range(3):
        setup.run()
        said.append(daemon.health())
    assert [each.ok for each in said] == [True, True, False]
    assert said[-1].sentence == "The last 3 passes could start no further process or thread; a restart may help."
    setup.refuses = None
    setup.run()
    assert daemon.health().ok


class ReferenceCycle:
    """A reference cycle: only the garbage collector can free it."""

    def __init__(self) -> None:
        self.me = self


def test_reference_cycles_of_a_pass_end_with_it(setup: RunnerSetup) -> None:
    """The cycles are collected right after the pass, even if only the young generation is collected."""
    for _ in range(3):
        made = weakref.ref(ReferenceCycle())
        setup.run()
        assert made() is None


def test_reference_cycles_among_adapters_end_when_these_are_replaced(setup: RunnerSetup) -> None:
    """The cycles are collected although long-lived objects are collected rarely."""
    kept = [ReferenceCycle()]
    assert setup.run() == ExitStatus.CURRENT
    made = weakref.ref(kept.pop())
    setup.run()
    setup.passes.close()
    setup.run()
    assert made() is None
