"""What several commands share: the global options after a command, and loading the configuration."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from mirror.config.settings import Settings
from mirror.log import LEVELS, LogFormat

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_LEVEL = "info"
_WHOLE_ID = re.compile(r"-[A-Za-z0-9_-]{42}")
"""A thumbprint (RFC 7638), or a kid of Kubernetes (facts.md#7), that begins with `-`, as one of 64 does."""


class KeyCommand(click.Command):
    """A command whose last argument is a key: a whole id is never taken for an option, whatever it begins with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As in the base, with such an id where `--` would put it."""
        ids = [each for each in args if _WHOLE_ID.fullmatch(each)]
        if ids and "--" not in args:
            args = [*(each for each in args if each not in ids), "--", *ids]
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = f"A beginning of a key that begins with - follows --, as in: {ctx.command_path} NAME -- KEY"
            raise click.UsageError(f"{error.format_message()} {hint}", ctx) from None


@dataclass(frozen=True, slots=True)
class Common:
    """The global options, wherever they stood. Without `log_level_given` the level is the default, `info`."""

    config: Path
    log_level: str
    log_format: LogFormat
    log_level_given: bool = True

    def logs_what_is_reported(self, output: str) -> bool:
        """Whether what the report says is logged too: not where both would stand on one terminal."""
        return self.log_level_given or output != "text" or not (sys.stdout.isatty() and sys.stderr.isatty())

    def load(self) -> Settings:
        """Read the configuration.

        Raises:
            UsageError: It cannot be read, or has mistakes; all of them are told.
        """
        from mirror.config.load import load  # noqa: PLC0415  pydantic and YAML only when they are needed

        return load(self.config, os.environ)


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
            help="Lowest level that is logged.",
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
    level = options["log_level"]
    return Common(Path(options["config"]), level or DEFAULT_LEVEL, options["log_format"], log_level_given=bool(level))
