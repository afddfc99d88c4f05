"""The signers of the ledgers, or a trusted remote."""

from pathlib import Path

import pytest

from mirror.check.local import ledgers
from mirror.check.ports import LedgerVerdict, SigningState
from mirror.check.result import CheckResult
from mirror.config.settings import RepositorySettings
from mirror.model import IssuerUrl, Reason
from mirror.trust.ledger_signature import Role, SignatureHeader, VerificationFailure
from support.check_clients import reported

REMOTE = "https://git.example.com/x"
OWN, OTHER = "SHA256:own", "SHA256:other"
READ_ONLY = ("note", "repository.read_only")
MADE = ("ok", "repository.signing_key")


def header(kid: str = OWN, role: Role = "mirror", issuer: str = "https://i") -> SignatureHeader:
    return SignatureHeader("EdDSA", IssuerUrl(issuer), kid, "oidc-mirror", role)


def ledger(
    verdict: SignatureHeader | VerificationFailure | None, *, name: str = "a", is_configured: bool = True
) -> LedgerVerdict:
    return LedgerVerdict(f"ledger/{name}/keys.json", f"https://{name}", is_configured, verdict)


def found(
    *verdicts: LedgerVerdict,
    key: str | None = "/key",
    signers: str | None = None,
    remote: str | None = REMOTE,
    sample: SignatureHeader | VerificationFailure | None = None,
    refused: Reason | None = None,
) -> list[CheckResult]:
    settings = RepositorySettings(
        Path("/r"),
        remote,
        signing_key=None if key is None else Path(key),
        allowed_signers=None if signers is None else Path(signers),
    )
    return list(ledgers(settings, SigningState(sample, refused, ledgers=verdicts), issuers=3))


def trusted(*verdicts: LedgerVerdict) -> list[CheckResult]:
    return found(*verdicts, key=None)


def test_trusted_remote_is_a_warning() -> None:
    """The warning says who can do what, and gives a remedy."""
    (warning,) = trusted(ledger(None))
    assert (warning.level, warning.code) == ("warning", "repository.unsigned")
    assert warning.sentence == (
        "Anyone who can push to main of https://git.example.com/x, its administrators included, can publish a key, act"
        " as any pod of 3 issuers, and undo a revocation."
    )
    assert warning.remedy == "Set `repository.signing_key`, or protect the branch."


def test_local_repository_needs_no_signatures() -> None:
    """Without a remote there are no pushes."""
    assert found(key=None, remote=None) == []


def test_signed_repository_without_a_key_fails() -> None:
    """A mirror that trusts the remote would publish ledgers that the signing mirrors reject."""
    unlisted = VerificationFailure("unknown_signer", "No key.", OTHER)
    (failed,) = trusted(ledger(unlisted), ledger(None, name="b"))
    assert (failed.level, failed.code) == ("failed", "repository.signed")
    assert "https://a" in failed.sentence
    assert "https://b" not in failed.sentence
    assert "ssh-keygen -t ed25519 -N '' -f signing_key" in failed.remedy


@pytest.mark.parametrize("code", ["damaged", "foreign", "unknown_signer"])
def test_other_signatures_do_not_make_a_repository_signed(code: str) -> None:
    """A signature for another repository or issuer, or of another tool, says nothing about this repository."""
    verdict = VerificationFailure(code, "No.", OTHER)  # type: ignore[arg-type]  # one of the codes
    is_configured = code != "unknown_signer"
    assert reported(trusted(ledger(verdict, is_configured=is_configured))) == [("warning", "repository.unsigned")]


def test_key_that_signs_is_reported() -> None:
    """The fingerprint is that of `ssh-keygen -lf`."""
    (one,) = found(sample=header())
    assert (one.level, one.code, OWN in one.sentence, one.subject) == ("ok", "repository.signing_key", True, "/key")


def test_key_that_cannot_sign_fails() -> None:
    """A signature that does not verify would stop every mirror that reads it."""
    (one,) = found(sample=VerificationFailure("false", "It does not fit."))
    assert (one.level, one.code, "It does not fit." in one.sentence) == ("failed", "repository.signing_key", True)


@pytest.mark.parametrize("key", [None, "/key"], ids=["not set", "not readable"])
def test_mirror_without_a_key_is_reported_as_a_reader(key: str | None) -> None:
    """An operator's machine has no signing key of the mirror."""
    assert reported(found(ledger(header(OTHER)), key=key, signers="/s")) == [READ_ONLY, ("ok", "ledger.signed")]


def test_files_of_keys_that_cannot_be_used_fail() -> None:
    """Every mistake in the key files is reported. No ledger is verified without keys."""
    reason = Reason("repository.signing_key", "Missing.", "Make one.")
    assert reported(found(ledger(None), refused=reason)) == [("failed", "repository.signing_key")]


def test_ledgers_are_reported_by_key_and_role() -> None:
    """Each key has one finding, with the facts needed before its line is removed."""
    one, two, three, four = found(
        ledger(header(OTHER), name="a"),
        ledger(header(), name="b"),
        ledger(header(issuer="https://other"), name="c"),
        ledger(header(OTHER, "operator"), name="d"),
        sample=header(),
    )
    assert (one.code, two.code, three.code, four.code) == ("repository.signing_key", *["ledger.signed"] * 3)
    assert two.sentence == f"{OTHER} (mirror) signed 1 ledger: https://a."
    assert three.sentence == f"{OTHER} (operator) signed 1 ledger: https://d."
    assert (three.level, "until the next pass" in three.remedy) == ("note", True)
    assert four.sentence == f"{OWN} (this mirror) signed 2 ledgers: https://b, https://c."


def test_operators_ledger_of_another_configuration_stays() -> None:
    """No pass of this mirror signs such a ledger again."""
    assert reported(found(ledger(header(OTHER, "operator"), is_configured=False), sample=header())) == [
        MADE,
        ("ok", "ledger.signed"),
    ]


def test_many_ledgers_are_counted() -> None:
    """A fleet of a thousand issuers still gives one readable sentence."""
    many = found(*(ledger(header(), name=f"n{number}") for number in range(1000)), sample=header())
    assert many[1].sentence.endswith("https://n19, and 980 more.")


@pytest.mark.parametrize(
    ("verdict", "is_configured", "expected"),
    [
        (None, True, ("warning", "ledger.unsigned")),
        (None, False, ("note", "ledger.unsigned")),
        (VerificationFailure("false", "No."), True, ("warning", "ledger.unsigned")),
        (VerificationFailure("foreign", "No."), True, ("warning", "ledger.unsigned")),
        (VerificationFailure("damaged", "No."), True, ("warning", "ledger.damaged")),
        (VerificationFailure("unknown_signer", "No.", OTHER), True, ("failed", "ledger.unknown_signer")),
        (VerificationFailure("unknown_signer", "No.", OTHER), False, ("note", "ledger.unknown_signer")),
        (VerificationFailure("false", "No."), False, ("note", "ledger.unsigned")),
    ],
)
def test_ledger_that_does_not_count_is_reported(
    verdict: VerificationFailure | None, is_configured: bool, expected: tuple[str, str]
) -> None:
    """The finding gives the reason and the remedy. Ledgers of other configurations need no repair here."""
    assert reported(found(ledger(verdict, is_configured=is_configured), sample=header())) == [MADE, expected]
