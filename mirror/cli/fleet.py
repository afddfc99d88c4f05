"""`oidc-mirror check --fleet`: what the keys of all issuers have in common. Changes nothing."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import click

from mirror.errors import UsageError
from mirror.log import escaped
from mirror.model import AnyKey, IssuerName, KeyName, Thumbprint
from mirror.reconcile.state import advice, fast_numbers

if TYPE_CHECKING:
    from mirror.check.result import Diagnosis, Finding
    from mirror.config.settings import Settings

_REMEDY = "Make new ServiceAccount keys for both clusters, then: oidc-mirror revoke NAME THUMBPRINT"


def compared(settings: "Settings", now: datetime) -> tuple[tuple[str, ...], "Diagnosis"]:
    """What `check --fleet` tells: its lines, and the same as findings.

    Raises:
        HistoryError: The history cannot be read.
        UsageError: A ledger in it is not believed.
    """
    from mirror.check.result import Diagnosis  # noqa: PLC0415  `--help` does without

    found = known_keys(settings)
    told = advice(sum(map(len, found.values())), fast_numbers())
    if told is not None:
        click.echo(told, err=True)
    weak = _weak_pairs(found)
    return tuple(lines(found, weak)), Diagnosis(now, tuple(findings(found, weak)))


def known_keys(settings: "Settings") -> dict[IssuerName, tuple[AnyKey, ...]]:
    """Every key that an issuer's ledgers know, former issuers included, whatever its status.

    Raises:
        HistoryError: The history cannot be read.
        UsageError: A ledger in it is not believed.
    """
    from mirror.cli.history import opened  # noqa: PLC0415  `--help` does without
    from mirror.history.ledger_keys import load_verification_keys  # noqa: PLC0415  `--help` does without
    from mirror.history.ledger_reader import load_history  # noqa: PLC0415  `--help` does without
    from mirror.reconcile import local_state  # noqa: PLC0415  `--help` does without
    from mirror.reconcile.state import publications, trust_of  # noqa: PLC0415  `--help` does without

    everything = publications(settings)
    with opened(settings.repository) as repository:
        local, verifier = local_state.load_local_state(settings.state_dir), load_verification_keys(settings.repository)
        trust = trust_of(settings, repository, local, verifier)
        memory = load_history(repository, [each.url for each in everything], trust)
    keys: dict[IssuerName, list[AnyKey]] = {}
    for each in everything:
        known = memory.issuers[each.url]
        if known.is_lost:
            raise UsageError(f"The ledger of {each.url} is not believed.", cause=known.failures[0].sentence)
        records = known.ledger.records if known.ledger is not None else ()
        keys.setdefault(each.issuer.name, []).extend(record.key for record in records)
    return {name: distinct(found) for name, found in keys.items()}


def distinct(keys: Iterable[AnyKey]) -> tuple[AnyKey, ...]:
    """Each key material once, in the order of thumbprints, and whole where any record of it has kept it."""
    ordered = sorted(keys, key=lambda key: (key.thumbprint, not isinstance(key, KeyName)))
    return tuple({key.thumbprint: key for key in ordered}.values())


def _weak_pairs(found: dict[IssuerName, tuple[AnyKey, ...]]) -> tuple[tuple[Thumbprint, Thumbprint], ...]:
    from mirror.trust.weak_keys import weak_pairs  # noqa: PLC0415  `--help` does without

    return weak_pairs((key for keys in found.values() for key in keys), number=fast_numbers())


def lines(
    found: dict[IssuerName, tuple[AnyKey, ...]], weak: tuple[tuple[Thumbprint, Thumbprint], ...]
) -> Iterator[str]:
    """What was found, in words."""
    from mirror.trust.weak_keys import shared_keys  # noqa: PLC0415  `--help` does without

    holders = {key.thumbprint: name for name, keys in found.items() for key in keys}
    for a, b in weak:
        yield f"{click.style('failed', fg='red')} shared_prime: {_pair(holders, a, b)}"
        yield f"  remedy: {_REMEDY}"
    for events in shared_keys(found).values():
        yield from (f"{click.style('warning', fg='yellow')}: {escaped(event.sentence)}" for event in events)
    count = sum(len(keys) for keys in found.values())
    yield f"{count} keys of {len(found)} issuers compared: {len(weak)} pairs share a prime."


def findings(
    found: dict[IssuerName, tuple[AnyKey, ...]], weak: tuple[tuple[Thumbprint, Thumbprint], ...]
) -> "Iterator[Finding]":
    """What was found, as findings of the doctor."""
    from mirror.check.result import Place, Station  # noqa: PLC0415  `--help` does without
    from mirror.trust.weak_keys import shared_keys  # noqa: PLC0415  `--help` does without

    holders = {key.thumbprint: name for name, keys in found.items() for key in keys}
    for a, b in weak:
        yield Place(Station.FLEET, a).failed("shared_prime", _pair(holders, a, b), _REMEDY)
    for name, events in shared_keys(found).items():
        for event in events:
            place = Place(Station.FLEET, event.fields.get("thumbprint", ""), name)
            yield place.warning(event.name, event.sentence, "Give each cluster ServiceAccount keys of its own.")
    if not weak:
        yield Place(Station.FLEET, "fleet").ok("fleet.compared", f"{len(holders)} keys share no prime.")


def _pair(holders: Mapping[Thumbprint, IssuerName], a: Thumbprint, b: Thumbprint) -> str:
    pair = f"key {a} ({holders[a]}) and key {b} ({holders[b]}) share a prime"
    return f"{pair}: anybody can compute both private keys."
