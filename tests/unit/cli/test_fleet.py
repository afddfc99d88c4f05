"""`check --fleet` in words."""

from click import unstyle

from mirror.cli.fleet import lines
from mirror.model import IssuerName
from support.keys import RSA_KEYS

A, B = IssuerName("a"), IssuerName("b")


def test_weak_pair_is_named_with_both_issuers_and_the_remedy() -> None:
    """Whoever reads it knows which two clusters need new keys, and what to do."""
    one, two = RSA_KEYS[0], RSA_KEYS[1]
    text = unstyle("\n".join(lines({A: (one,), B: (two,)}, ((one.thumbprint, two.thumbprint),))))
    for word in (one.thumbprint, two.thumbprint, "(a)", "(b)", "shared_prime", "oidc-mirror revoke", "1 pairs"):
        assert word in text


def test_shared_key_is_a_warning() -> None:
    """One key at two issuers is told for both."""
    text = unstyle("\n".join(lines({A: (RSA_KEYS[0],), B: (RSA_KEYS[0],)}, ())))
    assert text.count("warning: ") == 2


def test_quiet_fleet_is_counted() -> None:
    """Nothing wrong still says what was compared."""
    assert list(lines({A: (RSA_KEYS[0],)}, ())) == ["1 keys of 1 issuers compared: 0 pairs share a prime."]
