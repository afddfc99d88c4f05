"""Checks across all issuers: one key at two of them, and RSA moduli that share a prime (fact 43). Pure.

What two keys have in common tells of a broken random number generator, or of a copied file. Nothing here changes
another issuer: a shared key is told, and of two moduli with a common prime only the new one is held.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation, localcontext
from itertools import combinations, pairwise
from math import gcd
from typing import Any

from mirror.model import AnyKey, Event, IssuerName, Key, Level, RsaKey, Thumbprint
from mirror.trust.base64url import decode_uint

SHARED_PRIME = "shared_prime"
"""Why a key is held whose modulus has a factor in common with another one."""

MOST_NAMES = 5
"""How many other issuers one sentence names; the rest is counted."""

FEW_KEYS = 200
"""Up to so many new keys each is compared with every known one (10 µs a pair); more are sieved in one batch."""

_DIGITS_PER_BIT = 0.30103
_Pair = tuple[Any, Any]


def shared_keys(shown: Mapping[IssuerName, Iterable[AnyKey]]) -> Mapping[IssuerName, tuple[Event, ...]]:
    """Tell of every key that two issuers show: the pods of either can sign for the other (fact 34).

    Args:
        shown: what the apiservers of each issuer show in this pass.

    Returns:
        The events `key.shared` of each issuer that has any; they change nothing.
    """
    holders: dict[Thumbprint, dict[IssuerName, AnyKey]] = {}
    for name, keys in sorted(shown.items()):
        for key in keys:
            holders.setdefault(key.thumbprint, {}).setdefault(name, key)
    found: dict[IssuerName, tuple[Event, ...]] = {}
    for _, by_name in sorted(holders.items()):
        if len(by_name) > 1:
            for name, key in by_name.items():
                found[name] = (*found.get(name, ()), _shared(name, key, tuple(by_name)))
    return found


def _shared(name: IssuerName, key: AnyKey, names: Sequence[IssuerName]) -> Event:
    others = [other for other in names if other != name]
    told = ", ".join(others[:MOST_NAMES])
    more = f" and {len(others) - MOST_NAMES} more" if len(others) > MOST_NAMES else ""
    sentence = (
        f"Key {key.thumbprint} of {name} is also shown by {told}{more}: each can sign tokens in the other's name. "
        "Give every cluster a ServiceAccount key of its own."
    )
    return Event("key.shared", sentence, Level.WARNING, {"kid": key.kid, "thumbprint": key.thumbprint})


def suspects(
    new: Iterable[Key], known: Iterable[AnyKey], *, number: Callable[[int], Any] = Decimal
) -> Mapping[Thumbprint, str]:
    """Give the new RSA keys whose modulus shares a prime with, or is a multiple of, another one: somebody can sign.

    Equal moduli are one key, told by `shared_keys`. A modulus of which another one is a multiple is no suspect by
    that alone: anybody can publish a multiple, and must not hold up the key of somebody else by it.

    Args:
        new: keys that no ledger lets be public yet; they are compared with each other too. 10 ms a new key for
            1000 known ones; 22 s where 10 000 are new.
        known: keys of all ledgers; those whose material is not kept are not compared.
        number: as in `weak_pairs`; it matters where many keys are new.

    Returns:
        `shared_prime` for the thumbprint of each suspect, as `Circumstances.suspects` wants it.
    """
    fresh = _moduli(new)
    if not fresh:
        return {}
    others: Iterable[int] = {*fresh, *_moduli(known)}
    if len(fresh) > FEW_KEYS:
        others = _weak_moduli(sorted(others), number)
    ordered = sorted(others)
    weak = (n for n in sorted(fresh) if any(other % n and gcd(n, other) > 1 for other in ordered))
    return {thumbprint: SHARED_PRIME for n in weak for thumbprint in fresh[n]}


def weak_pairs(
    keys: Iterable[AnyKey], *, number: Callable[[int], Any] = Decimal
) -> tuple[tuple[Thumbprint, Thumbprint], ...]:
    """Give every two keys of the whole fleet whose moduli differ and have a factor in common, sorted.

    Batch gcd (D. J. Bernstein, "How to find smooth parts of integers", 2004): 22 s for 10 000 keys of 2048 bits with
    `Decimal`, whose multiplication is a number-theoretic transform; 2 s with `gmpy2.mpz`.

    Args:
        keys: any keys; only RSA keys whose material is kept are compared.
        number: makes the exact whole numbers that are calculated with: `Decimal`, `gmpy2.mpz` or `int`.
    """
    moduli = _moduli(keys)
    weak = sorted(_weak_moduli(sorted(moduli), number))
    pairs = ((n, m) for n, m in combinations(weak, 2) if gcd(n, m) > 1)
    named = ((a, b) for n, m in pairs for a in moduli[n] for b in moduli[m])
    return tuple(sorted((min(pair), max(pair)) for pair in named))


def _moduli(keys: Iterable[AnyKey]) -> dict[int, tuple[Thumbprint, ...]]:
    """Give the moduli of the RSA keys among `keys`, each with the thumbprints that have it, sorted."""
    found: dict[int, set[Thumbprint]] = {}
    for key in keys:
        n = decode_uint(key.n) if isinstance(key, RsaKey) else None
        if n is not None:
            found.setdefault(n, set()).add(key.thumbprint)
    return {n: tuple(sorted(thumbprints)) for n, thumbprints in found.items()}


def _weak_moduli(moduli: Sequence[int], number: Callable[[int], Any]) -> frozenset[int]:
    """Give those of the distinct `moduli` that have a factor in common with the product of all others."""
    if not moduli:
        return frozenset()
    bits = sum(n.bit_length() + 1 for n in moduli)
    # Whatever would have to be rounded raises: a result is exact or there is none.
    exact = Context(
        prec=int(bits * _DIGITS_PER_BIT) + 32, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact, InvalidOperation]
    )
    with localcontext(exact):
        remainders = _cofactors([(number(n), number(1)) for n in moduli])
        return frozenset(n for n, rest in zip(moduli, remainders, strict=True) if gcd(n, int(rest)) > 1)


def _cofactors(leaves: list[_Pair]) -> list[Any]:
    """Give for each number the product of all others, modulo itself.

    Each node of the tree holds the product of its numbers and the sum of the products that leave one of them out.
    Modulo one number all terms of that sum vanish but the one without it, so no squares are needed.
    """
    levels = [leaves]
    while len(levels[-1]) > 1:
        levels.append(_paired(levels[-1]))
    remainders = [levels.pop()[0][1]]
    for level in reversed(levels):
        remainders = [remainders[index // 2] % product for index, (product, _) in enumerate(level)]
    return remainders


def _paired(level: list[_Pair]) -> list[_Pair]:
    pairs = [(p * q, s * q + t * p) for (p, s), (q, t) in list(pairwise(level))[::2]]
    return pairs if len(level) % 2 == 0 else [*pairs, level[-1]]
