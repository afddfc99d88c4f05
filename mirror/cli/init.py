"""`oidc-mirror init`: an issuer entry from a live cluster, to be checked and put into the configuration."""

from pathlib import Path

import click

from mirror.cli.options import common_options
from mirror.errors import MirrorError, UsageError
from mirror.model import Reason
from mirror.report import ExitStatus


@click.command("init")
@click.option("--kubeconfig", metavar="FILE", required=True, type=click.Path(path_type=Path), help="The kubeconfig.")
@click.option("--context", metavar="NAME", default=None, help="Its context; without it the current one.")
@common_options
@click.pass_context
def command(ctx: click.Context, *, kubeconfig: Path, context: str | None) -> None:
    """Ask a cluster, and print an issuer entry for it on stdout: YAML, a list of one, with what to check in comments.

    It needs no configuration, and changes nothing.

    \b
    Exit status: 0 the entry was printed; 1 the cluster could not be asked, or its answer is not believed; 2 usage.
    """  # noqa: D301  \b is click's mark for a paragraph that is not re-wrapped
    text = entry_of(kubeconfig.absolute(), context)
    if isinstance(text, str):
        click.echo(text, nl=False)
        return
    _refuse(ctx, text)


def entry_of(kubeconfig: Path, context: str | None) -> str | tuple[Reason, ...]:
    """What the cluster says, believed and written as YAML; or every reason why nothing can be proposed."""
    from mirror.apiserver.cluster_probe import survey  # noqa: PLC0415  `--help` does without
    from mirror.apiserver.kubeconfig import read_kubeconfig  # noqa: PLC0415  `--help` does without
    from mirror.cli.entry import propose, written  # noqa: PLC0415  `--help` does without
    from mirror.config.settings import Limits  # noqa: PLC0415  `--help` does without

    read = read_kubeconfig(kubeconfig, context)
    if isinstance(read, tuple):
        return read
    seen = survey(kubeconfig, read.context, Limits())
    found = seen if isinstance(seen, tuple) else propose(kubeconfig, read, seen)
    return found if isinstance(found, tuple) else written(found)


def _refuse(ctx: click.Context, reasons: tuple[Reason, ...]) -> None:
    from mirror.cli.main import show  # noqa: PLC0415  it imports this module

    for reason in reasons[:-1]:
        show(_error(reason))
    last = _error(reasons[-1])
    if isinstance(last, UsageError):
        raise last
    show(last)
    ctx.exit(ExitStatus.FAILED)


def _error(reason: Reason) -> MirrorError:
    kind = UsageError if reason.code.startswith("kubeconfig_") else MirrorError
    where = f" [{reason.where}]" if reason.where else ""
    return kind(f"{reason.code}{where}: {reason.sentence}", remedy=reason.remedy)
