"""Migration of an issuer: the keys stay public under the former URL too. Changed sources restart retirements."""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from mirror.config.settings import FormerIssuerSettings
from mirror.model import IssuerUrl, RsaKey
from mirror.reconcile.local_state import apiserver_fingerprint
from mirror.report import ExitStatus
from support.captures import capture
from support.fakes import MOMENT
from support.situations import BASE_URL, BOTH, ISSUER, JWKS_KEY, LAST, ONE, Situation, answer

OLD = IssuerUrl(f"{BASE_URL}/old")
OLD_JWKS = "old/openid/v1/jwks"
OLD_DISCOVERY = "old/.well-known/openid-configuration"
HOUR = timedelta(hours=1)


@pytest.fixture
def here(tmp_path: Path) -> Situation:
    """A cluster whose issuer was OLD until now; the mirror has published it."""
    made = Situation(tmp_path, issuer=OLD)
    before = tuple(
        replace(a, discovery=a.discovery.replace(b"cluster/identifier", b"old")) for a in (answer(ONE), answer(ONE))
    )
    made.run(*before)
    made.issuer, made.former = ISSUER, (FormerIssuerSettings(OLD, date(2026, 11, 24)),)
    return made


def kids(here: Situation, key: str) -> set[str]:
    return {each["kid"] for each in json.loads(here.public(key) or b'{"keys":[]}')["keys"]}


def test_keys_are_public_under_both_issuers(here: Situation) -> None:
    """After the migration both issuers show the keys, each with its own discovery document."""
    report = here.run(BOTH, BOTH)
    assert report.exit_status is ExitStatus.CURRENT
    assert kids(here, OLD_JWKS) == kids(here, JWKS_KEY) == kids_of(BOTH)
    discovery = json.loads(here.public(OLD_DISCOVERY) or b"")
    assert (discovery["issuer"], discovery["jwks_uri"]) == (OLD, f"{OLD}/openid/v1/jwks")
    assert [issuer.issuer for issuer in report.issuers] == [ISSUER, OLD]


def kids_of(case: str) -> set[str]:
    return {each["kid"] for each in json.loads(capture(f"{case}jwks").body())["keys"]}


def test_former_issuer_gets_new_keys_until_its_last_day_ends(here: Situation) -> None:
    """On the last day (UTC) a new key is still published under the former issuer; on the day after, it is not."""
    here.now = MOMENT.replace(day=24, hour=23, minute=59)
    here.run(BOTH, BOTH)
    assert kids(here, OLD_JWKS) == kids_of(BOTH)
    here.now = MOMENT.replace(day=25, hour=0)
    here.run(LAST, BOTH)
    assert kids(here, JWKS_KEY) == kids_of(BOTH) | kids_of(LAST)
    assert kids(here, OLD_JWKS) == kids_of(BOTH)


def test_unpublished_former_issuer_does_not_wait(here: Situation) -> None:
    """The former issuer expired before it had any key, so a revocation needs no decision of an operator there."""
    here.former = (FormerIssuerSettings(IssuerUrl(f"{BASE_URL}/older"), date(2020, 1, 1)),)
    records = here.run(BOTH, BOTH).issuers[0].records
    here.policy = replace(here.policy, revoked=frozenset({records[0].key.thumbprint}))
    report = here.run()
    assert report.exit_status is ExitStatus.CURRENT
    assert [issuer.records for issuer in report.issuers[1:]] == [()]


def test_removal_goes_on_under_a_former_issuer(here: Situation) -> None:
    """After the last day, a key that is missing everywhere is still removed from the former issuer."""
    here.run(BOTH, BOTH)
    here.now = MOMENT + timedelta(days=10)
    here.run(ONE, ONE)
    here.run(after=25 * HOUR)
    one = {each["kid"] for each in json.loads(capture(f"{ONE}-jwks").body())["keys"]}
    assert kids(here, OLD_JWKS) == one


def test_revocation_reaches_the_former_issuer(here: Situation) -> None:
    """A key that is revoked under the issuer is removed from the former one in the same pass."""
    here.run(BOTH, BOTH)
    thumbprint = next(r.key.thumbprint for r in here.run().issuers[0].records if isinstance(r.key, RsaKey))
    here.policy = replace(here.policy, revoked=frozenset({thumbprint}))
    here.run()
    assert len(kids(here, OLD_JWKS)) == len(kids(here, JWKS_KEY)) == 1
    here.policy = replace(here.policy, revoked=frozenset())
    here.run()
    assert len(kids(here, OLD_JWKS)) == 1


def test_without_the_entry_the_objects_stay(here: Situation) -> None:
    """The mirror never deletes: an issuer that is no longer configured keeps its public documents."""
    here.run(BOTH, BOTH)
    before = here.public(OLD_JWKS)
    here.former = ()
    here.run(LAST, LAST, after=48 * HOUR)
    assert here.public(OLD_JWKS) == before


# ------------------------------------------------------------------------------------------- changed sources


def test_changed_apiservers_restart_the_retirement(tmp_path: Path) -> None:
    """Retiring for 23 hours, then another list of apiservers: the key stays for 24 hours more."""
    here = Situation(tmp_path)
    here.run(BOTH, BOTH)
    here.run(LAST, LAST)
    here.apiservers = ("https://10.0.0.21:6443", "https://10.0.0.22:6443")
    report = here.run(after=23 * HOUR)
    assert "sources.changed" in {event.name for event in report.issuers[0].events}
    here.run(after=2 * HOUR)
    assert len(kids(here, JWKS_KEY)) == 3
    here.run(after=23 * HOUR)
    assert kids(here, JWKS_KEY) == kids_of(LAST)


def test_unchanged_apiservers_are_no_event(tmp_path: Path) -> None:
    """The same apiservers in another order are not a change."""
    here = Situation(tmp_path)
    here.run(BOTH, BOTH)
    here.apiservers = here.apiservers[::-1]
    assert here.run().issuers[0].events == ()


def test_other_ca_is_another_source(tmp_path: Path) -> None:
    """The bytes of the CA file count, not its path; an unreadable file differs from none."""
    issuer = Situation(tmp_path).settings().issuers[0]
    digests = [apiserver_fingerprint(issuer)]
    for text in ("one", "two"):
        (tmp_path / "ca.crt").write_text(text)
        digests.append(apiserver_fingerprint(replace(issuer, tls=replace(issuer.tls, ca_file=tmp_path / "ca.crt"))))
    digests.append(apiserver_fingerprint(replace(issuer, tls=replace(issuer.tls, ca_file=tmp_path / "missing"))))
    assert len(set(digests)) == 4
