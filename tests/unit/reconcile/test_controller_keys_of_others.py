"""A pass over several issuers that share a key, or whose RSA keys share a prime."""

from dataclasses import replace

from mirror.model import (
    Answer,
    IssuerName,
    IssuerUrl,
)
from mirror.reconcile.controller import reconcile
from mirror.report import ExitStatus
from support.keys import jwks_body, weak_pair
from support.situations import ISSUER, ONE, Situation, answer, public_kids


def test_key_that_two_issuers_show_is_reported(here: Situation) -> None:
    """With one key at two issuers, each can sign for the other: both report an event, and nothing changes."""
    here.show(ONE, ONE)
    settings = here.settings()
    twin = replace(settings.issuers[0], name=IssuerName("twin"), issuer=IssuerUrl(ISSUER + "-twin"))
    here.world.source.answers["twin"] = tuple(
        replace(a, discovery=a.discovery.replace(b"cluster/identifier", b"cluster/identifier-twin"))
        for a in (answer(ONE), answer(ONE))
    )
    report = reconcile(replace(settings, issuers=(*settings.issuers, twin)), here.world.ports(), here.now)
    assert [[e.name for e in each.events if e.name == "key.shared"] for each in report.issuers] == [["key.shared"]] * 2
    assert report.exit_status is ExitStatus.CURRENT


def test_key_that_shares_a_prime_with_a_known_one_is_held(here: Situation) -> None:
    """A shared prime reveals both private keys, so the new key is held under any policy."""
    first, second = weak_pair()
    discovery = answer(ONE).discovery
    here.run(Answer("https://10.0.0.11:6443", discovery, jwks_body(first)))
    report = here.run(Answer("https://10.0.0.11:6443", discovery, jwks_body(first, second)))
    assert public_kids(here) == {first.kid}
    assert report.exit_status is ExitStatus.HELD
    held = [record for record in report.issuers[0].records if record.held_because is not None]
    assert [record.held_because for record in held] == ["shared_prime"]


def test_key_that_shares_a_prime_with_one_of_an_issuer_left_out_is_held(here: Situation) -> None:
    """With `--shard` or `--only`, new keys are compared with those of the whole configuration."""
    first, second = weak_pair()
    here.run(Answer("https://10.0.0.11:6443", answer(ONE).discovery, jwks_body(first)))
    (known,) = here.settings().issuers
    twin = replace(known, name=IssuerName("twin"), issuer=IssuerUrl(ISSUER + "-twin"))
    discovery = answer(ONE).discovery.replace(b"cluster/identifier", b"cluster/identifier-twin")
    here.world.source.answers = {"twin": (Answer("https://10.0.0.21:6443", discovery, jwks_body(second)),)}
    settings = replace(here.settings(), issuers=(known, twin)).narrowed(lambda issuer: issuer.name == "twin")
    report = reconcile(settings, here.world.ports(), here.now)
    assert report.exit_status is ExitStatus.HELD
    assert [record.held_because for record in report.issuers[0].records] == ["shared_prime"]
