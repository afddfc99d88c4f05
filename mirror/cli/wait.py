"""`oidc-mirror wait`: return when a key is safe to sign with."""

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from mirror.addresses import jwks_uri
from mirror.cli.options import KeyCommand, common, common_options
from mirror.cli.wiring import known_ledgers
from mirror.config.fields import duration
from mirror.errors import UsageError
from mirror.report import ExitStatus

if TYPE_CHECKING:
    from mirror.status.wait import Clock


def _duration(ctx: click.Context, param: click.Parameter, value: str) -> timedelta:
    """The option's text as a duration, written as in the configuration."""
    try:
        return duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.command("wait", cls=KeyCommand)
@click.argument("name")
@click.argument("key")
@click.option(
    "--timeout",
    metavar="DURATION",
    default="30m",
    callback=_duration,
    show_default=True,
    help="When to give up (exit status 1).",
)
@common_options
@click.pass_context
def command(ctx: click.Context, *, name: str, key: str, timeout: timedelta) -> None:
    """Return when KEY of the issuer NAME is safe to sign with: public, and no cache without it any more.

    KEY is a kid or a thumbprint, or a beginning of one, unique and of 8 characters or more; a kid that begins with
    `-` follows `--`. Looks at the public JWKS as the world does; needs no credentials.

    Exit status: 0 it is safe; 1 not within --timeout, or something could not be read; 2 usage or configuration error.
    """
    from mirror.cli.run import selected  # noqa: PLC0415  `--help` does without
    from mirror.publish.public_endpoint import PublicHttpClient  # noqa: PLC0415  httpx only when it is needed
    from mirror.reconcile.local_state import load_local_state  # noqa: PLC0415  `--help` does without
    from mirror.status.wait import AwaitedKey, Clock, KeyWaiter  # noqa: PLC0415  `--help` does without

    settings = selected(common(ctx).load(), (name,))
    (issuer,) = settings.issuers
    readback = issuer.publish.readback
    if not readback.enabled:
        raise UsageError(
            "The public URL may not be looked at: `publish.readback.enabled` is false.",
            remedy="Run `oidc-mirror wait` where the public URL can be reached, with read-back enabled.",
        )
    ledger = known_ledgers(settings, (issuer.issuer,))[issuer.issuer]
    known_safe = load_local_state(settings.state_dir).of(issuer.issuer).safe_to_sign
    wanted, url = AwaitedKey(issuer.name, issuer.issuer, key, ledger, known_safe), jwks_uri(issuer.issuer)
    with PublicHttpClient() as web:
        wait = KeyWaiter(wanted, lambda: web.get_document(url, readback=readback), _real_clock(Clock), click.echo)
        ctx.exit(int(ExitStatus.CURRENT if wait.run(timeout) else ExitStatus.FAILED))


def _real_clock(clock: "type[Clock]") -> "Clock":
    return clock(lambda: datetime.now(UTC), time.sleep)
