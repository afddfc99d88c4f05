"""`oidc-mirror run` without `--once`: the daemon, put together."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import NoReturn

import click

from mirror.cli.options import Common
from mirror.cli.wiring import open_ports, open_state_dir
from mirror.config.settings import Settings
from mirror.daemon.config_watcher import Configuration
from mirror.daemon.daemon import Daemon, SystemdNotifier
from mirror.daemon.runner import PassRunner
from mirror.log import configure
from mirror.report import Report, to_json


def serve(options: Common, load: Callable[[], Settings], output: str) -> int:
    """Run the daemon until it is told to stop, and give its exit status.

    Args:
        options: Where the configuration is, and how to log.
        load: Reads the configuration, and selects from it.
        output: `json` writes each pass's report on stdout, one line each; `text` nothing, because the logs tell.

    Raises:
        UsageError: The configuration has mistakes, another `run` works in the state directory, or the port is taken.
    """
    logger = configure(options.log_level, options.log_format)
    configuration = Configuration(load, options.config, logger)
    settings = configuration.settings
    notifier = SystemdNotifier(os.environ)
    with ExitStack() as stack:
        stack.enter_context(open_state_dir(settings, dry_run=False))
        passes = PassRunner(
            configuration,
            lambda wanted: open_ports(wanted, dry_run=False),
            logger,
            on_report=_print_line if output == "json" else lambda _: None,
        )
        daemon = Daemon(configuration, passes, notifier, logger)
        if settings.http_listen is not None:
            stack.enter_context(_pages(settings.http_listen, daemon, passes))
        return daemon.run()


@contextmanager
def _pages(address: tuple[str, int], daemon: Daemon, passes: PassRunner) -> Iterator[None]:
    from mirror.daemon.metrics import render  # noqa: PLC0415  `http: false` does without
    from mirror.daemon.status_memory import render_status  # noqa: PLC0415  `http: false` does without
    from mirror.daemon.status_page import Page  # noqa: PLC0415  `http: false` does without
    from mirror.daemon.web import Server, Sources, application, listen  # noqa: PLC0415  `http: false` does without

    listener = listen(address)
    page = Page(lambda: passes.pass_history, daemon.health)
    sources = Sources(
        daemon.health,
        daemon.readiness,
        lambda: render(passes.pass_history),
        page.render,
        lambda: render_status(passes.pass_history, datetime.now(UTC)),
    )
    server = Server(application(sources, listen_host=address[0]), listener)
    server.start()
    try:
        yield
    finally:
        server.stop()


def _print_line(report: Report) -> None:
    click.echo(json.dumps(to_json(report)))
    sys.stdout.flush()


def end_quietly() -> None:
    """Until the daemon listens itself: SIGTERM ends the process with 0, because nothing was begun; the others wait.

    To reload or to make a pass is what happens next anyway, and must not end a process that starts.
    """

    def end(_signal: int, _frame: FrameType | None) -> NoReturn:
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
