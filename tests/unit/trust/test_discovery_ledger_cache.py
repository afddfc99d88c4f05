"""The cached result for a ledger is used only for the same ledger, and does not decide about trust."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import UsageError
from mirror.model import IssuerUrl, KeyName, Kid, Ledger, Revocation, Status
from mirror.trust.discovery import MAX_REMEMBERED_BYTES, LedgerCache, render
from mirror.trust.ledger import ALL_THUMBPRINTS, LedgerRead, ledger_text, read_ledger
from mirror.trust.parsing import Rejected
from support.keys import RSA_KEYS
from support.ledger_files import ISSUER, ledger, record
from support.strategies import ledgers

NOW = datetime(2026, 11, 29, tzinfo=UTC)
ONE = ledger(record(RSA_KEYS[0]))
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


def uncached(body: bytes, issuer: IssuerUrl = ISSUER) -> LedgerRead | Rejected:
    return read_ledger(body, issuer=issuer, already_checked=ALL_THUMBPRINTS)


@given(st.lists(ledgers(max_size=3), min_size=1, max_size=4).flatmap(lambda pool: st.lists(st.sampled_from(pool))))
def test_a_ledger_comes_to_what_it_comes_to_without_a_cache(sequence: list[Ledger]) -> None:
    """The results equal those without a cache, whatever ledgers were read before and however often."""
    cache = LedgerCache()
    for each in sequence:
        body = ledger_text(each)
        assert cache.text(each) == body
        assert cache.read(body, each.issuer) == uncached(body, each.issuer)
        assert cache.render(each, {}) == render(each, {})


@given(st.lists(st.dictionaries(st.sampled_from("abc"), JSON_VALUES, max_size=2), max_size=6))
def test_extra_members_are_written_as_they_are_now(sequence: list[dict[str, object]]) -> None:
    """A changed value is rendered again even if Python calls it equal, as True equals 1 and 1.0."""
    cache = LedgerCache()
    for extra in sequence:
        assert cache.render(ONE, extra) == render(ONE, extra)


def test_the_same_ledger_is_read_and_written_once() -> None:
    """This holds also if its bytes and records are other Python objects."""
    cache, body = LedgerCache(), ledger_text(ONE)
    read, text, documents = cache.read(body, ISSUER), cache.text(ONE), cache.render(ONE, {"a": 1})
    again = uncached(body)
    assert isinstance(again, LedgerRead)
    assert cache.read(bytes(bytearray(body)), ISSUER) is read
    assert cache.text(again.ledger) is text
    assert cache.render(again.ledger, {"a": 1}) is documents


def test_nothing_public_is_remembered_too() -> None:
    cache = LedgerCache()
    assert cache.render(Ledger(ISSUER), {}) is None
    assert cache.render(Ledger(ISSUER), {}) is None
    assert cache.render(ONE, {}) == render(ONE, {})


OTHERS: dict[str, Callable[[], Ledger]] = {
    "another key": lambda: ledger(record(RSA_KEYS[1])),
    "a key more": lambda: ledger(record(RSA_KEYS[0]), record(RSA_KEYS[1])),
    "no key": lambda: Ledger(ISSUER),
    "the key under another kid": lambda: ledger(record(replace(RSA_KEYS[0], kid=Kid("another")))),
    "the key with another alg": lambda: ledger(record(replace(RSA_KEYS[0], alg="RS512"))),
    "the key held": lambda: ledger(
        replace(record(RSA_KEYS[0]), status=Status.HELD, held_because="new_key"),
    ),
    "the key retiring": lambda: ledger(replace(record(RSA_KEYS[0]), status=Status.RETIRING, missing_since=NOW)),
    "the key revoked": lambda: ledger(
        replace(record(RSA_KEYS[0]), status=Status.REVOKED, revocation=Revocation(NOW, "stolen", last=True))
    ),
    "the next generation": lambda: ledger(replace(record(RSA_KEYS[0]), generation=2)),
    "a second later": lambda: ledger(
        replace(record(RSA_KEYS[0]), first_seen=record(RSA_KEYS[0]).first_seen + timedelta(seconds=1))
    ),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_whatever_differs_in_a_ledger_is_read_and_written_anew(other: Callable[[], Ledger]) -> None:
    """Any difference is read and rendered again. The cache keeps only the last value of an issuer."""
    cache = LedgerCache()
    for each in (ONE, other(), ONE):
        text = ledger_text(each)
        assert (cache.text(each), cache.read(text, ISSUER)) == (text, uncached(text))
        assert cache.render(each, {}) == render(each, {})


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda body: body[:-3],
    "a byte more": lambda body: body + b" ",
    "a version that equals ours": lambda body: body.replace(b'"version": 1', b'"version": true'),
    "a generation that equals ours": lambda body: body.replace(b'"generation": 1', b'"generation": 1.0'),
    "a key of another modulus": lambda body: body.replace(RSA_KEYS[0].n.encode(), RSA_KEYS[1].n.encode()),
    "another issuer": lambda body: body.replace(b"oidc.example.com", b"oidc.example.org"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_bytes_that_differ_are_read_anew_by_all_rules(damage: Callable[[bytes], bytes]) -> None:
    """Bytes that resemble an accepted file are validated by all rules."""
    cache, body = LedgerCache(), ledger_text(ONE)
    damaged = damage(body)
    assert damaged != body
    cache.read(body, ISSUER)
    for _ in range(2):
        assert cache.read(damaged, ISSUER) == uncached(damaged)
    assert cache.read(body, ISSUER) == uncached(body)


def test_the_bytes_of_one_issuer_are_refused_for_another() -> None:
    """The same file at another issuer's path is rejected, although it was accepted for its own issuer."""
    cache, body = LedgerCache(), ledger_text(ONE)
    other = IssuerUrl(f"{ISSUER}/other")
    assert isinstance(cache.read(body, ISSUER), LedgerRead)
    found = cache.read(body, other)
    assert isinstance(found, Rejected)
    assert [reason.code for reason in found.reasons] == ["wrong_issuer"]


def test_members_that_were_changed_in_place_are_seen() -> None:
    """The cache stores a copy of the mapping, so a later change by the caller is detected at any depth."""
    cache = LedgerCache()
    inner: dict[str, object] = {"b": 1}
    extra: dict[str, object] = {"a": inner}
    for value in (1, True, 2, 1.0):
        inner["b"] = value
        found = cache.render(ONE, extra)
        assert found is not None
        assert json.dumps(json.loads(found.discovery)["a"]["b"]) == json.dumps(value)


def test_what_cannot_be_rendered_fails_each_time() -> None:
    """The error is the same as without a cache, and no cached result hides it."""
    cache = LedgerCache()
    cache.render(ONE, {})
    for _ in range(2):
        with pytest.raises(UsageError):
            cache.render(ONE, {"issuer": "https://elsewhere.example"})
        with pytest.raises(ValueError, match="JSON"):
            cache.render(ONE, {"a": float("nan")})


def test_a_text_that_is_no_unicode_fails_each_time() -> None:
    cache = LedgerCache()
    broken = ledger(record(replace(RSA_KEYS[0], kid=Kid("\ud800"))))
    for _ in range(2):
        with pytest.raises(ValueError, match="surrogates"):
            cache.text(broken)


def test_large_ledgers_are_read_and_written_in_each_pass() -> None:
    """Ledgers of a megabyte are not cached, so they cannot fill the memory."""
    cache = LedgerCache()
    dropped = record(RSA_KEYS[0], Status.DROPPED)
    many = ledger(*(replace(dropped, key=KeyName(Kid(f"{n:0900}"), "", dropped.key.thumbprint)) for n in range(80)))
    body = ledger_text(many)
    assert len(body) > MAX_REMEMBERED_BYTES
    assert cache.read(body, ISSUER) is not cache.read(body, ISSUER)
    assert cache.text(many) is not cache.text(many)
    public = ledger(*(record(replace(RSA_KEYS[0], kid=Kid(f"{n:0900}"))) for n in range(80)))
    assert cache.render(public, {}) is not cache.render(public, {})


def test_another_process_begins_with_nothing() -> None:
    """The cache is kept only in memory."""
    body = ledger_text(ONE)
    assert LedgerCache().read(body, ISSUER) is not LedgerCache().read(body, ISSUER)
