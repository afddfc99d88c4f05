"""`check --fleet` in words."""

from click import unstyle

from mirror.cli.fleet import distinct, findings, lines
from mirror.model import IssuerName, KeyName, Kid
from support.doctor import told
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


def test_findings_say_the_same_as_the_lines() -> None:
    """For `--output json`: a weak pair failed, a shared key is a warning of each issuer, else all is ok."""
    one, two = RSA_KEYS[0], RSA_KEYS[1]
    shared = told(findings({A: (one,), B: (one, two)}, ((one.thumbprint, two.thumbprint),)))
    assert shared == [("failed", "shared_prime"), ("warning", "key.shared"), ("warning", "key.shared")]
    assert told(findings({A: (one,)}, ())) == [("ok", "fleet.compared")]


def test_key_that_one_record_has_kept_is_compared() -> None:
    """A former issuer may have dropped what the issuer still publishes."""
    key = RSA_KEYS[0]
    name = KeyName(Kid("k"), "RS256", key.thumbprint)
    gone = KeyName(Kid("gone"), "", RSA_KEYS[1].thumbprint)
    for order in ((name, key, gone), (gone, key, name)):
        assert set(distinct(order)) == {key, gone}
