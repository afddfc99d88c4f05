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
    from mirror.check.result import Diagnosis
    from mirror.config.settings import Settings


@click.command("check")
@click.argument("name", required=False)
@click.option("--fleet", is_flag=True, help="Compare every key of every issuer with every other one, and nothing else.")
@click.option(
    "--configuration", is_flag=True, help="Judge the configuration alone: no network, no secret, no other file."
)
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
def command(
    ctx: click.Context, *, name: str | None, fleet: bool, configuration: bool, explain: str | None, output: str
) -> None:
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
    from mirror.check.result import to_json  # noqa: PLC0415  `--help` does without

    _demand_one_question(name, explain, fleet=fleet, configuration=configuration)
    settings = common(ctx).load()
    if fleet:
        from mirror.cli.fleet import compared  # noqa: PLC0415  `--help` does without

        told, found = compared(settings, datetime.now(UTC))
    else:
        from mirror.cli.diagnosis import lines  # noqa: PLC0415  `--help` does without

        found = _as_text(settings) if configuration else _diagnosis(settings, name, explain)
        told = tuple(lines(found, {issuer.name: issuer.issuer for issuer in settings.issuers}))
    click.echo(json.dumps(to_json(found), indent=2) if output == "json" else "\n".join(told))
    ctx.exit(int(found.exit_status))


def _diagnosis(settings: "Settings", name: str | None, text: str | None) -> "Diagnosis":
    from mirror.check import result  # noqa: PLC0415  `--help` does without
    from mirror.check.runner import EVERYWHERE, examine  # noqa: PLC0415  `--help` does without
    from mirror.cli.instruments import open_instruments  # noqa: PLC0415  `--help` does without
    from mirror.cli.run import selected  # noqa: PLC0415  `--help` does without

    names = frozenset(issuer.name for issuer in selected(settings, () if name is None else (name,)).issuers)
    causes = () if text is None else result.causes(text)
    if text is not None and name is None:
        names = result.named_issuers(text, settings)
    stations = EVERYWHERE if text is None else frozenset(result.stations(causes))
    with open_instruments(settings) as instruments, _patience():
        found = examine(settings, instruments, datetime.now(UTC), names=names, stations=stations)
    return found if text is None else result.arranged(found, causes)


@contextmanager
def _patience() -> Iterator[None]:
    """A sign of life on a terminal, nothing elsewhere: a hanging apiserver takes its time."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415  only on a terminal

    with Console(stderr=True).status("Looking at every station; nothing is changed"):
        yield


def _as_text(settings: "Settings") -> "Diagnosis":
    from mirror.check.local import as_text  # noqa: PLC0415  `--help` does without
    from mirror.check.result import Diagnosis  # noqa: PLC0415  `--help` does without

    return Diagnosis(datetime.now(UTC), tuple(as_text(settings)))


def _demand_one_question(name: str | None, explain: str | None, *, fleet: bool, configuration: bool) -> None:
    asked = [option for option, given in (("--fleet", fleet), ("--configuration", configuration)) if given]
    if not asked or (len(asked) == 1 and name is None and explain is None):
        return
    raise UsageError(
        f"`{asked[0]}` is a question of its own, about all issuers.",
        remedy=f"Leave NAME and the other options out, or leave `{asked[0]}` out.",
    )
