"""Random mutations of documents: of bytes, JSON values and members."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from random import Random
from typing import Any

Member = tuple[Any, Any]
"""A list or an object, and an index or name in it."""

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**64, 1.5, 1e308, "", " ", "a", "sig", "enc", "verify", [], {}, [[]], ["verify"]),
    *("RSA", "EC", "AKP", "oct", "OKP", "P-256", "P-384", "P-521", "secp256k1", "RS256", "RS384", "RS512", "PS256"),
    *(
        "ES256",
        "ES384",
        "ES512",
        "HS256",
        "none",
        "AQAB",
        "Aw",
        "AAEAAQ",
        "AQAB=",
        "AA",
        "\x00",
        "\u202e",
        "\ud83d\ude00",
    ),
    *("é", "e\u0301", "\ufeff", "k" * 1024, "k" * 1025, "-----BEGIN", ["id_token"], ["public"], ["id_token", 1]),
)
LIKELY: Mapping[str, tuple[Any, ...]] = {
    "use": ("enc", "SIG", None, ["sig"]),
    "key_ops": (["verify"], ["sign"], ["verify", "sign"], [], "verify"),
    "kty": ("RSA", "EC", "AKP", "oct", "rsa", 1),
    "alg": ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "HS256", "none"),
    "crv": ("P-256", "P-384", "P-521", "secp256k1", "p-256"),
    "e": ("Aw", "AAEAAQ", "AQAA", "AQAB=", "_____w", "AQAAAAE", ""),
    "kid": ("", " ", "k" * 1024, "k" * 1025, "\u202e", "\n", "\ud800", 7),
    "issuer": ("https://oidc.example.com", "", None),
    "response_types_supported": (["id_token"], ["code"], "id_token", [], ["id_token", 1]),
    "subject_types_supported": (["public"], ["pairwise"], "public", {}),
}
"""Values that are wrong or unusual for a member of that name."""
NAMES = (
    "keys",
    "kty",
    "kid",
    "use",
    "alg",
    "n",
    "e",
    "crv",
    "x",
    "y",
    "key_ops",
    "d",
    "p",
    "k",
    "priv",
    "x5c",
    "issuer",
)
PIECES = (
    *(b'"', b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]", b",", b":", b"\xff", b"\xef\xbb\xbf", b"\xc0\x80"),
    *(
        b"NaN",
        b"Infinity",
        b"-0",
        b"1e999",
        b"1e400",
        b"9" * 5000,
        b"[" * 40,
        b"null",
        b'"kid":"x",',
        b'"d":"AQAB",',
        b"\n",
    ),
)


def members_of(value: Any) -> list[Member]:
    """Every position of a value inside `value`."""
    found: list[Member] = []
    waiting = [value]
    while waiting:
        here = waiting.pop()
        places: Sequence[Any] = list(here) if isinstance(here, dict) else range(len(here))
        for place in places:
            found.append((here, place))
            if isinstance(here[place], dict | list):
                waiting.append(here[place])
    return found


def mutated_text(text: str, chance: Random) -> str:
    """The text with one character changed, removed, repeated or inserted."""
    if not text:
        return "A"
    at = chance.randrange(len(text))
    new = chance.choice("AQg_-=+/ 0é")
    return chance.choice(
        (
            text[:at] + new + text[at + 1 :],
            text[:at] + text[at + 1 :],
            text[:at] + new + text[at:],
            text + text[-1],
            text[::-1],
        )
    )


def mutated_value(value: Any, chance: Random) -> Any:
    """The object or list `value` with one change."""
    value = deepcopy(value)
    places = members_of(value)
    if not places:
        return value
    holder, place = chance.choice(places)
    kind = chance.randrange(6)
    if kind == 0:
        holder[place] = chance.choice(LIKELY.get(place, ODD) if chance.random() < 0.7 else ODD)
    elif kind == 1:
        del holder[place]
    elif kind == 2 and isinstance(holder[place], str):
        holder[place] = mutated_text(holder[place], chance)
    elif kind == 3:
        other, elsewhere = chance.choice(places)
        holder[place] = deepcopy(other[elsewhere])
    elif kind == 4 and isinstance(holder, dict):
        name = chance.choice(NAMES)
        holder[name] = chance.choice(LIKELY.get(name, (*ODD, holder[place])))
    elif isinstance(holder, list):
        holder.insert(chance.randrange(len(holder) + 1), deepcopy(holder[place]))
    else:
        holder[place] = [holder[place]]
    return value


def mutated_bytes(body: bytes, chance: Random) -> bytes:
    """The bytes `body` with one part removed, replaced or repeated."""
    at = chance.randrange(len(body) + 1)
    end = min(len(body), at + chance.choice((0, 0, 1, 1, 2, 8, 64)))
    new = chance.choice((b"", chance.choice(PIECES), bytes([chance.randrange(256)]), body[at:end] * 2))
    return body[:at] + new + body[end:]


def json_document(value: Any, chance: Random) -> bytes:
    """The document as JSON, in one of several notations."""
    ascii_alone, indent = chance.random() < 0.5, chance.choice((None, None, 1))
    return json.dumps(value, ensure_ascii=ascii_alone, indent=indent).encode("utf-8", "surrogatepass")


def document(corpus: Sequence[bytes], chance: Random) -> bytes:
    """One document of the corpus with up to four changes, sometimes with none."""
    body = chance.choice(corpus)
    value = read(body)
    if value is not None and chance.random() < 0.7:
        for _ in range(chance.choice((0, 1, 1, 2, 4))):
            value = mutated_value(value, chance)
        body = json_document(value, chance)
        if chance.random() < 0.8:
            return body
    for _ in range(chance.choice((0, 1, 1, 2))):
        body = mutated_bytes(body, chance)
    return body


def read(body: bytes) -> Any:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict | list) else None
