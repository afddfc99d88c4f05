"""Write `last_error` and the metrics file after a pass."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from mirror.config.settings import Settings
from mirror.daemon.pass_history import PassHistory
from mirror.errors import HistoryError
from mirror.files import write_atomically
from mirror.log import escaped
from mirror.model import Reason, Unusable
from mirror.report import ExitStatus, Report
from mirror.text import moment

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


LAST_ERROR = "last_error"
_MOST_METRICS_BYTES = 16 * 1024 * 1024


def write_status_files(settings: Settings, pass_history: PassHistory, logger: "FilteringBoundLogger") -> None:
    """Write both files after a pass; what cannot be written is reported and changes nothing else."""
    report = pass_history.report
    if report is not None or pass_history.refused is not None:
        _guarded(lambda: _write_last_error(settings, pass_history), "last_error.unwritten", logger)
    if settings.metrics_file is not None:
        _guarded(lambda: _write_metrics(settings, pass_history), "metrics.unwritten", logger)


def load_counters(settings: Settings) -> PassHistory:
    """What the metrics file says that was counted before; an empty pass history where there is none."""
    if settings.metrics_file is None:
        return PassHistory()
    from mirror.daemon.metrics import resumed  # noqa: PLC0415  not every configuration has metrics

    try:
        with settings.metrics_file.open("rb") as file:
            return resumed(file.read(_MOST_METRICS_BYTES).decode("utf-8", "replace"))
    except OSError:
        return PassHistory()


def last_error(pass_history: PassHistory) -> str:
    """A configuration that is refused, and every failure of the last pass with its remedy; empty when all is well."""
    refused = "" if pass_history.refused is None else _line("", pass_history.refused) + "\n"
    return refused + ("" if pass_history.report is None else _failures(pass_history.report))


def _failures(report: Report) -> str:
    """What failed in a pass, in words, and what its apiservers answered."""
    if report.exit_status is not ExitStatus.FAILED:
        return ""
    lines = [f"The pass of {moment(report.now)} failed."]
    lines += [_line("", reason) for reason in report.failures]
    for issuer in report.issuers:
        failures = issuer.all_failures()
        lines += [_line(issuer.name, reason) for reason in failures]
        # Remedies point to what is reported of apiservers, so that must stand here too.
        unusable = (each for each in issuer.observations if failures and isinstance(each, Unusable))
        lines += [_line(f"{issuer.name}: {each.apiserver}", reason) for each in unusable for reason in each.reasons]
    return "\n".join(lines) + "\n"


def _line(where: str, reason: Reason) -> str:
    return escaped(f"{where}{': ' if where else ''}{reason.code}: {reason.sentence} {reason.remedy}".rstrip())


def _write_last_error(settings: Settings, pass_history: PassHistory) -> None:
    text, path = last_error(pass_history), settings.state_dir / LAST_ERROR
    if text:
        write_atomically(path, text)
    else:
        path.unlink(missing_ok=True)


def _write_metrics(settings: Settings, pass_history: PassHistory) -> None:
    from mirror.daemon.metrics import render  # noqa: PLC0415  not every configuration has metrics

    if settings.metrics_file is not None:
        write_atomically(settings.metrics_file, render(pass_history).decode())


def _guarded(work: Callable[[], None], event: str, logger: "FilteringBoundLogger") -> None:
    try:
        work()
    except (HistoryError, OSError) as error:
        cause = error.cause if isinstance(error, HistoryError) else str(error.strerror)
        logger.warning(
            event, sentence="The file could not be written; the pass itself is not touched by it.", cause=cause
        )
