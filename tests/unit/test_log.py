"""Logs: one JSON object a line on stderr, stable names, every event of an issuer with its name, nothing to obey."""

import json
import os
from dataclasses import replace
from pathlib import Path

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


def test_journal_gets_priorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `$JOURNAL_STREAM` names what stderr is, each line begins with its priority; elsewhere none does."""
    lines = {}
    for name in ("journal", "file"):
        with (tmp_path / name).open("w+") as stream:
            found = os.fstat(stream.fileno())
            monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}" if name == "journal" else "1:2")
            monkeypatch.setattr("sys.stderr", stream)
            logger = configure("debug", "json")
            for level in ("debug", "info", "warning", "error"):
                getattr(logger, level)("an.event")
            stream.flush()
            stream.seek(0)
            lines[name] = stream.read().splitlines()
    monkeypatch.undo()
    configure("info", "json")  # the streams above are closed
    assert [line[:4] for line in lines["journal"]] == ["<7>{", "<6>{", "<4>{", "<3>{"]
    assert all(line.startswith("{") for line in lines["file"])
