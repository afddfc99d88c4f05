"""A pass writes `last_error` and the metrics file."""

from dataclasses import replace
from pathlib import Path

from structlog.testing import capture_logs

from mirror.config.settings import Settings
from mirror.daemon import status_files
from mirror.daemon.metrics import render
from mirror.daemon.pass_history import PassHistory
from mirror.log import configure
from mirror.model import Reason, Unusable
from mirror.report import Report
from support.pass_histories import after, issuer, report, settings

BROKEN = report(
    issuer("a", failures=(Reason("put.failed", "No\x1b[31m rights.", "Ask."),)),
    failures=(Reason("x", "Full.", "Free."),),
)
LOGGER = configure("info", "json")
GOOD = report(issuer("a"))


def kept(state_dir: Path, *passes: Report, metrics_file: Path | None = None) -> tuple[Settings, PassHistory]:
    where = replace(settings("a"), state_dir=state_dir, metrics_file=metrics_file)
    pass_history = after(*passes, begin=status_files.load_counters(where), of=where)
    status_files.write_status_files(where, pass_history, LOGGER)
    return where, pass_history


def test_last_error_is_written_and_removed(tmp_path: Path) -> None:
    """The file has every failure with its remedy, escaped. A pass that did not fail removes the file."""
    kept(tmp_path, BROKEN)
    assert (tmp_path / "last_error").read_text() == (
        "The pass of 2026-11-23 08:00:00Z failed.\nx: Full. Free.\na: put.failed: No\\x1b[31m rights. Ask.\n"
    )
    kept(tmp_path, replace(GOOD, issuers=(issuer("a", held=(Reason("key.held", "Held.", ""),)),)))
    assert not (tmp_path / "last_error").exists()
    kept(tmp_path, GOOD)  # a missing file is no error


def test_last_error_names_the_apiservers_involved(tmp_path: Path) -> None:
    """The file also has the remedies of the failing apiservers. It does not mention good issuers."""
    silent = Unusable("https://1", (Reason("timeout", "It did not answer.", "Look at it."),))
    heard = issuer("b").observations[0]
    kept(tmp_path, report(issuer("a", observations=(silent,)), issuer("b", observations=(heard, silent))))
    _, none_usable, why = (tmp_path / "last_error").read_text().splitlines()
    assert none_usable.startswith("a: no_usable_apiserver: ")
    assert why == "a: https://1: timeout: It did not answer. Look at it."


def test_metrics_file_holds_what_the_page_shows(tmp_path: Path) -> None:
    """The file is complete, replaced by rename, and alone in its folder. The next process continues the counters."""
    folder = tmp_path / "textfile"
    folder.mkdir()
    path = folder / "oidc-mirror.prom"
    _, pass_history = kept(tmp_path, GOOD, metrics_file=path)
    assert path.read_bytes() == render(pass_history)
    kept(tmp_path, GOOD, metrics_file=path)
    assert 'oidc_mirror_passes_total{result="current"} 2.0' in path.read_text()
    assert list(folder.iterdir()) == [path]


def test_unwritable_file_is_reported_and_fails_no_pass(tmp_path: Path) -> None:
    """The folder is missing, or a directory has the file's name."""
    (tmp_path / "last_error").mkdir()
    with capture_logs() as logs:
        kept(tmp_path, GOOD, metrics_file=tmp_path / "missing" / "m.prom")
    assert [(each["event"], each["log_level"]) for each in logs] == [
        ("last_error.unwritten", "warning"),
        ("metrics.unwritten", "warning"),
    ]
    assert all(each["cause"] for each in logs)


def test_before_the_first_pass_no_error_is_claimed(tmp_path: Path) -> None:
    """The file is neither written nor removed."""
    (tmp_path / "last_error").write_text("old")
    kept(tmp_path)
    assert (tmp_path / "last_error").read_text() == "old"


def test_refused_configuration_is_an_error_of_its_own(tmp_path: Path) -> None:
    """The error is written although every pass succeeds with the earlier settings."""
    where, pass_history = kept(tmp_path, GOOD)
    refused = Reason("configuration.refused", "The configuration has mistakes.", "Correct it.")
    status_files.write_status_files(where, replace(pass_history, refused=refused), LOGGER)
    text = (tmp_path / "last_error").read_text()
    assert text == "configuration.refused: The configuration has mistakes. Correct it.\n"
    assert b"oidc_mirror_config_refused 1.0" in render(replace(pass_history, refused=refused))
    assert b"oidc_mirror_config_refused 0.0" in render(pass_history)
    status_files.write_status_files(where, pass_history, LOGGER)
    assert not (tmp_path / "last_error").exists()
