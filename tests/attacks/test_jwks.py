"""Hostile and broken key sets: no key of them is accepted, and every reason is reported."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mirror.model import KeyPolicy
from mirror.trust.jwks import CURVES, KeySet, coordinate_bytes, read_jwks, thumbprint_of
from mirror.trust.parsing import Rejected, decode_uint, encode
from support.captures import capture
from support.keys import EC_KEYS, RSA_KEYS, jwks_body, with_kid

KUBERNETES = KeyPolicy()
OPAQUE = KeyPolicy(kid="opaque")
STRICT = KeyPolicy(unknown_keys="refuse")
RSA = RSA_KEYS[0].members()
EC = next(key for key in EC_KEYS if key.crv == "P-256").members()
P521 = next(key for key in EC_KEYS if key.crv == "P-521").members()
GOOD = RSA_KEYS[1].members()
JWT_IO_N = (
    "u1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0_IzW7yWR7QkrmBL7jTKEn5u-qKhbwKfBstIs-bMY2Zkp18gnTxK"
    "LxoS2tFczGkPLPgizskuemMghRniWaoLcyehkd3qqGElvW_VDL5AaWTg0nLVkjRo9z-40RQzuVaE8AkAFmxZzow3x-VJYKdjykkJ0iT9wCS0DRTX"
    "u269V264Vf_3jvredZiKRkgwlL9xNAwxXFg0x_XFw005UWVRIkdgcKWTjpBP2dPwVZ4WWC-9aGVd-Gyn1o0CLelf4rEjGoXbAAEgAqeGUxrcIlbj"
    "Xfbcmw"
)
RFC_7515_EC = {
    "kty": "EC",
    "kid": "a",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}


def refusal(body: bytes, policy: KeyPolicy = KUBERNETES) -> list[tuple[str, str]]:
    """Code and place of every reason; nothing may be accepted."""
    read = read_jwks(body, policy=policy)
    assert isinstance(read, Rejected), read
    assert all(reason.sentence.isprintable() and reason.remedy for reason in read.reasons)
    return [(reason.code, reason.where) for reason in read.reasons]


def with_entry(entry: object) -> bytes:
    """A JWKS whose second key is `entry` and whose first is good."""
    return json.dumps({"keys": [GOOD, entry]}).encode()


def number(value: int) -> str:
    return encode(value.to_bytes(max(1, (value.bit_length() + 7) // 8)))


def large_keys(count: int) -> bytes:
    """Moduli that only a costly check could judge."""
    moduli = ({**RSA, "kid": f"k{at}", "n": number(2**8191 + 2 * at + 1)} for at in range(count))
    return json.dumps({"keys": list(moduli)}).encode()


def small_ec(crv: str, scalar: int, sign: int) -> dict[str, str]:
    """The public key of a private key that is easy to guess; a negative one mirrors the point."""
    numbers = ec.derive_private_key(scalar, CURVES[crv]).public_key().public_numbers()
    size = coordinate_bytes(crv)
    y = numbers.y if sign > 0 else FIELDS[crv] - numbers.y
    return {"kty": "EC", "kid": "a", "crv": crv, "x": encode(numbers.x.to_bytes(size)), "y": encode(y.to_bytes(size))}


FIELDS = {
    "P-256": 2**256 - 2**224 + 2**192 + 2**96 - 1,
    "P-384": 2**384 - 2**128 - 2**96 + 2**32 - 1,
    "P-521": 2**521 - 1,
}
"""The prime of each curve's field (FIPS 186-4, D.1.2)."""
BAD_ENTRIES = {
    "no object": (["a"], "bad_key", ""),
    "null": (None, "bad_key", ""),
    "no kty": ({name: text for name, text in RSA.items() if name != "kty"}, "bad_key", ""),
    "kty is a number": ({**RSA, "kty": 1}, "bad_key", ""),
    "kty is a list": ({**RSA, "kty": ["RSA"]}, "bad_key", ""),
    "use enc": ({**RSA, "use": "enc"}, "wrong_use", ".use"),
    "use null": ({**RSA, "use": None}, "wrong_use", ".use"),
    "key_ops sign": ({**RSA, "key_ops": ["sign", "verify"]}, "wrong_key_ops", ".key_ops"),
    "key_ops empty": ({**RSA, "key_ops": []}, "wrong_key_ops", ".key_ops"),
    "key_ops text": ({**RSA, "key_ops": "verify"}, "wrong_key_ops", ".key_ops"),
    "alg none": ({**RSA, "alg": "none"}, "wrong_alg", ".alg"),
    "alg HS256": ({**RSA, "alg": "HS256"}, "wrong_alg", ".alg"),
    "alg PS256": ({**RSA, "alg": "PS256"}, "wrong_alg", ".alg"),
    "alg ES256 for RSA": ({**RSA, "alg": "ES256"}, "wrong_alg", ".alg"),
    "alg null": ({**RSA, "alg": None}, "wrong_alg", ".alg"),
    "alg RS256 for EC": ({**EC, "alg": "RS256"}, "wrong_alg", ".alg"),
    "alg of another curve": ({**EC, "alg": "ES384"}, "wrong_alg", ".alg"),
    "kid missing": ({name: text for name, text in RSA.items() if name != "kid"}, "bad_kid", ".kid"),
    "kid empty": ({**RSA, "kid": ""}, "bad_kid", ".kid"),
    "kid a number": ({**RSA, "kid": 7}, "bad_kid", ".kid"),
    "kid too long": ({**RSA, "kid": "x" * 1025}, "bad_kid", ".kid"),
    "kid with an escape sequence": ({**RSA, "kid": "a\x1b[2J"}, "bad_kid", ".kid"),
    "kid with a line feed": ({**RSA, "kid": "a\nKey-Revoked: b"}, "bad_kid", ".kid"),
    "kid with a bidirectional override": ({**RSA, "kid": "a\u202eb"}, "bad_kid", ".kid"),
    "kid with a zero-width space": ({**RSA, "kid": "a\u200bb"}, "bad_kid", ".kid"),
    "kid of another key": ({**RSA, "kid": EC["kid"]}, "wrong_kid", ".kid"),
    "kid is the thumbprint": ({**RSA, "kid": RSA_KEYS[0].thumbprint}, "wrong_kid", ".kid"),
    "n missing": ({name: text for name, text in RSA.items() if name != "n"}, "bad_encoding", ".n"),
    "n padded": ({**RSA, "n": RSA["n"] + "=="}, "bad_encoding", ".n"),
    "n in plain base64": ({**RSA, "n": "+" + RSA["n"][1:]}, "bad_encoding", ".n"),
    "n with a leading zero": ({**RSA, "n": encode(b"\x00" + b"\xff" * 256)}, "bad_encoding", ".n"),
    "n with unused bits": ({**RSA, "n": RSA["n"][:-1] + "_"}, "bad_encoding", ".n"),
    "n with a line feed": ({**RSA, "n": RSA["n"] + "\n"}, "bad_encoding", ".n"),
    "n a number": ({**RSA, "n": 2**2047 + 1}, "bad_encoding", ".n"),
    "e as a number": ({**RSA, "e": 65537}, "bad_encoding", ".e"),
    "e with a leading zero": ({**RSA, "e": "AAEAAQ"}, "bad_encoding", ".e"),
    "e is 1": ({**RSA, "e": "AQ"}, "weak_key", ".e"),
    "e is 3": ({**RSA, "e": "Aw"}, "weak_key", ".e"),
    "e is even": ({**RSA, "e": number(65538)}, "weak_key", ".e"),
    "e is 2^32+1": ({**RSA, "e": number(2**32 + 1)}, "weak_key", ".e"),
    "n of 1024 bits": ({**RSA, "n": number(2**1023 + 1)}, "weak_key", ".n"),
    "n of a megabit": ({**RSA, "n": number(2**1_000_000 + 1)}, "weak_key", ".n"),
    "n is zero": ({**RSA, "n": "AA", "e": "Aw"}, "weak_key", ".n"),
    "n even": ({**RSA, "n": number(2**2047)}, "weak_key", ".n"),
    "n with a small factor": ({**RSA, "n": number(3 * (2**2047 // 3) | 1)}, "weak_key", ".n"),
    "n a power": ({**RSA, "n": number(3**1293)}, "weak_key", ".n"),
    "n a prime": ({**RSA, "n": number(2**2048 - 1942289)}, "weak_key", ".n"),
    "n with a factor of 17 bits": ({**RSA, "n": number(65537 * (2**2047 // 65537 | 1))}, "weak_key", ".n"),
    **{
        f"private key {sign * scalar} of {crv}": (small_ec(crv, scalar, sign), code, place)
        for crv in CURVES
        for scalar, sign, code, place in (
            (1, 1, "known_test_key", ""),
            (1, -1, "weak_key", ".x"),
            (2, 1, "weak_key", ".x"),
            (16, -1, "weak_key", ".x"),
        )
    },
    "RSA key of jwt.io": ({"kty": "RSA", "kid": "a", "n": JWT_IO_N, "e": "AQAB"}, "known_test_key", ""),
    "EC key of RFC 7515": (RFC_7515_EC, "known_test_key", ""),
    "curve secp256k1": ({**EC, "crv": "secp256k1"}, "wrong_curve", ".crv"),
    "curve in lower case": ({**EC, "crv": "p-256"}, "wrong_curve", ".crv"),
    "curve missing": ({name: text for name, text in EC.items() if name != "crv"}, "wrong_curve", ".crv"),
    "curve a list": ({**EC, "crv": ["P-256"]}, "wrong_curve", ".crv"),
    "x without leading zeros": ({**P521, "x": P521["x"][4:]}, "bad_encoding", ".x"),
    "x padded": ({**EC, "x": EC["x"] + "="}, "bad_encoding", ".x"),
    "x of another curve": ({**EC, "x": "A" * 64}, "bad_encoding", ".x"),
    "y missing": ({name: text for name, text in EC.items() if name != "y"}, "bad_encoding", ".y"),
    "point off the curve": ({**EC, "x": EC["y"], "y": EC["x"]}, "not_on_curve", ".y"),
    "point at zero": ({**EC, "x": "A" * 43, "y": "A" * 43}, "not_on_curve", ".y"),
    "coordinate beyond the field": ({**EC, "x": encode(b"\xff" * 32)}, "not_on_curve", ".y"),
}


@pytest.mark.parametrize(("entry", "code", "place"), BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_one_bad_key_spoils_the_set(entry: object, code: str, place: str) -> None:
    """A single bad key makes the whole set unusable, with its code and place; the good key is rejected too."""
    assert (code, f"jwks keys[1]{place}") in refusal(with_entry(entry))


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"])
@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        pytest.param(lambda name: {"keys": [{**GOOD, name: "AQ"}]}, "jwks keys[0].{}", id="in a key"),
        pytest.param(lambda name: {"keys": [GOOD], name: None}, "jwks {}", id="at the top"),
        pytest.param(
            lambda name: {"keys": [GOOD, {"kty": "OKP", name: 1}]}, "jwks keys[1].{}", id="in a key that is skipped"
        ),
        pytest.param(
            lambda name: {"keys": [{**GOOD, "x5c": [{"a": {name: 1}}]}]}, "jwks keys[0].x5c[0].a.{}", id="nested"
        ),
        pytest.param(lambda name: {"keys": None, name: 1}, "jwks {}", id="in no key set at all"),
        pytest.param(lambda name: {"keys": [GOOD], "a b": {name: 1}}, 'jwks ["a b"].{}', id="under an odd name"),
    ],
)
def test_private_member_spoils_the_set(member: str, spoil: Callable[[str], dict[str, Any]], place: str) -> None:
    """A private member anywhere makes the whole set unusable, whatever its value (facts.md#46)."""
    assert ("private_key", place.format(member)) in refusal(json.dumps(spoil(member)).encode())


def test_private_value_is_never_printed() -> None:
    """No reason repeats the private number."""
    read = read_jwks(with_entry({**RSA, "d": "SECRETSECRET"}), policy=KUBERNETES)
    assert isinstance(read, Rejected)
    assert "SECRET" not in str(read)


@pytest.mark.parametrize(
    ("body", "policy", "code"),
    [
        pytest.param(b"", KUBERNETES, "not_json", id="nothing"),
        pytest.param(b"<html>", KUBERNETES, "not_json", id="a web page"),
        pytest.param(b"\xef\xbb\xbf" + jwks_body(RSA_KEYS[0]), KUBERNETES, "not_json", id="byte order mark"),
        pytest.param(jwks_body(RSA_KEYS[0])[:-1], KUBERNETES, "not_json", id="truncated"),
        pytest.param(b"[" * 100_000, KUBERNETES, "too_deep", id="deep"),
        pytest.param(b'{"keys":[],"keys":[]}', KUBERNETES, "duplicate_member", id="two sets"),
        pytest.param(
            jwks_body(RSA_KEYS[0]).replace(b'"kty"', b'"kid":"x","kty"'), KUBERNETES, "duplicate_member", id="two kids"
        ),
        pytest.param(b"[]", KUBERNETES, "not_object", id="array at the top"),
        pytest.param(b"{}", KUBERNETES, "no_keys", id="no keys"),
        pytest.param(b'{"keys":{}}', KUBERNETES, "no_keys", id="keys an object"),
        pytest.param(b'{"keys":null}', KUBERNETES, "no_keys", id="keys null"),
        pytest.param(capture("05-anonymous-auth-false/anonymous-jwks").body(), KUBERNETES, "no_keys", id="a 401"),
        pytest.param(b'{"keys":[]}', KUBERNETES, "empty_jwks", id="empty"),
        pytest.param(b'{"keys":[{"kty":"AKP"}]}', KUBERNETES, "empty_jwks", id="only skipped keys"),
        pytest.param(b'{"keys":[{"kty":"rsa"}]}', KUBERNETES, "empty_jwks", id="kty in lower case"),
        pytest.param(with_entry({"kty": "AKP"}), STRICT, "unknown_key", id="unknown type refused"),
        pytest.param(
            jwks_body(*(with_kid(EC_KEYS[0], str(i)) for i in range(201))), OPAQUE, "too_many_keys", id="201 keys"
        ),
        pytest.param(large_keys(17), OPAQUE, "too_costly", id="17 keys of 8192 bits"),
        pytest.param(b'{"keys":[' + b"0," * 300_000 + b"0]}", OPAQUE, "too_many_keys", id="300 000 entries"),
        pytest.param(
            jwks_body(with_kid(RSA_KEYS[0], "a"), with_kid(RSA_KEYS[1], "a")),
            OPAQUE,
            "duplicate_kid",
            id="one kid, two keys",
        ),
        pytest.param(
            json.dumps({"keys": [RSA, {**RSA, "alg": "RS512"}]}).encode(),
            OPAQUE,
            "duplicate_kid",
            id="one kid, two algs",
        ),
        pytest.param(jwks_body(with_kid(RSA_KEYS[0], "a")), KUBERNETES, "wrong_kid", id="opaque kid not allowed"),
    ],
)
def test_hostile_set_is_refused(body: bytes, policy: KeyPolicy, code: str) -> None:
    """A set that is broken as a whole is refused with one code."""
    assert [found for found, _ in refusal(body, policy)] == [code]


def test_all_reasons_of_all_keys_are_reported() -> None:
    """An operator sees every fault of every key at once."""
    first = {**RSA, "kid": "", "use": "enc", "alg": "none", "e": "Aw"}
    second = {**EC, "crv": "P-512", "key_ops": []}
    third = {**RSA, "n": "=", "e": 3}
    fourth = {**RSA, "kid": "other", "use": "enc"}
    assert refusal(json.dumps({"keys": [first, GOOD, second, third, fourth]}).encode()) == [
        ("bad_kid", "jwks keys[0].kid"),
        ("wrong_use", "jwks keys[0].use"),
        ("wrong_alg", "jwks keys[0].alg"),
        ("weak_key", "jwks keys[0].e"),
        ("wrong_key_ops", "jwks keys[2].key_ops"),
        ("wrong_curve", "jwks keys[2].crv"),
        ("bad_encoding", "jwks keys[3].n"),
        ("bad_encoding", "jwks keys[3].e"),
        ("wrong_use", "jwks keys[4].use"),
        ("wrong_kid", "jwks keys[4].kid"),
    ]


def test_flood_of_faults_is_a_bounded_report() -> None:
    """A mebibyte of private members gives a few hundred reasons, not a hundred thousand."""
    body = json.dumps({"keys": [GOOD], "a": [{"d": 1}] * 100_000}).encode()
    assert len(refusal(body)) == 257


def test_keys_that_are_known_cost_nothing() -> None:
    """Keys in our own ledger are not checked again, however large they are; a weak live key stays accepted."""
    body = large_keys(20)
    moduli = [decode_uint(entry["n"]) for entry in json.loads(body)["keys"]]
    known = frozenset(thumbprint_of("RSA", n=number(n), e="AQAB") for n in moduli if n is not None)
    assert isinstance(read_jwks(body, policy=OPAQUE, already_checked=known), KeySet)
    weak = small_ec("P-256", 2, 1)
    thumbprint = thumbprint_of("EC", crv="P-256", x=weak["x"], y=weak["y"])
    assert isinstance(
        read_jwks(json.dumps({"keys": [weak]}).encode(), policy=OPAQUE, already_checked={thumbprint}), KeySet
    )
