"""The probe in whole passes: its reports, its requests, and the exit status."""

import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click import unstyle

from mirror.apiserver.errors import FailureKind
from mirror.cli.text import lines
from mirror.config.settings import AuthSettings, FormerIssuerSettings, Settings
from mirror.errors import BucketError, HistoryError
from mirror.model import Answer, IssuerUrl, Key, KeyPolicy, KeyRecord, Ledger, Reason, Status, Unusable
from mirror.publish.publisher import ObjectResults
from mirror.reconcile.controller import dry_run, reconcile
from mirror.reconcile.state import IssuerPlan, PublishedIssuer
from mirror.reconcile.token_probe import attach_probe_token, check_own_token, check_probe_token
from mirror.report import ExitStatus, Report, to_json
from mirror.trust.discovery import documents
from mirror.trust.parsing import shell_argument
from mirror.trust.tokens import Token, read_token
from support.fakes import MOMENT
from support.situations import BASE_URL, ISSUER, JWKS_KEY, Situation, silent
from support.tokens import Signer, claims, mint, signer

OLD, NEW = signer(), signer("P-256", 1)
FORMER = IssuerUrl(f"{BASE_URL}/old")


@dataclass
class Cluster(Situation):
    """One cluster. `file` has a token that it signed; `changes` are changes of its configuration entry."""

    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.state_dir.with_name("token")

    def settings(self) -> Settings:
        settings = super().settings()
        return replace(settings, issuers=(replace(settings.issuers[0], **self.changes),))

    def show_keys(self, *keys: Key) -> None:
        shown = documents(ISSUER, keys)
        self.show(*(Answer(apiserver, shown.discovery, shown.jwks) for apiserver in self.apiservers))

    def sign(self, by: Signer, **changes: object) -> None:
        self.file.write_bytes(mint(by, claims(self.now.timestamp(), **changes)))

    def once(self) -> Report:
        return reconcile(self.settings(), self.world.ports(), self.now)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    state = tmp_path / "state"
    state.mkdir()
    made = Cluster(state)
    made.changes["probe_token_file"] = made.file
    made.show_keys(OLD.key)
    made.sign(OLD)
    return made


def names(report: Report) -> list[str]:
    """The events that the probe reports."""
    (first, *others) = report.issuers
    return [e.name for each in (first, *others) for e in each.events if e.name.startswith(("probe.", "signing_key."))]


def words(report: Report) -> str:
    return unstyle("\n".join(lines(report)))


def test_signing_key_that_this_pass_publishes_is_not_reported(cluster: Cluster) -> None:
    """No event and exit status 0 in the first pass, the second pass and a dry run."""
    assert names(dry_run(cluster.settings(), cluster.world.ports(), cluster.now)) == []
    for _ in range(2):
        report = cluster.once()
        assert (names(report), report.exit_status) == ([], ExitStatus.CURRENT)


def test_unchanged_pass_between_audits_asks_for_nothing_more(cluster: Cluster) -> None:
    """The snapshot's documents suffice: no read-back, no object read."""
    cluster.once()
    looks, requests = len(cluster.world.web.looks), list(cluster.world.bucket.requests)
    cluster.sign(NEW)
    assert names(cluster.once()) == ["signing_key.not_public"]
    assert len(cluster.world.web.looks) == looks
    assert [r for r in cluster.world.bucket.requests[len(requests) :] if not r.startswith("list")] == []


def test_signing_key_that_no_apiserver_shows_fails_the_pass(cluster: Cluster) -> None:
    """The apiserver signs with a key that it does not publish: error, exit 1, reported once with the remedy.

    See facts.md#9.
    """
    cluster.once()
    cluster.sign(NEW)
    report = cluster.once()
    assert (names(report), report.exit_status) == (["signing_key.not_public"], ExitStatus.FAILED)
    reported = words(report)
    assert reported.count("pods will lose their access") == 1
    assert "failed signing_key.not_public" in reported
    assert NEW.key.kid in reported
    assert OLD.key.kid in reported
    (issuer,) = json.loads(json.dumps(to_json(report)))["issuers"]
    assert [r["code"] for r in issuer["failures"]] == ["signing_key.not_public"]
    assert names(dry_run(cluster.settings(), cluster.world.ports(), cluster.now)) == ["signing_key.not_public"]


def test_no_part_of_the_token_is_printed(cluster: Cluster) -> None:
    """Neither the text output nor the JSON contains it."""
    cluster.once()
    cluster.sign(NEW)
    report = cluster.once()
    reported = words(report) + json.dumps(to_json(report))
    assert all(part not in reported for part in cluster.file.read_text().split("."))


def test_held_signing_key_is_held(cluster: Cluster) -> None:
    """Exit status 3 with the command that approves the key; the error describes the consequence of waiting."""
    cluster.once()
    cluster.policy = KeyPolicy(new_keys="hold")
    cluster.show_keys(OLD.key, NEW.key)
    cluster.sign(NEW)
    report = cluster.once()
    assert (names(report), report.exit_status) == (["signing_key.not_public"], ExitStatus.HELD)
    assert f"oidc-mirror approve syd-prod {shell_argument(NEW.key.thumbprint)}" in words(report)
    assert "error [signing_key.not_public]: The cluster signs tokens that relying parties cannot verify" in words(
        report
    )


def test_revoked_signing_key_is_reported_and_is_no_failure(cluster: Cluster) -> None:
    """An operator revoked the key: it is reported until the cluster signs with another key, and is not a failure."""
    cluster.show_keys(OLD.key, NEW.key)
    cluster.once()
    cluster.policy = KeyPolicy(revoked=frozenset({OLD.key.thumbprint}))
    report = cluster.once()
    assert (names(report), report.exit_status) == (["signing_key.not_public"], ExitStatus.CURRENT)
    cluster.sign(NEW)
    assert names(cluster.once()) == []


def test_signing_key_of_before_stays_public_when_a_put_fails(cluster: Cluster) -> None:
    """The put fails, so the set without the new key is still public; the cluster signs with the old key: no event."""
    cluster.once()
    cluster.show_keys(OLD.key, NEW.key)
    cluster.world.bucket.fails["put"] = BucketError("No.", code="AccessDenied")
    report = cluster.once()
    assert (names(report), report.exit_status) == ([], ExitStatus.FAILED)


def test_new_signing_key_in_a_pass_with_a_failed_put(cluster: Cluster) -> None:
    """The put of the new key fails, so the signing key is not public."""
    cluster.once()
    cluster.show_keys(OLD.key, NEW.key)
    cluster.sign(NEW)
    cluster.world.bucket.fails["put"] = BucketError("No.", code="AccessDenied")
    codes = [reason.code for reason in cluster.once().issuers[0].failures]
    assert codes == ["bucket.AccessDenied", "signing_key.not_public"]


def test_public_read_back_counts_if_it_was_made(cluster: Cluster) -> None:
    """A cache still shows the set without the new key: it is not public yet, although git and the bucket have it."""
    cluster.once()
    stale = dict(cluster.world.bucket.objects)
    cluster.show_keys(OLD.key, NEW.key)
    cluster.sign(NEW)
    url = f"{BASE_URL}/{JWKS_KEY}"
    cluster.world.web.cached[url] = next(stored for key, stored in stale.items() if key == JWKS_KEY)
    assert names(cluster.once()) == ["signing_key.not_public"]
    assert names(cluster.once()) == ["signing_key.not_public"]
    cluster.world.web.cached.clear()
    assert names(cluster.once()) == []


def test_public_url_that_shows_nonsense_has_no_keys(cluster: Cluster) -> None:
    """If the public document has no keys, it cannot verify a token."""
    cluster.once()
    cluster.now += timedelta(hours=2)
    cluster.sign(OLD)
    url = f"{BASE_URL}/{JWKS_KEY}"
    stored = next(stored for key, stored in cluster.world.bucket.objects.items() if key == JWKS_KEY)
    cluster.world.web.cached[url] = replace(stored, body=b"<html>")
    assert names(cluster.once()) == ["signing_key.not_public"]


def test_public_url_that_cannot_be_read_is_no_news_of_the_key(cluster: Cluster) -> None:
    """A failed read-back is reported. It proves nothing about the key, so the snapshot counts."""
    cluster.once()
    cluster.now += timedelta(hours=2)
    cluster.sign(OLD)
    cluster.world.web.blocked = Reason("dns", "It does not resolve.", "Wait.")
    report = cluster.once()
    assert (names(report), report.exit_status) == ([], ExitStatus.FAILED)


UNUSABLE = {
    "missing": (None, "It cannot be read: No such file or directory."),
    "garbage": (b"garbage", "not three parts of base64url"),
    "too-large": (b"x" * 30_000, "It cannot be read: it is larger than 20002 bytes."),
    "expired": (mint(OLD, claims(0)), "It expired"),
    "of-another-issuer": (mint(OLD, claims(2e9, iss=f"{ISSUER}/")), "only in the trailing slash"),
}


@pytest.mark.parametrize(("body", "part"), UNUSABLE.values(), ids=UNUSABLE)
def test_probe_that_cannot_be_used_is_a_warning(cluster: Cluster, body: bytes | None, part: str) -> None:
    """An unusable probe is only a warning with a remedy: the pass works without it."""
    cluster.file.unlink()
    if body is not None:
        cluster.file.write_bytes(body)
    report = cluster.once()
    assert (names(report), report.exit_status) == (["probe.unusable"], ExitStatus.CURRENT)
    assert part in words(report)
    assert "warning [probe.unusable]: The probe token in" in words(report)


def test_own_token_serves_as_a_probe(cluster: Cluster) -> None:
    """Without `probe_token_file` the mirror's own ServiceAccount token gives the same result: one key signs all."""
    cluster.changes = {"auth": AuthSettings(token_file=cluster.file)}
    assert names(cluster.once()) == []
    cluster.sign(NEW)
    report = cluster.once()
    assert (names(report), report.exit_status) == (["signing_key.not_public"], ExitStatus.FAILED)


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"opaque-bearer",
        mint(NEW, claims(0)),
        mint(NEW, claims(MOMENT.timestamp(), iss="other")),
        mint(NEW, claims(MOMENT.timestamp() - 26 * 3600, exp=4_000_000_000)),
        mint(NEW, claims(MOMENT.timestamp(), iat=None)),
    ],
    ids=["missing", "opaque", "expired", "of-another-issuer", "long-lived", "without-iat"],
)
def test_unusable_own_token_is_not_reported(cluster: Cluster, body: bytes | None) -> None:
    """The token may be of another issuer or not a JWT; the apiserver decides whether it is valid."""
    cluster.changes = {"auth": AuthSettings(token_file=cluster.file)}
    cluster.file.unlink()
    if body is not None:
        cluster.file.write_bytes(body)
    assert names(cluster.once()) == []


def warnings(report: Report) -> list[object]:
    """The causes of all warnings about the mirror's own token in the report."""
    events = [each for issuer in report.issuers for each in issuer.events]
    return [each.fields["cause"] for each in events if each.name == "credentials.retiring_key"]


def refused(apiserver: str) -> Unusable:
    return Unusable(apiserver, (FailureKind.UNAUTHORIZED_TOKEN.reason("401"),))


def test_own_token_of_a_key_that_ends_is_a_warning(cluster: Cluster) -> None:
    """While the key is published, nothing is reported. When it retires, every pass says how to renew the token."""
    cluster.changes = {"auth": AuthSettings(token_file=cluster.file)}
    cluster.show_keys(OLD.key, NEW.key)
    assert warnings(cluster.once()) == []
    cluster.show_keys(NEW.key)
    report = cluster.once()
    assert warnings(report) == ["retiring_key"]
    assert f'Key "{OLD.key.kid}" signed it, and that key is retiring.' in words(report)
    assert f"kubectl -n lab create token prober --duration 24h > {cluster.file}" in words(report)
    assert report.exit_status is ExitStatus.CURRENT
    cluster.sign(NEW)
    assert warnings(cluster.once()) == []


def test_own_token_of_a_revoked_or_dropped_key_is_a_warning(cluster: Cluster) -> None:
    """Such keys are removed from the apiservers too, now or soon."""
    cluster.changes = {"auth": AuthSettings(token_file=cluster.file)}
    cluster.show_keys(OLD.key, NEW.key)
    cluster.once()
    cluster.policy = KeyPolicy(revoked=frozenset({OLD.key.thumbprint}))
    assert warnings(cluster.once()) == ["retiring_key"]


def test_own_token_of_a_former_issuer_is_one_warning(cluster: Cluster) -> None:
    """The warning appears once for all issuers; a token of the new issuer causes none."""
    day = (cluster.now + timedelta(days=30)).date()
    cluster.changes = {
        "auth": AuthSettings(token_file=cluster.file),
        "former_issuers": (FormerIssuerSettings(FORMER, day),),
    }
    cluster.sign(OLD, iss=FORMER, sub="no ServiceAccount")
    report = cluster.once()
    assert warnings(report) == ["former_issuer"]
    assert "kubectl -n NAMESPACE create token SERVICEACCOUNT" in words(report)
    cluster.sign(OLD)
    assert warnings(cluster.once()) == []


def test_first_cause_of_a_401_is_the_key_that_ends(cluster: Cluster) -> None:
    """The apiservers removed the old key and reject the token, so the mirror cannot see that the key is missing."""
    cluster.changes = {"auth": AuthSettings(token_file=cluster.file)}
    cluster.once()
    cluster.now += timedelta(minutes=1)
    cluster.show_keys(OLD.key, NEW.key)
    cluster.once()
    cluster.sign(OLD)
    cluster.show(*map(refused, cluster.apiservers))
    report = cluster.once()
    assert warnings(report) == ["older_key"]
    reasons = [each.reasons[0] for each in report.issuers[0].observations if isinstance(each, Unusable)]
    assert len(reasons) == len(cluster.apiservers)
    for reason in reasons:
        assert "a newer key is public" in reason.sentence
        assert reason.remedy.startswith("Renew it now: `kubectl ")
    cluster.sign(NEW)
    again = cluster.once()
    assert warnings(again) == []
    (first, *_) = again.issuers[0].observations
    assert first == refused(cluster.apiservers[0])


def test_cause_of_a_401_is_reported_for_each_former_issuer_too(cluster: Cluster) -> None:
    """Former issuers have the same apiservers. A failure other than 401 keeps its own reason."""
    day = (cluster.now + timedelta(days=30)).date()
    cluster.changes = {
        "auth": AuthSettings(token_file=cluster.file),
        "former_issuers": (FormerIssuerSettings(FORMER, day),),
    }
    cluster.once()
    cluster.sign(OLD, iss=FORMER)
    first, second = cluster.apiservers
    cluster.show(refused(first), silent(second))
    report = cluster.once()
    assert warnings(report) == ["former_issuer"]
    for each in report.issuers:
        one, two = each.observations
        assert isinstance(one, Unusable)
        assert "a former issuer" in one.reasons[0].sentence
        assert two == silent(second)


@pytest.mark.parametrize(
    "body",
    [None, b"opaque-bearer", mint(OLD, claims(0)), mint(signer(number=7), claims(MOMENT.timestamp()))],
    ids=["missing", "opaque", "expired", "of-an-unknown-key"],
)
def test_401_without_a_sign_of_the_cause_keeps_its_reason(cluster: Cluster, body: bytes | None) -> None:
    """An expired token has its own reason, and an unknown key proves nothing."""
    cluster.changes = {"auth": AuthSettings(token_file=cluster.file)}
    cluster.once()
    cluster.now += timedelta(minutes=1)
    cluster.show_keys(OLD.key, NEW.key)
    cluster.once()
    cluster.file.unlink()
    if body is not None:
        cluster.file.write_bytes(body)
    cluster.show(*map(refused, cluster.apiservers))
    report = cluster.once()
    assert warnings(report) == []
    assert report.issuers[0].observations == tuple(map(refused, cluster.apiservers))


def test_defect_of_the_own_token_check_fails_no_pass(cluster: Cluster) -> None:
    """Any exception of our own code becomes a warning that repeats nothing from the token."""
    issuer = replace(cluster.settings().issuers[0], auth=AuthSettings(token_file=cluster.file))
    broken = IssuerPlan(PublishedIssuer(issuer, ISSUER), previous_ledger=Ledger(ISSUER, None))  # type: ignore[arg-type]  # the defect
    events = check_own_token(broken, cluster.now).events
    assert [event.fields["cause"] for event in events] == ["defect"]


def test_token_of_a_former_issuer_is_held_against_its_documents(cluster: Cluster) -> None:
    """During a migration the event is reported for the token's issuer, and a warning at most once."""
    day = (cluster.now + timedelta(days=30)).date()
    cluster.changes |= {"former_issuers": (FormerIssuerSettings(FORMER, day),)}
    cluster.sign(NEW, iss=FORMER)
    report = cluster.once()
    assert [[e.name for e in each.events if e.name.startswith("signing")] for each in report.issuers] == [
        [],
        ["signing_key.not_public"],
    ]
    cluster.file.unlink()
    assert names(cluster.once()) == ["probe.unusable"]


def test_documents_that_are_not_ours_are_not_judged(cluster: Cluster) -> None:
    """Before `adopt` the public state is unknown: the pass is held, and no key is reported as missing."""
    cluster.world.bucket.write(JWKS_KEY, documents(IssuerUrl(ISSUER), (NEW.key,)).jwks)
    cluster.sign(NEW)
    report = cluster.once()
    assert (names(report), report.exit_status) == ([], ExitStatus.HELD)


def test_pass_that_stops_before_its_puts_judges_what_was_public(cluster: Cluster) -> None:
    """The history cannot be written: the key of before is public, the new one is not."""
    cluster.once()
    cluster.show_keys(OLD.key, NEW.key)
    cluster.world.history.moved_by = _break
    assert names(cluster.once()) == []
    cluster.sign(NEW)
    assert names(cluster.once()) == ["signing_key.not_public"]


def test_defect_of_the_probe_fails_no_pass(cluster: Cluster) -> None:
    """Any exception of our own code becomes a warning that repeats nothing from the token."""
    issuer = cluster.settings().issuers[0]
    plan = IssuerPlan(PublishedIssuer(issuer, ISSUER))
    naive = attach_probe_token(plan, cluster.now.replace(tzinfo=None))
    assert [event.fields["cause"] for event in naive.events] == ["defect"]
    token = read_token(cluster.file.read_bytes())
    assert isinstance(token, Token)
    broken = replace(plan, probe=replace(token, signature=None))  # type: ignore[arg-type]  # no bytes
    ledger = Ledger(ISSUER, (KeyRecord(OLD.key, Status.PUBLISHED, 1, cluster.now),))
    found = check_probe_token(broken, ObjectResults(), ledger, documents(ISSUER, (OLD.key,)).jwks)
    assert [event.fields["cause"] for event in found.events] == ["defect"]
    assert found.failures == ()


def _break(_: object) -> None:
    raise HistoryError("The disk is full.")
