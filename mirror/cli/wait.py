"""`oidc-mirror wait`: return when a key is safe to sign with."""

import time
from datetime import UTC, datetime, timedelta

import click

from mirror.addresses import jwks_uri
from mirror.cli.options import common, selected
from mirror.cli.wiring import known_ledgers
from mirror.errors import UsageError
from mirror.publish.public_endpoint import PublicHttpClient
from mirror.reconcile.local_state import load_local_state
from mirror.report import ExitStatus
from mirror.status.wait import AwaitedKey, Clock, KeyWaiter


def main(ctx: click.Context, *, name: str, key: str, timeout: timedelta) -> None:
    """See `mirror.cli.commands.wait`."""
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
