"""Signatures of ledgers: which key files are read, what is signed, and which signatures are accepted."""

import json
import subprocess
from base64 import encodebytes, urlsafe_b64encode
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto.jws import JWS

from mirror.model import IssuerUrl, Reason
from mirror.trust.ledger_signature import (
    MAX_SIGNATURE_BYTES,
    LedgerTrust,
    LedgerVerifier,
    PrivateKey,
    PublicKey,
    SignatureHeader,
    VerificationFailure,
    read_allowed_signers,
    read_private_key,
    sign_ledger,
    verify_ledger,
)
from mirror.trust.parsing import decode_uint
from support.keys import RSA_KEYS
from support.signers import KINDS, key_file, material, public_line, signer

ISSUER = IssuerUrl("https://oidc-bucket.s3.ap-southeast-2.amazonaws.com/a")
OTHER_ISSUER = IssuerUrl("https://oidc-bucket.s3.ap-southeast-2.amazonaws.com/b")
BODY = b'{\n  "issuer": "x",\n  "keys": []\n}\n'


def signed(key: PrivateKey, body: bytes = BODY, repository: str = "prod") -> bytes:
    return sign_ledger(body, issuer=ISSUER, repository=repository, role="mirror", key=key)


def verified(signature: bytes, *keys: PublicKey, body: bytes = BODY) -> SignatureHeader | VerificationFailure:
    return verify_ledger(body, signature, issuer=ISSUER, repository="prod", keys={key.kid: key for key in keys})


def ssh_keygen(*words: str | Path) -> str:
    done = subprocess.run(["ssh-keygen", *words], capture_output=True, check=True, text=True)
    return done.stdout


# --------------------------------------------------------------------------------------------------- private keys


@pytest.mark.parametrize("kind", [("ed25519",), ("ecdsa", "-b", "256"), ("rsa", "-b", "3072")], ids=KINDS)
def test_key_of_ssh_keygen_signs_under_its_fingerprint(tmp_path: Path, kind: tuple[str, ...]) -> None:
    """Each supported kind of key is read as ssh-keygen writes it; its kid is the fingerprint of `ssh-keygen -l`."""
    path = tmp_path / "key"
    ssh_keygen("-q", "-t", *kind, "-N", "", "-C", "a comment", "-f", path)
    key = read_private_key(path.read_bytes())
    assert isinstance(key, PrivateKey)
    assert ssh_keygen("-l", "-f", path.with_suffix(".pub")).split()[1] == key.kid
    assert read_allowed_signers(path.with_suffix(".pub").read_bytes()) == (key.public(),)
    assert isinstance(verified(signed(key), key.public()), SignatureHeader)


def made(tmp_path: Path, *words: str) -> bytes:
    ssh_keygen("-q", "-f", tmp_path / "key", *words)
    return (tmp_path / "key").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(("-t", "ed25519", "-N", "secret"), "key_encrypted", "passphrase", id="passphrase"),
        pytest.param(("-t", "rsa", "-b", "1024", "-N", "", "-m", "PEM"), "key_format", "PEM", id="pkcs1"),
        pytest.param(("-t", "rsa", "-b", "1024", "-N", "", "-m", "PKCS8"), "key_format", "PEM", id="pkcs8"),
        pytest.param(("-t", "ecdsa", "-b", "384", "-N", ""), "key_type", "P-384", id="p384"),
        pytest.param(("-t", "ecdsa", "-b", "521", "-N", ""), "key_type", "P-521", id="p521"),
        pytest.param(("-t", "rsa", "-b", "2048", "-N", ""), "key_weak", "2048 bits", id="small-rsa"),
    ],
)
def test_unfit_private_key_is_refused(tmp_path: Path, words: tuple[str, ...], code: str, said: str) -> None:
    """ssh-keygen also makes keys that cannot sign ledgers: the reason names the problem; the remedy is a command."""
    reason = read_private_key(made(tmp_path, *words))
    assert isinstance(reason, Reason)
    assert (reason.code, said in reason.sentence) == (code, True)
    assert reason.remedy.endswith("-f FILE")


@pytest.mark.parametrize("words", [("-N", "secret"), ("-N", "", "-m", "PEM")], ids=["passphrase", "pem"])
def test_remedy_mends_the_file(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The printed command makes a key usable that has a passphrase or is in PEM format."""
    if "PEM" in words:
        key = material("RSA").private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        (tmp_path / "key").write_bytes(key)
        (tmp_path / "key").chmod(0o600)
    else:
        made(tmp_path, "-t", "ed25519", *words)
    reason = read_private_key((tmp_path / "key").read_bytes())
    assert isinstance(reason, Reason)
    command = reason.remedy.rpartition(": ")[2].replace("FILE", str(tmp_path / "key"))
    subprocess.run(f"{command} {'-P secret' if 'secret' in words else ''}", shell=True, check=True, capture_output=True)  # noqa: S602  the command is our own
    assert isinstance(read_private_key((tmp_path / "key").read_bytes()), PrivateKey)


def armoured(blob: bytes) -> bytes:
    return b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + encodebytes(blob) + b"-----END OPENSSH PRIVATE KEY-----\n"


def string(value: bytes) -> bytes:
    return len(value).to_bytes(4) + value


def declaring(kind: bytes) -> bytes:
    """A key file that declares another type; the rest of it is not read."""
    head = b"openssh-key-v1\0" + string(b"none") + string(b"none") + string(b"") + (1).to_bytes(4)
    return armoured(head + string(string(kind)))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", "key_empty", id="empty"),
        pytest.param(b" \n", "key_empty", id="blank"),
        pytest.param(public_line().encode(), "key_public", id="public"),
        pytest.param(f"me@example.com {public_line()}".encode(), "key_public", id="signers-line"),
        pytest.param(b"hello", "key_format", id="text"),
        pytest.param(b"\xff\0" * 9, "key_format", id="binary"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\nAAAA\n", "key_format", id="certificate"),
        pytest.param(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n", "key_format", id="encrypted-pem"),
        pytest.param(b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "key_format", id="begin-alone"),
        pytest.param(key_file()[:200], "key_format", id="cut-off"),
        pytest.param(b"# mine\n" + key_file(), "key_format", id="words-before"),
        pytest.param(key_file() * 2, "key_damaged", id="twice"),
        pytest.param(key_file().replace(b"b3Bl", b"!!!!"), "key_damaged", id="no-base64"),
        pytest.param(armoured(b"something else"), "key_damaged", id="other-magic"),
        pytest.param(key_file()[:200] + key_file()[-40:], "key_damaged", id="middle-gone"),
        pytest.param(declaring(b"ssh-ed25519"), "key_damaged", id="nothing-behind"),
        pytest.param(armoured(b"openssh-key-v1\0"), "key_encrypted", id="nothing-at-all"),
        pytest.param(declaring(b"ssh-dss"), "key_type", id="dsa"),
        pytest.param(declaring(b"sk-ssh-ed25519@openssh.com"), "key_type", id="token"),
        pytest.param(declaring(b"ssh-ed25519-cert-v01@openssh.com"), "key_type", id="certified"),
        pytest.param(declaring(b"\xff\x1b[2J"), "key_type", id="unknown"),
    ],
)
def test_body_that_is_no_private_key_is_refused(body: bytes, code: str) -> None:
    """Any other content gives one reason with a remedy, and no part of the file is repeated."""
    reason = read_private_key(body)
    assert isinstance(reason, Reason)
    assert reason.code == code
    assert reason.sentence.isprintable()
    assert reason.remedy


def test_line_ends_of_windows_are_read() -> None:
    """CRLF line ends from an editor or a secret store do not change the key."""
    for body in (key_file().replace(b"\n", b"\r\n"), key_file().rstrip(), b"\n" + key_file() + b"\n\n"):
        assert read_private_key(body) == signer()


@given(st.binary(max_size=400) | st.binary(max_size=200).map(armoured))
def test_no_bytes_make_reading_a_private_key_raise(body: bytes) -> None:
    """Any bytes give a key or a reason."""
    assert isinstance(read_private_key(body), Reason)


@given(st.sampled_from(KINDS), st.integers(0), st.integers(1, 255))
def test_damaged_private_key_never_raises(kind: str, where: int, bits: int) -> None:
    """One changed byte in a key file gives a reason, or a key whose signatures its public key verifies."""
    body = bytearray(key_file(kind))
    body[where % len(body)] ^= bits
    key = read_private_key(bytes(body))
    assert isinstance(key, Reason) or isinstance(verified(signed(key), key.public()), SignatureHeader)


def test_private_half_is_never_printed() -> None:
    """Neither repr nor str of a key, or of an object that contains it, shows the private key."""
    for kind in KINDS:
        key = signer(kind)
        secret = json.loads(key.jwk.export_private())["d"]
        trust = LedgerTrust("prod", {key.kid: key.public()}, key, "mirror")
        for text in (repr(key), str(key), f"{trust}", repr(trust), str(key.jwk), repr(key.public())):
            assert secret not in text
        assert not key.public().jwk.has_private


# ------------------------------------------------------------------------------------------------ allowed signers


def test_allowed_signers_are_read_in_their_order() -> None:
    """Lines with and without a comment, blank lines, `#` comments, and any line ends."""
    body = f"# mirrors\n\n{public_line('P-256')}\r\n  {signer().line}  \n#{public_line(number=1)}{signer('RSA').line}"
    assert read_allowed_signers(body.encode()) == tuple(signer(kind).public() for kind in ("P-256", "ed25519", "RSA"))
    assert read_allowed_signers(f"{signer().line} a comment ünïcode # here\n".encode()) == (signer().public(),)


def longer(line: str) -> str:
    """The same key with an additional byte at the end, which ssh-keygen would not write."""
    kind, base64 = line.split()[:2]
    return f"{kind} {base64.rstrip('=')}{'AAAA' if not base64.endswith('=') else 'A='}"


def small_rsa() -> str:
    n = decode_uint(RSA_KEYS[0].n)
    assert n is not None
    assert n.bit_length() == 2048
    return RSAPublicNumbers(65537, n).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.mark.parametrize(
    ("lines", "reported"),
    [
        pytest.param("", [("signers_empty", 1)], id="empty"),
        pytest.param("\n# nobody\n \n", [("signers_empty", 1)], id="comments-alone"),
        pytest.param(f"me@example.com {public_line()}", [("signers_options", 1)], id="principal"),
        pytest.param(f"* {public_line()}", [("signers_options", 1)], id="any-principal"),
        pytest.param(f'\nno-pty,command="x y" {public_line()}', [("signers_options", 2)], id="options"),
        pytest.param(f'namespaces="git" {public_line()}', [("signers_options", 1)], id="namespaces"),
        pytest.param(f"cert-authority {public_line()}", [("signers_options", 1)], id="authority"),
        pytest.param("ssh-dss AAAAB3NzaC1kc3M= x", [("signers_type", 1)], id="dsa"),
        pytest.param("ecdsa-sha2-nistp384 AAAA", [("signers_type", 1)], id="p384"),
        pytest.param("sk-ssh-ed25519@openssh.com AAAA", [("signers_type", 1)], id="token"),
        pytest.param("ssh-ed25519-cert-v01@openssh.com AAAA", [("signers_type", 1)], id="certificate"),
        pytest.param("rsa-sha2-512 AAAA", [("signers_no_key", 1)], id="unknown-type"),
        pytest.param("ssh-ed25519", [("signers_no_key", 1)], id="type-alone"),
        pytest.param("ssh-ed25519 AAAA", [("signers_no_key", 1)], id="short"),
        pytest.param("ssh-ed25519 ünïcode", [("signers_no_key", 1)], id="no-base64"),
        pytest.param(signer("P-256").line.replace("ecdsa-sha2-nistp256", "ssh-rsa"), [("signers_no_key", 1)], id="lie"),
        pytest.param(signer().line[:-4], [("signers_no_key", 1)], id="cut-off"),
        pytest.param(longer(signer().line), [("signers_no_key", 1)], id="byte-behind"),
        pytest.param(small_rsa(), [("signers_weak", 1)], id="small-rsa"),
        pytest.param(key_file().decode().split("\n")[0], [("signers_private", 1)], id="private-key"),
        pytest.param(public_line() + public_line(number=1) + signer().line, [("signers_twice", 3)], id="twice"),
        pytest.param(
            f"{public_line()}nonsense\nssh-dss A\n{public_line()}\nx {public_line()}",
            [("signers_no_key", 2), ("signers_type", 3), ("signers_twice", 4), ("signers_options", 6)],
            id="all-at-once",
        ),
    ],
)
def test_bad_allowed_signers_are_refused(lines: str, reported: list[tuple[str, int]]) -> None:
    """Every error is reported in the order of the lines, with its line and a remedy; no key is returned."""
    reasons = read_allowed_signers(lines.encode())
    assert [(each.code, each.where) for each in reasons if isinstance(each, Reason)] == [
        (code, f"line {number}") for code, number in reported
    ]
    assert len(reasons) == len(reported)
    assert all(each.remedy for each in reasons if isinstance(each, Reason))


def test_allowed_signers_in_another_encoding_are_refused() -> None:
    """A file in UTF-16 or Latin-1 is reported with the line of its first invalid byte."""
    for body, number in ((public_line().encode("utf-16"), 1), (public_line().encode() + b"\n# \xfc\n", 3)):
        (reason,) = read_allowed_signers(body)
        assert isinstance(reason, Reason)
        assert (reason.code, reason.where) == ("signers_encoding", f"line {number}")


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: f"ssh-ed25519 {text}".encode()))
def test_no_bytes_make_reading_allowed_signers_raise(body: bytes) -> None:
    """Any bytes give keys or reasons, never both and never nothing."""
    found = read_allowed_signers(body)
    assert found
    assert len({type(each) for each in found}) == 1


# ----------------------------------------------------------------------------------------------- sign and verify


@pytest.mark.parametrize("kind", KINDS)
def test_signature_is_accepted_under_its_key(kind: str) -> None:
    """A listed key's signature is accepted; it names the signer, the issuer and the repository."""
    key = signer(kind)
    header = verified(signed(key), signer("ed25519", 7).public(), key.public())
    assert header == SignatureHeader(key.alg, ISSUER, key.kid, "prod", "mirror")


@pytest.mark.parametrize("kind", KINDS)
def test_signature_is_one_line_that_any_jws_library_verifies(kind: str) -> None:
    """The file is a detached JWS: jwcrypto verifies it when the payload is added, and the header is sorted JSON."""
    key = signer(kind)
    text = signed(key).decode("ascii")
    header, payload, signature = text.removesuffix("\n").split(".")
    assert (payload, text.count("\n")) == ("", 1)
    jws = JWS()
    jws.deserialize(f"{header}.{urlsafe_b64encode(BODY).decode().rstrip('=')}.{signature}", key.public().jwk)
    assert jws.payload == BODY
    assert list(jws.jose_header) == ["alg", "issuer", "kid", "repository", "role", "typ"]
    assert jws.jose_header["typ"] == "oidc-mirror-ledger"


def test_deterministic_keys_sign_alike() -> None:
    """Ed25519 and RSA signatures are deterministic; ES256 signatures are not (RFC 8032, RFC 8017 section 8.2)."""
    assert signed(signer()) == signed(signer())
    assert signed(signer("RSA")) == signed(signer("RSA"))
    assert signed(signer("P-256")) != signed(signer("P-256"))


def test_longest_signature_fits_the_limit() -> None:
    """With the longest allowed issuer and repository name, a signature by an RSA key of 8192 bits still fits."""
    issuer = IssuerUrl("https://" + "a" * 247)
    signature = sign_ledger(BODY, issuer=issuer, repository="a" * 63, role="operator", key=signer("RSA"))
    assert len(signature) + (8192 - 3072) // 8 * 4 / 3 < MAX_SIGNATURE_BYTES


def test_empty_ledger_is_signed_and_accepted() -> None:
    """A ledger of any length is signed and accepted."""
    for body in (b"", b"\0", b"." * 10**6):
        assert isinstance(verified(signed(signer(), body), signer().public(), body=body), SignatureHeader)


def test_other_repository_or_issuer_is_foreign() -> None:
    """A signature by a listed key for a test repository or for another issuer is rejected."""
    assert foreign(signed(signer(), repository="test")) == ("foreign", signer().kid)
    other = sign_ledger(BODY, issuer=OTHER_ISSUER, repository="prod", role="mirror", key=signer())
    assert foreign(other) == ("foreign", signer().kid)


def foreign(signature: bytes) -> tuple[str, str]:
    found = verified(signature, signer().public())
    assert isinstance(found, VerificationFailure)
    return found.code, found.kid


def test_unlisted_key_is_an_unknown_signer() -> None:
    """A signature by an unlisted key is reported with its kid, valid or not."""
    for signature in (signed(signer(number=1)), signed(signer(number=1), b"other")):
        found = verified(signature, signer().public())
        assert isinstance(found, VerificationFailure)
        assert (found.code, found.kid) == ("unknown_signer", signer(number=1).kid)


@pytest.mark.parametrize("kind", KINDS)
def test_changed_ledger_is_false(kind: str) -> None:
    """If the ledger has one byte more, less or different, its signature is rejected."""
    for body in (BODY + b"\n", BODY[:-1], BODY.replace(b"x", b"y"), b""):
        found = verified(signed(signer(kind)), signer(kind).public(), body=body)
        assert found == VerificationFailure(
            "false", f"Key {signer(kind).kid} did not sign these bytes.", signer(kind).kid
        )


def written(header: bytes, value: bytes = b"0" * 64) -> bytes:
    """A signature file with this header."""
    return b"..".join(urlsafe_b64encode(part).rstrip(b"=") for part in (header, value)) + b"\n"


@pytest.mark.parametrize(
    ("signature", "reported"),
    [
        (b"a..b\n" + b" " * MAX_SIGNATURE_BYTES, f"has more than {MAX_SIGNATURE_BYTES} bytes"),
        ("a..\u00e9\n".encode(), "not ASCII"),
        (b"", "not one line"),
        (b"a..b", "not one line"),
        (b"a.b.c\n", "not one line"),
        (b"a.b\n", "not one line"),
        (b"eyJ9..YQ==\n", "not base64url"),
        (b"a..YQ\n", "not base64url"),
        (written(b"no JSON"), "not what this program writes"),
        (written(b"{}"), "not what this program writes"),
    ],
)
def test_text_that_is_no_signature_is_damaged(signature: bytes, reported: str) -> None:
    """Any other text than our detached JWS is reported as damaged, with the error of its format, and without a kid."""
    found = verified(signature, signer().public())
    assert isinstance(found, VerificationFailure)
    assert (found.code, found.kid) == ("damaged", "")
    assert reported in found.sentence


def test_trust_signs_and_verifies_with_its_own_values() -> None:
    """`LedgerTrust` signs for its repository and role; `LedgerVerifier` accepts the same without a private key."""
    operator, own = signer(number=1), signer()
    keys = {key.kid: key.public() for key in (operator, own)}
    trust = LedgerTrust("prod", keys, operator, "operator")
    header = SignatureHeader("EdDSA", ISSUER, operator.kid, "prod", "operator")
    signature = trust.sign(BODY, ISSUER)
    assert trust.verify(BODY, signature, ISSUER) == header
    assert LedgerVerifier("prod", keys).verify(BODY, signature, ISSUER) == header
    assert isinstance(LedgerVerifier("test", keys).verify(BODY, signature, ISSUER), VerificationFailure)


@cache
def signed_once(kind: str) -> bytes:
    return signed(signer(kind))


@given(st.sampled_from(KINDS), st.integers(0), st.integers(1, 255))
def test_flipped_byte_of_a_signature_is_never_accepted(kind: str, where: int, bits: int) -> None:
    """A signature has exactly one encoding, so a change of any byte is rejected."""
    signature = bytearray(signed_once(kind))
    signature[where % len(signature)] ^= bits
    assert isinstance(verified(bytes(signature), signer(kind).public()), VerificationFailure)


@given(st.sampled_from(KINDS), st.integers(0), st.integers(1, 255))
def test_flipped_byte_of_a_ledger_is_never_accepted(kind: str, where: int, bits: int) -> None:
    """Every byte of the ledger is signed."""
    body = bytearray(BODY)
    body[where % len(body)] ^= bits
    assert isinstance(verified(signed_once(kind), signer(kind).public(), body=bytes(body)), VerificationFailure)


@given(st.binary(max_size=5000), st.binary(max_size=100))
def test_no_bytes_make_verifying_raise(signature: bytes, body: bytes) -> None:
    """Random bytes are rejected without an exception."""
    assert isinstance(verified(signature, signer().public(), body=body), VerificationFailure)


@given(st.lists(st.binary(max_size=80), min_size=3, max_size=3))
def test_no_parts_make_verifying_raise(parts: list[bytes]) -> None:
    """Random bytes in well-formed base64url are rejected without an exception."""
    text = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in (parts[0], b"", parts[2])) + b"\n"
    found = verified(text, signer().public())
    assert isinstance(found, VerificationFailure)
    assert found.code == "damaged"


@given(
    st.text(min_size=1, max_size=300, alphabet=st.characters(exclude_categories=["Cs"])),
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True),
    st.sampled_from(["mirror", "operator"]),
    st.binary(max_size=200),
)
def test_every_signed_ledger_is_accepted(issuer: str, repository: str, role: str, body: bytes) -> None:
    """Any issuer, repository name, role and body can be signed, and the signature is accepted."""
    url, key = IssuerUrl(issuer), signer()
    signature = sign_ledger(body, issuer=url, repository=repository, role=role, key=key)  # type: ignore[arg-type]  # one of the two
    found = verify_ledger(body, signature, issuer=url, repository=repository, keys={key.kid: key.public()})
    assert found == SignatureHeader("EdDSA", url, key.kid, repository, role)  # type: ignore[arg-type]  # one of the two
