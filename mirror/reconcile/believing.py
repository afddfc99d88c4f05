"""What apiservers said becomes what is believed, for the whole fleet: observations, and what keys have in common."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from mirror.config.settings import Issuer
from mirror.history.ledger_reader import HistoryState
from mirror.model import (
    Answer,
    Event,
    IssuerName,
    Key,
    KeyName,
    Observation,
    Observed,
    Reason,
    Status,
    Thumbprint,
    Unusable,
)
from mirror.new_keys import sound_keys
from mirror.reconcile.numbers import fast_numbers
from mirror.trust.discovery import observe
from mirror.trust.weak_keys import shared_keys, suspects

Answers = Mapping[IssuerName, tuple[Answer | Unusable, ...]]


@dataclass(frozen=True, slots=True)
class Beliefs:
    """Everything that apiservers showed in this pass, by issuer name.

    `defects` names issuers whose answers made our own code fail. `suspects` are new keys that must be held, with the
    reason's code; `events` what keys of several issuers have in common.
    """

    observations: Mapping[IssuerName, tuple[Observation, ...]] = field(default_factory=dict)
    defects: Mapping[IssuerName, Reason] = field(default_factory=dict)
    suspects: Mapping[Thumbprint, str] = field(default_factory=dict)
    events: Mapping[IssuerName, tuple[Event, ...]] = field(default_factory=dict)


def believe(
    issuers: Iterable[Issuer],
    answers: Answers,
    memory: HistoryState,
    *,
    left_out: Callable[[], Iterable[Key]] = tuple,
) -> Beliefs:
    """Validate every answer; what fails unexpectedly stays with its issuer.

    Args:
        issuers: Whose answers.
        answers: What their apiservers said.
        memory: What git knows of them.
        left_out: Gives the known keys of all other issuers, with which new keys are compared too; called only when
            there are new keys.
    """
    observations: dict[IssuerName, tuple[Observation, ...]] = {}
    defects: dict[IssuerName, Reason] = {}
    asked = tuple(issuers)
    remembered = [each for each in asked if each.issuer in memory.issuers]  # who is not is a defect, told below
    checked = sound_keys({each.name: (answers.get(each.name, ()), _known(each, memory)) for each in remembered})
    for issuer in asked:
        try:
            observations[issuer.name] = _observations(issuer, answers.get(issuer.name, ()), memory, checked)
        except Exception as error:  # noqa: BLE001  one issuer's trouble never stops another's change (design, 4)
            defects[issuer.name] = defect(error)
    shown = {name: tuple(_keys(found)) for name, found in observations.items()}
    known = {key.thumbprint: key for key in recorded_keys(memory)}
    followed = _followed(memory)
    new = [key for keys in shown.values() for key in keys if key.thumbprint not in followed]
    suspected = suspects(new, (*known.values(), *left_out()), number=fast_numbers()) if new else {}
    return Beliefs(observations, defects, suspected, shared_keys(shown))


def defect(error: Exception) -> Reason:
    """An exception that nobody expected, as a reason of one issuer: nothing lost, nobody else stopped."""
    sentence = f"This issuer's pass failed unexpectedly: {type(error).__name__}: {error}"
    return Reason("broken", sentence, "This is a defect of oidc-mirror: please report it with this sentence.")


def _known(issuer: Issuer, memory: HistoryState) -> frozenset[Thumbprint]:
    ledger = memory.issuers[issuer.issuer].ledger
    return frozenset(record.key.thumbprint for record in ledger.records) if ledger is not None else frozenset()


def _observations(
    issuer: Issuer,
    answers: Iterable[Answer | Unusable],
    memory: HistoryState,
    checked: Mapping[IssuerName, frozenset[Thumbprint]],
) -> tuple[Observation, ...]:
    known = _known(issuer, memory) | checked.get(issuer.name, frozenset())
    return tuple(
        answer
        if isinstance(answer, Unusable)
        else observe(answer, issuer=issuer.issuer, policy=issuer.keys, known=known)
        for answer in answers
    )


def _keys(observations: Iterable[Observation]) -> Iterable[Key]:
    return (key for o in observations if isinstance(o, Observed) for key in o.keys)


def _followed(memory: HistoryState) -> frozenset[Thumbprint]:
    """The keys that were compared when they came in and are remembered since; a dropped one is new when it returns."""
    ledgers = (known.ledger.records for known in memory.issuers.values() if known.ledger is not None)
    return frozenset(r.key.thumbprint for records in ledgers for r in records if r.status is not Status.DROPPED)


def recorded_keys(memory: HistoryState) -> Iterable[Key]:
    """The keys of all ledgers whose material is kept, whatever their status."""
    ledgers = (known.ledger for known in memory.issuers.values())
    keys = (record.key for ledger in ledgers if ledger is not None for record in ledger.records)
    return (key for key in keys if not isinstance(key, KeyName))
