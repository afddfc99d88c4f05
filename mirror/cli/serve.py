"""`oidc-mirror run` without `--once`: the daemon, put together."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import click

from mirror.cli.options import Common
from mirror.cli.wiring import open_ports, open_state_dir
from mirror.config.settings import Settings
from mirror.daemon.config_watcher import Configuration
from mirror.daemon.daemon import Daemon, SystemdNotifier
from mirror.daemon.metrics import render
from mirror.daemon.runner import PassRunner
from mirror.daemon.status_memory import render_status
from mirror.daemon.status_page import Page
from mirror.daemon.web import Server, Sources, application, listen
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
