"""`oidc-mirror run`: the daemon, one pass, or the plan of one.

With `--now`, the daemon that holds the state directory makes a pass, and this process waits for it.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from mirror.cli.options import Common, common, selected
from mirror.cli.text import lines
from mirror.cli.wiring import open_ports, open_state_dir
from mirror.config.settings import Settings
from mirror.daemon import status_files
from mirror.daemon.sharding import read_shard, sharded
from mirror.errors import MirrorError, UsageError
from mirror.files import lock_owner
from mirror.log import configure, escaped, log_report
from mirror.model import IssuerName
from mirror.reconcile.controller import dry_run as propose_only
from mirror.reconcile.controller import reconcile
from mirror.reconcile.local_state import LastPass, load_last_pass
from mirror.reconcile.state import publications
from mirror.report import Report, State, reason_json, to_json
from mirror.text import counted, iso_time, moment

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


def main(
    ctx: click.Context,
    *,
    once: bool,
    dry_run: bool,
    now: bool,
    only: tuple[str, ...],
    shard: str | None,
    output: str,
    last_good: bool,
) -> None:
    """See `mirror.cli.commands.run`."""
    options = common(ctx)
    if now and (dry_run or only or shard is not None):
        raise UsageError(
            "`--now` is a whole pass of the daemon, with the issuers that the daemon has.",
            remedy="Leave `--dry-run`, `--only` and `--shard` out. `--dry-run` works while a daemon runs.",
        )
    part = None if shard is None else read_shard(shard)

    def select(settings: Settings) -> Settings:
        return sharded(selected(settings, only), part)

    def load() -> Settings:
        return select(options.load())

    if not (once or dry_run or now):
        from mirror.cli.serve import serve  # noqa: PLC0415  one pass does without
        from mirror.config.load import LastGood  # noqa: PLC0415  as above

        copy = LastGood.of(options.config, os.environ) if last_good else None
        ctx.exit(serve(options, load, output, last_good=copy, select=select))
    settings = load()
    daemon = find_daemon(settings.state_dir) if now else None
    if daemon is not None:
        ctx.exit(_of_daemon(settings, daemon, output))
    is_whole = not (dry_run or only)
    with _interruptible():
        report = one_pass(settings, options, output, dry_run=dry_run, write_status=is_whole)
        show(report, output)
        if is_whole and not settings.notify.is_off:
            _notify(settings, options, report)
    ctx.exit(int(report.exit_status))


def one_pass(
    settings: Settings, options: Common, output: str = "text", *, dry_run: bool, write_status: bool = False
) -> Report:
    """One pass, or its plan, with its events logged; `write_status` also writes `last_error` and the metrics file.

    A pass over a part of the issuers keeps none: what the others had there would be gone.
    """
    # Imported only now: a configuration error answers without httpx, boto3 and cryptography.
    now = datetime.now(UTC)
    one = propose_only if dry_run else reconcile
    logger = configure(options.log_level, options.log_format) if options.log_level == "debug" else None
    with (
        open_state_dir(settings, dry_run=dry_run),
        _progress(len(settings.issuers)) as progress,
        open_ports(settings, dry_run=dry_run) as ports,
    ):
        report = one(settings, ports, now, progress=progress)
        logger = logger or configure(options.log_level, options.log_format)
        if write_status:
            _write_status_files(settings, report, now, logger)
    with suppress(OSError):  # an unwritable log must not lose the report
        for warning in settings.warnings:
            logger.warning("configuration.unwise", sentence=warning)
        if options.logs_what_is_reported(output):
            log_report(logger, report)
    return report


def _write_status_files(settings: Settings, report: Report, began: datetime, logger: "FilteringBoundLogger") -> None:
    ended_at = datetime.now(UTC)
    seconds = max((ended_at - began).total_seconds(), 0.0)
    before = status_files.load_counters(settings).configured(publications(settings))
    status_files.write_status_files(
        settings, before.after(report, ended_at=ended_at, seconds=seconds, commits=()), logger
    )


def _of_daemon(settings: Settings, pid: int, output: str) -> int:
    """A pass of the daemon `pid`, in short: its whole report is in its log. Gives the exit status."""
    ended = make_pass(settings.state_dir, pid)
    states = {
        each.name: str(ended.issuers[each.issuer].state) for each in settings.issuers if each.issuer in ended.issuers
    }
    if output == "json":
        click.echo(json.dumps(_daemon_pass_json(pid, ended, states), indent=2))
        return int(ended.exit_status)
    for reason in ended.failures:
        click.echo(escaped(f"failed [{reason.code}]: {reason.sentence} {reason.remedy}".rstrip()))
    for name, state in states.items():
        if state not in (State.CURRENT, State.CHANGED):
            click.echo(f"{name}: {state}. `oidc-mirror status {name}` says why.")
    ended_with = f"ended with {int(ended.exit_status)} ({counted(len(states), 'issuer')})"
    click.echo(f"The pass of {moment(ended.at)} of the daemon (process {pid}) {ended_with}.")
    return int(ended.exit_status)


def _daemon_pass_json(pid: int, ended: LastPass, states: Mapping[IssuerName, str]) -> dict[str, object]:
    """What `--now --output json` gives; its JSON Schema is `docs/reference/daemon-pass.schema.json`."""
    return {
        "version": 1,
        "pid": pid,
        "time": iso_time(ended.at),
        "exit_status": int(ended.exit_status),
        "failures": [reason_json(each) for each in ended.failures],
        "issuers": states,
    }


def _notify(settings: Settings, options: Common, report: Report) -> None:
    """Messages go out when the report has been printed and the lock is free.

    A pod with an empty disk does not know what the last one reported, so it only takes note.
    """
    from mirror.notify.notifier import Notifier  # noqa: PLC0415  only if a message is sent

    Notifier(configure(options.log_level, options.log_format), quiet=True).notify(settings, report)


def show(report: Report, output: str) -> None:
    """The report on stdout."""
    if output == "json":
        click.echo(json.dumps(to_json(report), indent=2))
    else:
        click.echo("\n".join(lines(report)))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[IssuerName], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415  only on a terminal
    from rich.progress import Progress  # noqa: PLC0415  only on a terminal

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Asking apiservers", total=total)
        yield lambda _: bar.advance(task)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends a pass as Ctrl-C does: with 130, and nothing half done that the next pass would not finish."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


MAX_WAIT_SECONDS = 900.0
"""A pass that runs is waited for, and then the one that was asked for."""
_PAUSE_SECONDS = 0.1
_PROC = Path("/proc")


def find_daemon(state_dir: Path, *, owner: Callable[[Path], int | None] = lock_owner, proc: Path = _PROC) -> int | None:
    """The process that holds the directory, if it catches SIGUSR1; None if there is none, or it makes only one pass.

    SIGUSR1 ends a process that does not catch it, as `run --once` does not.
    """
    pid = owner(state_dir / "lock")
    return pid if pid and _catches(pid, signal.SIGUSR1, proc) else None


def make_pass(state_dir: Path, pid: int, *, max_seconds: float = MAX_WAIT_SECONDS) -> LastPass:
    """Signal the daemon `pid`, and give how its next whole pass ended.

    Raises:
        UsageError: This user may not signal it.
        MirrorError: It ended, or no pass did in time.
    """
    with _opened(pid) as process:
        if find_daemon(state_dir) != pid:  # the number may be another process's by now; what is open stays the same
            raise _ended(pid)
        sent_at = datetime.now(UTC)
        _signal(process, pid)
        deadline = time.monotonic() + max_seconds
        while time.monotonic() < deadline:
            found = load_last_pass(state_dir)
            if found is not None and found.whole_since is not None and found.whole_since >= sent_at:
                return found
            if select.select([process], [], [], _PAUSE_SECONDS)[0]:
                raise _ended(pid)
    raise MirrorError(
        f"Process {pid} ended no pass within {max_seconds:g} s.",
        remedy="Check its log, or /healthz; it may be stuck.",
    )


@contextmanager
def _opened(pid: int) -> Iterator[int]:
    try:
        process = os.pidfd_open(pid)
    except OSError:
        raise _ended(pid) from None
    try:
        yield process
    finally:
        os.close(process)


def _signal(process: int, pid: int) -> None:
    try:
        signal.pidfd_send_signal(process, signal.SIGUSR1)
    except PermissionError:
        raise UsageError(
            f"This user may not signal process {pid}, which holds the state directory.",
            remedy="Run it as root or as the user of that process: `sudo oidc-mirror-admin --once --now`, "
            "or `systemctl kill -s USR1 oidc-mirror`.",
        ) from None
    except ProcessLookupError:
        raise _ended(pid) from None


def _ended(pid: int) -> MirrorError:
    return MirrorError(
        f"Process {pid}, which held the state directory, ended before its pass did.",
        remedy="Run `oidc-mirror --once --now` again: it makes a pass itself when no daemon runs.",
    )


def _catches(pid: int, number: signal.Signals, proc: Path) -> bool:
    """Whether a process has a handler for a signal (proc(5), SigCgt: a mask in hexadecimal, signal 1 first)."""
    try:
        status = (proc / str(pid) / "status").read_text()
        (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(mask, 16) >> (number - 1) & 1)
    except (OSError, ValueError, IndexError):
        return False
