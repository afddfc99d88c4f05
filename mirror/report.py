"""What a pass did, as one value: the exit status is computed from it, and every output is rendered from it.

`to_json` is stable; its JSON Schema is `docs/reference/report.schema.json`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum

from mirror.errors import MirrorError
from mirror.model import (
    NOTHING_RECEIVED_CODES,
    PUBLIC_STATUSES,
    TRANSIENT_CODES,
    AnyKey,
    CommitId,
    Event,
    IssuerName,
    IssuerUrl,
    KeyRecord,
    Note,
    Observation,
    Observed,
    Reason,
    RepositoryMode,
    Status,
    Unusable,
)


class ExitStatus(IntEnum):
    """What the process tells its caller; 1 comes before 3."""

    CURRENT = 0
    FAILED = 1
    USAGE = 2
    HELD = 3
    INTERRUPTED = 130


class State(StrEnum):
    """An issuer's state after a pass, the worst first."""

    FAILED = "failed"
    HELD = "held"
    DEGRADED = "degraded"
    CHANGED = "changed"
    CURRENT = "current"


DEGRADING = frozenset({"issuer.emptied", "readback.stale"})
"""Events after which an issuer is not current, though nothing failed yet."""


class Effect(StrEnum):
    """What became of a public object."""

    UNCHANGED = "unchanged"
    PLANNED = "planned"
    PUT = "put"
    WAITING = "waiting"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Change:
    """A key's transition in this pass: its new status and one sentence."""

    key: AnyKey
    status: Status
    sentence: str


@dataclass(frozen=True, slots=True)
class ObjectReport:
    """One public object: where it is, and what was done. `action` is `create`, `update`, `repair` or empty."""

    url: str
    key: str
    effect: Effect
    action: str = ""


@dataclass(frozen=True, slots=True)
class PublicReadback:
    """How the world saw an issuer's documents: `ok` unless something is wrong, and the slowest answer (None: none)."""

    ok: bool
    seconds: float | None


@dataclass(frozen=True, slots=True)
class IssuerReport:
    """One issuer: what its apiservers said, its keys, what changed, and what is wrong.

    `notes` are what relying parties may make of the published keys. `failures` make the exit status 1, `held` make it
    3. `records` is the ledger after the pass; `retain_removed` is how long a retiring key stays. `safe_to_sign_at`
    is when the public keys may sign, and `look` how the world saw them, where this pass looked.
    """

    name: IssuerName
    issuer: IssuerUrl
    observations: tuple[Observation, ...] = ()
    records: tuple[KeyRecord, ...] = ()
    retain_removed: timedelta = timedelta(0)
    changes: tuple[Change, ...] = ()
    objects: tuple[ObjectReport, ...] = ()
    events: tuple[Event, ...] = ()
    notes: tuple[Note, ...] = ()
    failures: tuple[Reason, ...] = ()
    held: tuple[Reason, ...] = ()
    safe_to_sign_at: datetime | None = None
    look: PublicReadback | None = None

    @property
    def state(self) -> State:
        """The worst that holds."""
        if self.all_failures():
            return State.FAILED
        if self.held:
            return State.HELD
        if any(isinstance(o, Unusable) for o in self.observations):
            return State.DEGRADED
        if any(o.effect is Effect.WAITING for o in self.objects):
            return State.DEGRADED
        if any(event.name in DEGRADING for event in self.events):
            return State.DEGRADED
        if self.changes or any(o.effect in (Effect.PLANNED, Effect.PUT) for o in self.objects):
            return State.CHANGED
        return State.CURRENT

    def all_failures(self) -> tuple[Reason, ...]:
        """`failures`, and what apiservers did that somebody must look at: a refused answer, or none usable."""
        found = list(self.failures)
        unusable = [o for o in self.observations if isinstance(o, Unusable)]
        if len(unusable) == len(self.observations) and (unusable or not self.failures):
            sentence = "No apiserver of this issuer gave a usable answer; the last good state stays public."
            found.append(Reason("no_usable_apiserver", sentence, _remedies(unusable, self.name)))
        refused = [o for o in unusable if any(reason.code not in TRANSIENT_CODES for reason in o.reasons)]
        answered = [o for o in refused if any(_was_received(reason) for reason in o.reasons)]
        if answered:
            sentence = "An answer of an apiserver was refused; nothing was taken from it."
            found.append(Reason("answer_refused", sentence, _remedies(answered, self.name)))
        elif refused and len(unusable) < len(self.observations):
            sentence = "An apiserver could not be asked, and that does not pass by itself."
            found.append(Reason("apiserver_not_asked", sentence, _remedies(refused, self.name)))
        return tuple(found)


def _was_received(reason: Reason) -> bool:
    return reason.code not in NOTHING_RECEIVED_CODES and reason.code not in TRANSIENT_CODES


def _remedies(unusable: list[Unusable], name: IssuerName) -> str:
    """The remedies of the apiservers themselves, each once; what is more than a few is left to `check`."""
    found = list(dict.fromkeys(reason.remedy for o in unusable for reason in o.reasons if reason.remedy))
    if not found or len(found) > _MOST_REMEDIES:
        found = [*found[:_MOST_REMEDIES], f"`oidc-mirror check {name}` has the remedy of each apiserver."]
    return " ".join(found)


_MOST_REMEDIES = 3


@dataclass(frozen=True, slots=True)
class Report:
    """A whole pass. `commit` is the newest snapshot, None before the first; `committed` when this pass made it.

    `repository_mode` is None where the pass ended before the repository was looked at.
    """

    now: datetime
    dry_run: bool
    issuers: tuple[IssuerReport, ...]
    commit: CommitId | None = None
    committed: bool = False
    message: str = ""
    unpushed_commits: int = 0
    repository_mode: RepositoryMode | None = None
    events: tuple[Event, ...] = ()
    failures: tuple[Reason, ...] = ()

    @property
    def exit_status(self) -> ExitStatus:
        """Computed from what happened, never set."""
        if self.failures or any(issuer.all_failures() for issuer in self.issuers):
            return ExitStatus.FAILED
        if any(issuer.held for issuer in self.issuers):
            return ExitStatus.HELD
        return ExitStatus.CURRENT


def followed_by(first: Report, second: Report) -> Report:
    """The report of two passes, one right after the other: the state after the second, with what both changed."""
    before = {each.issuer: each for each in first.issuers}
    issuers = tuple(_both(before[each.issuer], each) if each.issuer in before else each for each in second.issuers)
    events = first.events + tuple(event for event in second.events if event not in first.events)
    return replace(
        second,
        issuers=issuers,
        events=events,
        committed=first.committed or second.committed,
        message="\n".join(text for text in (first.message, second.message) if text),
    )


def _both(first: IssuerReport, second: IssuerReport) -> IssuerReport:
    put = {each.key: each for each in first.objects if each.effect is Effect.PUT}
    objects = tuple(put.get(o.key, o) if o.effect is Effect.UNCHANGED else o for o in second.objects)
    events = first.events + tuple(event for event in second.events if event not in first.events)
    return replace(second, changes=first.changes + second.changes, objects=objects, events=events)


def reason_from(code: str, error: MirrorError) -> Reason:
    """An error as a reason of the report: its sentence, its cause, its remedy."""
    sentence = f"{error.sentence} ({error.cause})" if error.cause else error.sentence
    return Reason(code, sentence, error.remedy)


# --------------------------------------------------------------------------------------------------- JSON


def to_json(report: Report) -> dict[str, object]:
    """The report as plain data for `json.dumps`; kids are whole, times ISO 8601 UTC."""
    return {
        "version": 1,
        "time": report.now.isoformat(),
        "dry_run": report.dry_run,
        "exit_status": int(report.exit_status),
        "commit": report.commit,
        "committed": report.committed,
        "unpushed_commits": report.unpushed_commits,
        "repository": {"mode": report.repository_mode},
        "failures": [_reason(reason) for reason in report.failures],
        "events": [_event(event) for event in report.events],
        "issuers": [_issuer(issuer) for issuer in report.issuers],
    }


def _issuer(issuer: IssuerReport) -> dict[str, object]:
    return {
        "name": issuer.name,
        "issuer": issuer.issuer,
        "state": str(issuer.state),
        "apiservers": [_observation(o) for o in issuer.observations],
        "keys": [_record(record, issuer) for record in issuer.records],
        "changes": [
            {
                "kid": change.key.kid,
                "thumbprint": change.key.thumbprint,
                "status": str(change.status),
                "sentence": change.sentence,
            }
            for change in issuer.changes
        ],
        "objects": [
            {"url": o.url, "key": o.key, "effect": str(o.effect), "action": o.action or None} for o in issuer.objects
        ],
        "events": [_event(event) for event in issuer.events],
        "notes": [_note(note) for note in issuer.notes],
        "failures": [_reason(reason) for reason in issuer.all_failures()],
        "held": [_reason(reason) for reason in issuer.held],
    }


def _observation(observation: Observation) -> dict[str, object]:
    believed, expires_at = isinstance(observation, Observed), observation.certificate_expires_at
    return {
        "url": observation.apiserver,
        "usable": believed,
        "kids": [key.kid for key in observation.keys] if isinstance(observation, Observed) else [],
        "notes": [_note(note) for note in observation.notes] if isinstance(observation, Observed) else [],
        "reasons": [_reason(reason) for reason in observation.reasons] if isinstance(observation, Unusable) else [],
        "certificate_expires_at": expires_at.isoformat() if expires_at else None,
    }


def _record(record: KeyRecord, issuer: IssuerReport) -> dict[str, object]:
    leaves = record.missing_since + issuer.retain_removed if record.missing_since else None
    safe = issuer.safe_to_sign_at if record.status in PUBLIC_STATUSES else None
    return {
        "kid": record.key.kid,
        "thumbprint": record.key.thumbprint,
        "alg": record.key.alg,
        "status": str(record.status),
        "first_seen": record.first_seen.isoformat(),
        "missing_since": record.missing_since.isoformat() if record.missing_since else None,
        "leaves_at": leaves.isoformat() if leaves else None,
        "safe_to_sign_at": safe.isoformat() if safe else None,
        "held_because": record.held_because,
    }


def _note(note: Note) -> dict[str, object]:
    return {"code": note.code, "sentence": note.sentence}


def _reason(reason: Reason) -> dict[str, object]:
    return {
        "code": reason.code,
        "sentence": reason.sentence,
        "remedy": reason.remedy,
        "where": reason.where or None,
    }


def _event(event: Event) -> dict[str, object]:
    return {
        "event": event.name,
        "level": str(event.level),
        "sentence": event.sentence,
        "fields": dict(event.fields),
    }


def all_events(report: Report) -> Iterator[tuple[IssuerName | None, Event]]:
    """Every event of the pass with the issuer it belongs to, in the order of the report."""
    for event in report.events:
        yield None, event
    for issuer in report.issuers:
        for event in issuer.events:
            yield issuer.name, event
