"""What several commands share: the global options after a command, and loading the configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from mirror.config.settings import Settings
from mirror.log import LEVELS, LogFormat

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Common:
    """The global options, wherever they stood."""

    config: Path
    log_level: str
    log_format: LogFormat

    def load(self) -> Settings:
        """Read the configuration.

        Raises:
            UsageError: It cannot be read, or has mistakes; all of them are told.
        """
        from mirror.config.load import load  # noqa: PLC0415  pydantic and YAML only when they are needed

        return load(self.config)


def common_options(function: F) -> F:
    """Accept the global options after the command too; they win over those before it."""
    for option in (
        click.option(
            "--log-format",
            type=click.Choice(["auto", "json", "console"]),
            default=None,
            expose_value=False,
            callback=_override,
            help="Readable or JSON logs on stderr.",
        ),
        click.option(
            "--log-level",
            type=click.Choice(LEVELS),
            default=None,
            expose_value=False,
            callback=_override,
            help="What is less important is not logged.",
        ),
        click.option(
            "--config",
            metavar="FILE",
            default=None,
            expose_value=False,
            callback=_override,
            help="The configuration file.",
        ),
    ):
        function = option(function)
    return function


def _override(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and param.name is not None:
        ctx.ensure_object(dict)[param.name] = value


def common(ctx: click.Context) -> Common:
    """The global options of the running command."""
    options = ctx.obj
    return Common(Path(options["config"]), options["log_level"], options["log_format"])
