"""Parse a JWKS: bytes become a set of keys, or every reason why none of them is accepted.

A malformed key is never skipped: publishing a smaller set silently logs pods out.

A JSON object becomes one public `Key`, or every reason why it is not a key.
Each rule is a row with its source. A rule reports nothing where an earlier row already reports the fault.

The module also lists keys with a published private half, by RFC 7638 thumbprint (facts.md#43).
Users copy such keys from a standard or a tutorial into real clusters. The list is short on purpose. It has only keys
that the test vectors of public libraries quote from the named source; the thumbprints were computed from those.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwcrypto.jwk import JWK

from mirror.model import EcKey, Key, KeyPolicy, Kid, Note, Reason, RsaKey, Thumbprint, key_id
from mirror.trust.parsing import (
    Rejected,
    decode_coordinate,
    decode_uint,
    encode,
    json_path_step,
    quote,
    read_object,
    reject,
)
from mirror.trust.weak_keys import MAX_MODULUS_BITS, SMALL_MULTIPLES, checking_cost, is_small_multiple, weaknesses

MAX_KEYS = 200
MAX_CHECKING_COST = 8192
"""The highest cost of checking the new keys of one JWKS, by `checking_cost`: 20 to 40 s of computing.

It is enough for 200 keys of 3072 bits, 128 keys of 4096 bits or 16 keys of 8192 bits. Without a limit, a hostile
apiserver could keep this machine busy for minutes.
"""
_DOCUMENT = "jwks"


@dataclass(frozen=True, slots=True)
class KeySet:
    """The validated keys of one JWKS: sorted by `key_id`, none twice, at least one."""

    keys: tuple[Key, ...]
    notes: tuple[Note, ...] = ()


def read_jwks(
    body: bytes, *, policy: KeyPolicy, already_checked: Container[Thumbprint] = frozenset()
) -> KeySet | Rejected:
    """Read a JWKS (RFC 7517, section 5) of RSA and EC signature keys.

    Args:
        body: the bytes that the apiserver sent.
        policy: how kids and keys of unknown type are treated.
        already_checked: thumbprints of keys whose strength was checked when they came into our own ledger.

    Returns:
        The set, or all reasons of all keys: the codes of `read_object` and `read_key`, and `private_key`, `no_keys`,
        `empty_jwks`, `too_many_keys`, `too_costly`, `unknown_key`, `duplicate_kid`.
    """
    document = read_object(body, _DOCUMENT)
    if isinstance(document, Reason):
        return Rejected((document,))
    entries = _entries(document)
    if isinstance(entries, Reason):
        return reject((*private_members(document, _DOCUMENT), entries))
    if sum(checking_cost(n) for n, _ in _new_rsa_keys(entries, already_checked).values()) > MAX_CHECKING_COST:
        return reject((*private_members(document, _DOCUMENT), _too_costly()))
    read = tuple(
        _read_entry(entry, f"{_DOCUMENT} keys[{i}]", policy, already_checked) for i, entry in enumerate(entries)
    )
    reasons = private_members(document, _DOCUMENT) + tuple(
        reason for each in read if isinstance(each, tuple) for reason in each
    )
    return reject(reasons) if reasons else _collected(read)


def _entries(document: dict[str, object]) -> list[object] | Reason:
    entries = document.get("keys")
    if not isinstance(entries, list):
        sentence = "has no array of keys (RFC 7517, section 5.1)"
        return _set_reason("no_keys", sentence, "Check which server answers there.")
    if not entries:
        return _empty()
    if len(entries) > MAX_KEYS:
        sentence = f"has {len(entries)} keys, and at most {MAX_KEYS} are read"
        return _set_reason("too_many_keys", sentence, "Remove old key files from this apiserver.")
    return entries


def new_rsa_keys(body: bytes, already_checked: Container[Thumbprint]) -> Mapping[Thumbprint, tuple[int, int]]:
    """Give modulus and exponent of each RSA key in a JWKS that needs a strength check; none if `body` is not a JWKS.

    Args:
        body: the bytes that the apiserver sent.
        already_checked: as in `read_jwks`.
    """
    document = read_object(body, _DOCUMENT)
    entries = _entries(document) if isinstance(document, dict) else []
    return {} if isinstance(entries, Reason) else _new_rsa_keys(entries, already_checked)


def _new_rsa_keys(entries: list[object], already_checked: Container[Thumbprint]) -> dict[Thumbprint, tuple[int, int]]:
    found: dict[Thumbprint, tuple[int, int]] = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("kty") != "RSA":
            continue
        n, e = decode_uint(entry.get("n")), decode_uint(entry.get("e"))
        # Do no costly computation with a modulus of absurd size.
        if n is not None and e is not None and n.bit_length() <= MAX_MODULUS_BITS:
            thumbprint = thumbprint_of("RSA", n=str(entry["n"]), e=str(entry["e"]))
            if thumbprint not in already_checked:
                found[thumbprint] = (n, e)
    return found


def _read_entry(
    entry: object, where: str, policy: KeyPolicy, already_checked: Container[Thumbprint]
) -> Key | Note | tuple[Reason, ...]:
    if not isinstance(entry, dict) or not isinstance(entry.get("kty"), str):
        sentence = "An entry of keys is not an object with a key type (RFC 7517, section 4.1)."
        return (Reason("bad_key", sentence, "Check the key files of this apiserver.", where),)
    if entry["kty"] in KNOWN_TYPES:
        return read_key(entry, where, kid=policy.kid, already_checked=already_checked)
    sentence = f"A key is of the type {quote(entry['kty'])}, which relying parties may not know."
    if policy.unknown_keys == "skip":
        return Note("unknown_key_skipped", f"{sentence} It is left out.")
    return (Reason("unknown_key", sentence, "Remove the key, or set keys.unknown_keys to skip.", f"{where}.kty"),)


def _collected(read: tuple[Key | Note | tuple[Reason, ...], ...]) -> KeySet | Rejected:
    notes = tuple(each for each in read if isinstance(each, Note))
    # kube-apiserver publishes a key file that is configured twice twice (facts.md#3): equal entries count once.
    distinct = {each: None for each in read if not isinstance(each, Note | tuple)}
    keys = tuple(sorted(distinct, key=key_id))
    conflicts = tuple(_conflicts(keys))
    if conflicts:
        return Rejected(conflicts)
    return KeySet(keys, notes) if keys else Rejected((_empty(),))


def _conflicts(keys: tuple[Key, ...]) -> Iterator[Reason]:
    kids: set[Kid] = set()
    for key in keys:
        if key.kid in kids:
            sentence = f"names two different keys {quote(key.kid)}"
            yield _set_reason("duplicate_kid", sentence, "Give each key its own kid at the external signer.")
        kids.add(key.kid)


def _empty() -> Reason:
    sentence = "holds no key that can be published, which no apiserver serves"
    return _set_reason("empty_jwks", sentence, "Check --service-account-key-file of this apiserver.")


def _too_costly() -> Reason:
    sentence = "has so many new and large RSA keys that checking them would take longer than 20 s"
    remedy = "Remove old key files from this apiserver, or sign with RSA keys of 2048 to 4096 bits."
    return _set_reason("too_costly", sentence, remedy)


def _set_reason(code: str, what: str, remedy: str) -> Reason:
    return Reason(code, f"The JWKS {what}.", remedy, f"{_DOCUMENT} keys")


KNOWN_TEST_KEYS: dict[Thumbprint, str] = {
    Thumbprint("IsUn6_e04MaShXFIISMp4kG62LWzMIPy_MvSA5pJgX8"): "RFC 7515, appendix A.2",
    Thumbprint("oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"): "RFC 7515, appendix A.3",
    Thumbprint("u5YUSjQ2-2chBi51NSk3t3g7IM4o2KYcnPqPtCNGd3U"): "RFC 7515, appendix A.4",
    Thumbprint("xtIsOV1FqKH77AI_A3jdTg5QfdabzqI-LNpYTPi0IgI"): "RFC 7516, appendix A.1",
    Thumbprint("_K0fXS8wlsT7Tn3vvZrs9qdKUIqi5AxQ5EVk41xi_BM"): "RFC 7516, appendix A.2",
    Thumbprint("cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"): "RFC 7517, appendix A.1",
    Thumbprint("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"): "RFC 7517, appendix A.1, and RFC 7638, section 3.1",
    Thumbprint("DdsFv-2-wgcPoDcyS6OXOWVh00JdbWkkVXDCYdxJ3uM"): "RFC 7517, appendix B",
    Thumbprint("D8R4-FeTJfzuDUy8bZ0c4hcwpul-Q11gCPs3mw6-R9Q"): "RFC 7517, appendix C.1",
    Thumbprint("dHri3SADZkrush5HU_50AoRhcKFryN-PI6jPBtPL55M"): "RFC 7520, section 3.1",
    Thumbprint("9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"): "RFC 7520, section 3.3",
    Thumbprint("h_jutvC-jg3Nwueq8LmdSybXykVsBwk4_5u5Y9JiS7E"): "RFC 7520, section 5.1",
    Thumbprint("Rt-IyDEhXohvTl_ozKQ9YGflXGuDb3uu3QmqN2LoMwM"): "RFC 7520, section 5.2",
    Thumbprint("YlKlB7M2wnS0cPn_V7OW-FuDLuWdJ9z4OvPHmhGDfeE"): "RFC 7520, section 5.4",
    Thumbprint("HsSFalww3yP-dO-lWGYgFcyV5H22oScIFc4V2Y6GOto"): "RFC 7520, section 5.5",
    Thumbprint("_GK0r6GCoJt9zcssg9lay4obIxgCq05ntiRymRHADSU"): "RFC 7518, appendix C (Alice)",
    Thumbprint("Vy57XrArUrW0NbpI12tEzDHABxMwrTh6HHXRenSpnCo"): "RFC 7518, appendix C (Bob)",
    Thumbprint("DOvxvJiAdIqVWIkFt5hDtCunXLF0BV4-JGv4f-ALSm0"): "RFC 6979, appendix A.2.5",
    Thumbprint("xx0BcA-wMohw8atYDJOe6peGModklG2wRHBlXHMvl0M"): "the base point of P-256: the private key is 1",
    Thumbprint("-W6Wzot_wuerYbKBVKfGEks3iY2EALna-hBqObnPuJE"): "the base point of P-384: the private key is 1",
    Thumbprint("OeKGf9VndDjYwHKRd0dpgdELFndZEEkXwdriDA_fITE"): "the base point of P-521: the private key is 1",
    Thumbprint("oGDmHqCJ7yzMkWEkrlZVHkvrHIyQwtlDmeq5ForUHeY"): "the RS256 example of jwt.io",
    Thumbprint("19J8y7Zprt2-QKLjF2I5pVk0OELX6cY2AfaAv1LC_w8"): "the ES256 example of jwt.io",
    Thumbprint("iTqXXI0zbAnJCKDaobfhkM1f-6rMSpTfyZMRp_2tKI8"): "the ES384 example of jwt.io",
    Thumbprint("xZDfZpry4P9vZPZyG2fNBRj-7Lz5omVdm7tHoCgSNfY"): "the ES512 example of jwt.io",
}
"""The place where each private key is published."""


CURVES: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
"""The curves of RFC 7518, section 6.2.1.1, by their JWK names."""

EC_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
"""The one algorithm of each curve (RFC 7518, section 3.4; facts.md#8)."""

RSA_ALGORITHMS = ("RS256", "RS384", "RS512")
"""What relying parties accept for RSA (facts.md, table "Relying parties"); none accepts PS256, PS384 or PS512."""

MOST_REMEMBERED = 2**15
"""How many keys each cache of values derived from a key holds: ledgers, replicas and passes repeat the same keys."""


def with_first_alg(key: Key, algs: Iterable[str]) -> Key:
    """Give the key with the alphabetically first `alg` among its own and those of `algs` that fit the key.

    No thumbprint covers `alg` (RFC 7638), so replicas and ledgers may differ in it. This rule makes all agree.
    """
    fitting = RSA_ALGORITHMS if isinstance(key, RsaKey) else ()
    return replace(key, alg=min((key.alg, *(alg for alg in algs if alg in fitting))))


def coordinate_bytes(crv: str) -> int:
    """Give the length of a coordinate of the curve `crv`: 32, 48 or 66 bytes (RFC 7518, section 6.2.1.2)."""
    return (CURVES[crv].key_size + 7) // 8


def is_on_curve(crv: str, x: int, y: int) -> bool:
    """Return whether (`x`, `y`) is a point of the curve `crv`, and not the one at infinity."""
    try:
        ec.EllipticCurvePublicNumbers(x, y, CURVES[crv]).public_key()
    except ValueError:
        return False
    return True


@lru_cache(MOST_REMEMBERED)
def thumbprint_of(kty: str, *, n: str = "", e: str = "", crv: str = "", x: str = "", y: str = "") -> Thumbprint:
    """Give the SHA-256 thumbprint of a key's required members (RFC 7638, section 3.2)."""
    members = {"kty": kty, "n": n, "e": e} if kty == "RSA" else {"kty": kty, "crv": crv, "x": x, "y": y}
    return Thumbprint(str(JWK(**members).thumbprint()))


@lru_cache(MOST_REMEMBERED)
def kubernetes_kid(key: Key) -> Kid:
    """Give the kid that kube-apiserver computes: SHA-256 of the DER SubjectPublicKeyInfo (facts.md#7).

    Args:
        key: a validated key.
    """
    der = public_key(key).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Kid(encode(sha256(der).digest()))


def public_key(key: Key) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    """Give the key as an object of the library that verifies signatures.

    Args:
        key: a validated key.
    """
    if isinstance(key, RsaKey):
        return rsa.RSAPublicNumbers(decode_uint(key.e) or 0, decode_uint(key.n) or 0).public_key()
    size = coordinate_bytes(key.crv)
    x, y = decode_coordinate(key.x, size) or 0, decode_coordinate(key.y, size) or 0
    return ec.EllipticCurvePublicNumbers(x, y, CURVES[key.crv]).public_key()


Members = Mapping[str, object]

KNOWN_TYPES = ("RSA", "EC")
MAX_KID_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class KeyRule:
    """The rule for one member: `holds(members)`, the end of the reason's sentence, and the source."""

    member: str
    code: str
    holds: Callable[[Members], bool]
    sentence: str
    citation: str


def is_printable_text(value: object, max_characters: int) -> bool:
    """Return whether `value` is a text of 1..`max_characters` characters that a terminal shows unchanged.

    Letters, marks, digits, symbols of any script and the plain space; no controls, no bidirectional or zero-width
    marks, no surrogates, nothing unassigned.
    """
    return isinstance(value, str) and 1 <= len(value) <= max_characters and value.isprintable()


def read_key(
    members: Members,
    where: str,
    *,
    kid: Literal["kubernetes", "opaque"],
    already_checked: Container[Thumbprint],
) -> Key | tuple[Reason, ...]:
    """Read one key of a known type; the caller has already searched for private members.

    Args:
        members: the JWK; members that no rule names are ignored (RFC 7517, section 4).
        where: the place for reasons, such as `jwks keys[2]`.
        kid: `kubernetes` recomputes the kid and enforces it (facts.md#7); `opaque` takes any text.
        already_checked: keys whose strength was checked before; only their shape is.

    Returns:
        The key, its `alg` set where it was absent (facts.md#8), or all reasons, with the codes `bad_key`, `bad_kid`,
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
    weak = _weaknesses(key, where, already_checked)
    wrong_kid = () if weak or kid == "opaque" or not _has_kid(members) else _wrong_kid(key, where)
    return failed + broken + weak + wrong_kid or key


def _unknown_type(where: str) -> Reason:
    sentence = "The member kty names no key type that the mirror publishes (RSA, EC)."
    return Reason("bad_key", sentence, "Only RSA and EC keys sign ServiceAccount tokens for clouds.", f"{where}.kty")


def _failed(rules: tuple[KeyRule, ...], members: Members, where: str) -> tuple[Reason, ...]:
    return tuple(
        Reason(
            rule.code,
            f"The key's {rule.member} {rule.sentence} ({rule.citation}).",
            "Check the key file or the external signer of this apiserver.",
            f"{where}.{rule.member}",
        )
        for rule in rules
        if not rule.holds(members)
    )


def _built(members: Members) -> Key:
    """Build the key from members that passed the rules of its type; the caller discards a bad kid."""
    kid, text = Kid(str(members.get("kid"))), {name: str(members.get(name, "")) for name in ("n", "e", "crv", "x", "y")}
    if members["kty"] == "RSA":
        n, e = text["n"], text["e"]
        return RsaKey(kid, str(members.get("alg", "RS256")), n, e, thumbprint_of("RSA", n=n, e=e))
    crv, x, y = text["crv"], text["x"], text["y"]
    alg = str(members.get("alg", EC_ALGORITHMS[crv]))
    return EcKey(kid, alg, crv, x, y, thumbprint_of("EC", crv=crv, x=x, y=y))


def _weaknesses(key: Key, where: str, already_checked: Container[Thumbprint]) -> tuple[Reason, ...]:
    source = KNOWN_TEST_KEYS.get(key.thumbprint)
    if source is not None:
        sentence = f"The private half of this key is public: {source}."
        return (Reason("known_test_key", sentence, "Make a new key pair; this one must never sign.", where),)
    if isinstance(key, EcKey):
        return () if key.thumbprint in already_checked else _small_private_key(key, where)
    n, e = decode_uint(key.n) or 0, decode_uint(key.e) or 0
    return tuple(
        Reason(
            "weak_key",
            f"The key {check.sentence} ({check.citation}).",
            "Make a new RSA key of 2048 to 4096 bits with a current library.",
            f"{where}.{check.member}",
        )
        for check in weaknesses(n, e, checked_before=key.thumbprint in already_checked)
    )


def _small_private_key(key: EcKey, where: str) -> tuple[Reason, ...]:
    x = decode_coordinate(key.x, coordinate_bytes(key.crv)) or 0
    if not is_small_multiple(CURVES[key.crv], x):
        return ()
    sentence = (
        f"The private key of this {key.crv} key is a number from 1 to {SMALL_MULTIPLES} or the negative of one, so"
        " anyone can sign with it (SEC 1, section 3.2.1)."
    )
    remedy = "Make a new key pair with a current library; this one must never sign."
    return (Reason("weak_key", sentence, remedy, f"{where}.x"),)


def _wrong_kid(key: Key, where: str) -> tuple[Reason, ...]:
    right = kubernetes_kid(key)
    if key.kid == right:
        return ()
    sentence = f"The kid is {quote(key.kid)}, but kube-apiserver computes {quote(right)} for this key."
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


_UINT = "is not a base64url number of minimal length without padding"
_COORDINATE = "is not a base64url number of the curve's full length without padding"

COMMON_RULES = (
    KeyRule("kid", "bad_kid", _has_kid, "is not 1 to 1024 printable characters", "RFC 7517, section 4.5"),
    KeyRule("use", "wrong_use", _one_of("use", "sig"), "is not sig", "RFC 7517, section 4.2"),
    KeyRule("key_ops", "wrong_key_ops", _one_of("key_ops", ["verify"]), "is not only verify", "RFC 7517, section 4.3"),
)
_RSA_ALG = _one_of("alg", *RSA_ALGORITHMS)
RSA_RULES = (
    KeyRule("alg", "wrong_alg", _RSA_ALG, "is not RS256, RS384 or RS512", "RFC 7518, section 3.3"),
    KeyRule("n", "bad_encoding", _is_uint("n"), _UINT, "RFC 7518, section 6.3.1.1"),
    KeyRule("e", "bad_encoding", _is_uint("e"), _UINT, "RFC 7518, section 6.3.1.2"),
)
EC_RULES = (
    KeyRule("crv", "wrong_curve", _has_curve, "is not P-256, P-384 or P-521", "RFC 7518, section 6.2.1.1"),
    KeyRule("alg", "wrong_alg", _has_algorithm_of_curve, "is not that of its curve", "RFC 7518, section 3.4"),
    KeyRule("x", "bad_encoding", _is_coordinate("x"), _COORDINATE, "RFC 7518, section 6.2.1.2"),
    KeyRule("y", "bad_encoding", _is_coordinate("y"), _COORDINATE, "RFC 7518, section 6.2.1.3"),
    KeyRule("y", "not_on_curve", _is_point, "makes no point of the curve with x", "RFC 7518, section 6.2.1"),
)


PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
"""The private and symmetric members of RFC 7518, section 6, and `priv` of ML-DSA keys (`kty` AKP, facts.md#8)."""


def private_members(value: object, document: str, inside: str = "") -> tuple[Reason, ...]:
    """Find private members anywhere in `value`, also nested, also in keys that would be skipped (facts.md#46).

    The reasons name the places and never a value.

    Args:
        value: the document, or a part of it.
        document: how sentences and places call the document.
        inside: the place of `value` in the document, such as `keys[2]`.
    """
    return tuple(
        Reason(
            "private_key",
            f"The {document} document has the private member {name!r}.",
            "Treat this key as stolen: make a new one, revoke this one, and find out why it is served.",
            f"{document} {path.removeprefix('.')}",
        )
        for path, name in _members(value, inside)
        if name in PRIVATE_MEMBERS
    )


def _members(value: object, where: str) -> Iterator[tuple[str, str]]:
    """Give every member of every object below `value` as (path, name); `value` is of bounded depth."""
    if isinstance(value, dict):
        for name, child in value.items():
            path = where + json_path_step(name)
            yield path, name
            yield from _members(child, path)
    elif isinstance(value, list):
        for position, child in enumerate(value):
            yield from _members(child, f"{where}[{position}]")
