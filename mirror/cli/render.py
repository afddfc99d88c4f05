"""`oidc-mirror render`: the pieces of a federation, filled in from the configuration, on stdout."""

import re
from collections.abc import Callable
from typing import Any

import click

from mirror.cli.options import common, common_options
from mirror.cli.provision import named
from mirror.config.bucket_fields import account as checked_account
from mirror.config.units import duration
from mirror.errors import UsageError
from mirror.federation.render.kind import NAMESPACE, SERVICE_ACCOUNT, Request, Workload
from mirror.federation.render.kinds import FORMATS, KINDS
from mirror.federation.render.text import text_of
from mirror.log import escaped

MIN_SESSION_SECONDS, MAX_SESSION_SECONDS = 3600, 43_200
"""What IAM takes as a role's longest session (IAM API, CreateRole)."""


_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"  # Kubernetes: names of namespaces are RFC 1123 labels
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"  # names of ServiceAccounts are RFC 1123 subdomains
_SUBJECT = r"[\x21-\x7e]{1,255}"
_ROLE_NAME = r"[A-Za-z0-9+=,.@_-]{1,64}"  # IAM API, CreateRole
_POLICY_ARN = r"arn:aws[a-z-]*:iam::(aws|[0-9]{12}):policy/[\x21-\x7e]{1,512}"


def _fits(pattern: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that refuses a value, or one of several, that does not fit `pattern`."""

    def check(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None and re.fullmatch(pattern, each) is None:
                raise click.BadParameter(f"{each!a} is no such name.", ctx, param)
        return value

    return check


def _session_seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        seconds = int(duration(value).total_seconds())
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error
    if not MIN_SESSION_SECONDS <= seconds <= MAX_SESSION_SECONDS:
        raise click.BadParameter("IAM takes 1h to 12h.", ctx, param)
    return seconds


def _account(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else checked_account(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


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
@click.option(
    "--namespace", default=NAMESPACE, callback=_fits(_LABEL), show_default=True, help="The namespace of the pods."
)
@click.option(
    "--service-account",
    default=SERVICE_ACCOUNT,
    callback=_fits(_SUBDOMAIN),
    show_default=True,
    help="The ServiceAccount of the pods.",
)
@click.option(
    "--subject",
    "subjects",
    multiple=True,
    callback=_fits(_SUBJECT),
    help="A whole `sub` in place of both; may be repeated.",
)
@click.option("--role-name", callback=_fits(_ROLE_NAME), help="The role's name; without it <NAME>-<ServiceAccount>.")
@click.option(
    "--managed-policy",
    "policies",
    multiple=True,
    callback=_fits(_POLICY_ARN),
    metavar="ARN",
    help="A policy of the role; may be repeated.",
)
@click.option(
    "--session-duration",
    "session",
    metavar="DURATION",
    callback=_session_seconds,
    help="The longest session, 1h to 12h.",
)
@click.option("--account", callback=_account, help="The AWS account of the role, where the format cannot find it out.")
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    *,
    kind: str,
    name: str,
    form: str | None,
    namespace: str,
    service_account: str,
    subjects: tuple[str, ...],
    role_name: str | None,
    policies: tuple[str, ...],
    session: int | None,
    account: str | None,
) -> None:
    """Print the piece KIND for the issuer NAME on stdout; what else to know is on stderr. Changes nothing."""
    chosen = KINDS[kind]
    if form is not None and form not in chosen.formats:
        raise UsageError(f"{kind} has no format {form}.", remedy=f"Use --format {' or '.join(chosen.formats)}.")
    settings = common(ctx).load()
    workload = Workload(namespace, service_account, subjects, role_name, policies, session, account)
    piece = chosen.render(Request(settings, named(settings, name), form or chosen.default_format, workload))
    click.echo(text_of(piece), nl=False)
    for note in piece.notes:
        click.echo(f"note: {escaped(note)}", err=True)
