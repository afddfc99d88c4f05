"""Base64url as JWKs use it: one text for one value, so that equal keys have equal bytes (RFC 7515, section 2)."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

_ALPHABET = re.compile(r"[A-Za-z0-9_-]+")


def encode(value: bytes) -> str:
    """Give `value` as base64url without padding."""
    return urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def decode(text: object) -> bytes | None:
    """Give the bytes of a canonical base64url text, or None when it is none.

    Canonical means: at least one byte, no padding, no foreign characters, and no bit set that the bytes do not use
    (RFC 4648, section 3.5), so `encode(decode(text)) == text`.
    """
    if not isinstance(text, str) or not _ALPHABET.fullmatch(text) or len(text) % 4 == 1:
        return None
    value = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return value if encode(value) == text else None


def decode_uint(text: object) -> int | None:
    """Give the number of a Base64urlUInt, or None: the fewest bytes that hold it (RFC 7518, section 2; fact 45)."""
    value = decode(text)
    if value is None or (value[0] == 0 and len(value) > 1):
        return None
    return int.from_bytes(value)


def decode_coordinate(text: object, size_bytes: int) -> int | None:
    """Give the number of an EC coordinate, or None: exactly `size_bytes` long (RFC 7518, section 6.2.1.2; fact 45)."""
    value = decode(text)
    return None if value is None or len(value) != size_bytes else int.from_bytes(value)
