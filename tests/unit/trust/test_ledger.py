"""The ledger file: it is read back unchanged, and its format gives readable diffs."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

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
    RsaKey,
    Status,
    Thumbprint,
    key_id,
)
from mirror.trust.jwks import thumbprint_of
from mirror.trust.ledger import (
    ALL_THUMBPRINTS,
    LedgerRead,
    left_out,
    moment_of,
    moment_text,
    read_ledger,
    stated_issuer,
    write_ledger,
)
from mirror.trust.parsing import Rejected, encode
from support.keys import EC_KEYS, RSA_KEYS, with_kid
from support.strategies import ISSUER, ledgers

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
PUBLISHED = KeyRecord(EC_KEYS[0], Status.PUBLISHED, 1, NOW)


@given(ledgers())
def test_ledger_survives(ledger: Ledger) -> None:
    """Every valid ledger is read back unchanged, and rendered to the same bytes again."""
    body = write_ledger(ledger)
    assert read_ledger(body, issuer=ISSUER) == LedgerRead(ledger)
    assert write_ledger(ledger) == body


def test_file_is_made_for_a_diff() -> None:
    """The file has one member per line, the key last, a final newline, and exactly this text."""
    key = with_kid(EC_KEYS[0], "schlüssel <1>")
    revocation = Revocation(NOW, "stolen", last=True, revoked_from=Status.PUBLISHED, order=2)
    ledger = Ledger(ISSUER, (KeyRecord(key, Status.REVOKED, 3, NOW, revocation=revocation),))
    x, y = EC_KEYS[0].x, EC_KEYS[0].y
    assert (
        write_ledger(ledger).decode()
        == f"""{{
  "issuer": "{ISSUER}",
  "version": 1,
  "keys": [
    {{
      "kid": "schlüssel <1>",
      "thumbprint": "{key.thumbprint}",
      "status": "revoked",
      "generation": 3,
      "first_seen": "2026-11-23T08:00:00Z",
      "revoked": {{
        "at": "2026-11-23T08:00:00Z",
        "reason": "stolen",
        "last": true,
        "revoked_from": "published",
        "order": 2
      }},
      "key": {{
        "use": "sig",
        "kty": "EC",
        "kid": "schlüssel <1>",
        "crv": "P-256",
        "alg": "ES256",
        "x": "{x}",
        "y": "{y}"
      }}
    }}
  ]
}}
"""
    )


def test_dropped_key_is_written_by_name() -> None:
    """A dropped record keeps only the key's name and algorithm, not its material."""
    key = with_kid(RSA_KEYS[0], "k")
    ledger = Ledger(ISSUER, (KeyRecord(key, Status.DROPPED, 3, NOW),))
    assert json.loads(write_ledger(ledger))["keys"] == [
        {
            "kid": "k",
            "thumbprint": key.thumbprint,
            "alg": "RS256",
            "status": "dropped",
            "generation": 3,
            "first_seen": "2026-11-23T08:00:00Z",
        }
    ]
    nameless = replace(ledger.records[0], key=KeyName(Kid("k"), "", key.thumbprint))
    assert "alg" not in json.loads(write_ledger(Ledger(ISSUER, (nameless,))))["keys"][0]


@pytest.mark.parametrize(
    ("status", "revoked", "is_kept"),
    [
        ("dropped", None, False),
        ("revoked", {}, False),
        ("revoked", {"revoked_from": "held"}, False),
        ("revoked", {"revoked_from": "retiring", "order": 1}, True),
    ],
    ids=["dropped", "revoked", "revoked_while_held", "revoked_while_public"],
)
def test_key_of_an_older_file_becomes_a_name(status: str, revoked: dict[str, object] | None, is_kept: bool) -> None:
    """Version 1 kept the material of every key; it is dropped if the key cannot become public again by itself."""
    key = RSA_KEYS[0]
    entry = {
        "kid": key.kid,
        "thumbprint": key.thumbprint,
        "status": status,
        "generation": 2,
        "first_seen": "2026-11-23T08:00:00Z",
        **({} if revoked is None else {"revoked": {"at": "2026-11-23T08:00:00Z", "reason": "x", **revoked}}),
        "key": key.members(),
    }
    read = read_ledger(file_of(entry), issuer=ISSUER)
    assert isinstance(read, LedgerRead)
    assert read.damaged == ()
    assert read.ledger.records[0].key == (key if is_kept else KeyName(key.kid, "RS256", key.thumbprint))


@pytest.mark.parametrize(
    "key",
    [
        "x",
        {"kty": "RSA", "n": 5, "e": "AQAB", "alg": "none"},
        {"kty": "oct", "kid": RSA_KEYS[0].kid},
        {**RSA_KEYS[0].members(), "e": "AQAB", "x5c": []},
    ],
    ids=["text", "broken_material", "another_type", "another_member"],
)
def test_bad_key_of_a_dropped_record_does_not_matter(key: object) -> None:
    """The key is never published, so only the readable parts of its name must be consistent."""
    entry = {
        "kid": RSA_KEYS[0].kid,
        "thumbprint": RSA_KEYS[0].thumbprint,
        "status": "dropped",
        "generation": 2,
        "first_seen": "2026-11-23T08:00:00Z",
        "key": key,
    }
    read = read_ledger(file_of(entry), issuer=ISSUER)
    assert isinstance(read, LedgerRead)
    assert read.damaged == ()
    assert [r.key.thumbprint for r in read.ledger.records] == [RSA_KEYS[0].thumbprint]


def file_of(*entries: object) -> bytes:
    return json.dumps({"issuer": ISSUER, "version": 1, "keys": entries}).encode()


def test_byte_form_is_free() -> None:
    """The reader ignores white space and the order of members and records."""
    ledger = Ledger(
        ISSUER, tuple(sorted((PUBLISHED, replace(PUBLISHED, key=RSA_KEYS[0])), key=lambda r: key_id(r.key)))
    )
    document = json.loads(write_ledger(ledger))
    shuffled = {"keys": [dict(reversed(record.items())) for record in reversed(document["keys"])]}
    body = json.dumps({**shuffled, "version": 1, "issuer": ISSUER}).encode()
    assert body != write_ledger(ledger)
    assert read_ledger(body, issuer=ISSUER) == LedgerRead(ledger)


def test_one_kid_may_name_two_keys() -> None:
    """A held key can have the kid of a published one (facts.md#7)."""
    twin = replace(PUBLISHED, key=with_kid(EC_KEYS[1], EC_KEYS[0].kid), status=Status.HELD, held_because="kid_taken")
    records = tuple(sorted((PUBLISHED, twin), key=lambda record: key_id(record.key)))
    assert read_ledger(write_ledger(Ledger(ISSUER, records)), issuer=ISSUER) == LedgerRead(Ledger(ISSUER, records))


def test_unsorted_ledger_is_written_sorted() -> None:
    """The bytes do not depend on the order of the records."""
    other = replace(PUBLISHED, key=RSA_KEYS[0])
    assert write_ledger(Ledger(ISSUER, (PUBLISHED, other))) == write_ledger(Ledger(ISSUER, (other, PUBLISHED)))


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(replace(PUBLISHED, generation=0), id="generation 0"),
        pytest.param(replace(PUBLISHED, first_seen=NOW.replace(microsecond=1)), id="part of a second"),
        pytest.param(replace(PUBLISHED, first_seen=NOW.replace(tzinfo=None)), id="naive"),
        pytest.param(replace(PUBLISHED, first_seen=NOW.astimezone(timezone(timedelta(hours=2)))), id="not utc"),
        pytest.param(replace(PUBLISHED, missing_since=NOW), id="published and missing"),
        pytest.param(replace(PUBLISHED, status=Status.RETIRING), id="retiring without date"),
        pytest.param(replace(PUBLISHED, status=Status.HELD), id="held without code"),
        pytest.param(replace(PUBLISHED, status=Status.REVOKED), id="revoked without revocation"),
        pytest.param(replace(PUBLISHED, status=Status.REVOKED, revocation=Revocation(NOW, "a\nb")), id="line feed"),
        pytest.param(replace(PUBLISHED, key=replace(EC_KEYS[0], thumbprint=EC_KEYS[1].thumbprint)), id="thumbprint"),
        pytest.param(replace(PUBLISHED, key=KeyName(Kid("k"), "", EC_KEYS[0].thumbprint)), id="without material"),
    ],
)
def test_unreadable_ledger_is_never_written(record: KeyRecord) -> None:
    """A ledger that breaks a rule of the format raises an error before it reaches git."""
    with pytest.raises(ValueError, match="could not be read again"):
        write_ledger(Ledger(ISSUER, (record,)))


def test_repeated_record_is_never_written() -> None:
    """Two records of one key are an error of the caller."""
    with pytest.raises(ValueError, match="could not be read again"):
        write_ledger(Ledger(ISSUER, (PUBLISHED, PUBLISHED)))


# Errors in the file as a whole. Attacks on its parts are in tests/attacks/test_ledger.py.

REMEDY = "Restore the ledger from an earlier commit, or undo the manual edit."
MOST_BYTES = 4 * 1024 * 1024


def test_largest_ledger_is_read() -> None:
    """A file of 4 MiB is accepted, with any number of records."""
    records = tuple(replace(PUBLISHED, key=with_kid(EC_KEYS[0], f"k{number:03}")) for number in range(600))
    body = write_ledger(Ledger(ISSUER, records)).ljust(MOST_BYTES)
    assert read_ledger(body, issuer=ISSUER, already_checked=ALL_THUMBPRINTS) == LedgerRead(Ledger(ISSUER, records))


def long_ago(days: int, **fields: object) -> KeyRecord:
    """A dropped record of 4 kB, first seen `days` days ago."""
    name = KeyName(Kid(f"{days:04}" + "\U0001f511" * 1020), "RS256", Thumbprint(f"{days:043}"))
    record = KeyRecord(name, Status.DROPPED, 1, NOW - timedelta(days=days))
    return replace(record, **fields)  # type: ignore[arg-type]  # fields of KeyRecord by name


def test_oldest_dropped_keys_are_left_out_where_there_is_no_room() -> None:
    """The file has as many records as fit, all revoked ones among them; the choice is deterministic."""
    stolen = Revocation(NOW - timedelta(days=5000), "stolen")
    revoked = long_ago(5000, status=Status.REVOKED, revocation=stolen)
    ledger = Ledger(ISSUER, (PUBLISHED, *(long_ago(days) for days in range(1100)), revoked))
    gone = left_out(ledger)
    body = write_ledger(ledger)
    assert [record.first_seen for record in gone] == [NOW - timedelta(days=1099 - i) for i in range(len(gone))]
    assert MOST_BYTES - 5000 < len(body) <= MOST_BYTES
    read = read_ledger(body, issuer=ISSUER)
    assert isinstance(read, LedgerRead)
    assert frozenset(read.ledger.records) == frozenset(ledger.records) - frozenset(gone)
    assert (left_out(read.ledger), write_ledger(read.ledger)) == ((), body)


def test_ledger_that_only_seems_too_large_keeps_everything() -> None:
    """If only the estimate exceeds the limit, all records are written."""
    ledger = Ledger(ISSUER, tuple(long_ago(days) for days in range(600)))
    assert left_out(ledger) == ()


def test_revoked_keys_alone_may_not_fill_the_file() -> None:
    """Revoked records are never left out. If they do not fit, the ledger is not written."""
    stolen = Revocation(NOW, "stolen")
    ledger = Ledger(ISSUER, tuple(long_ago(n, status=Status.REVOKED, revocation=stolen) for n in range(1100)))
    assert left_out(ledger) == ()
    with pytest.raises(ValueError, match="could not be read again"):
        write_ledger(ledger)


def test_key_that_was_checked_before_is_not_checked_again() -> None:
    """A new strength rule must not break older ledgers: their public keys stay public."""
    n = encode((3**1293).to_bytes(257))
    key = RsaKey(Kid("old"), "RS256", n, "AQAB", thumbprint_of("RSA", n=n, e="AQAB"))
    weak = write_ledger(Ledger(ISSUER, (replace(PUBLISHED, key=key),)))
    read = read_ledger(weak, issuer=ISSUER)
    assert isinstance(read, LedgerRead)
    assert (read.ledger.records, {reason.code for reason in read.damaged}) == ((), {"weak_key"})
    assert read_ledger(weak, issuer=ISSUER, already_checked=ALL_THUMBPRINTS) == LedgerRead(
        Ledger(ISSUER, (replace(PUBLISHED, key=key),))
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            b" " * (MOST_BYTES + 1),
            Reason("too_large", "The ledger has 4194305 bytes, and at most 4194304 are read.", REMEDY, "ledger"),
        ),
        (
            b'{"issuer": "https://other", "version": 1, "keys": []}',
            Reason(
                "wrong_issuer",
                f'The ledger is of the issuer "https://other", not of "{ISSUER}".',
                REMEDY,
                "ledger issuer",
            ),
        ),
    ],
    ids=["one byte too many", "of another issuer"],
)
def test_refused_ledger_says_all_that_an_operator_needs(body: bytes, reason: Reason) -> None:
    """The reason has code, sentence, remedy and place, and no part of the ledger is accepted."""
    assert read_ledger(body, issuer=ISSUER) == Rejected((reason,))


def test_what_is_no_json_is_said_of_the_ledger() -> None:
    """A report is about many documents, so the reason names the ledger."""
    read = read_ledger(b"[", issuer=ISSUER)
    assert isinstance(read, Rejected)
    assert [reason.where.split()[0] for reason in read.reasons] == ["ledger"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (write_ledger(Ledger(ISSUER)), ISSUER),
        (b'{"issuer":"https://a"}', "https://a"),
        (b'{"issuer":5}', None),
        (b'{"issuer":""}', None),
        (b'{"issuer":"a\\nb"}', None),
        (b"{}", None),
        (b"[", None),
        (b" " * 4_194_305, None),
    ],
    ids=["ledger", "issuer alone", "number", "empty", "control", "absent", "not json", "too large"],
)
def test_stated_issuer_is_what_the_file_says(body: bytes, expected: IssuerUrl | None) -> None:
    """The issuer that a file names is read without trusting the rest of the file."""
    assert stated_issuer(body) == expected


def test_moment_survives() -> None:
    """A time is written in UTC with seconds and read back unchanged."""
    assert moment_text(NOW) == "2026-11-23T08:00:00Z"
    assert moment_of("2026-11-23T08:00:00Z") == NOW
