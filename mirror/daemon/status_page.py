"""Pure: the chronicle as what the status page shows; words are chosen here, the template only lays them out."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from mirror.daemon.keybars import KeyBars, key_bars
from mirror.daemon.pass_history import Chronicle, Known
from mirror.model import PUBLIC_STATUSES, Level, Observation, Observed, Reason, Unusable, key_id
from mirror.report import Effect, IssuerReport, State

CERTIFICATE_SOON = timedelta(days=14)
MOST_CARDS = 100
"""From here on issuers that need nobody are lines of a table: a page of a thousand cards helps nobody."""
_COMMAND = re.compile(r"(?P<words>[^\n]*: )(?P<command>(?:oidc-mirror|kubectl) [^\n]+)")
_EFFECTS = {
    Effect.UNCHANGED: "as committed",
    Effect.PUT: "put in the last pass",
    Effect.PLANNED: "not put: the bucket could not be read or nothing may be published",
    Effect.WAITING: "waits",
    Effect.FAILED: "could not be put",
}


@dataclass(frozen=True, slots=True)
class Advice:
    """Something to be told: a sentence, what to do, and the command that does it (empty where there is none)."""

    sentence: str
    remedy: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class ApiserverBox:
    """One apiserver: `mark` is `good`, `warn` or `bad`; `missing` are keys that others show and it does not."""

    url: str
    mark: str
    word: str
    told: tuple[Advice, ...] = ()
    keys: int | None = None
    missing: tuple[str, ...] = ()
    expires_at: datetime | None = None
    expires_soon: bool = False


@dataclass(frozen=True, slots=True)
class DocumentLine:
    """One public document and how it stands in the bucket."""

    url: str
    mark: str
    word: str


@dataclass(frozen=True, slots=True)
class Card:
    """One published issuer."""

    known: Known
    mark: str
    word: str
    sentence: str
    apiservers: tuple[ApiserverBox, ...] = ()
    keys: KeyBars | None = None
    documents: tuple[DocumentLine, ...] = ()
    look: str = ""
    look_mark: str = "quiet"
    held: tuple[Advice, ...] = ()
    failures: tuple[Advice, ...] = ()
    events: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """Its id in the page: a name, and for a former issuer its path, in which no space can be."""
        return f"{self.known.name}:{self.known.url}" if self.known.is_former else str(self.known.name)


MARKS = {
    State.FAILED: "bad",
    State.HELD: "held",
    State.DEGRADED: "warn",
    State.CHANGED: "good",
    State.CURRENT: "good",
}


def cards(chronicle: Chronicle, now: datetime) -> tuple[Card, ...]:
    """Every published issuer, the ones that need somebody first."""
    order = {state: place for place, state in enumerate(State)}

    def urgency(card: Card) -> int:
        report = card.known.report
        return -1 if report is None else order[report.state]

    return tuple(sorted((_card(known, now) for known in chronicle.issuers.values()), key=urgency))


def advice(reason: Reason) -> Advice:
    """A reason as people act on it; a command at the end of a remedy stands by itself."""
    found = _COMMAND.fullmatch(reason.remedy)
    if found is None:
        return Advice(reason.sentence, reason.remedy)
    return Advice(reason.sentence, found["words"].strip(), found["command"])


def _card(known: Known, now: datetime) -> Card:
    report = known.report
    if report is None:
        return Card(known, "quiet", "unknown", "No pass has decided about it yet.")
    look_mark, look = _look(known)
    return Card(
        known,
        MARKS[report.state],
        str(report.state),
        _sentence(known, report),
        tuple(_boxes(known, report, now)),
        key_bars(known, now),
        tuple(_documents(report)),
        look,
        look_mark,
        tuple(advice(reason) for reason in report.held),
        tuple(advice(reason) for reason in report.all_failures()),
        tuple(dict.fromkeys(each.sentence for each in report.events if each.level is not Level.INFO)),
    )


def _sentence(known: Known, report: IssuerReport) -> str:
    unusable = sum(isinstance(each, Unusable) for each in report.observations)
    match report.state:
        case State.FAILED if known.look is not None and not known.look.ok:
            return "Something failed, and what is public is not what was meant."
        case State.FAILED:
            return "Something failed; the last good state stays public."
        case State.HELD:
            return f"{_count(len(report.held), 'change')} waiting for an operator; what is public stays as it is."
        case State.DEGRADED if unusable:
            return f"Mirrored, but {unusable} of {_count(len(report.observations), 'apiserver')} gave no usable answer."
        case State.DEGRADED if not any(each.status in PUBLIC_STATUSES for each in report.records):
            return "No key is public, so no token of this cluster is accepted anywhere."
        case State.DEGRADED:
            return "Mirrored, but not all of it is public yet."
        case State.CHANGED:
            return "Changed in the last pass, and public."
        case _ if known.replicas_disagree():
            return "Everything is current. The apiservers show different keys: a rotation is under way."
        case _:
            return "Everything is current."


def _boxes(known: Known, report: IssuerReport, now: datetime) -> Iterator[ApiserverBox]:
    shown = known.shown()
    for each in report.observations:
        expires_at = each.certificate_expires_at
        soon = expires_at is not None and expires_at - now < CERTIFICATE_SOON
        if isinstance(each, Observed):
            missing = sorted(shown - {key_id(key) for key in each.keys})
            kids = tuple(kid for kid, _ in missing)
            mark = "warn" if kids or soon else "good"
            yield ApiserverBox(each.apiserver, mark, "reachable", (), len(each.keys), kids, expires_at, soon)
        else:
            yield _unusable(each, expires_at, soon=soon)


def _unusable(each: Observation, expires_at: datetime | None, *, soon: bool) -> ApiserverBox:
    reasons = each.reasons if isinstance(each, Unusable) else ()
    word = ", ".join(dict.fromkeys(reason.code for reason in reasons))
    return ApiserverBox(
        each.apiserver, "bad", word, tuple(map(advice, reasons)), expires_at=expires_at, expires_soon=soon
    )


def _documents(report: IssuerReport) -> Iterator[DocumentLine]:
    for each in report.objects:
        good = each.effect in (Effect.UNCHANGED, Effect.PUT)
        word = "drift repaired in the last pass" if good and each.action == "repair" else _EFFECTS[each.effect]
        yield DocumentLine(each.url, "good" if good else "warn", word)


def _look(known: Known) -> tuple[str, str]:
    if known.look is None or known.looked_at is None:
        return "quiet", "The public URLs were not read yet."
    took = "" if known.look.seconds is None else f" within {known.look.seconds:.2f} s"
    if known.look.ok:
        return "good", f"The world read these documents as meant{took}, at {known.looked_at:%Y-%m-%d %H:%M:%SZ}."
    return "bad", f"The world does not see what is meant, since a look at {known.looked_at:%Y-%m-%d %H:%M:%SZ}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
