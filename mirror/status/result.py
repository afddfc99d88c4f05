"""The status as one value: which keys are public, pending or leaving; its JSON and its exit status.

Pure. An issuer in one line, for `status` and the page: what is worst comes first, and what happens next.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from mirror.addresses import jwks_uri
from mirror.model import (
    PUBLIC_STATUSES,
    CommitId,
    Event,
    IssuerName,
    IssuerUrl,
    KeyId,
    KeyPolicy,
    KeyRecord,
    Ledger,
    Level,
    Reason,
    RepositoryMode,
    Status,
    Version,
    key_id,
    short_kid,
)
from mirror.ports import PublicEndpoint, PublicFailure, PublicResponse
from mirror.publish.drift import signing_window
from mirror.reconcile.local_state import LastPass, LastResult, past_event_json
from mirror.reconcile.state import PublishedIssuer
from mirror.report import SUSPENDED, ExitStatus, State, event_json, exit_status_of, reason_json
from mirror.text import counted, iso_time_or_none, moment_and_distance
from mirror.trust.discovery import render
from mirror.trust.jwks import KeySet, read_jwks


class ObjectState(StrEnum):
    """How an object stands against the newest snapshot."""

    CURRENT = "current"
    MISSING = "missing"
    OUTDATED = "outdated"
    DRIFT = "drift"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PublicKeyStatus:
    """One key. `leaves_at` while it retires. `in_public_jwks` None: not looked at, or nothing could be read there.

    `safe_to_sign_at` is known only of keys that the public JWKS contains; dates are aware, UTC.
    """

    record: KeyRecord
    leaves_at: datetime | None = None
    in_public_jwks: bool | None = None
    safe_to_sign_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """One object of an issuer in the bucket."""

    url: str
    key: str
    state: ObjectState


@dataclass(frozen=True, slots=True)
class IssuerStatus:
    """One published issuer; `is_former` when it is one of an entry's former ones.

    `failures` are what could not be read, `held` what waits for an operator, `events` what else is worth telling.
    `last` is what its last pass on this machine came to; None where that is not known.
    """

    name: IssuerName
    issuer: IssuerUrl
    is_former: bool
    keys: tuple[PublicKeyStatus, ...] = ()
    objects: tuple[ObjectStatus, ...] = ()
    events: tuple[Event, ...] = ()
    failures: tuple[Reason, ...] = ()
    held: tuple[Reason, ...] = ()
    last: LastResult | None = None
    must_be_public: bool = True

    @property
    def state(self) -> State:
        """The worst of what the last pass came to, and of what is seen now."""
        seen = self._seen_state()
        return seen if self.last is None else min(seen, self.last.state, key=list(State).index)

    @property
    def rotating(self) -> bool:
        """Whether a rotation is under way: by the last pass, or because a key is on its way out."""
        retires = any(key.record.status is Status.RETIRING for key in self.keys)
        return retires or (self.last is not None and self.last.rotating)

    @property
    def suspended(self) -> bool:
        """Whether its configuration entry says `suspend: true`."""
        return any(event.name == SUSPENDED for event in self.events)

    def _seen_state(self) -> State:
        public = [key for key in self.keys if key.record.status in PUBLIC_STATUSES]
        if self.failures:
            return State.FAILED
        if self.must_be_public and not public and not self.objects:
            return State.HELD if self.held else State.UNPUBLISHED
        if self.held:
            return State.HELD
        differs = any(each.state is not ObjectState.CURRENT for each in self.objects)
        hidden = any(key.in_public_jwks is False for key in public)
        is_other = any(event.name == "readback.differs" for event in self.events)
        return State.DEGRADED if differs or hidden or is_other or self.suspended else State.CURRENT


@dataclass(frozen=True, slots=True)
class OrphanedDocument:
    """A public document of an issuer that is configured no more.

    `s3_url` and `command` (which deletes it) are empty where no configured bucket holds its URL. Until `needed_until`
    relying parties may still read it, by a discovery document that they keep.
    """

    url: str
    s3_url: str = ""
    command: tuple[str, ...] = ()
    needed_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class StatusReport:
    """Everything. `last_commit` is None before the first pass; `unpushed_commits` None where that is not known.

    `last_pass` is None where this machine does not know how the last pass ended.
    """

    now: datetime
    snapshot: CommitId | None = None
    mode: RepositoryMode = "local"
    last_commit: Version | None = None
    unpushed_commits: int | None = None
    issuers: tuple[IssuerStatus, ...] = ()
    orphaned: tuple[OrphanedDocument, ...] = ()
    events: tuple[Event, ...] = ()
    failures: tuple[Reason, ...] = ()
    last_pass: LastPass | None = None

    @property
    def exit_status(self) -> ExitStatus:
        """As that of a pass: 1 when something could not be read, or the last pass failed; 3 when something is held."""
        has_failed = bool(self.last_pass and self.last_pass.failures)
        if self.failures or has_failed:
            return ExitStatus.FAILED
        return exit_status_of(issuer.state for issuer in self.issuers)


def to_json(report: StatusReport) -> dict[str, object]:
    """The standing as plain data; its JSON Schema is `docs/reference/status.schema.json`."""
    last = report.last_commit
    return {
        "version": 1,
        "time": iso_time_or_none(report.now),
        "exit_status": int(report.exit_status),
        "repository": {"mode": report.mode},
        "snapshot": report.snapshot,
        "last_commit": None
        if last is None
        else {"commit": last.commit, "at": iso_time_or_none(last.when), "author": last.author, "subject": last.subject},
        "unpushed_commits": report.unpushed_commits,
        "last_pass": _last_pass(report.last_pass),
        "recent_events": None
        if report.last_pass is None
        else [past_event_json(each) for each in report.last_pass.events],
        "events": [event_json(event) for event in report.events],
        "failures": [reason_json(reason) for reason in report.failures],
        "issuers": [_issuer(issuer) for issuer in report.issuers],
        "abandoned": [
            {
                "url": each.url,
                "s3_url": each.s3_url or None,
                "command": list(each.command),
                "needed_until": iso_time_or_none(each.needed_until),
            }
            for each in report.orphaned
        ],
    }


def _last_pass(last: LastPass | None) -> dict[str, object] | None:
    if last is None:
        return None
    return {
        "time": iso_time_or_none(last.at),
        "exit_status": int(last.exit_status),
        "failures": [reason_json(reason) for reason in last.failures],
    }


def _issuer(issuer: IssuerStatus) -> dict[str, object]:
    return {
        "name": issuer.name,
        "issuer": issuer.issuer,
        "former": issuer.is_former,
        "state": str(issuer.state),
        "rotating": issuer.rotating,
        "keys": [_key(key) for key in issuer.keys],
        "objects": [{"url": o.url, "key": o.key, "state": str(o.state)} for o in issuer.objects],
        "events": [event_json(event) for event in issuer.events],
        "failures": [reason_json(reason) for reason in issuer.failures],
        "held": [reason_json(reason) for reason in issuer.held],
    }


def _key(key: PublicKeyStatus) -> dict[str, object]:
    record = key.record
    revocation = record.revocation
    return {
        "kid": record.key.kid,
        "thumbprint": record.key.thumbprint,
        "alg": record.key.alg,
        "status": str(record.status),
        "first_seen": iso_time_or_none(record.first_seen),
        "missing_since": iso_time_or_none(record.missing_since),
        "leaves_at": iso_time_or_none(key.leaves_at),
        "in_public_jwks": key.in_public_jwks,
        "safe_to_sign_at": iso_time_or_none(key.safe_to_sign_at),
        "held_because": record.held_because,
        "revocation": None
        if revocation is None
        else {"at": iso_time_or_none(revocation.at), "reason": revocation.reason, "last": revocation.last},
    }


_ANY_KID = KeyPolicy(kid="opaque")
"""The public keys were validated before, under the issuer's policy; here they are only recognised."""


@dataclass(frozen=True, slots=True)
class PublicKeysView:
    """What the public sees of an issuer's keys; `keys` is None where it was not looked, or nothing was seen."""

    keys: frozenset[KeyId] | None = None
    safe_to_sign_at: datetime | None = None
    events: tuple[Event, ...] = ()
    failures: tuple[Reason, ...] = ()


def read_public_keys(publication: PublishedIssuer, ledger: Ledger, view: PublicEndpoint) -> PublicKeysView:
    """Read the public JWKS anonymously, where there is something to see and the settings allow it."""
    issuer = publication.issuer
    documents = render(ledger, issuer.discovery_extra)
    if documents is None or not issuer.publish.readback.enabled:
        return PublicKeysView()
    url = jwks_uri(publication.url)
    look = view.get_document(url, readback=issuer.publish.readback)
    if isinstance(look, PublicFailure):
        return PublicKeysView(failures=(replace(look.reason, code=f"readback.{look.reason.code}", where=url),))
    return _seen(look, url, documents.jwks, ledger)


def _seen(look: PublicResponse, url: str, meant: bytes, ledger: Ledger) -> PublicKeysView:
    shown = public_keys(look.body, ledger)
    events: tuple[Event, ...] = ()
    if look.body != meant:
        sentence = f"{url} shows other bytes than the newest snapshot: an earlier state, or another writer's."
        events = (Event("readback.differs", sentence, Level.WARNING, {"url": url}),)
    keys = None if shown is None else frozenset(key_id(key) for key in shown.keys)
    found = signing_window(look)
    return PublicKeysView(keys, None if found is None else found.safe_to_sign_at, events)


def public_keys(body: bytes, ledger: Ledger | None) -> KeySet | None:
    """The keys of a public JWKS; None when it is none that relying parties could trust."""
    already_checked = (
        frozenset(record.key.thumbprint for record in ledger.records) if ledger is not None else frozenset()
    )
    shown = read_jwks(body, policy=_ANY_KID, already_checked=already_checked)
    return shown if isinstance(shown, KeySet) else None


_COUNTED = (Status.PUBLISHED, Status.RETIRING, Status.HELD)
"""What the line counts; keys that are gone are a matter of the details."""
_LEFT_TO_DO = {
    ObjectState.DRIFT: "the next pass repairs drift in {}",
    ObjectState.MISSING: "the next pass puts {}",
    ObjectState.OUTDATED: "the next pass puts {}",
}


@dataclass(frozen=True, slots=True)
class NextStep:
    """What happens next, or what an operator must do: words, the whole kid of a key and words after it, and a time.

    `kid` and `after` are empty where it is about no key; `at` (aware, UTC) is None where no moment is known.
    """

    words: str
    kid: str = ""
    after: str = ""
    at: datetime | None = None

    def line(self, now: datetime) -> str:
        """All of it as one text; the kid is shortened."""
        when = "" if self.at is None else moment_and_distance(self.at, now)
        kid = short_kid(self.kid) if self.kid else ""
        return " ".join(part for part in (self.words, kid, self.after, when) if part)


def worst_first(issuers: Iterable[IssuerStatus]) -> tuple[IssuerStatus, ...]:
    """By state, the worst first; rotations before the others of one state, then by name."""
    order = {state: place for place, state in enumerate(State)}
    return tuple(
        sorted(issuers, key=lambda each: (order[each.state], not each.rotating, each.name, each.is_former, each.issuer))
    )


def count_states(issuers: Iterable[IssuerStatus]) -> str:
    """`50 issuers: 1 failed, 49 current`."""
    states = Counter(each.state for each in issuers)
    by_state = ", ".join(f"{states[state]} {state}" for state in State if states[state])
    return f"{counted(states.total(), 'issuer')}: {by_state}" if by_state else "No issuer is configured"


def count_keys(issuer: IssuerStatus) -> str:
    """`2 published, 1 retiring`; a dash where there is no such key."""
    statuses = Counter(key.record.status for key in issuer.keys)
    return ", ".join(f"{statuses[each]} {each}" for each in _COUNTED if statuses[each]) or "-"


def changed_at(issuer: IssuerStatus) -> datetime | None:
    """When a key last came, began to leave, came back or was revoked; None without keys."""
    return max((date for key in issuer.keys for date in _dates(key.record)), default=None)


def _dates(record: KeyRecord) -> Iterator[datetime]:
    revoked_at = None if record.revocation is None else record.revocation.at
    found = (record.first_seen, record.missing_since, record.returned_at, revoked_at)
    yield from (date for date in found if date is not None)


def next_step(issuer: IssuerStatus, now: datetime) -> NextStep | None:
    """The most urgent thing that happens next to an issuer; None where nothing does.

    What failed comes before a suspension, which holds up all that follows: what waits for an operator, what the next
    pass does, and dates.
    """
    suspended = NextStep("suspended: remove `suspend` from the configuration to go on") if issuer.suspended else None
    next_date = min(_key_dates(issuer, now), key=lambda step: step.at or now, default=None)
    return _failure(issuer) or suspended or _pending(issuer) or _left_to_do(issuer) or next_date


def _failure(issuer: IssuerStatus) -> NextStep | None:
    if issuer.failures:
        first, more = issuer.failures[0], len(issuer.failures) - 1
        return NextStep(f"{first.code}: {first.sentence}{f' ({more} more)' if more else ''}")
    match issuer.state:
        case State.FAILED:
            return NextStep(f"the last pass failed: oidc-mirror check {issuer.name}")
        case State.WAITING_FOR_PUSH:
            return NextStep("the git remote must take the push first")
        case _:
            return None


def _pending(issuer: IssuerStatus) -> NextStep | None:
    if not issuer.held:
        return None
    waiting = [key.record for key in issuer.keys if key.record.status is Status.HELD]
    more = f"({len(issuer.held) - 1} more)" if len(issuer.held) > 1 else ""
    if waiting:
        return NextStep("approve or revoke", waiting[0].key.kid, more)
    first = issuer.held[0]
    return NextStep(f"{first.code}: {first.sentence} {more}".rstrip())


def _left_to_do(issuer: IssuerStatus) -> NextStep | None:
    if issuer.state is State.UNPUBLISHED:
        return NextStep("nothing was ever public: the first good pass publishes it")
    states = Counter(each.state for each in issuer.objects)
    for state, sentence in _LEFT_TO_DO.items():
        if states[state]:
            return NextStep(sentence.format(counted(states[state], "object")))
    if issuer.state is not State.DEGRADED:
        return None
    warnings = [event.sentence for event in issuer.events if event.level is not Level.INFO]
    return NextStep(warnings[0] if warnings else f"degraded in the last pass: oidc-mirror check {issuer.name}")


def _key_dates(issuer: IssuerStatus, now: datetime) -> Iterator[NextStep]:
    for key in issuer.keys:
        if key.record.status is Status.RETIRING and key.leaves_at is not None:
            word = "leaves" if key.leaves_at > now else "may leave since"
            yield NextStep("key", key.record.key.kid, word, key.leaves_at)
        safe_at = key.safe_to_sign_at
        if key.record.status in PUBLIC_STATUSES and safe_at is not None and safe_at > now:
            yield NextStep("key", key.record.key.kid, "may sign from", safe_at)
