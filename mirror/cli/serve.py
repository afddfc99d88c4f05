"""`oidc-mirror run` without `--once`: the daemon, put together."""

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime

import click

from mirror.cli.options import Common
from mirror.cli.wiring import open_ports, open_state_dir
from mirror.config.load import LastGood
from mirror.config.settings import Settings
from mirror.daemon.config_watcher import Configuration
from mirror.daemon.daemon import Daemon, SystemdNotifier
from mirror.daemon.metrics import render
from mirror.daemon.runner import PassRunner
from mirror.daemon.status_page import Page, render_status
from mirror.daemon.web import Server, Sources, application, listen
from mirror.log import configure
from mirror.notify.notifier import BackgroundNotifier, Notifier
from mirror.report import Report, to_json

Select = Callable[[Settings], Settings]


def serve(
    options: Common, load: Callable[[], Settings], output: str, *, last_good: LastGood | None, select: Select
) -> int:
    """Run the daemon until it is asked to stop, and give its exit status.

    Args:
        options: Where the configuration is, and how to log.
        load: Reads the configuration, and selects from it.
        last_good: Where the last good configuration is kept; None for nowhere.
        select: Selects from settings, as `load` does.
        output: `json` writes each pass's report on stdout, one line each; `text` nothing, because the logs say it.

    Raises:
        UsageError: The configuration has mistakes, another `run` works in the state directory, or the port is taken.
    """

    def copy() -> Settings | None:
        found = None if last_good is None else last_good.load(os.environ)
        return None if found is None else select(found)

    logger = configure(options.log_level, options.log_format)
    configuration = Configuration(
        load,
        options.config,
        logger,
        last_good=copy,
        keep=(lambda _: "") if last_good is None else last_good.save,
    )
    settings = configuration.settings
    notifier = SystemdNotifier(os.environ)
    with ExitStack() as stack:
        stack.enter_context(open_state_dir(settings, dry_run=False))
        configuration.keep_copy()
        background = BackgroundNotifier(Notifier(logger, quiet=False).notify)

        def on_report(report: Report) -> None:
            if output == "json":
                click.echo(json.dumps(to_json(report)))
            background.notify(configuration.settings, report)

        passes = PassRunner(
            configuration,
            lambda wanted: open_ports(wanted, dry_run=False, keep_connections=True),
            logger,
            on_report=on_report,
        )
        daemon = Daemon(configuration, passes, notifier, logger)
        if settings.http_listen is not None:
            server = _server(settings.http_listen, daemon, passes)
            server.start()
            stack.callback(server.stop)
        return daemon.run()


def _server(address: tuple[str, int], daemon: Daemon, passes: PassRunner) -> Server:
    listener = listen(address)
    page = Page(lambda: passes.pass_history, daemon.health)
    sources = Sources(
        daemon.health,
        daemon.readiness,
        lambda: render(passes.pass_history),
        page.render,
        lambda: render_status(passes.pass_history, datetime.now(UTC)),
    )
    return Server(application(sources, listen_host=address[0]), listener)
