"""The ledger file: what is written is read again, and the bytes are made for a diff."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given

from mirror.model import IssuerUrl, KeyRecord, Kid, Ledger, Reason, Revocation, RsaKey, Status, key_id
from mirror.trust.base64url import encode
from mirror.trust.ledger import EVERYTHING, read_ledger, stated_issuer, write_ledger
from mirror.trust.material import thumbprint_of
from mirror.trust.records import moment_of, moment_text
from mirror.trust.refused import Refused
from support.keys import EC_KEYS, RSA_KEYS, with_kid
from support.strategies import ISSUER, ledgers

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
PUBLISHED = KeyRecord(EC_KEYS[0], Status.PUBLISHED, 1, NOW)


@given(ledgers())
def test_ledger_survives(ledger: Ledger) -> None:
    """Every valid ledger is read back as it was written, and written in the same bytes again."""
    body = write_ledger(ledger)
    read = read_ledger(body, issuer=ISSUER)
    assert read == ledger
    assert write_ledger(ledger) == body


def test_file_is_made_for_a_diff() -> None:
    """The file has one member a line, the key last, a final newline, and this very text."""
    key = with_kid(EC_KEYS[0], "schlüssel <1>")
    revocation = Revocation(NOW, "stolen", last=True)
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
        "last": true
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


def test_byte_form_is_free() -> None:
    """White space, order of members and of records do not matter to the reader."""
    ledger = Ledger(
        ISSUER, tuple(sorted((PUBLISHED, replace(PUBLISHED, key=RSA_KEYS[0])), key=lambda r: key_id(r.key)))
    )
    document = json.loads(write_ledger(ledger))
    shuffled = {"keys": [dict(reversed(record.items())) for record in reversed(document["keys"])]}
    body = json.dumps({**shuffled, "version": 1, "issuer": ISSUER}).encode()
    assert body != write_ledger(ledger)
    assert read_ledger(body, issuer=ISSUER) == ledger


def test_one_kid_may_name_two_keys() -> None:
    """A held key can have the kid of a published one (fact 7)."""
    twin = replace(PUBLISHED, key=with_kid(EC_KEYS[1], EC_KEYS[0].kid), status=Status.HELD, held_because="kid_taken")
    records = tuple(sorted((PUBLISHED, twin), key=lambda record: key_id(record.key)))
    assert read_ledger(write_ledger(Ledger(ISSUER, records)), issuer=ISSUER) == Ledger(ISSUER, records)


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
    ],
)
def test_unreadable_ledger_is_never_written(record: KeyRecord) -> None:
    """A ledger that breaks a rule of its own raises before it can reach git."""
    with pytest.raises(ValueError, match="could not be read again"):
        write_ledger(Ledger(ISSUER, (record,)))


def test_repeated_record_is_never_written() -> None:
    """Two records of one key are a fault of the caller."""
    with pytest.raises(ValueError, match="could not be read again"):
        write_ledger(Ledger(ISSUER, (PUBLISHED, PUBLISHED)))


# What is of the file as a whole; the attacks on its parts stand in tests/attacks/test_ledger.py.

REMEDY = "Restore the ledger from an earlier commit, or take back what was edited by hand."
MOST_BYTES = 4 * 1024 * 1024


def test_largest_ledger_is_read() -> None:
    """512 records in 4 MiB are believed, where the mirror checked the strength of their keys before."""
    records = tuple(replace(PUBLISHED, key=with_kid(EC_KEYS[0], f"k{number:03}")) for number in range(512))
    body = write_ledger(Ledger(ISSUER, records)).ljust(MOST_BYTES)
    assert read_ledger(body, issuer=ISSUER, known=EVERYTHING) == Ledger(ISSUER, records)


def test_key_that_was_checked_before_is_not_checked_again() -> None:
    """A rule that got stricter must not break the ledgers that an older mirror wrote: they keep what is public."""
    n = encode((3**1293).to_bytes(257))
    key = RsaKey(Kid("old"), "RS256", n, "AQAB", thumbprint_of("RSA", n=n, e="AQAB"))
    weak = write_ledger(Ledger(ISSUER, (replace(PUBLISHED, key=key),)))
    assert isinstance(read_ledger(weak, issuer=ISSUER), Refused)
    assert isinstance(read_ledger(weak, issuer=ISSUER, known=EVERYTHING), Ledger)


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
    """Code, sentence, remedy and place; nothing of the ledger is believed."""
    assert read_ledger(body, issuer=ISSUER) == Refused((reason,))


def test_what_is_no_json_is_said_of_the_ledger() -> None:
    """The report has many documents: the reason names the one it is about."""
    read = read_ledger(b"[", issuer=ISSUER)
    assert isinstance(read, Refused)
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
    """The issuer of a stranger's ledger is read without believing the rest."""
    assert stated_issuer(body) == expected


def test_moment_survives() -> None:
    """A moment is written in UTC to the second and read again."""
    assert moment_text(NOW) == "2026-11-23T08:00:00Z"
    assert moment_of("2026-11-23T08:00:00Z") == NOW
