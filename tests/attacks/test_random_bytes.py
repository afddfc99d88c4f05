"""Random and mutated bytes: every parser decides about them, none raises, and accepted values survive a round trip."""

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from mirror.model import KeyPolicy, KeyRecord, Ledger, Revocation, Status
from mirror.trust.jwks import KeySet, read_jwks
from mirror.trust.ledger import LedgerRead, read_ledger, stated_issuer, write_ledger
from mirror.trust.parsing import Rejected
from support.captures import capture
from support.keys import EC_KEYS, RSA_KEYS, jwks_body, with_kid
from support.strategies import ISSUER

RSA, EC = RSA_KEYS[0].members(), EC_KEYS[0].members()
REAL = capture("04d-all-algs/jwks").body()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*RSA, *EC, "keys"]), inner),
)


@given(st.binary() | st.text().map(str.encode) | JSON.map(lambda value: json.dumps({"keys": value}).encode()))
def test_no_bytes_make_the_jwks_reader_raise(body: bytes) -> None:
    """Whatever an apiserver sends is judged, never raised."""
    assert isinstance(read_jwks(body, policy=KeyPolicy()), KeySet | Rejected)


@given(
    st.dictionaries(st.sampled_from([*RSA, *EC, "key_ops", "d"]), JSON | st.sampled_from([*RSA.values(), *EC.values()]))
)
def test_no_key_makes_the_jwks_reader_raise(entry: dict[str, object]) -> None:
    """Whatever stands in a key is judged, never raised."""
    assert isinstance(
        read_jwks(json.dumps({"keys": [entry]}).encode(), policy=KeyPolicy(kid="opaque")), KeySet | Rejected
    )


@given(st.integers(0, len(REAL) - 1), st.binary(max_size=3))
def test_mutated_real_answer_is_judged(position: int, replacement: bytes) -> None:
    """A real answer with some changed bytes is rejected, or accepted as a set that is published normally."""
    body = REAL[:position] + replacement + REAL[position + 1 :]
    read = read_jwks(body, policy=KeyPolicy())
    if isinstance(read, KeySet):
        assert read_jwks(jwks_body(*read.keys), policy=KeyPolicy()) == KeySet(read.keys)


NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
BODY = write_ledger(
    Ledger(
        ISSUER,
        (
            KeyRecord(with_kid(EC_KEYS[0], "a"), Status.PUBLISHED, 1, NOW, returned_at=NOW),
            KeyRecord(with_kid(RSA_KEYS[0], "b"), Status.RETIRING, 2, NOW, missing_since=NOW),
            KeyRecord(with_kid(RSA_KEYS[1], "c"), Status.HELD, 1, NOW, held_because="policy"),
            KeyRecord(with_kid(RSA_KEYS[2], "d"), Status.DROPPED, 4, NOW),
            KeyRecord(with_kid(RSA_KEYS[3], "e"), Status.REVOKED, 3, NOW, revocation=Revocation(NOW, "stolen")),
        ),
    )
)


def is_stable(ledger: Ledger) -> bool:
    """Whether an accepted value can be written and read again without an error."""
    return read_ledger(write_ledger(ledger), issuer=ISSUER) == LedgerRead(ledger)


def with_member(index: int, name: str, value: object) -> bytes:
    document = json.loads(BODY)
    document["keys"][index][name] = value
    return json.dumps(document).encode()


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_make_the_ledger_reader_raise(body: bytes) -> None:
    """Whatever a remote holds is judged, never raised."""
    assert isinstance(read_ledger(body, issuer=ISSUER), Ledger | Rejected)
    assert stated_issuer(body) is None or isinstance(stated_issuer(body), str)


JSON = (
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.none()) | st.dictionaries(st.text(), st.none())
)


@given(
    st.integers(0, 4), st.sampled_from(sorted({name for record in json.loads(BODY)["keys"] for name in record})), JSON
)
def test_no_value_makes_the_reader_raise(index: int, name: str, value: object) -> None:
    """Whatever a record contains, the parser decides and never raises; an accepted record is written and read again."""
    read = read_ledger(with_member(index, name, value), issuer=ISSUER)
    assert isinstance(read, Rejected) or is_stable(read.ledger)


@given(st.integers(0, len(BODY) - 1), st.binary(max_size=2))
def test_mutated_ledger_is_judged(position: int, replacement: bytes) -> None:
    """A ledger with some changed bytes is rejected, or accepted as one that is written and read again."""
    read = read_ledger(BODY[:position] + replacement + BODY[position + 1 :], issuer=ISSUER)
    assert isinstance(read, Rejected) or is_stable(read.ledger)
