"""`oidc-mirror check`: the doctor. It looks at everything that a pass needs, and changes nothing."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from mirror.cli.options import common, common_options
from mirror.errors import UsageError

if TYPE_CHECKING:
    from mirror.config.settings import Settings
    from mirror.doctor.finding import Diagnosis


@click.command("check")
@click.argument("name", required=False)
@click.option("--fleet", is_flag=True, help="Compare every key of every issuer with every other one, and nothing else.")
@click.option("--explain", metavar="TEXT", help="The error that STS gave: tell its causes, and look at them first.")
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the findings are written.",
)
@common_options
@click.pass_context
def command(ctx: click.Context, *, name: str | None, fleet: bool, explain: str | None, output: str) -> None:
    """Find out what is wrong with the issuer NAME, or with all: each finding with its remedy.

    Looks at the configuration and its files, the apiservers and their keys, the git remote, the AWS credentials,
    the bucket, its policy and the writer's rights, and at the public URLs as AWS does. Changes nothing, and runs
    beside a daemon. Whether a change waits for an operator is told by `status`.

    \b
    Exit status:
      0  nothing failed (there may be warnings)
      1  a finding failed; with --fleet: two keys share a prime, whoever knows one can compute the other
      2  usage or configuration error
    """  # noqa: D301  \b is click's mark for a paragraph that is not re-wrapped
    from mirror.doctor.finding import to_json  # noqa: PLC0415  `--help` does without

    settings = common(ctx).load()
    if fleet:
        told, found = _fleet(settings, name, explain)
    else:
        from mirror.cli.diagnosis import lines  # noqa: PLC0415  `--help` does without

        found = _diagnosis(settings, name, explain)
        told = tuple(lines(found, {issuer.name: issuer.issuer for issuer in settings.issuers}))
    click.echo(json.dumps(to_json(found), indent=2) if output == "json" else "\n".join(told))
    ctx.exit(int(found.exit_status))


def _diagnosis(settings: "Settings", name: str | None, text: str | None) -> "Diagnosis":
    from mirror.cli.instruments import open_instruments  # noqa: PLC0415  `--help` does without
    from mirror.cli.run import selected  # noqa: PLC0415  `--help` does without
    from mirror.doctor import explaining  # noqa: PLC0415  `--help` does without
    from mirror.doctor.examine import EVERYWHERE, examine  # noqa: PLC0415  `--help` does without

    names = frozenset(issuer.name for issuer in selected(settings, () if name is None else (name,)).issuers)
    causes = () if text is None else explaining.causes(text)
    if text is not None and name is None:
        names = explaining.named(text, settings)
    stations = EVERYWHERE if text is None else frozenset(explaining.stations(causes))
    with open_instruments(settings) as instruments, _patience():
        found = examine(settings, instruments, datetime.now(UTC), names=names, stations=stations)
    return found if text is None else explaining.arranged(found, causes)


@contextmanager
def _patience() -> Iterator[None]:
    """A sign of life on a terminal, nothing elsewhere: a hanging apiserver takes its time."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415  only on a terminal

    with Console(stderr=True).status("Looking at every station; nothing is changed"):
        yield


def _fleet(settings: "Settings", name: str | None, explain: str | None) -> "tuple[tuple[str, ...], Diagnosis]":
    from mirror.cli.fleet import compared  # noqa: PLC0415  `--help` does without

    if name is not None or explain is not None:
        raise UsageError(
            "`--fleet` compares all issuers.", remedy="Leave NAME and `--explain` out, or leave `--fleet` out."
        )
    return compared(settings, datetime.now(UTC))
