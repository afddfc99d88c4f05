"""Keys by the thousand: each cluster needs some of its own, or every pass would warn that clusters share keys."""

import json
from multiprocessing import Pool
from pathlib import Path

import gmpy2

from mirror.model import Kid, RsaKey, Thumbprint
from mirror.trust.jwks import kubernetes_kid, thumbprint_of
from mirror.trust.parsing import encode

PRIME_BITS, PRIMES = 256, 8
"""Moduli of eight primes instead of two: found in 2 ms instead of 100, as long as real ones. They sign nothing."""


def rsa_keys(count: int, cache: Path) -> list[RsaKey]:
    """The first `count` keys of the endless row that the seed makes, kept in `cache` for the next run."""
    texts: list[str] = json.loads(cache.read_text()) if cache.exists() else []
    if len(texts) < count:
        with Pool() as pool:
            texts += pool.map(_modulus, range(len(texts), count), chunksize=32)
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps(texts))
    return [_key(text) for text in texts[:count]]


def _modulus(number: int) -> str:
    random = gmpy2.random_state(number)
    product = gmpy2.mpz(1)
    for _ in range(PRIMES):
        # The two highest bits are set, so that the product has every bit that it may have but the last few.
        product *= gmpy2.next_prime(gmpy2.mpz_urandomb(random, PRIME_BITS) | (0b1111111 << (PRIME_BITS - 7)))
    return encode(int(product).to_bytes(PRIME_BITS * PRIMES // 8))


def _key(n: str) -> RsaKey:
    key = RsaKey(Kid(""), "RS256", n, "AQAB", Thumbprint(thumbprint_of("RSA", n=n, e="AQAB")))
    return RsaKey(kubernetes_kid(key), key.alg, key.n, key.e, key.thumbprint)
