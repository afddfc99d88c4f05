"""An issuer in one line: what is worst comes first, and what happens next. Pure; used by `status` and the page."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from mirror.model import PUBLIC_STATUSES, KeyRecord, Level, Status, short_kid
from mirror.report import State
from mirror.status.result import IssuerStatus, ObjectState
from mirror.text import counted, moment_and_distance

_COUNTED = (Status.PUBLISHED, Status.RETIRING, Status.HELD)
"""What the line counts; keys that are gone are a matter of the details."""
_LEFT_TO_DO = {
    ObjectState.DRIFT: "the next pass repairs drift in {}",
    ObjectState.MISSING: "the next pass puts {}",
    ObjectState.OUTDATED: "the next pass puts {}",
}


@dataclass(frozen=True, slots=True)
class NextStep:
    """What happens next, or what somebody must do: words, the whole kid of a key and words after it, and a moment.

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
    return _failure(issuer) or _suspension(issuer) or _pending(issuer) or _left_to_do(issuer) or _next_date(issuer, now)


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


def _suspension(issuer: IssuerStatus) -> NextStep | None:
    return NextStep("suspended: remove `suspend` from the configuration to go on") if issuer.suspended else None


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


def _next_date(issuer: IssuerStatus, now: datetime) -> NextStep | None:
    return min(_key_dates(issuer, now), key=lambda step: step.at or now, default=None)


def _key_dates(issuer: IssuerStatus, now: datetime) -> Iterator[NextStep]:
    for key in issuer.keys:
        if key.record.status is Status.RETIRING and key.leaves_at is not None:
            word = "leaves" if key.leaves_at > now else "may leave since"
            yield NextStep("key", key.record.key.kid, word, key.leaves_at)
        safe_at = key.safe_to_sign_at
        if key.record.status in PUBLIC_STATUSES and safe_at is not None and safe_at > now:
            yield NextStep("key", key.record.key.kid, "may sign from", safe_at)
