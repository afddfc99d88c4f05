"""`oidc-mirror check --fleet`: what the keys of all issuers have in common. Changes nothing."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from mirror.cli.options import common, common_options
from mirror.errors import UsageError
from mirror.log import escaped
from mirror.model import IssuerName, Key, Thumbprint
from mirror.report import ExitStatus

if TYPE_CHECKING:
    from mirror.config.settings import Settings


@click.command("check")
@click.option("--fleet", is_flag=True, help="Compare every key of every issuer with every other one.")
@common_options
@click.pass_context
def command(ctx: click.Context, *, fleet: bool) -> None:
    """Compare the keys that git knows, of all issuers: one key at two issuers, RSA moduli that share a prime.

    \b
    Exit status: 0 when nothing is wrong; 1 when two keys share a prime: whoever knows one can compute the other.
    """  # noqa: D301  \b is click's mark for a paragraph that is not re-wrapped
    settings = common(ctx).load()
    if not fleet:
        raise UsageError("This version checks the fleet's keys only.", remedy="Run: oidc-mirror check --fleet")
    found = known_keys(settings)
    weak = _weak_pairs(found)
    click.echo("\n".join(lines(found, weak)))
    ctx.exit(ExitStatus.FAILED if weak else ExitStatus.CURRENT)


def known_keys(settings: "Settings") -> dict[IssuerName, tuple[Key, ...]]:
    """Every key that an issuer's ledgers know, former issuers included, whatever its status.

    Raises:
        HistoryError: The history cannot be read.
        UsageError: A ledger in it is not believed.
    """
    from mirror.cli.history import opened  # noqa: PLC0415  `--help` does without
    from mirror.history.ledgers import remember  # noqa: PLC0415  `--help` does without
    from mirror.steps.plan import publications  # noqa: PLC0415  `--help` does without

    everything = publications(settings)
    with opened(settings.repository) as repository:
        memory = remember(repository, [each.url for each in everything])
    keys: dict[IssuerName, dict[Thumbprint, Key]] = {}
    for each in everything:
        known = memory.issuers[each.url]
        if known.broken:
            raise UsageError(f"The ledger of {each.url} is not believed.", cause=known.broken[0].sentence)
        records = known.ledger.records if known.ledger is not None else ()
        keys.setdefault(each.issuer.name, {}).update({r.key.thumbprint: r.key for r in records})
    return {name: tuple(by_print.values()) for name, by_print in keys.items()}


def _weak_pairs(found: dict[IssuerName, tuple[Key, ...]]) -> tuple[tuple[Thumbprint, Thumbprint], ...]:
    from mirror.steps.believing import fast_numbers  # noqa: PLC0415  `--help` does without
    from mirror.trust.fleet import weak_pairs  # noqa: PLC0415  `--help` does without

    return weak_pairs((key for keys in found.values() for key in keys), number=fast_numbers())


def lines(found: dict[IssuerName, tuple[Key, ...]], weak: tuple[tuple[Thumbprint, Thumbprint], ...]) -> Iterator[str]:
    """What was found, in words."""
    from mirror.trust.fleet import shared_keys  # noqa: PLC0415  `--help` does without

    holders = {key.thumbprint: name for name, keys in found.items() for key in keys}
    for a, b in weak:
        pair = f"key {a} ({holders[a]}) and key {b} ({holders[b]}) share a prime"
        yield f"{click.style('failed', fg='red')} shared_prime: {pair}: anybody can compute both private keys."
        yield "  remedy: Make new ServiceAccount keys for both clusters, then: oidc-mirror revoke NAME THUMBPRINT"
    for events in shared_keys(found).values():
        yield from (f"{click.style('warning', fg='yellow')}: {escaped(event.sentence)}" for event in events)
    count = sum(len(keys) for keys in found.values())
    yield f"{count} keys of {len(found)} issuers compared: {len(weak)} pairs share a prime."
