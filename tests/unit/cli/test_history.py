"""Key histories as text: every status, every reason, and no terminal control sequence."""

from click import unstyle

from mirror.cli.history import lines
from mirror.history.key_history import KeyHistories, LedgerVersion, build_histories
from mirror.model import CommitId, IssuerName, IssuerUrl, Key, KeyRecord, Ledger, Revocation, Status, Version, key_id
from support.fakes import MOMENT
from support.keys import EC_KEYS, RSA_KEYS, with_kid

NAME, ISSUER = IssuerName("syd-prod"), IssuerUrl("https://issuer.example.com")
HOSTILE = with_kid(EC_KEYS[0], "kid\x1b[31m\u202e")


def reported(*states: tuple[Key, Status], unreadable: tuple[CommitId, ...] = ()) -> str:
    records = (
        KeyRecord(
            key,
            status,
            1,
            MOMENT,
            held_because="policy" if status is Status.HELD else None,
            revocation=Revocation(MOMENT, "it was \x1b[31mlost") if status is Status.REVOKED else None,
        )
        for key, status in sorted(states, key=lambda state: key_id(state[0]))
    )
    version = Version(CommitId("ab" * 20), (), MOMENT, "ann\x1b[31m", "subject")
    found = build_histories([LedgerVersion(version, Ledger(ISSUER, tuple(records)))])
    return unstyle("\n".join(lines(((NAME, ISSUER, KeyHistories(found.keys, found.rotations, unreadable)),))))


def test_each_key_is_printed_completely() -> None:
    """The output has the full kid, thumbprint and algorithm, and each step with its commit."""
    text = reported((RSA_KEYS[0], Status.PUBLISHED))
    assert RSA_KEYS[0].kid in text
    assert RSA_KEYS[0].thumbprint in text
    assert "published   2026-11-23 08:00:00Z  to now" in text
    assert "commit abababababab" in text


def test_reasons_are_reported() -> None:
    """The output says why a key is held or revoked, and which unreadable commit is skipped."""
    text = reported((RSA_KEYS[0], Status.HELD), (RSA_KEYS[1], Status.REVOKED), unreadable=(CommitId("cd" * 20),))
    assert "held because  policy" in text
    assert "it was \\x1b[31mlost" in text
    assert "commit cdcdcdcdcdcd is skipped" in text


def test_issuer_without_keys_says_so() -> None:
    """An empty history gives one line."""
    assert reported().splitlines() == ["syd-prod  https://issuer.example.com", "  no keys yet"]


def test_text_from_outside_is_escaped() -> None:
    """No control or format character of a kid or an author reaches the terminal."""
    assert all(line.isprintable() for line in reported((HOSTILE, Status.PUBLISHED)).splitlines())
