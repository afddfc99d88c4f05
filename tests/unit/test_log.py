"""Logs: one JSON object a line on stderr, stable names, every event of an issuer with its name, nothing to obey."""

import json
from dataclasses import replace

import pytest

from mirror.log import configure, log_report
from mirror.model import Event, IssuerName, IssuerUrl, Level, Reason, Unusable
from mirror.report import IssuerReport, Report
from support.fakes import MOMENT

WHY = Reason("timeout", "No \x1b[31manswer.", "Wait.")
ISSUER = IssuerReport(
    IssuerName("syd"),
    IssuerUrl("https://issuer.example.com"),
    observations=(Unusable("https://one", (WHY,)),),
    events=(Event("key.published", "A key.", fields={"kid": "k"}), Event("bucket.drift", "Drift.", Level.ERROR)),
    held=(WHY,),
)
REPORT = Report(MOMENT, dry_run=False, issuers=(ISSUER,), events=(Event("push.failed", "No.", Level.WARNING),))


def logged(capsys: pytest.CaptureFixture[str], level: str, report: Report) -> list[dict[str, object]]:
    log_report(configure(level, "json"), report)
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_every_event_is_a_line_with_its_issuers_name(capsys: pytest.CaptureFixture[str]) -> None:
    """The names are stable, the level is the event's, and who searches for an issuer finds all of it."""
    found = logged(capsys, "info", replace(REPORT, failures=(WHY,)))
    assert [(line["event"], line["level"], line.get("name")) for line in found] == [
        ("push.failed", "warning", None),
        ("key.published", "info", "syd"),
        ("bucket.drift", "error", "syd"),
        ("apiserver.unusable", "warning", "syd"),
        ("issuer.failed", "error", "syd"),
        ("change.held", "warning", "syd"),
        ("pass.failed", "error", None),
        ("pass.finished", "info", None),
    ]
    assert found[1]["kid"] == "k"
    assert found[-1]["exit_status"] == 1


def test_level_leaves_out_what_is_less(capsys: pytest.CaptureFixture[str]) -> None:
    """With `error` only errors are written."""
    assert {line["level"] for line in logged(capsys, "error", REPORT)} == {"error"}


def test_terminal_sequences_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """What comes from outside cannot drive the terminal that shows the log."""
    log_report(configure("info", "console"), REPORT)
    assert "\x1b[31m" not in capsys.readouterr().err
