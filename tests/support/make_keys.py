"""Makes `public_keys.json`: run by hand, `python tests/support/make_keys.py`; the private halves are thrown away."""

import json
from base64 import urlsafe_b64encode
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa

RSA_SIZES = [2048] * 12 + [3072, 4096]
CURVES = [("P-256", ec.SECP256R1(), 32)] * 6 + [("P-384", ec.SECP384R1(), 48)] * 2 + [("P-521", ec.SECP521R1(), 66)] * 2


def text(number: int, size: int) -> str:
    return urlsafe_b64encode(number.to_bytes(size)).rstrip(b"=").decode()


def rsa_key(bits: int) -> dict[str, str]:
    numbers = rsa.generate_private_key(65537, bits).public_key().public_numbers()
    return {"kty": "RSA", "n": text(numbers.n, bits // 8), "e": "AQAB"}


def ec_key(crv: str, curve: ec.EllipticCurve, size: int) -> dict[str, str]:
    numbers = ec.generate_private_key(curve).public_key().public_numbers()
    return {"kty": "EC", "crv": crv, "x": text(numbers.x, size), "y": text(numbers.y, size)}


if __name__ == "__main__":
    keys = [rsa_key(bits) for bits in RSA_SIZES] + [ec_key(*curve) for curve in CURVES]
    Path(__file__).with_name("public_keys.json").write_text(json.dumps(keys, indent=1) + "\n")
