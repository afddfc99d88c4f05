"""`oidc-mirror run`: one pass, or the plan of one."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import FrameType

import click

from mirror.cli.options import Common, common, common_options
from mirror.cli.text import lines
from mirror.config.settings import Settings
from mirror.errors import UsageError
from mirror.log import configure, log_report
from mirror.model import IssuerName
from mirror.report import Report, to_json


@click.command("run")
@click.option("--once", is_flag=True, help="One pass, then exit.")
@click.option("--dry-run", is_flag=True, help="Tell what a pass would do and change nothing (implies --once).")
@click.option("--only", metavar="NAME", multiple=True, help="Only this issuer; may be given several times.")
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the report is written.",
)
@common_options
@click.pass_context
def command(ctx: click.Context, *, once: bool, dry_run: bool, only: tuple[str, ...], output: str) -> None:
    """Ask every apiserver, believe what is valid, commit it, publish it, and look at it as the world does."""
    options = common(ctx)
    settings = selected(options.load(), only)
    if not (once or dry_run):
        raise UsageError(
            "This version has no daemon yet.",
            remedy="Run `oidc-mirror run --once` from a systemd timer, a CronJob or CI.",
        )
    with _interruptible():
        report = one_pass(settings, options, dry_run=dry_run)
    show(report, output)
    ctx.exit(int(report.exit_status))


def selected(settings: Settings, only: tuple[str, ...]) -> Settings:
    """The settings with the issuers that `--only` names; all of them when it names none.

    Raises:
        UsageError: A name is not configured.
    """
    unknown = sorted(set(only) - {issuer.name for issuer in settings.issuers})
    if unknown:
        names = ", ".join(issuer.name for issuer in settings.issuers)
        raise UsageError(f"No issuer is named {', '.join(unknown)}.", remedy=f"Configured are: {names}.")
    if not only:
        return settings
    return replace(settings, issuers=tuple(issuer for issuer in settings.issuers if issuer.name in only))


def one_pass(settings: Settings, options: Common, *, dry_run: bool) -> Report:
    """One pass, or its plan, with its events logged."""
    # Imported only now: a configuration error answers without httpx, boto3 and cryptography.
    from mirror.cli.compose import open_ports, open_state_dir  # noqa: PLC0415
    from mirror.run import dry_run as propose_only  # noqa: PLC0415
    from mirror.run import run_once  # noqa: PLC0415

    now = datetime.now(UTC)
    one = propose_only if dry_run else run_once
    with (
        open_state_dir(settings, dry_run=dry_run),
        _progress(len(settings.issuers)) as progress,
        open_ports(settings, dry_run=dry_run) as ports,
    ):
        report = one(settings, ports, now, progress=progress)
    with suppress(OSError):  # a log that nobody can take must not cost the report
        logger = configure(options.log_level, options.log_format)
        for warning in settings.warnings:
            logger.warning("configuration.unwise", sentence=warning)
        log_report(logger, report)
    return report


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
