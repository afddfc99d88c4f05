"""The signers of the ledgers of a real git repository."""

import json
from pathlib import Path

import pytest

from mirror.addresses import repository_paths
from mirror.check.clients import HistoryInspector
from mirror.check.ports import LedgerVerdict, SigningState
from mirror.config.settings import RepositorySettings as Settings
from mirror.model import IssuerUrl
from mirror.trust.ledger_signature import SignatureHeader, VerificationFailure, sign_ledger
from support.gits import bare, commit, environment, open_repository
from support.signers import public_line, signer, write_key
from support.situations import ISSUER, LEDGER

OTHER = IssuerUrl(f"{ISSUER}-other")
BODY = json.dumps({"issuer": ISSUER, "version": 1, "keys": []}).encode()


def signature(body: bytes = BODY, *, issuer: IssuerUrl = ISSUER, number: int = 0, name: str = "prod") -> bytes:
    return sign_ledger(body, issuer=issuer, repository=name, role="mirror", key=signer(number=number))


def look(tmp: Path, files: dict[str, bytes], *, key: bool = True, signers: str | None = None) -> SigningState:
    """Checks a remote with `files` on its branch, optionally with a signing key and allowed signers."""
    remote = bare(tmp / "remote.git")
    with open_repository(tmp, name="other.git", remote=remote) as repository:
        commit(repository, dict(files))
        repository.push()
    if signers is not None:
        (tmp / "signers").write_text(signers)
    settings = Settings(
        tmp / "snapshots.git",
        remote=str(remote),
        signing_key=write_key(tmp / "key") if key else None,
        allowed_signers=None if signers is None else tmp / "signers",
        name="prod",
    )
    return HistoryInspector(settings, environment(tmp), issuers=[ISSUER]).look().signing


def verdict(state: SigningState) -> SignatureHeader | VerificationFailure | None:
    (one,) = state.ledgers
    assert (one.path, one.issuer, one.is_configured) == (LEDGER, ISSUER, True)
    return one.verdict


def code(state: SigningState) -> str:
    found = verdict(state)
    assert isinstance(found, VerificationFailure)
    return found.code


def test_signature_is_made_and_verified(tmp_path: Path) -> None:
    """With a signing key, the sample signature is accepted, and so is the ledger that the key signed."""
    state = look(tmp_path, {LEDGER: BODY, f"{LEDGER}.jws": signature()})
    assert isinstance(state.sample, SignatureHeader)
    assert state.sample.kid == signer().kid
    assert verdict(state) == SignatureHeader("EdDSA", ISSUER, signer().kid, "prod", "mirror")


@pytest.mark.parametrize(
    ("body", "signed", "expected"),
    [
        pytest.param(BODY + b" ", signature(), "false", id="changed"),
        pytest.param(BODY, signature(name="test"), "foreign", id="other-repository"),
        pytest.param(BODY, signature(issuer=OTHER), "foreign", id="other-issuer"),
        pytest.param(BODY, signature(number=1), "unknown_signer", id="other-key"),
        pytest.param(BODY, b"garbage", "damaged", id="garbage"),
    ],
)
def test_ledger_that_does_not_count_is_reported(tmp_path: Path, body: bytes, signed: bytes, expected: str) -> None:
    """Each rejected ledger is reported in the words of the core."""
    assert code(look(tmp_path, {LEDGER: body, f"{LEDGER}.jws": signed})) == expected


def test_ledger_without_signature_is_reported(tmp_path: Path) -> None:
    """Before the first signed pass, no ledger has a signature."""
    assert verdict(look(tmp_path, {LEDGER: BODY})) is None


def test_listed_signer_is_accepted_without_the_mirrors_key(tmp_path: Path) -> None:
    """As on an operator's machine: there is no sample, and the listed keys verify the ledgers."""
    files = {LEDGER: BODY, f"{LEDGER}.jws": signature(number=1)}
    state = look(tmp_path, files, key=False, signers=public_line(number=1))
    assert state.sample is None
    assert isinstance(verdict(state), SignatureHeader)


def test_trusting_mirror_sees_that_others_sign(tmp_path: Path) -> None:
    """Without any key, a signature for this repository and issuer is reported as by an unknown signer."""
    assert code(look(tmp_path, {LEDGER: BODY, f"{LEDGER}.jws": signature()}, key=False)) == "unknown_signer"


def test_files_of_keys_that_cannot_be_used_are_reported(tmp_path: Path) -> None:
    """Every mistake in the files is reported, and no ledger is verified."""
    state = look(tmp_path, {LEDGER: BODY}, signers=f"nonsense\nme@x {public_line()}")
    assert state.refused is not None
    assert (state.refused.code, state.ledgers) == ("repository.signing_key", ())
    assert f"{tmp_path / 'signers'}:1: " in state.refused.sentence
    assert f"{tmp_path / 'signers'}:2: " in state.refused.sentence


def test_missing_key_is_reported(tmp_path: Path) -> None:
    """The finding quotes the system's error and gives the command that creates a key."""
    settings = Settings(tmp_path / "r.git", signing_key=tmp_path / "none")
    refused = HistoryInspector(settings, environment(tmp_path)).look().signing.refused
    assert refused is not None
    assert "(No such file or directory)" in refused.sentence
    assert f"-f {tmp_path / 'none'}" in refused.remedy


def test_ledgers_of_other_configurations_are_judged_by_what_they_state(tmp_path: Path) -> None:
    """A ledger in its own place is verified for its issuer. A ledger that states another place's issuer is rejected."""
    body = json.dumps({"issuer": OTHER, "version": 1, "keys": []}).encode()
    path, wrong = repository_paths(OTHER).ledger, "ledger/elsewhere/keys.json"
    signed = signature(body, issuer=OTHER)
    files = {path: body, f"{path}.jws": signed, wrong: body, f"{wrong}.jws": signed, "ledger/x/keys.json": b"{"}
    state = look(tmp_path, {**files, "ledger/x/notes": b"no ledger"})
    one, two, three = sorted(state.ledgers, key=lambda each: each.path, reverse=True)
    assert one == LedgerVerdict("ledger/x/keys.json", "", is_configured=False, verdict=None)
    assert two == LedgerVerdict(path, OTHER, is_configured=False, verdict=two.verdict)
    assert isinstance(two.verdict, SignatureHeader)
    assert isinstance(three.verdict, VerificationFailure)
    assert (three.path, three.issuer, three.verdict.code) == (wrong, "", "foreign")


def test_unreachable_remote_leaves_the_local_ledgers_judged(tmp_path: Path) -> None:
    """Local ledgers are verified even if the remote does not answer."""
    with open_repository(tmp_path) as repository:
        commit(repository, {LEDGER: BODY, f"{LEDGER}.jws": signature()})
    settings = Settings(
        tmp_path / "snapshots.git",
        remote=str(tmp_path / "none.git"),
        signing_key=write_key(tmp_path / "key"),
        name="prod",
    )
    state = HistoryInspector(settings, environment(tmp_path), issuers=[ISSUER]).look()
    assert state.fetch is not None
    assert isinstance(verdict(state.signing), SignatureHeader)


def test_many_ledgers_are_all_judged(tmp_path: Path) -> None:
    """Files are read in batches, and none is left out."""
    files = {f"ledger/h/{number}/keys.json": b"{}" for number in range(450)}
    assert len(look(tmp_path, files).ledgers) == 450
