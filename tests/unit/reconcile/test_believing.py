"""Which of the keys that apiservers show are new, and so compared with those of the whole fleet."""

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from mirror.addresses import repository_paths
from mirror.config.settings import Issuer
from mirror.history.ledger_reader import HistoryState, IssuerHistory
from mirror.model import Heads, Key, KeyRecord, Ledger, Observed, Revocation, Status, trimmed
from mirror.reconcile.believing import Beliefs, believe, recorded_keys
from support.fakes import FakeWorld
from support.situations import BASE_URL, ISSUER, NAME, ONE, answer

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def memory(*records: KeyRecord) -> HistoryState:
    known = IssuerHistory(repository_paths(ISSUER), Ledger(ISSUER, records) if records else None)
    return HistoryState(Heads(None, None), None, (), {ISSUER: known})


def believed(known: HistoryState) -> tuple[Beliefs, bool]:
    """What is believed of the one captured answer, and whether its key was compared with those of other issuers."""
    asked = []

    def left_out() -> Iterable[Key]:
        asked.append(True)
        return ()

    issuer = Issuer(NAME, ISSUER, FakeWorld(base_url=BASE_URL).publish())
    return believe([issuer], {NAME: (answer(ONE),)}, known, left_out=left_out), bool(asked)


def shown() -> Key:
    (observation,) = believed(memory())[0].observations[NAME]
    assert isinstance(observation, Observed)
    (key,) = observation.keys
    return key


@pytest.mark.parametrize(
    ("status", "is_new", "is_recorded"),
    [
        (None, True, False),
        (Status.PUBLISHED, False, True),
        (Status.HELD, False, True),
        (Status.DROPPED, True, False),
        (Status.REVOKED, False, False),
    ],
    ids=["unknown", "published", "held", "dropped", "revoked"],
)
def test_key_is_compared_when_it_comes_and_when_it_returns(
    status: Status | None, is_new: bool, is_recorded: bool
) -> None:
    """A dropped key is gone from the comparison, so it is new again; a revoked one that is shown costs nothing."""
    revocation = Revocation(NOW, "stolen") if status is Status.REVOKED else None
    held = "policy" if status is Status.HELD else None
    records = () if status is None else (KeyRecord(shown(), status, 1, NOW, held_because=held, revocation=revocation),)
    known = memory(*(trimmed(record) for record in records))
    assert believed(known)[1] is is_new
    assert list(recorded_keys(known)) == ([shown()] if is_recorded else [])
