"""Which key sets are accepted, and how they are read."""

import json
from base64 import b64decode
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given

from mirror.model import EcKey, Key, KeyPolicy, key_id
from mirror.trust.jwks import KNOWN_TEST_KEYS, KeySet, kubernetes_kid, read_jwks, thumbprint_of
from mirror.trust.parsing import Rejected, encode
from support.captures import FOLDER, RawAnswer, captures
from support.keys import EC_KEYS, KEYS, RSA_KEYS, jwks_body, with_kid
from support.strategies import key_sets

KUBERNETES = KeyPolicy()
OPAQUE = KeyPolicy(kid="opaque")
JWKS_CAPTURES = tuple(each for each in captures() if each.status() == 200 and each.body().startswith(b'{"keys":['))


def believed(body: bytes, policy: KeyPolicy = KUBERNETES) -> KeySet:
    read = read_jwks(body, policy=policy)
    assert isinstance(read, KeySet), read
    return read


@pytest.mark.parametrize("answer", JWKS_CAPTURES, ids=[each.name for each in JWKS_CAPTURES])
def test_real_answers_are_accepted(answer: RawAnswer) -> None:
    """Every captured JWKS of a real kube-apiserver is accepted completely, with its members."""
    keys = believed(answer.body()).keys
    distinct = {json.dumps(entry, sort_keys=True) for entry in json.loads(answer.body())["keys"]}
    assert {json.dumps(key.members(), sort_keys=True) for key in keys} == distinct


def test_captures_are_there() -> None:
    """The table above is not empty."""
    assert len(JWKS_CAPTURES) >= 30


PUBLIC_KEY_FILES = sorted(FOLDER.glob("keys/*.pub"))


@pytest.mark.parametrize("path", PUBLIC_KEY_FILES, ids=[path.name for path in PUBLIC_KEY_FILES])
def test_kubernetes_kid_is_the_hash_of_the_key_file(path: Path) -> None:
    """The computed kid is the SHA-256 of the DER that openssl wrote; kube-apiserver published the same kid."""
    text = path.read_text()
    der = b64decode("".join(line for line in text.splitlines() if "-----" not in line))
    kid = encode(sha256(der).digest())
    published: dict[str, Key] = {key.kid: key for each in JWKS_CAPTURES for key in believed(each.body()).keys}
    assert kubernetes_kid(published[kid]) == kid


@pytest.mark.parametrize("key", KEYS, ids=[f"{key.kty}-{key.kid[:6]}" for key in KEYS])
def test_each_type_and_size_is_accepted(key: Key) -> None:
    """RSA keys of 2048 to 4096 bits and keys on the three curves are accepted unchanged."""
    assert believed(jwks_body(key)).keys == (key,)


@pytest.mark.parametrize(
    ("key", "alg"),
    [(RSA_KEYS[0], "RS256"), *((key, key.alg) for key in EC_KEYS[::3])],
    ids=lambda value: str(value)[:9],
)
def test_absent_optional_members_are_set(key: Key, alg: str) -> None:
    """A key without `alg`, `use` and `key_ops` gets the algorithm of its type."""
    members = {name: text for name, text in key.members().items() if name not in {"alg", "use"}}
    read = believed(json.dumps({"keys": [members]}).encode()).keys[0]
    assert read.alg == alg
    assert read == key


def test_foreign_members_are_left_out() -> None:
    """Certificates and comments are ignored and never published (RFC 7517, section 4)."""
    members = {**RSA_KEYS[0].members(), "x5c": ["abc"], "key_ops": ["verify"], "comment": {"a": [1]}}
    body = json.dumps({"keys": [members], "more": 1}).encode()
    assert believed(body).keys == (RSA_KEYS[0],)


@pytest.mark.parametrize("alg", ["RS256", "RS384", "RS512"])
def test_other_rsa_algorithms_are_kept(alg: str) -> None:
    """An external signer may sign RSA with SHA-384 or SHA-512."""
    body = json.dumps({"keys": [{**RSA_KEYS[0].members(), "alg": alg}]}).encode()
    assert believed(body).keys[0].alg == alg


@pytest.mark.parametrize("kid", ["a b", "schlüssel-日本", "x" * 1024, "-", "👍", "null"])
def test_opaque_kids_are_any_printable_text(kid: str) -> None:
    """External signers name their keys as they like (facts.md#7)."""
    key = with_kid(RSA_KEYS[0], kid)
    assert believed(jwks_body(key), OPAQUE).keys == (key,)


def test_identical_duplicates_collapse() -> None:
    """kube-apiserver shows a key file twice if it is configured twice: it is one key (facts.md#3)."""
    pair: tuple[Key, ...] = (RSA_KEYS[0], EC_KEYS[0])
    assert believed(jwks_body(*pair, RSA_KEYS[0])).keys == tuple(sorted(pair, key=key_id))


def test_same_material_under_two_kids_is_two_keys() -> None:
    """The identity of a key is kid and thumbprint together."""
    twice = (with_kid(RSA_KEYS[0], "a"), with_kid(RSA_KEYS[0], "b"))
    assert believed(jwks_body(*twice), OPAQUE).keys == twice


def test_unknown_type_is_skipped_with_a_note() -> None:
    """A key that breaks relying parties is left out, and a note reports it."""
    body = json.dumps({"keys": [{"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}, RSA_KEYS[0].members()]}).encode()
    read = believed(body)
    assert read.keys == (RSA_KEYS[0],)
    assert [note.code for note in read.notes] == ["unknown_key_skipped"]
    assert "AKP" in read.notes[0].sentence


def test_strength_of_known_keys_is_not_checked_again() -> None:
    """A thumbprint in our own ledger skips the strength checks, and no others."""
    weak = encode((3**1293).to_bytes(257))
    body = json.dumps({"keys": [{"kty": "RSA", "kid": "a", "n": weak, "e": "AQAB"}]}).encode()
    refused = read_jwks(body, policy=OPAQUE)
    assert isinstance(refused, Rejected)
    assert {reason.code for reason in refused.reasons} == {"weak_key"}
    known = frozenset({thumbprint_of("RSA", n=weak, e="AQAB")})
    read = read_jwks(body, policy=OPAQUE, already_checked=known)
    assert isinstance(read, KeySet)
    assert [key.kid for key in read.keys] == ["a"]


def test_two_hundred_keys_are_read() -> None:
    """A set of exactly 200 keys is accepted."""
    keys = tuple(with_kid(EC_KEYS[0], f"{number:03}") for number in range(200))
    assert believed(jwks_body(*keys), OPAQUE).keys == keys


@given(key_sets(max_size=4))
def test_accepted_set_is_accepted_again(keys: tuple[Key, ...]) -> None:
    """An accepted key set can be rendered and read again unchanged, in any order of keys."""
    read = believed(jwks_body(*reversed(keys)), OPAQUE)
    assert read == KeySet(keys)
    assert believed(jwks_body(*read.keys), OPAQUE) == read


def test_fixture_keys_are_no_known_test_keys() -> None:
    """The list of known test keys does not contain the keys of our captures."""
    shown = {key.thumbprint for each in JWKS_CAPTURES for key in believed(each.body()).keys}
    assert shown
    assert not shown & KNOWN_TEST_KEYS.keys()


def test_curve_coordinates_keep_leading_zeros() -> None:
    """P-521 coordinates are 66 bytes, so their text always begins with A (RFC 7518, section 6.2.1.2)."""
    key = next(key for key in EC_KEYS if key.crv == "P-521")
    assert isinstance(key, EcKey)
    assert key.x.startswith("A")
    assert len(key.x) == 88
