"""What a pass did, as one value: the exit status is computed from it, and every output is rendered from it.

`to_json` is stable; its JSON Schema is `docs/reference/report.schema.json`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import assert_never

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
    KeyId,
    KeyRecord,
    Note,
    Observation,
    Observed,
    Reason,
    RepositoryMode,
    Status,
    Unusable,
    key_id,
)
from mirror.text import iso_time, iso_time_or_none


class ExitStatus(IntEnum):
    """The exit status of the process; 1 comes before 3."""

    CURRENT = 0
    FAILED = 1
    USAGE = 2
    HELD = 3
    BUSY = 75
    INTERRUPTED = 130


class State(StrEnum):
    """An issuer's state after a pass, the worst first; every output and the exit status are made of it.

    `waiting_for_push`: what was decided is not public, because the git remote must have it first. `unpublished`:
    nothing of the issuer was ever public.
    """

    FAILED = "failed"
    WAITING_FOR_PUSH = "waiting_for_push"
    UNPUBLISHED = "unpublished"
    HELD = "held"
    DEGRADED = "degraded"
    CHANGED = "changed"
    CURRENT = "current"


FAILING_STATES = frozenset({State.FAILED, State.WAITING_FOR_PUSH, State.UNPUBLISHED})
"""States of an issuer that make the exit status 1."""
PUSH_FAILED = "push.failed"
FORBIDDEN = "forbidden"

SUSPENDED = "issuer.suspended"
DEGRADING = frozenset({"issuer.emptied", SUSPENDED, "readback.stale"})
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
    """What anonymous requests got: `ok` unless something is wrong, and the slowest answer (None: none)."""

    ok: bool
    seconds: float | None


@dataclass(frozen=True, slots=True)
class IssuerReport:
    """One issuer: what its apiservers said, its keys, what changed, and what is wrong.

    `notes` are what relying parties may make of the published keys. `failures` make the exit status 1, `held` make it
    3. `records` is the ledger after the pass; `retain_removed` is how long a retiring key stays. `safe_to_sign_at`
    is when the public keys may sign, and `look` how the public saw them, where this pass looked. `expected_apiservers`
    is how many answers make "every apiserver answered". `blocked_by` is the code of the pass's failure that kept this
    issuer's changes from being carried out, or the whole issuer from being decided; empty where nothing did. A former
    issuer that gets no new keys any more need not be public (`must_be_public`). `known_safe` is from when on the keys
    may sign that were seen in public before this pass.
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
    expected_apiservers: int = 0
    blocked_by: str = ""
    must_be_public: bool = True
    known_safe: Mapping[KeyId, datetime] = field(default_factory=dict)

    def key_safe_at(self, record: KeyRecord) -> datetime | None:
        """From when on a key may sign, as far as this pass shows; None of a key that is not public."""
        known = safe_before(record, self.known_safe, self.records)
        return key_safe_at(record, known, self.safe_to_sign_at, self.look)

    @property
    def state(self) -> State:
        """The worst that holds. Current means: every key that should be public is, and nothing waits."""
        if self.all_failures() or self.blocked_by not in ("", PUSH_FAILED):
            return State.FAILED
        if self.blocked_by:
            return State.WAITING_FOR_PUSH
        if self.held:
            return State.HELD
        is_public = bool(self.objects) or any(record.status in PUBLIC_STATUSES for record in self.records)
        if self.must_be_public and not is_public:
            return State.UNPUBLISHED
        if self._is_degraded():
            return State.DEGRADED
        is_changed = bool(self.changes) or any(o.effect in (Effect.PLANNED, Effect.PUT) for o in self.objects)
        return State.CHANGED if is_changed else State.CURRENT

    @property
    def rotating(self) -> bool:
        """Whether a rotation is under way: apiservers show different keys, or a key is on its way out."""
        return self.replicas_disagree() or any(record.status is Status.RETIRING for record in self.records)

    def replicas_disagree(self) -> bool:
        """Whether accepted answers showed different sets of keys."""
        return len({frozenset(map(key_id, o.keys)) for o in self.observations if isinstance(o, Observed)}) > 1

    def missing_apiservers(self) -> int:
        """How many of the expected apiservers were not even found."""
        return max(0, self.expected_apiservers - len(self.observations))

    def _is_degraded(self) -> bool:
        return (
            self.missing_apiservers() > 0
            or any(isinstance(o, Unusable) for o in self.observations)
            or any(o.effect is Effect.WAITING for o in self.objects)
            or any(event.name in DEGRADING for event in self.events)
        )

    def all_failures(self) -> tuple[Reason, ...]:
        """`failures`, and what apiservers did that needs attention: a rejected answer, or none usable."""
        found = (
            Reason(code, sentence, " ".join(remedies_of(unusable, self.name)))
            for code, sentence, unusable in self.apiserver_failures()
        )
        return (*self.failures, *found)

    def apiserver_failures(self) -> Iterator[tuple[str, str, list[Unusable]]]:
        """What apiservers did that needs attention: code, sentence, and their remedies."""
        unusable = [o for o in self.observations if isinstance(o, Unusable)]
        if self.observations and not unusable:
            return  # as nearly always; the state of each issuer is asked for several times a pass
        if len(unusable) == len(self.observations) and (unusable or not (self.failures or self.blocked_by)):
            sentence = "No apiserver of this issuer gave a usable answer; the last good state stays public."
            yield "no_usable_apiserver", sentence, unusable
        # A restarting apiserver refuses for a moment what another one takes in this very pass (kube-apiserver loads its
        # RBAC rules after it begins to listen): the credential is right then.
        passing = TRANSIENT_CODES | {FORBIDDEN} if len(unusable) < len(self.observations) else TRANSIENT_CODES
        refused = [o for o in unusable if any(reason.code not in passing for reason in o.reasons)]
        never_received = NOTHING_RECEIVED_CODES | TRANSIENT_CODES
        answered = [o for o in refused if any(reason.code not in never_received for reason in o.reasons)]
        if answered:
            yield "answer_refused", "An answer of an apiserver was refused; nothing was taken from it.", answered
        elif refused and len(unusable) < len(self.observations):
            yield "apiserver_not_asked", "An apiserver could not be asked, and that does not pass by itself.", refused


def remedies_of(unusable: Iterable[Unusable], name: IssuerName) -> list[str]:
    """The remedies of the apiservers themselves, each once; what is more than a few is left to `check`."""
    found = list(dict.fromkeys(reason.remedy for o in unusable for reason in o.reasons if reason.remedy))
    if not found or len(found) > _MOST_REMEDIES:
        found = [*found[:_MOST_REMEDIES], f"`oidc-mirror check {name}` has the remedy of each apiserver."]
    return found


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
        return ExitStatus.FAILED if self.failures else exit_status_of(issuer.state for issuer in self.issuers)


def exit_status_of(states: Iterable[State]) -> ExitStatus:
    """What the states of all issuers make of the exit status: 1 comes before 3."""
    found = frozenset(states)
    if found & FAILING_STATES:
        return ExitStatus.FAILED
    return ExitStatus.HELD if State.HELD in found else ExitStatus.CURRENT


def key_safe_at(
    record: KeyRecord, earlier: datetime | None, seen_now: datetime | None, look: PublicReadback | None
) -> datetime | None:
    """From when on a public key may sign: by the first time that it was seen in public, whatever changed since.

    Args:
        record: The key.
        earlier: What was known before (`safe_before`).
        seen_now: By the last look, for every key that it saw.
        look: The last look; what is known earlier is void while the public URL does not show what is meant.
    """
    if record.status not in PUBLIC_STATUSES:
        return None
    if look is not None and not look.ok:
        earlier = None
    return min((moment for moment in (earlier, seen_now) if moment is not None), default=None)


_LONGEST_TURNOVER = timedelta(hours=1, minutes=5)
"""After so long no cache has the document from before: the longest max-age that we allow, and five minutes."""


def safe_before(record: KeyRecord, seen: Mapping[KeyId, datetime], records: Iterable[KeyRecord]) -> datetime | None:
    """From when on a key may sign, from remembered times; None if none is known.

    The time is that of an earlier read-back (`seen`). A mirror with an empty disk has none and uses the ledger
    (`records`): it has the time of publication of a key that was published in its first pass. It also shows whether
    another key changed the public document later. If none did, the object's own date is better, because a put may have
    failed for a long time.
    """
    identity = key_id(record.key)
    if identity in seen:
        return seen[identity]
    at_first_sight = (record.status, record.generation) in ((Status.PUBLISHED, 1), (Status.RETIRING, 2))
    others = (each for each in records if key_id(each.key) != identity)
    if at_first_sight and any(_changed_after(each, record.first_seen) for each in others):
        return record.first_seen + _LONGEST_TURNOVER
    return None


def _changed_after(record: KeyRecord, moment: datetime) -> bool:
    """Whether a key certainly came into the public document, or left it, after `moment`."""
    match record.status:
        case Status.PUBLISHED | Status.RETIRING:
            return (record.returned_at or record.first_seen) > moment
        case Status.DROPPED:
            return record.missing_since is not None and record.missing_since > moment
        case Status.REVOKED:
            return record.revocation is not None and record.revocation.at > moment
        case Status.HELD:
            return False
        case _:
            assert_never(record.status)


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
        "time": iso_time(report.now),
        "dry_run": report.dry_run,
        "exit_status": int(report.exit_status),
        "commit": report.commit,
        "committed": report.committed,
        "unpushed_commits": report.unpushed_commits,
        "repository": {"mode": report.repository_mode},
        "failures": [reason_json(reason) for reason in report.failures],
        "events": [event_json(event) for event in report.events],
        "issuers": [_issuer(issuer) for issuer in report.issuers],
    }


def _issuer(issuer: IssuerReport) -> dict[str, object]:
    return {
        "name": issuer.name,
        "issuer": issuer.issuer,
        "state": str(issuer.state),
        "rotating": issuer.rotating,
        "expected_apiservers": issuer.expected_apiservers,
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
        "events": [event_json(event) for event in issuer.events],
        "notes": [note_json(note) for note in issuer.notes],
        "failures": [reason_json(reason) for reason in issuer.all_failures()],
        "held": [reason_json(reason) for reason in issuer.held],
    }


def _observation(observation: Observation) -> dict[str, object]:
    believed, expires_at = isinstance(observation, Observed), observation.certificate_expires_at
    return {
        "url": observation.apiserver,
        "usable": believed,
        "kids": [key.kid for key in observation.keys] if isinstance(observation, Observed) else [],
        "notes": [note_json(note) for note in observation.notes] if isinstance(observation, Observed) else [],
        "reasons": [reason_json(reason) for reason in observation.reasons] if isinstance(observation, Unusable) else [],
        "certificate_expires_at": iso_time_or_none(expires_at),
    }


def _record(record: KeyRecord, issuer: IssuerReport) -> dict[str, object]:
    leaves = record.missing_since + issuer.retain_removed if record.missing_since else None
    safe = issuer.key_safe_at(record)
    return {
        "kid": record.key.kid,
        "thumbprint": record.key.thumbprint,
        "alg": record.key.alg,
        "status": str(record.status),
        "first_seen": iso_time(record.first_seen),
        "missing_since": iso_time_or_none(record.missing_since),
        "leaves_at": iso_time_or_none(leaves),
        "safe_to_sign_at": iso_time_or_none(safe),
        "held_because": record.held_because,
    }


def note_json(note: Note) -> dict[str, object]:
    """A note in every JSON output."""
    return {"code": note.code, "sentence": note.sentence}


def reason_json(reason: Reason) -> dict[str, object]:
    """A reason in every JSON output."""
    return {
        "code": reason.code,
        "sentence": reason.sentence,
        "remedy": reason.remedy,
        "where": reason.where or None,
    }


def event_json(event: Event) -> dict[str, object]:
    """An event in every JSON output."""
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
