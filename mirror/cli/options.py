"""What several commands share: the global options after a command, and loading the configuration."""

import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from mirror.config.settings import Issuer, Settings
from mirror.errors import MirrorError, UsageError
from mirror.log import LEVELS, LogFormat

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
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
    """The global options, wherever they stood.

    Without `log_level_given` the level is the default, `info`. `read_before` are settings that `load` gives once.
    """

    config: Path
    log_level: str
    log_format: LogFormat
    log_level_given: bool = True
    read_before: list[Settings] = field(default_factory=list)

    def load_early(self) -> None:
        """Read the configuration for the next `load`, so that its mistakes are reported before anything else is done.

        Raises:
            UsageError: It cannot be read, or has mistakes; all of them are reported.
        """
        self.read_before.append(self.load())

    def logs_what_is_reported(self, output: str) -> bool:
        """Whether what the report says is logged too: not where both would stand on one terminal."""
        return self.log_level_given or output != "text" or not (sys.stdout.isatty() and sys.stderr.isatty())

    def load(self) -> Settings:
        """Read the configuration.

        Raises:
            UsageError: It cannot be read, or has mistakes; all of them are reported.
        """
        from mirror.config.load import load  # noqa: PLC0415  pydantic and YAML only when they are needed

        return self.read_before.pop() if self.read_before else load(self.config, os.environ)


DEFAULT_CONFIG = "/etc/oidc-mirror/mirror.yaml"
_GLOBAL: dict[str, dict[str, Any]] = {
    "--config": {
        "metavar": "FILE",
        "help": "The configuration file; without the option it is $OIDC_MIRROR_CONFIG.",
    },
    "--log-level": {
        "type": click.Choice(LEVELS),
        "help": "The lowest level that is logged; without it `info`, and on a terminal "
        "only what the report does not say.",
    },
    "--log-format": {"type": click.Choice(["auto", "json", "console"]), "help": "Readable or JSON logs on stderr."},
}
GLOBAL_OPTIONS = tuple(_GLOBAL)
_DEFAULTS: dict[str, dict[str, Any]] = {
    "--config": {"default": DEFAULT_CONFIG, "envvar": "OIDC_MIRROR_CONFIG"},
    "--log-level": {},
    "--log-format": {"default": "auto"},
}


def all_of(options: Iterable[Callable[[F], F]]) -> Callable[[F], F]:
    """A decorator that adds every one of `options`, which `--help` lists in this order."""

    def add(function: F) -> F:
        for option in reversed(tuple(options)):
            function = option(function)
        return function

    return add


def global_options(function: F) -> F:
    """The options before the command, with their defaults."""
    return all_of(
        click.option(name, show_default=True, **_DEFAULTS[name], **declared) for name, declared in _GLOBAL.items()
    )(function)


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the context, and accept the global options after the command too; they win over those before it."""
    return all_of(
        click.option(name, default=None, expose_value=False, callback=_override, **declared)
        for name, declared in _GLOBAL.items()
    )(click.pass_context(function))


def examples(*commands: str) -> str:
    """The end of a command's help: lines that can be copied."""
    title = "Example" if len(commands) == 1 else "Examples"
    return "\n".join(("\b", f"{title}:", *(f"  {each}" for each in commands)))


def issuer_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001  click's signature
    """What the shell offers in place of NAME: the issuers of the configuration; none where it cannot be read."""
    given = ctx.obj if isinstance(ctx.obj, dict) else {}
    config = given.get("config") or ctx.find_root().params.get("config") or DEFAULT_CONFIG
    from mirror.config.load import load  # noqa: PLC0415  as in `Common.load`

    try:
        return [issuer.name for issuer in load(Path(config)).issuers if issuer.name.startswith(incomplete)]
    except (MirrorError, OSError):
        return []


def output_option(help_text: str, *more: str) -> Callable[[F], F]:
    """`--output text|json`, and whatever else the command writes."""
    forms = click.Choice(["text", "json", *more])
    return click.option("--output", type=forms, default="text", show_default=True, help=help_text)


yes_option = click.option("--yes", is_flag=True, help="Do not ask on a terminal.")


def read_by(reader: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    """A callback that takes what a field of the configuration takes: `reader` raises ValueError for anything else."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> T | None:
        try:
            return None if value is None else reader(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return read


def _override(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and param.name is not None:
        ctx.ensure_object(dict)[param.name] = value


def common(ctx: click.Context) -> Common:
    """The global options of the running command: the same object each time."""
    options = ctx.obj
    if "common" not in options:
        level = options["log_level"]
        options["common"] = Common(
            Path(options["config"]), level or DEFAULT_LEVEL, options["log_format"], log_level_given=bool(level)
        )
    found: Common = options["common"]
    return found


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
    return settings.narrowed(lambda issuer: issuer.name in only)


def named(settings: Settings, name: str) -> Issuer:
    """The issuer of that name.

    Raises:
        UsageError: There is none.
    """
    return selected(settings, (name,)).issuers[0]


decision_options = all_of(
    (
        click.option(
            "--signing-key",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Sign the ledger with this ssh key; `repository.allowed_signers` must list its public half.",
        ),
        yes_option,
        click.option("--no-pass", is_flag=True, help="Only commit; the next pass of a mirror carries it out."),
        common_options,
    )
)
"""The options of every operator decision, and the global ones."""
