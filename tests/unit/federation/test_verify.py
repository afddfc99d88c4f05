"""Acting as a relying party: from public bytes and a token to checks, answers, words, JSON and the exit status."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import jsonschema
import pytest
from click import unstyle

from mirror.cli.verify import lines
from mirror.federation.causes import STS_SILENT
from mirror.federation.verify import (
    IssuerResult,
    StsResult,
    Verification,
    VerifiedIssuer,
    question,
    to_json,
    verify_issuer,
)
from mirror.model import IssuerName, IssuerUrl, Key, KeyRecord, Ledger, Reason, Status, TokenAudiences
from mirror.report import ExitStatus
from mirror.trust.discovery import documents
from mirror.trust.relying_parties import Party
from mirror.trust.tokens import TokenCheckStatus
from support.fakes import MOMENT, FakeWorld
from support.situations import BASE_URL, DISCOVERY_KEY, ISSUER, JWKS_KEY, NAME
from support.tokens import AUDIENCE, captured, claims, compact, mint, signer

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/reference/verify.schema.json").read_text())
RSA = signer("RSA")
OTHER = IssuerUrl(f"{BASE_URL}/other")


@pytest.fixture
def world() -> FakeWorld:
    made = FakeWorld(base_url=BASE_URL)
    publish(made, RSA.key)
    return made


def publish(world: FakeWorld, *keys: Key, **headers: str) -> None:
    shown = documents(ISSUER, keys)
    cache = headers.get("cache_control", "public, max-age=300")
    world.bucket.write(DISCOVERY_KEY, shown.discovery, "application/json", cache)
    world.bucket.write(JWKS_KEY, shown.jwks, headers.get("content_type", "application/jwk-set+json"), cache)


def subject(world: FakeWorld, **changes: object) -> VerifiedIssuer:
    return replace(
        VerifiedIssuer(NAME, ISSUER, world.publish(), TokenAudiences((AUDIENCE,), (AUDIENCE,), (AUDIENCE,))),
        **changes,  # type: ignore[arg-type]  # by name
    )


def verified(
    world: FakeWorld,
    body: bytes | None = None,
    *subjects: VerifiedIssuer,
    named: bool = False,
    now: datetime = MOMENT,
    login: StsResult | None = None,
) -> Verification:
    asked = question(subjects or (subject(world),), body, named=named)
    found = tuple(verify_issuer(each, asked.token, world.web, now) for each in asked.subjects)
    whole = Verification(now, found, asked.token, login)
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(to_json(whole))
    if body is not None:
        reported = words(whole) + json.dumps(to_json(whole))
        assert all(part.decode() not in reported for part in body.strip().split(b".") if len(part) > 12)
        assert all(line.isprintable() for line in words(whole).splitlines())
    return whole


def fresh(**changes: object) -> bytes:
    return mint(RSA, claims(MOMENT.timestamp(), **changes))


def words(found: Verification) -> str:
    return unstyle("\n".join(lines(found)))


def one(found: Verification) -> IssuerResult:
    (issuer,) = found.issuers
    return issuer


def failed(found: Verification) -> list[tuple[str, str]]:
    issuer = one(found)
    return [(c.subject, c.code) for c in issuer.checks + issuer.token_checks if c.finding is TokenCheckStatus.FAILED]


def noted(found: Verification) -> list[str]:
    issuer = one(found)
    return [c.code for c in issuer.checks + issuer.token_checks if c.finding is TokenCheckStatus.NOTED]


def accepting(found: Verification) -> list[str]:
    return [str(party) for party in Party if one(found).accepted_by(party)]


# ---------------------------------------------------------------------------------------------- documents


def test_good_documents_are_accepted_by_every_relying_party(world: FakeWorld) -> None:
    """Both are read, discovery first, and its jwks_uri followed; exit 0."""
    found = verified(world)
    assert (accepting(found), found.exit_status) == (["AWS", "GCP", "Entra"], ExitStatus.CURRENT)
    assert world.web.looks == [f"{BASE_URL}/{DISCOVERY_KEY}", f"{BASE_URL}/{JWKS_KEY}"]
    assert (noted(found), failed(found)) == ([], [])
    assert words(found).endswith("AWS would accept 1 of 1 issuer as they are public.")
    assert RSA.key.kid in words(found)


def test_jwks_uri_of_the_document_is_followed(world: FakeWorld) -> None:
    """Clouds do not know where the mirror publishes; that it is elsewhere is a note."""
    members = json.loads(documents(ISSUER, (RSA.key,)).discovery) | {"jwks_uri": f"{BASE_URL}/elsewhere"}
    world.bucket.write(DISCOVERY_KEY, json.dumps(members).encode(), "application/json", "max-age=300")
    world.bucket.write("elsewhere", documents(ISSUER, (RSA.key,)).jwks, "application/jwk-set+json", "max-age=300")
    found = verified(world, fresh())
    assert world.web.looks[1] == f"{BASE_URL}/elsewhere"
    assert (found.exit_status, noted(found)) == (ExitStatus.CURRENT, ["foreign_jwks_uri"])


@pytest.mark.parametrize("key", [DISCOVERY_KEY, JWKS_KEY])
def test_unreadable_document_is_refused_by_every_relying_party(world: FakeWorld, key: str) -> None:
    """The cause and the remedy of the failed read are reported with the URL."""
    world.bucket.objects = {name: stored for name, stored in world.bucket.objects.items() if name != key}
    found = verified(world)
    assert (accepting(found), found.exit_status) == ([], ExitStatus.FAILED)
    assert failed(found) == [("discovery" if key == DISCOVERY_KEY else "jwks", "not_found")]
    assert f"{BASE_URL}/{key}: It is not there." in words(found)
    assert "remedy: Publish it." in words(found)


def test_unusable_documents_are_refused_with_every_reason(world: FakeWorld) -> None:
    """The wrong issuer's discovery; a set without keys."""
    world.bucket.write(DISCOVERY_KEY, documents(OTHER, (RSA.key,)).discovery, "application/json", "max-age=300")
    assert failed(verified(world)) == [("discovery", "wrong_issuer")]
    publish(world, RSA.key)
    world.bucket.write(JWKS_KEY, b'{"keys":[]}', "application/json", "max-age=300")
    assert failed(verified(world)) == [("jwks", "empty_jwks")]


def test_what_is_unwise_is_noted(world: FakeWorld) -> None:
    """S3's default content type, forbidden caching, an algorithm that discovery does not name: no refusal."""
    publish(world, RSA.key, content_type="binary/octet-stream", cache_control="no-cache")
    world.bucket.write(JWKS_KEY, documents(ISSUER, (RSA.key, signer().key)).jwks, "binary/octet-stream", "no-cache")
    found = verified(world)
    assert noted(found) == ["not_cacheable", "unnamed_algorithm", "not_cacheable", "content_type"]
    assert found.exit_status is ExitStatus.CURRENT


def test_key_of_unknown_type_breaks_the_set_for_entra(world: FakeWorld) -> None:
    """It is noted, and Entra refuses; AWS reads the others."""
    members = json.loads(documents(ISSUER, (RSA.key,)).jwks)["keys"] + [{"kty": "AKP", "kid": "x"}]
    world.bucket.write(JWKS_KEY, json.dumps({"keys": members}).encode(), "application/jwk-set+json", "max-age=300")
    found = verified(world)
    assert (noted(found), accepting(found)) == (["unknown_key_skipped"], ["AWS", "GCP"])


def test_aws_alone_decides_the_exit_status(world: FakeWorld) -> None:
    """Entra rejects an EC key: it is reported, and exit 0."""
    publish(world, signer().key)
    found = verified(world)
    assert (accepting(found), found.exit_status) == (["AWS", "GCP"], ExitStatus.CURRENT)
    assert "Entra   would refuse: entra_keys" in words(found)
    assert "Entra accepts only RS256, and no public key is for it." in words(found)


def test_public_url_that_may_not_be_looked_at_is_not_accepted(world: FakeWorld) -> None:
    """An unchecked document does not count as good."""
    settings = world.publish()
    off = replace(settings, readback=replace(settings.readback, enabled=False))
    found = verified(world, None, subject(world, publish=off))
    assert (failed(found), world.web.looks, found.exit_status) == (
        [("discovery", "readback_disabled")],
        [],
        ExitStatus.FAILED,
    )


def test_one_bad_issuer_of_many_fails(world: FakeWorld) -> None:
    """All are reported; among many only those with a note, and the former one is marked."""
    others = [subject(world, name=IssuerName(f"c{number}")) for number in range(25)]
    bad = subject(world, issuer=OTHER, name=IssuerName("bad"), is_former=True)
    found = verified(world, None, *others, bad)
    assert found.exit_status is ExitStatus.FAILED
    assert words(found).splitlines()[0] == f"bad  {OTHER}  (former issuer)"
    assert words(found).endswith("AWS would accept 25 of 26 issuers as they are public.")


# -------------------------------------------------------------------------------------------------- token


def test_good_token_is_accepted_by_every_relying_party(world: FakeWorld) -> None:
    """Signature, iss, aud, exp, sub are all reported; the claims are shown, the token itself is not; exit 0."""
    found = verified(world, fresh(), subject(world, issuer=OTHER), subject(world))
    assert (accepting(found), found.exit_status) == (["AWS", "GCP", "Entra"], ExitStatus.CURRENT)
    assert one(found).issuer == ISSUER
    assert "would accept these documents and this token" in words(found)
    assert "claim   sub: system:serviceaccount:lab:prober" in words(found)


def test_captured_token_is_accepted_at_its_time(world: FakeWorld) -> None:
    """A real token on a real set of keys, a minute after it was minted."""
    from support.captures import capture  # noqa: PLC0415  only here

    world.bucket.write(
        DISCOVERY_KEY, capture("02-rsa1-ec2-overlap/discovery").body(), "application/json", "max-age=300"
    )
    world.bucket.write(JWKS_KEY, capture("02-rsa1-ec2-overlap/jwks").body(), "application/jwk-set+json", "max-age=300")
    at = datetime.fromisoformat("2026-11-23T04:22:37+00:00")
    found = verified(world, captured("02-rsa1-ec2-overlap/token-cluster-aud"), now=at)
    assert (accepting(found), failed(found)) == (["AWS", "Entra"], [])  # it lives for a year: Google rejects it
    assert "gcp_lifetime" in words(found)


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"exp": int(MOMENT.timestamp()) - 11_520}, ("exp", "expired")),
        ({"nbf": int(MOMENT.timestamp()) + 60}, ("nbf", "not_yet_valid")),
        ({"aud": "sts.amazonaws.com"}, ("aud", "wrong_audience")),
    ],
)
def test_wrong_token_is_refused_by_every_relying_party(
    world: FakeWorld, changes: dict[str, object], failure: tuple[str, str]
) -> None:
    """The token fails with its one reason, in words; the documents are good."""
    found = verified(world, fresh(**changes))
    assert (failed(found), accepting(found), found.exit_status) == ([failure], [], ExitStatus.FAILED)
    assert f"AWS     would refuse: {failure[1]}" in words(found)


def test_expired_token_says_since_when(world: FakeWorld) -> None:
    """In words."""
    assert "expired 3 h 12 min ago" in words(verified(world, fresh(exp=int(MOMENT.timestamp()) - 11_520)))


def test_held_signing_key_is_reported_with_its_command(world: FakeWorld) -> None:
    """The ledger in git makes the sentence more precise."""
    record = KeyRecord(signer().key, Status.HELD, 1, MOMENT, held_because="policy")
    body = mint(signer(), claims(MOMENT.timestamp()))
    found = verified(world, body, subject(world, ledger=Ledger(ISSUER, (record,))))
    assert failed(found) == [("signature", "key_not_public")]
    assert f"oidc-mirror approve syd-prod {signer().key.thumbprint}" in words(found)


def test_token_cannot_be_verified_without_keys(world: FakeWorld) -> None:
    """A signature that cannot be checked is never reported as right."""
    world.web.blocked = Reason("forbidden", "403.", "Allow it.")
    assert failed(verified(world, fresh())) == [("discovery", "forbidden"), ("signature", "no_public_keys")]


def test_key_in_the_header_is_reported(world: FakeWorld) -> None:
    """It is ignored, and noted."""
    body = mint(RSA, claims(MOMENT.timestamp()), jku="https://evil.example.com")
    found = verified(world, body)
    assert (noted(found), found.exit_status) == (["key_in_header"], ExitStatus.CURRENT)


def test_token_of_an_unknown_issuer_names_the_nearest_one(world: FakeWorld) -> None:
    """The issuer differs by a trailing slash that people overlook; no documents are read, exit 1."""
    found = verified(world, fresh(iss=f"{ISSUER}/"), subject(world, issuer=OTHER), subject(world))
    assert (found.issuers, world.web.looks, found.exit_status) == ((), [], ExitStatus.FAILED)
    assert f'the nearest is "{ISSUER}": they differ only in the trailing slash' in words(found)
    assert words(found).endswith("No issuer was looked at.")


def test_token_of_a_dissimilar_issuer_lists_the_issuers(world: FakeWorld) -> None:
    """A legacy token of a Secret, say; long lists are counted."""
    many = tuple(subject(world, issuer=IssuerUrl(f"https://keys.example.com/{n}")) for n in range(12))
    found = verified(world, fresh(iss="kubernetes/serviceaccount"), *many)
    assert "and none is like it" in words(found)
    assert "and 2 more" in words(found)
    few = verified(world, fresh(iss="kubernetes/serviceaccount"))
    assert f'Configured: "{ISSUER}".' in words(few)


def test_token_of_another_issuer_is_held_against_the_named_one(world: FakeWorld) -> None:
    """The operator chose the issuer: the check of iss reports the difference."""
    found = verified(world, fresh(iss=OTHER), named=True)
    assert failed(found) == [("iss", "wrong_issuer")]


def test_token_of_a_former_issuer_chooses_it(world: FakeWorld) -> None:
    """`verify NAME` covers the former issuers."""
    found = verified(world, fresh(), subject(world, issuer=OTHER), subject(world, is_former=True), named=True)
    assert (one(found).is_former, found.exit_status) == (True, ExitStatus.CURRENT)


@pytest.mark.parametrize("named", [False, True])
def test_text_that_is_no_token_is_refused_by_every_relying_party(world: FakeWorld, named: bool) -> None:
    """Every reason is reported once; exit 1."""
    found = verified(world, compact({"alg": "none"}, {}, b"signature that is long"), named=named)
    assert found.exit_status is ExitStatus.FAILED
    assert all(not each.accepted_by(party) for each in found.issuers for party in Party)
    assert words(found).count("the token is not signed") == 1
    assert len(found.issuers) == int(named)


def test_hostile_claims_are_reported_escaped_and_short(world: FakeWorld) -> None:
    """Neither a name nor a value steers a terminal, and none fills it."""
    body = fresh(**{"\x1b[31mred": "\x1b]0;x\x07", "long": "x" * 5000, "deep": {"a": ["\n"]}})
    reported = words(verified(world, body))
    assert r"\x1b[31mred: \x1b]0;x\x07" in reported
    assert "x" * 300 + "…" in reported
    assert "x" * 301 not in reported


# --------------------------------------------------------------------------------------------------- STS


def test_login_is_reported(world: FakeWorld) -> None:
    """Who one would be; exit 0 with everything else right."""
    login = StsResult("arn:aws:iam::1:role/a", "eu-west-1", assumed_role_arn="arn:aws:sts::1:assumed-role/a/b")
    found = verified(world, fresh(), login=login)
    assert found.exit_status is ExitStatus.CURRENT
    assert "STS in eu-west-1 accepts: arn:aws:sts::1:assumed-role/a/b" in words(found)


@pytest.mark.parametrize("causes", [(STS_SILENT,), ()])
def test_refused_login_fails(world: FakeWorld, causes: tuple[object, ...]) -> None:
    """The answer of STS decides: exit 1 with its error and the known causes."""
    login = StsResult("arn:aws:iam::1:role/a", "eu-west-1", error_code="Strange", error="No.\x1b", causes=causes)  # type: ignore[arg-type]  # causes
    found = verified(world, fresh(), login=login)
    assert found.exit_status is ExitStatus.FAILED
    assert r"Strange: No.\x1b" in words(found)
    assert ("1. STS did not answer" if causes else "Nothing is known about this error") in words(found)


def test_nothing_looked_at_is_no_success() -> None:
    """An empty list of checks does not pass."""
    assert Verification(MOMENT + timedelta(0), ()).exit_status is ExitStatus.FAILED
