"""Hostile and broken ledgers, as a git remote could hold them: what is broken does not count, and nothing else."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given

from mirror.model import (
    IssuerUrl,
    KeyName,
    KeyRecord,
    Kid,
    Ledger,
    Reason,
    Revocation,
    Status,
    Thumbprint,
    key_id,
    trimmed,
)
from mirror.trust.jwks import thumbprint_of
from mirror.trust.ledger import LAST_MOMENT, MAX_BYTES, LedgerRead, read_ledger, write_ledger
from mirror.trust.parsing import MAX_REASONS, Rejected, encode
from support.keys import EC_KEYS, RSA_KEYS, with_kid
from support.strategies import ISSUER, ledgers

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
DAY = timedelta(days=1)
THUMBPRINT = "x" * 43
DAMAGED = "the record of this revocation is damaged"
BECOMES_PUBLISHED = "revoked becomes published"
RECORDS = (
    KeyRecord(with_kid(EC_KEYS[0], "a-published"), Status.PUBLISHED, 1, NOW, returned_at=NOW),
    KeyRecord(with_kid(RSA_KEYS[0], "b-retiring"), Status.RETIRING, 2, NOW, missing_since=NOW),
    KeyRecord(with_kid(RSA_KEYS[1], "c-held"), Status.HELD, 1, NOW, held_because="policy"),
    KeyRecord(with_kid(RSA_KEYS[2], "d-dropped"), Status.DROPPED, 4, NOW),
    KeyRecord(
        with_kid(RSA_KEYS[3], "e-revoked"),
        Status.REVOKED,
        3,
        NOW,
        revocation=Revocation(NOW, "stolen", last=True, revoked_from=Status.PUBLISHED, order=1),
    ),
)
PUBLISHED, RETIRING, HELD, DROPPED, REVOKED = range(5)
LEDGER = Ledger(ISSUER, tuple(trimmed(record) for record in RECORDS))
BODY = write_ledger(LEDGER)
WEAK = encode((3**1293).to_bytes(257))

Change = Callable[[dict[str, Any]], object]


def refusal(body: bytes) -> list[tuple[str, str]]:
    """Code and place of every reason; nothing may be accepted."""
    read = read_ledger(body, issuer=ISSUER)
    assert isinstance(read, Rejected), read
    return places(read.reasons)


def damage(body: bytes) -> tuple[list[tuple[str, str]], tuple[KeyRecord, ...]]:
    """Code and place of every reason, and what is still accepted: it can be written and read again."""
    read = read_ledger(body, issuer=ISSUER)
    assert isinstance(read, LedgerRead), read
    assert read_ledger(write_ledger(read.ledger), issuer=ISSUER) == LedgerRead(read.ledger)
    return places(read.damaged), read.ledger.records


def places(reasons: tuple[Reason, ...]) -> list[tuple[str, str]]:
    assert all(reason.sentence.isprintable() and reason.remedy for reason in reasons)
    return [(reason.code, reason.where) for reason in reasons]


def changed(change: Change) -> bytes:
    document = json.loads(BODY)
    change(document)
    return json.dumps(document).encode()


def put(index: int, name: str, value: object) -> Change:
    return lambda document: document["keys"][index].update({name: value})


def take(index: int, name: str) -> Change:
    return lambda document: document["keys"][index].pop(name)


def put_key(index: int, name: str, value: object) -> Change:
    return lambda document: document["keys"][index]["key"].update({name: value})


def test_untouched_ledger_is_accepted() -> None:
    """The ledger that the table changes is itself good."""
    assert read_ledger(BODY, issuer=ISSUER) == LedgerRead(LEDGER)
    assert list(RECORDS) == sorted(RECORDS, key=lambda record: key_id(record.key))


def revoked(**change: object) -> tuple[Change, str, str]:
    members = {"at": "2026-11-23T08:00:00Z", "reason": "x", **change}
    return put(REVOKED, "revoked", members), "bad_value", "keys[4].revoked"


BAD_REVOCATIONS = {
    "revocation with a bad date": revoked(at="today"),
    "revocation without a reason": revoked(reason=""),
    "revocation with a line feed": revoked(reason="a\nb"),
    "revocation with a long reason": revoked(reason="x" * 1001),
    "revocation with a reason that is not text": revoked(reason=5),
    "revocation with last as a number": revoked(last=1),
    "revocation with another member": revoked(by="me"),
    "revoked from revoked": revoked(revoked_from="revoked"),
    "revoked from null": revoked(revoked_from=None),
    "revoked from a list": revoked(revoked_from=["held"]),
    "negative order": revoked(order=-1),
    "order true": revoked(order=True),
    "order above 2^53": revoked(order=2**53 + 1),
}

FILE_CHANGES: dict[str, tuple[Change, str, str]] = {
    "another issuer": (lambda d: d.update(issuer=ISSUER + "/"), "wrong_issuer", "issuer"),
    "no issuer": (lambda d: d.pop("issuer"), "wrong_issuer", "issuer"),
    "issuer a list": (lambda d: d.update(issuer=[ISSUER]), "wrong_issuer", "issuer"),
    "version 2": (lambda d: d.update(version=2), "wrong_version", "version"),
    "version true": (lambda d: d.update(version=True), "wrong_version", "version"),
    "version 1.0": (lambda d: d.update(version=1.0), "wrong_version", "version"),
    "no version": (lambda d: d.pop("version"), "wrong_version", "version"),
    "no keys": (lambda d: d.pop("keys"), "bad_records", "keys"),
    "keys an object": (lambda d: d.update(keys={}), "bad_records", "keys"),
}
HARMLESS_CHANGES: dict[str, tuple[Change, str, str]] = {
    "unknown member": (lambda d: d.update(note="x"), "unknown_member", "note"),
    "private member at the top": (lambda d: d.update(d="x"), "unknown_member", "d"),
    "record a text": (lambda d: d["keys"].insert(0, "x"), "bad_record", "keys[0]"),
    "record null": (lambda d: d["keys"].insert(0, None), "bad_record", "keys[0]"),
    "repeated record": (lambda d: d["keys"].append(d["keys"][0]), "duplicate_key", "keys"),
    "repeated record, older": (
        lambda d: d["keys"].append({**d["keys"][PUBLISHED], "generation": 1}),
        "duplicate_key",
        "keys",
    ),
    "record of another version": (lambda d: d["keys"].append({**d["keys"][0], "status": "known"}), "bad_status", ""),
}
CHANGES: dict[str, tuple[Change, str, str]] = {
    "unknown status": (put(DROPPED, "status", "trusted"), "bad_status", "keys[3].status"),
    "status in upper case": (put(DROPPED, "status", "DROPPED"), "bad_status", "keys[3].status"),
    "status a number": (put(DROPPED, "status", 1), "bad_status", "keys[3].status"),
    "status a list": (put(DROPPED, "status", ["dropped"]), "bad_status", "keys[3].status"),
    "no status": (take(DROPPED, "status"), "bad_status", "keys[3].status"),
    "no generation": (take(DROPPED, "generation"), "missing_member", "keys[3].generation"),
    "no kid": (take(DROPPED, "kid"), "missing_member", "keys[3].kid"),
    "no thumbprint": (take(DROPPED, "thumbprint"), "missing_member", "keys[3].thumbprint"),
    "no first_seen": (take(DROPPED, "first_seen"), "missing_member", "keys[3].first_seen"),
    "no key": (take(PUBLISHED, "key"), "missing_member", "keys[0].key"),
    "alg of a key that is kept": (put(HELD, "alg", "RS256"), "unknown_member", "keys[2].alg"),
    "alg none": (put(DROPPED, "alg", "none"), "bad_value", "keys[3].alg"),
    "alg a list": (put(DROPPED, "alg", ["RS256"]), "bad_value", "keys[3].alg"),
    "unknown member of a record": (put(DROPPED, "comment", "x"), "unknown_member", "keys[3].comment"),
    "odd member of a record": (put(DROPPED, "a\nb", "x"), "unknown_member", 'keys[3]["a\\u000ab"]'),
    "generation 0": (put(DROPPED, "generation", 0), "bad_value", "keys[3].generation"),
    "generation negative": (put(DROPPED, "generation", -1), "bad_value", "keys[3].generation"),
    "generation above 2^53": (put(DROPPED, "generation", 2**53 + 1), "bad_value", "keys[3].generation"),
    "generation true": (put(DROPPED, "generation", True), "bad_value", "keys[3].generation"),
    "generation 1.0": (put(DROPPED, "generation", 1.0), "bad_value", "keys[3].generation"),
    "generation a text": (put(DROPPED, "generation", "1"), "bad_value", "keys[3].generation"),
    "date without zone": (put(DROPPED, "first_seen", "2026-11-23T08:00:00"), "bad_value", "keys[3].first_seen"),
    "date with an offset": (put(DROPPED, "first_seen", "2026-11-23T08:00:00+00:00"), "bad_value", "keys[3].first_seen"),
    "date with a fraction": (put(DROPPED, "first_seen", "2026-11-23T08:00:00.5Z"), "bad_value", "keys[3].first_seen"),
    "date with a space": (put(DROPPED, "first_seen", "2026-11-23 08:00:00Z"), "bad_value", "keys[3].first_seen"),
    "date that is none": (put(DROPPED, "first_seen", "2026-02-30T08:00:00Z"), "bad_value", "keys[3].first_seen"),
    "date in Arabic digits": (put(DROPPED, "first_seen", "٢٠٢٦-11-23T08:00:00Z"), "bad_value", "keys[3].first_seen"),
    "date of the year 1999": (put(DROPPED, "first_seen", "1999-12-31T23:59:59Z"), "bad_value", "keys[3].first_seen"),
    "date of the year 2200": (put(DROPPED, "first_seen", "2200-01-01T00:00:00Z"), "bad_value", "keys[3].first_seen"),
    "date a number": (put(DROPPED, "first_seen", 1795420800), "bad_value", "keys[3].first_seen"),
    "date null": (put(RETIRING, "missing_since", None), "bad_value", "keys[1].missing_since"),
    "bad returned_at": (put(PUBLISHED, "returned_at", ""), "bad_value", "keys[0].returned_at"),
    "retiring without date": (take(RETIRING, "missing_since"), "missing_member", "keys[1].missing_since"),
    "retiring and returned": (
        put(RETIRING, "returned_at", "2026-11-23T08:00:00Z"),
        "unknown_member",
        "keys[1].returned_at",
    ),
    "published and missing": (
        put(PUBLISHED, "missing_since", "2026-11-23T08:00:00Z"),
        "unknown_member",
        "keys[0].missing_since",
    ),
    "published and held": (put(PUBLISHED, "held_because", "policy"), "unknown_member", "keys[0].held_because"),
    "published and revoked": (
        put(PUBLISHED, "revoked", {"at": "2026-11-23T08:00:00Z", "reason": "x"}),
        "unknown_member",
        "keys[0].revoked",
    ),
    "dropped and missing": (
        put(DROPPED, "missing_since", "2026-11-23T08:00:00Z"),
        "unknown_member",
        "keys[3].missing_since",
    ),
    "held without code": (take(HELD, "held_because"), "missing_member", "keys[2].held_because"),
    "held because of a sentence": (put(HELD, "held_because", "Because I say so."), "bad_value", "keys[2].held_because"),
    "held because of a list": (put(HELD, "held_because", ["policy"]), "bad_value", "keys[2].held_because"),
    "held becomes published": (put(HELD, "status", "published"), "unknown_member", "keys[2].held_because"),
    "revoked becomes published": (put(REVOKED, "status", "published"), "unknown_member", "keys[4].revoked"),
    "revoked without revocation": (take(REVOKED, "revoked"), "missing_member", "keys[4].revoked"),
    "revocation a truth value": (put(REVOKED, "revoked", True), "bad_value", "keys[4].revoked"),
    "revocation empty": (put(REVOKED, "revoked", {}), "bad_value", "keys[4].revoked"),
    **BAD_REVOCATIONS,
    "kid of another key": (put(HELD, "kid", "other"), "wrong_kid", "keys[2].kid"),
    "kid a number": (put(DROPPED, "kid", 5), "bad_value", "keys[3].kid"),
    "kid with a control": (put(DROPPED, "kid", "a\x1b"), "bad_value", "keys[3].kid"),
    "thumbprint of another key": (
        put(HELD, "thumbprint", EC_KEYS[1].thumbprint),
        "wrong_thumbprint",
        "keys[2].thumbprint",
    ),
    "thumbprint null": (put(DROPPED, "thumbprint", None), "bad_value", "keys[3].thumbprint"),
    "thumbprint too short": (put(DROPPED, "thumbprint", "x" * 42), "bad_value", "keys[3].thumbprint"),
    "dropped with another kid in its key": (
        put(DROPPED, "key", {**RSA_KEYS[2].members(), "kid": "other"}),
        "wrong_kid",
        "keys[3].kid",
    ),
    "dropped with another key": (
        put(DROPPED, "key", {**RSA_KEYS[5].members(), "kid": "d-dropped"}),
        "wrong_thumbprint",
        "keys[3].thumbprint",
    ),
    "dropped with a private key": (
        put(DROPPED, "key", {**RSA_KEYS[2].members(), "kid": "d-dropped", "d": "AQ"}),
        "private_key",
        "keys[3].key.d",
    ),
    "revoked while public, without its key": (take(REVOKED, "key"), "bad_key", "keys[4].key"),
    "material exchanged": (put_key(HELD, "n", RSA_KEYS[5].n), "wrong_thumbprint", "keys[2].thumbprint"),
    "key a text": (put(HELD, "key", "x"), "bad_key", "keys[2].key"),
    "key of unknown type": (put_key(HELD, "kty", "oct"), "bad_key", "keys[2].key.kty"),
    "key with a private member": (put_key(HELD, "d", "AQ"), "private_key", "keys[2].key.d"),
    "key with a further member": (put_key(HELD, "x5c", []), "not_as_published", "keys[2].key"),
    "key without alg": (lambda d: d["keys"][HELD]["key"].pop("alg"), "not_as_published", "keys[2].key"),
    "key without use": (lambda d: d["keys"][HELD]["key"].pop("use"), "not_as_published", "keys[2].key"),
    "key with alg none": (put_key(HELD, "alg", "none"), "wrong_alg", "keys[2].key.alg"),
    "key with a control in its kid": (put_key(HELD, "kid", "a\x1b"), "bad_kid", "keys[2].key.kid"),
    "key with exponent 3": (put_key(HELD, "e", "Aw"), "weak_key", "keys[2].key.e"),
    "key that is a power": (put_key(HELD, "n", WEAK), "weak_key", "keys[2].key.n"),
    "point off the curve": (put_key(PUBLISHED, "y", EC_KEYS[1].y), "not_on_curve", "keys[0].key.y"),
}


@pytest.mark.parametrize(("change", "code", "place"), FILE_CHANGES.values(), ids=FILE_CHANGES)
def test_fault_of_the_file_refuses_all_of_it(change: Change, code: str, place: str) -> None:
    """What is no ledger of this issuer and version says nothing."""
    assert (code, f"ledger {place}") in refusal(changed(change))


@pytest.mark.parametrize(("change", "code", "place"), HARMLESS_CHANGES.values(), ids=HARMLESS_CHANGES)
def test_what_does_not_belong_there_is_reported_alone(change: Change, code: str, place: str) -> None:
    """Every record counts as before."""
    reported, records = damage(changed(change))
    assert [found for found, _ in reported] == [code]
    assert reported[0][1].startswith(f"ledger {place}")
    assert records == LEDGER.records


@pytest.mark.parametrize(("change", "code", "place"), CHANGES.values(), ids=CHANGES)
def test_one_fault_spoils_one_record(change: Change, code: str, place: str) -> None:
    """It is reported with code and place and left out, or revoked all the same; the others count."""
    reported, records = damage(changed(change))
    assert (code, f"ledger {place}") in reported
    spoiled = LEDGER.records[int(place.removeprefix("keys[")[0])]
    others = {record for record in LEDGER.records if record is not spoiled}
    assert others <= set(records)
    left = set(records) - others
    assert {record.status for record in left} <= {Status.REVOKED}
    assert all(isinstance(record.key, KeyName) for record in left)
    if spoiled.status is Status.REVOKED and change is not CHANGES[BECOMES_PUBLISHED][0]:
        assert {record.key.thumbprint for record in left} == {spoiled.key.thumbprint}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", "not_json", id="nothing"),
        pytest.param(BODY[:-3], "not_json", id="truncated"),
        pytest.param(b"<<<<<<< HEAD\n" + BODY, "not_json", id="conflict markers"),
        pytest.param(
            BODY.replace(b'"version": 1', b'"version": 1, "version": 1'), "duplicate_member", id="two versions"
        ),
        pytest.param(BODY.replace(b'"generation": 1', b'"generation": NaN', 1), "not_json", id="nan"),
        pytest.param(b"[" * 1_000_000, "too_deep", id="deep"),
        pytest.param(b" " * (MAX_BYTES + 1), "too_large", id="too large"),
        pytest.param(b"[]", "not_object", id="array"),
    ],
)
def test_broken_file_is_refused(body: bytes, code: str) -> None:
    """What is not one clear JSON object of a sane size is refused with one code."""
    assert [found for found, _ in refusal(body)] == [code]


def test_all_reasons_are_reported() -> None:
    """An operator sees every fault of the file at once."""

    def spoil(document: dict[str, Any]) -> None:
        document["note"] = 9
        put(PUBLISHED, "generation", 0)(document)
        put(RETIRING, "status", "x")(document)
        take(HELD, "held_because")(document)
        put_key(REVOKED, "use", "enc")(document)

    assert damage(changed(spoil))[0] == [
        ("unknown_member", "ledger note"),
        ("bad_value", "ledger keys[0].generation"),
        ("bad_status", "ledger keys[1].status"),
        ("missing_member", "ledger keys[2].held_because"),
        ("wrong_use", "ledger keys[4].key.use"),
    ]


def test_weak_key_is_accepted_only_if_it_was_checked_before() -> None:
    """A remote cannot bring in a weak key; a key that our own ledger holds is not factored again."""
    thumbprint = thumbprint_of("RSA", n=WEAK, e="AQAB")
    weak = replace(RECORDS[HELD], key=replace(RSA_KEYS[2], n=WEAK, thumbprint=thumbprint))
    body = write_ledger(Ledger(ISSUER, (weak,)))
    reported, records = damage(body)
    assert ({code for code, _ in reported}, records) == ({"weak_key"}, ())
    assert read_ledger(body, issuer=ISSUER, already_checked=frozenset({thumbprint})) == LedgerRead(
        Ledger(ISSUER, (weak,))
    )


# ------------------------------------------------------------------------------------ revocations that are damaged


@pytest.mark.parametrize(
    ("members", "kid", "generation", "first_seen", "revocation"),
    [
        (
            {"comment": "x"},
            *("k", 3, NOW, Revocation(NOW - DAY, "stolen", last=True, order=4)),
        ),
        ({"kid": "a\nb"}, *(THUMBPRINT, 3, NOW, Revocation(NOW - DAY, "stolen", last=True, order=4))),
        ({"generation": "3"}, *("k", 1, NOW, Revocation(NOW - DAY, "stolen", last=True, order=4))),
        ({"first_seen": 5}, *("k", 3, NOW - DAY, Revocation(NOW - DAY, "stolen", last=True, order=4))),
        ({"revoked": "yes"}, *("k", 3, NOW, Revocation(NOW, DAMAGED))),
        ({"revoked": "yes", "first_seen": 5}, *("k", 3, LAST_MOMENT, Revocation(LAST_MOMENT, DAMAGED))),
    ],
    ids=["comment", "kid", "generation", "first_seen", "revocation", "no_date_at_all"],
)
def test_damaged_revocation_still_revokes(
    members: dict[str, object], kid: str, generation: int, first_seen: datetime, revocation: Revocation
) -> None:
    """A readable thumbprint is enough; what cannot be read is what another copy of the record wins over."""
    entry = {
        "kid": "k",
        "thumbprint": THUMBPRINT,
        "alg": "RS256",
        "status": "revoked",
        "generation": 3,
        "first_seen": "2026-11-23T08:00:00Z",
        "revoked": {
            "at": "2026-11-22T08:00:00Z",
            "reason": "stolen",
            "last": True,
            "revoked_from": "held",
            "order": 4,
        },
        **members,
    }
    reported, records = damage(changed(lambda document: document.update(keys=[entry])))
    assert reported
    name = KeyName(Kid(kid), "RS256", Thumbprint(THUMBPRINT))
    assert records == (KeyRecord(name, Status.REVOKED, generation, first_seen, revocation=revocation),)


@pytest.mark.parametrize("thumbprint", ["x" * 42, "x" * 44, "ä" * 43, None, 5, ""])
def test_revocation_without_a_readable_thumbprint_revokes_nothing(thumbprint: object) -> None:
    """The record is ambiguous: it is reported and left out."""
    reported, records = damage(changed(put(REVOKED, "thumbprint", thumbprint)))
    assert ("bad_value", "ledger keys[4].thumbprint") in reported
    assert records == LEDGER.records[:REVOKED]


def test_many_broken_records_cost_little() -> None:
    """A hostile file of 30 000 records is read at once, and a report of it is short."""
    body = changed(lambda document: document.update(keys=[*document["keys"], *[{"status": "held"}] * 30_000]))
    reported, records = damage(body)
    assert records == LEDGER.records
    assert len(reported) == MAX_REASONS + 1
    assert reported[-1][0] == "more_reasons"


@given(ledgers())
def test_ledger_of_another_issuer_is_refused(ledger: Ledger) -> None:
    """A good ledger is accepted only for its own issuer."""
    body = write_ledger(replace(ledger, issuer=IssuerUrl(ISSUER + "2")))
    assert ("wrong_issuer", "ledger issuer") in refusal(body)
