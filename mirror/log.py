"""Logs on stderr: one JSON object a line, or readable on a terminal. The shell logs; the core returns values.

Event names are dotted and stable; every event of an issuer carries `name`. structlog is imported at the first call of
`logger`, because it costs more than a usage error may.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from mirror.model import Level, Unusable
from mirror.report import Report, all_events

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

LogFormat = Literal["auto", "json", "console"]
LEVELS = ("debug", "info", "warning", "error")
_calls: "FilteringBoundLogger | None" = None
"""Where `log_call` writes: the logger of this process, while its level is `debug`."""


def escaped(text: str) -> str:
    """`text` with everything that a terminal could obey (control and format characters) written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def wants_no_colours(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for plain text: `NO_COLOR` (no-color.org: set and not empty) or `TERM=dumb`."""
    return bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"


def configure(level: str, log_format: LogFormat) -> "FilteringBoundLogger":
    """Set structlog up for this process, and give the logger.

    Args:
        level: One of `LEVELS`; the lowest level that is written.
        log_format: `auto` means readable on a terminal, JSON elsewhere.
    """
    import logging  # noqa: PLC0415  only for the number of a level

    structlog = _structlog()
    readable = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: Processor
    if readable:
        colours = sys.stderr.isatty() and not wants_no_colours(os.environ)
        renderer = structlog.dev.ConsoleRenderer(colors=colours)
    else:
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    if speaks_to_journal(os.environ, sys.stderr):
        renderer = _with_priority(renderer)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _escape_values,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logger: FilteringBoundLogger = structlog.get_logger()
    global _calls  # noqa: PLW0603  structlog's configuration is one for the process too
    _calls = logger if level == "debug" else None
    return logger


def logs_calls() -> bool:
    """Whether `log_call` writes anything: adapters then stay in this process, whose log it is."""
    return _calls is not None


def log_call(event: str, **fields: object) -> None:
    """One request, git command or AWS call, at level `debug`. The caller passes no header, body or other secret."""
    if _calls is not None:
        with suppress(OSError, ValueError):  # a log that is closed or full costs no call
            _calls.debug(event, **fields)


_PRIORITIES = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>"}
"""sd-daemon(3): what journald takes as the priority of a line."""


def speaks_to_journal(environ: Mapping[str, str], stream: Any) -> bool:
    """Whether a stream leads to journald: `$JOURNAL_STREAM` names its device and inode (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # ValueError: no real file, or one that is closed
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"


def journal_prefix(level: str) -> str:
    """What stands before a line on stderr: its priority for journald, nothing elsewhere."""
    return _PRIORITIES[level] if speaks_to_journal(os.environ, sys.stderr) else ""


def _with_priority(renderer: "Processor") -> "Processor":
    def render(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        priority = _PRIORITIES.get(str(event.get("level")), _PRIORITIES["info"])
        return priority + str(renderer(logger, method, event))

    return render


def _structlog() -> Any:
    """structlog, imported without rich: it would load all of it for tracebacks, of which we log none."""
    modules: dict[str, Any] = sys.modules
    kept = modules.get("rich")
    modules["rich"] = None  # says that there is no such module (Python's reference, section 5.3.1)
    try:
        import structlog  # noqa: PLC0415  see the module's docstring
    finally:
        modules.pop("rich")
        if kept is not None:
            modules["rich"] = kept
    return structlog


def _escape_values(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: escaped(value) if isinstance(value, str) else value for key, value in event.items()}


def log_report(logger: "FilteringBoundLogger", report: Report) -> None:
    """Every event of a pass, every apiserver with a rejected answer, every failure, and one closing line."""
    write = {Level.INFO: logger.info, Level.WARNING: logger.warning, Level.ERROR: logger.error}
    for name, event in all_events(report):
        belongs_to = {} if name is None else {"name": name}
        write[event.level](event.name, **{"sentence": event.sentence, **event.fields, **belongs_to})
    for issuer in report.issuers:
        for observation in issuer.observations:
            for reason in observation.reasons if isinstance(observation, Unusable) else ():
                logger.warning(
                    "apiserver.unusable",
                    name=issuer.name,
                    apiserver=observation.apiserver,
                    code=reason.code,
                    sentence=reason.sentence,
                    where=reason.where or None,
                )
        for reason in issuer.all_failures():
            logger.error("issuer.failed", name=issuer.name, code=reason.code, sentence=reason.sentence)
        for reason in issuer.held:
            logger.warning("change.held", name=issuer.name, code=reason.code, sentence=reason.sentence)
    for reason in report.failures:
        logger.error("pass.failed", code=reason.code, sentence=reason.sentence, remedy=reason.remedy)
    logger.info(
        "pass.finished",
        exit_status=int(report.exit_status),
        issuers=len(report.issuers),
        commit=report.commit,
        committed=report.committed,
        dry_run=report.dry_run,
    )
