"""`oidc-mirror render`: the pieces of a federation, filled in from the configuration, on stdout."""

from typing import TYPE_CHECKING, Any

import click

from mirror.cli.options import common, common_options
from mirror.cli.provision import named
from mirror.cli.render_options import control_plane_of, render_options, workload_of
from mirror.errors import UsageError
from mirror.federation.render.base import Login, Request, text_of
from mirror.federation.render.kinds import FORMATS, KINDS
from mirror.log import escaped

if TYPE_CHECKING:
    from mirror.config.settings import Issuer


def _kinds(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:  # noqa: ARG001  click's signature
    from click.shell_completion import CompletionItem  # noqa: PLC0415  only the shell asks

    return [CompletionItem(name, help=kind.sentence) for name, kind in KINDS.items() if name.startswith(incomplete)]


def help_of_kinds() -> str:
    """Every kind with its sentence and its formats, as a paragraph of help that is not wrapped."""
    width = max(map(len, KINDS))
    lines = [
        f"  {name:<{width}}  {kind.sentence}\n  {'':<{width}}  {', '.join(kind.formats)}"
        for name, kind in KINDS.items()
    ]
    return "\b\nKinds, each with its formats; the first is the default:\n" + "\n".join(lines)


@click.command("render", epilog=help_of_kinds())
@click.argument("kind", type=click.Choice(list(KINDS)), shell_complete=_kinds, metavar="KIND")
@click.argument("name")
@click.option("--format", "form", type=click.Choice(FORMATS), help="How it is written, where there are several ways.")
@render_options
@common_options
@click.pass_context
def command(ctx: click.Context, /, *, kind: str, name: str, form: str | None, **options: Any) -> None:
    """Print the piece KIND for the issuer NAME on stdout; what else to know is on stderr. Changes nothing."""
    chosen = KINDS[kind]
    if form is not None and form not in chosen.formats:
        raise UsageError(f"{kind} has no format {form}.", remedy=f"Use --format {' or '.join(chosen.formats)}.")
    workload, control_plane = workload_of(options), control_plane_of(options)
    settings = common(ctx).load()
    issuer = named(settings, name)
    login = _login(issuer, options) if chosen.needs_login else Login()
    piece = chosen.render(Request(settings, issuer, form or chosen.default_format, workload, control_plane, login))
    click.echo(text_of(piece), nl=False)
    for note in piece.notes:
        click.echo(f"note: {escaped(note)}", err=True)


def _login(issuer: "Issuer", options: dict[str, Any]) -> Login:
    """As whom the mirror asks the issuer's apiservers; files are read where they are here."""
    from mirror.cli.logins import login_of  # noqa: PLC0415  `--help` does without

    namespace, _, account = options["mirror"].partition("/")
    return login_of(issuer, Login(namespace, account, options["user"]))
