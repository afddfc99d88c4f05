"""Pure: what the daemon remembers from pass to pass; metrics and the status page are rendered from it alone.

A pass reports much only when it looked: the public URL, for instance, is read at changes and at each audit. What was
learned last holds until something contradicts it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from mirror.model import PUBLIC_STATUSES, IssuerName, IssuerUrl, KeyId, KeyRecord, Observed, Reason, Version, key_id
from mirror.reconcile.local_state import LastPass, remember_pass
from mirror.reconcile.state import PublishedIssuer
from mirror.report import (
    FAILING_STATES,
    Effect,
    ExitStatus,
    IssuerReport,
    PublicReadback,
    Report,
    key_safe_at,
    safe_before,
)

RESULTS = {ExitStatus.CURRENT: "current", ExitStatus.FAILED: "failed", ExitStatus.HELD: "held"}
"""How a pass is counted, by the exit status that it would have alone."""
_STANDING = frozenset({Effect.UNCHANGED, Effect.PUT})
_REPAIR = "repair"


@dataclass(frozen=True, slots=True)
class IssuerState:
    """What is known of one published issuer; `is_former` when it is one of an entry's former ones.

    `report` is that of the last pass that decided about it. `succeeded_at` is when a pass last found nothing failed
    there. `public` are the keys of the JWKS that last stood in the bucket as meant. `repaired` counts objects.
    """

    name: IssuerName
    url: IssuerUrl
    is_former: bool = False
    report: IssuerReport | None = None
    succeeded_at: datetime | None = None
    look: PublicReadback | None = None
    looked_at: datetime | None = None
    safe_to_sign_at: datetime | None = None
    public: frozenset[KeyId] = frozenset()
    repaired: int = 0

    def key_safe_at(self, record: KeyRecord) -> datetime | None:
        """From when on a key may sign; None where that is not known, or the key is not public."""
        report = self.report
        known = None if report is None else safe_before(record, report.known_safe, report.records)
        return key_safe_at(record, known, self.safe_to_sign_at, self.look)

    def apiserver_keys(self) -> frozenset[KeyId]:
        """Every key that an apiserver showed in the last pass."""
        observations = () if self.report is None else self.report.observations
        return frozenset(key_id(key) for each in observations if isinstance(each, Observed) for key in each.keys)

    def replicas_disagree(self) -> bool:
        """Whether accepted answers showed different sets of keys."""
        return self.report is not None and self.report.replicas_disagree()


@dataclass(frozen=True, slots=True)
class PassHistory:
    """Everything that is remembered. `report`, `ended_at` and `seconds` are None before the first pass has ended.

    `passes` counts by result (`RESULTS`); `failed_in_a_row` since the last pass that did not fail. `commits` are the
    newest, newest first. `refused` says why the configuration on disk is not in effect. `repaired_before` and
    `succeeded_before`, by name, were learned by an earlier process.
    `last_pass` has the events of the last seven days, those of earlier processes included.
    """

    issuers: Mapping[IssuerUrl, IssuerState] = field(default_factory=dict)
    report: Report | None = None
    ended_at: datetime | None = None
    seconds: float | None = None
    passes: Mapping[str, int] = field(default_factory=dict)
    failed_in_a_row: int = 0
    commits: tuple[Version, ...] = ()
    refused: Reason | None = None
    repaired_before: Mapping[IssuerName, int] = field(default_factory=dict)
    succeeded_before: Mapping[IssuerName, datetime] = field(default_factory=dict)
    last_pass: LastPass | None = None

    def groups(self) -> Mapping[IssuerName, tuple[IssuerState, ...]]:
        """What is known by entry of the configuration: the issuer itself first, then its former ones."""
        found: dict[IssuerName, tuple[IssuerState, ...]] = {}
        for state in self.issuers.values():
            found[state.name] = (*found.get(state.name, ()), state)
        return found

    def configured(self, publications: Iterable[PublishedIssuer]) -> "PassHistory":
        """The same with exactly these issuers: what is no longer configured is forgotten."""
        return replace(self, issuers={each.url: self._known(each) for each in publications})

    def _known(self, publication: PublishedIssuer) -> IssuerState:
        name, url = publication.issuer.name, publication.url
        is_former = url != publication.issuer.issuer
        state = self.issuers.get(url)
        if state is None:
            return IssuerState(name, url, is_former, succeeded_at=self.succeeded_before.get(name))
        return replace(state, name=name, is_former=is_former)

    def after(
        self, report: Report, *, ended_at: datetime, seconds: float, commits: tuple[Version, ...]
    ) -> "PassHistory":
        """The pass history after a pass that took `seconds` and ended at `ended_at` (aware, UTC)."""
        reports = {each.issuer: each for each in report.issuers}
        exit_status = report.exit_status
        result = RESULTS[exit_status]
        return replace(
            self,
            issuers={url: _after(state, reports.get(url), report) for url, state in self.issuers.items()},
            report=report,
            ended_at=ended_at,
            seconds=seconds,
            passes={**self.passes, result: self.passes.get(result, 0) + 1},
            last_pass=remember_pass(self.last_pass, report),
            failed_in_a_row=self.failed_in_a_row + 1 if exit_status is ExitStatus.FAILED else 0,
            commits=commits,
        )


def _after(state: IssuerState, report: IssuerReport | None, whole: Report) -> IssuerState:
    now = whole.now
    if report is None:  # nothing could be decided in this pass
        blocked_by = next((reason.code for reason in whole.failures), "")
        return state if not blocked_by or state.report is None else _blocked(state, state.report, blocked_by)
    if report.blocked_by and not report.records and state.report is not None:
        return _blocked(state, state.report, report.blocked_by)
    stands = bool(report.objects) and all(each.effect in _STANDING for each in report.objects)
    repaired = sum(each.effect is Effect.PUT and each.action == _REPAIR for each in report.objects)
    public = frozenset(key_id(each.key) for each in report.records if each.status in PUBLIC_STATUSES)
    return replace(
        state,
        report=report,
        succeeded_at=state.succeeded_at if report.state in FAILING_STATES else now,
        look=report.look or state.look,
        looked_at=state.looked_at if report.look is None else now,
        safe_to_sign_at=_safe_to_sign_at(state, report),
        public=public if stands else state.public,
        repaired=state.repaired + repaired,
    )


def _blocked(state: IssuerState, last: IssuerReport, blocked_by: str) -> IssuerState:
    """What is known after a pass that could not even read the ledger: what the last one saw, no longer current."""
    return replace(state, report=replace(last, blocked_by=blocked_by, changes=(), events=()))


def _safe_to_sign_at(state: IssuerState, report: IssuerReport) -> datetime | None:
    """From when on the public keys may sign; what was seen before a change, or before a look that failed, is void."""
    if report.look is not None or report.safe_to_sign_at is not None:
        return report.safe_to_sign_at
    unchanged = all(each.effect is Effect.UNCHANGED for each in report.objects)
    return state.safe_to_sign_at if unchanged else None
