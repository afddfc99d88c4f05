"""One public key: a JSON object becomes a `Key`, or every reason why it is none.

Each rule is a row with its source. A rule is silent where an earlier row already tells what is wrong.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Literal

from mirror.model import EcKey, Key, Kid, Reason, RsaKey, Thumbprint
from mirror.trust.base64url import decode_coordinate, decode_uint
from mirror.trust.known_test_keys import KNOWN_TEST_KEYS
from mirror.trust.material import (
    CURVES,
    EC_ALGORITHMS,
    RSA_ALGORITHMS,
    coordinate_bytes,
    is_on_curve,
    kubernetes_kid,
    thumbprint_of,
)
from mirror.trust.weak_keys import SMALL_MULTIPLES, is_small_multiple, weaknesses
from mirror.trust.words import quoted

Members = Mapping[str, object]

KNOWN_TYPES = ("RSA", "EC")
MAX_KID_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """What one member must be: `holds(members)`, the end of a sentence that says so, the remedy, and the source."""

    member: str
    code: str
    holds: Callable[[Members], bool]
    sentence: str
    remedy: str
    citation: str


def is_printable_text(value: object, max_characters: int) -> bool:
    """Tell whether `value` is a text of 1..`max_characters` characters that a terminal shows as they are.

    Letters, marks, digits, symbols of any script and the plain space; no controls, no bidirectional or zero-width
    marks, no surrogates, nothing unassigned.
    """
    return isinstance(value, str) and 1 <= len(value) <= max_characters and value.isprintable()


def read_key(
    members: Members,
    where: str,
    *,
    kid: Literal["kubernetes", "opaque"],
    known: Container[Thumbprint],
) -> Key | tuple[Reason, ...]:
    """Read one key of a known type; private members have been looked for before.

    Args:
        members: the JWK; members that no rule names are ignored (RFC 7517, section 4).
        where: the place for reasons, such as `jwks keys[2]`.
        kid: `kubernetes` recomputes the kid and enforces it (fact 7); `opaque` takes any text.
        known: keys whose strength was checked before; only their shape is.

    Returns:
        The key, its `alg` set where it was absent (fact 8), or all reasons, with the codes `bad_key`, `bad_kid`,
        `wrong_kid`, `wrong_use`, `wrong_key_ops`, `wrong_alg`, `wrong_curve`, `bad_encoding`, `not_on_curve`,
        `weak_key`, `known_test_key`.
    """
    material = {"RSA": RSA_RULES, "EC": EC_RULES}.get(str(members.get("kty")))
    if material is None:
        return (_unknown_type(where),)
    failed = _failed(COMMON_RULES, members, where)
    broken = _failed(material, members, where)
    if any(reason.code != "wrong_alg" for reason in broken):
        return failed + broken
    key = _built(members)
    weak = _weaknesses(key, where, known)
    wrong_kid = () if weak or kid == "opaque" or not _has_kid(members) else _wrong_kid(key, where)
    return failed + broken + weak + wrong_kid or key


def _unknown_type(where: str) -> Reason:
    sentence = "The member kty names no key type that the mirror publishes (RSA, EC)."
    return Reason("bad_key", sentence, "Only RSA and EC keys sign ServiceAccount tokens for clouds.", f"{where}.kty")


def _failed(rules: tuple[Rule, ...], members: Members, where: str) -> tuple[Reason, ...]:
    return tuple(
        Reason(
            rule.code,
            f"The key's {rule.member} {rule.sentence} ({rule.citation}).",
            rule.remedy,
            f"{where}.{rule.member}",
        )
        for rule in rules
        if not rule.holds(members)
    )


def _built(members: Members) -> Key:
    """Build the key from members that passed the rules of its type; a bad kid is thrown away by the caller."""
    kid, text = Kid(str(members.get("kid"))), {name: str(members.get(name, "")) for name in ("n", "e", "crv", "x", "y")}
    if members["kty"] == "RSA":
        n, e = text["n"], text["e"]
        return RsaKey(kid, str(members.get("alg", "RS256")), n, e, thumbprint_of("RSA", n=n, e=e))
    crv, x, y = text["crv"], text["x"], text["y"]
    alg = str(members.get("alg", EC_ALGORITHMS[crv]))
    return EcKey(kid, alg, crv, x, y, thumbprint_of("EC", crv=crv, x=x, y=y))


def _weaknesses(key: Key, where: str, known: Container[Thumbprint]) -> tuple[Reason, ...]:
    source = KNOWN_TEST_KEYS.get(key.thumbprint)
    if source is not None:
        sentence = f"The private half of this key is public: {source}."
        return (Reason("known_test_key", sentence, "Make a new key pair; this one must never sign.", where),)
    if isinstance(key, EcKey):
        return () if key.thumbprint in known else _small_private_key(key, where)
    n, e = decode_uint(key.n) or 0, decode_uint(key.e) or 0
    return tuple(
        Reason(
            "weak_key",
            f"The key {check.sentence} ({check.citation}).",
            "Make a new RSA key of 2048 to 4096 bits with a current library.",
            f"{where}.{check.member}",
        )
        for check in weaknesses(n, e, checked_before=key.thumbprint in known)
    )


def _small_private_key(key: EcKey, where: str) -> tuple[Reason, ...]:
    x = decode_coordinate(key.x, coordinate_bytes(key.crv)) or 0
    if not is_small_multiple(CURVES[key.crv], x):
        return ()
    sentence = (
        f"The private key of this {key.crv} key is a number from 1 to {SMALL_MULTIPLES} or the negative of one, so"
        " everybody can sign with it (SEC 1, section 3.2.1)."
    )
    remedy = "Make a new key pair with a current library; this one must never sign."
    return (Reason("weak_key", sentence, remedy, f"{where}.x"),)


def _wrong_kid(key: Key, where: str) -> tuple[Reason, ...]:
    right = kubernetes_kid(key)
    if key.kid == right:
        return ()
    sentence = f"The kid is {quoted(key.kid)}, but kube-apiserver computes {quoted(right)} for this key (fact 7)."
    return (
        Reason("wrong_kid", sentence, "Set keys.kid to opaque if an external signer names the keys.", f"{where}.kid"),
    )


# -------------------------------------------------------------------------------------------------- rules


def _one_of(member: str, *values: object) -> Callable[[Members], bool]:
    return lambda members: member not in members or members[member] in values


def _has_kid(members: Members) -> bool:
    return is_printable_text(members.get("kid"), MAX_KID_CHARACTERS)


def _is_uint(member: str) -> Callable[[Members], bool]:
    return lambda members: decode_uint(members.get(member)) is not None


def _curve(members: Members) -> str | None:
    crv = members.get("crv")
    return crv if isinstance(crv, str) and crv in CURVES else None


def _has_curve(members: Members) -> bool:
    return _curve(members) is not None


def _has_algorithm_of_curve(members: Members) -> bool:
    crv = _curve(members)
    return crv is None or "alg" not in members or members["alg"] == EC_ALGORITHMS[crv]


def _coordinate(members: Members, member: str) -> int | None:
    crv = _curve(members)
    return None if crv is None else decode_coordinate(members.get(member), coordinate_bytes(crv))


def _is_coordinate(member: str) -> Callable[[Members], bool]:
    return lambda members: _curve(members) is None or _coordinate(members, member) is not None


def _is_point(members: Members) -> bool:
    crv, x, y = _curve(members), _coordinate(members, "x"), _coordinate(members, "y")
    return crv is None or x is None or y is None or is_on_curve(crv, x, y)


_SIGNER = "Look at the key file or the external signer of this apiserver."
_UINT = "is no base64url number of minimal length without padding"
_COORDINATE = "is no base64url number of the curve's full length without padding"

COMMON_RULES = (
    Rule("kid", "bad_kid", _has_kid, "is not 1 to 1024 printable characters", _SIGNER, "RFC 7517, section 4.5; fact 7"),
    Rule("use", "wrong_use", _one_of("use", "sig"), "is not sig", _SIGNER, "RFC 7517, section 4.2"),
    Rule(
        "key_ops",
        "wrong_key_ops",
        _one_of("key_ops", ["verify"]),
        "is not verify alone",
        _SIGNER,
        "RFC 7517, section 4.3",
    ),
)
RSA_RULES = (
    Rule(
        "alg",
        "wrong_alg",
        _one_of("alg", *RSA_ALGORITHMS),
        "is not RS256, RS384 or RS512",
        _SIGNER,
        "RFC 7518, section 3.3; fact 8",
    ),
    Rule("n", "bad_encoding", _is_uint("n"), _UINT, _SIGNER, "RFC 7518, section 6.3.1.1; fact 45"),
    Rule("e", "bad_encoding", _is_uint("e"), _UINT, _SIGNER, "RFC 7518, section 6.3.1.2; fact 45"),
)
EC_RULES = (
    Rule("crv", "wrong_curve", _has_curve, "is not P-256, P-384 or P-521", _SIGNER, "RFC 7518, section 6.2.1.1"),
    Rule(
        "alg",
        "wrong_alg",
        _has_algorithm_of_curve,
        "is not that of its curve",
        _SIGNER,
        "RFC 7518, section 3.4; fact 8",
    ),
    Rule("x", "bad_encoding", _is_coordinate("x"), _COORDINATE, _SIGNER, "RFC 7518, section 6.2.1.2; fact 45"),
    Rule("y", "bad_encoding", _is_coordinate("y"), _COORDINATE, _SIGNER, "RFC 7518, section 6.2.1.3; fact 45"),
    Rule("y", "not_on_curve", _is_point, "makes no point of the curve with x", _SIGNER, "RFC 7518, section 6.2.1"),
)
