"""One pass: poll, validate, plan, commit, publish, read back, report. Daemon, CronJob and `--once` only call it.

    config --> source --> trust ---------> history --> publish --> read back --> report
               bytes      plan (pure)      commit      put         GET           exit status

`plan_pass` ends with the plan and changes nothing; `apply` does the rest. The apiservers are asked in a thread of their
own while the bucket is listed and the git remote is fetched, in that order: what a listing shows is judged with a
history that is not older than it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache

from mirror.addresses import object_keys
from mirror.concurrency import thread_map
from mirror.config.settings import Settings
from mirror.errors import BucketError, HistoryError, RemoteError, UsageError
from mirror.history.ledger_reader import (
    HistoryState,
    NamedCommits,
    VerificationContext,
    load_history,
    with_named_commits,
)
from mirror.history.ledger_store import pending_issuers
from mirror.model import (
    AnswersByIssuer,
    CommitId,
    Event,
    Heads,
    IssuerName,
    IssuerUrl,
    Key,
    KeyId,
    Level,
    Reason,
    key_id,
)
from mirror.ports import History, Ports
from mirror.publish.drift import Deferred, PutObject
from mirror.publish.listing import BucketListing, Target, bucket_identity, list_buckets
from mirror.publish.publisher import reason_of
from mirror.reconcile import local_state
from mirror.reconcile.executor import ApplyResult, apply, committer_of
from mirror.reconcile.local_state import (
    LocalIssuerState,
    LocalState,
    is_recent,
    load_last_pass,
    remember_events,
    remember_pass,
    save_last_pass,
)
from mirror.reconcile.planner import find_self_dependent_credentials, plan_issuer
from mirror.reconcile.reporting import ledger_changes, preview
from mirror.reconcile.state import (
    IssuerPlan,
    ObservedState,
    Plan,
    ValidatedAnswers,
    ledger_keys,
    publications,
    trust_of,
    validate_answers,
)
from mirror.report import Effect, IssuerReport, Report, followed_by, key_safe_at, reason_from, safe_before

ProgressCallback = Callable[[IssuerName], None]

MOST_FOLLOW_UPS = 2
"""How often a pass is followed by another one at once, because the branch moved while it published."""
_NOTHING = HistoryState(Heads(None, None), None, (), {})


def reconcile(
    settings: Settings,
    ports: Ports,
    now: datetime,
    *,
    progress: ProgressCallback = lambda _: None,
    is_broken_off: Callable[[], bool] = lambda: False,
) -> Report:
    """One whole pass.

    Args:
        settings: The configuration.
        ports: The outside world.
        now: The time of the pass, aware, UTC; read once.
        progress: Called with an issuer's name when its apiservers have answered.
        is_broken_off: Whether the process ends and the pass could not ask everyone: then `last-pass.json` keeps the
            result of the pass before.

    Raises:
        UsageError: A signing key cannot be used, or git is signed and this mirror has no key.
    """
    try:
        plan = plan_pass(settings, ports, now, progress=progress)
    except UsageError as error:
        if error.code == "repository.signed":
            with suppress(HistoryError):  # never treat a repository as unsigned after it had signatures
                local_state.update(settings.state_dir, lambda state: replace(state, trusted_head="", is_former=False))
        raise
    applied = apply(plan, ports, plan.observed.verification_cache)
    report = _save_local_state(settings, plan, applied, is_broken_off)
    for _ in range(MOST_FOLLOW_UPS):
        if not _has_moved(plan.observed, applied, ports):
            break
        # Another mirror decided while this pass published: a slow mirror must not undo a revocation.
        plan = plan_pass(settings, ports, now, progress=progress)
        applied = apply(plan, ports, plan.observed.verification_cache)
        report = followed_by(report, _save_local_state(settings, plan, applied, is_broken_off))
    return report


def dry_run(settings: Settings, ports: Ports, now: datetime, *, progress: ProgressCallback = lambda _: None) -> Report:
    """What `reconcile` would do.

    Raises:
        UsageError: As `reconcile`.
    """
    plan = plan_pass(settings, ports, now, progress=progress)
    return preview(plan, committer_of(plan.observed, ports))


def plan_pass(settings: Settings, ports: Ports, now: datetime, *, progress: ProgressCallback = lambda _: None) -> Plan:
    """The plan of a pass. Nothing outside changes by it.

    Raises:
        UsageError: As `reconcile`.
    """
    now = now.replace(microsecond=0)
    keys = ports.ledger_trust()
    with _poll_in_background(settings, ports, now, progress) as asked:
        buckets = _list_buckets(settings, ports)
        local, audits = local_state.load_local_state(settings.state_dir), local_state.load_verified(settings.state_dir)
        named_commits = _named_commits(settings, ports, buckets)
        try:
            remote = _fetch(settings, ports.history)
            trust = trust_of(settings, ports.history, local, keys, before=remote.before)
            urls = [each.url for each in publications(settings)]
            history_state = load_history(
                ports.history,
                urls,
                trust,
                named_commits=named_commits,
                before=remote.before,
                ledger_cache=ports.ledger_cache,
            )
            validated = validate_answers(
                settings.issuers,
                asked.result(),
                history_state,
                left_out=lambda: _keys_left_out(settings, ports, trust),
                believed=ports.believed,
            )
        except (HistoryError, RemoteError) as error:
            trust = VerificationContext(keys, settings.repository.name)
            observed = ObservedState(
                settings, now, _NOTHING, ValidatedAnswers(), buckets, verification_cache=audits, trust=trust
            )
            issuers = tuple(IssuerPlan(each) for each in publications(settings))
            return Plan(observed, issuers, failures=(reason_from("history.failed", error),))
        observed = ObservedState(
            settings,
            now,
            history_state,
            validated,
            buckets,
            remote.error,
            local,
            audits,
            trust,
            is_new_disk=remote.is_new_disk,
        )
    plan = Plan(observed, _plan_issuers(observed, ports), events=_events(settings, ports, local, remote))
    plan = replace(plan, reported=remote.failures)
    return _with_named_commits(plan, ports, named_commits)


def _plan_issuers(observed: ObservedState, ports: Ports) -> tuple[IssuerPlan, ...]:
    return thread_map(
        lambda each: plan_issuer(each, observed, ports),
        publications(observed.settings),
        workers=observed.settings.limits.puts,
        cancel=ports.cancel,
    )


def _with_named_commits(plan: Plan, ports: Ports, named_commits: NamedCommits) -> Plan:
    """The plan again, where it would commit or put and the public objects name a commit that says more.

    The branch may have been set back: then the public objects name the commit that was there before. With an empty
    disk nothing is decided of an issuer whose objects cannot be looked at.
    """
    committed = pending_issuers(committer_of(plan.observed, ports), plan.observed.history, ledger_changes(plan))
    put = {each.url for each in plan.issuers if any(decision is not None for _, decision in each.object_actions)}
    unseen: dict[IssuerUrl, IssuerPlan] = {}
    pending = []
    for each in plan.issuers:
        if each.url in committed | put and each.transition_result is not None:
            try:
                pending += [each.url] if named_commits(each.url) else []
            except BucketError as error:
                # A kept disk knows what it decided itself: no object keeps it from a revocation.
                if plan.observed.is_new_disk:
                    failures = (*each.failures, reason_of(error))
                    unseen[each.url] = replace(each, transition_result=None, object_actions=(), failures=failures)
    plan = replace(plan, issuers=tuple(unseen.get(each.url, each) for each in plan.issuers))
    try:
        history_state = with_named_commits(
            ports.history, plan.observed.history, plan.observed.trust, pending, named_commits
        )
    except HistoryError as error:
        issuers = tuple(IssuerPlan(each.publication, each.observations) for each in plan.issuers)
        return replace(plan, issuers=issuers, failures=(*plan.failures, reason_from("history.failed", error)))
    if history_state.issuers == plan.observed.history.issuers:
        return plan
    observed = replace(plan.observed, history=history_state)
    again = {each.url: each for each in _plan_issuers(observed, ports)} | unseen
    return replace(plan, observed=observed, issuers=tuple(again.values()))


def _events(settings: Settings, ports: Ports, local: LocalState, remote: "_FetchResult") -> tuple[Event, ...]:
    found = find_self_dependent_credentials(settings.issuers, ports.own_token, left_out=settings.left_out)
    unread = (Event("state.unread", local.warning, Level.WARNING),) if local.warning else ()
    return remote.events + unread + tuple(each.event for each in found)


@contextmanager
def _poll_in_background(
    settings: Settings, ports: Ports, now: datetime, progress: ProgressCallback
) -> Iterator[Future[AnswersByIssuer]]:
    """Poll the apiservers in the background; leaving early cancels the polling."""
    turn = int(now.timestamp() // max(settings.interval.total_seconds(), 1))
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="source") as pool:
        asked = pool.submit(ports.source.poll, settings.issuers, turn=turn, progress=progress)
        try:
            yield asked
        finally:
            if not asked.done():
                ports.source.cancel()


# ------------------------------------------------------------------------------------------------ the bucket


def _list_buckets(settings: Settings, ports: Ports) -> Mapping[Target, BucketListing]:
    keys = [
        (each.issuer.publish, key)
        for each in publications(settings)
        for key in object_keys(each.url, each.issuer.publish.base_url, each.issuer.publish.prefix)
    ]
    return list_buckets(ports, keys, workers=settings.limits.puts)


def _named_commits(settings: Settings, ports: Ports, buckets: Mapping[Target, BucketListing]) -> NamedCommits:
    """What the public objects of an issuer name as their `snapshot`, looked at once; BucketError where that fails."""
    publishes = {each.url: each.issuer.publish for each in publications(settings)}

    @cache
    def named(url: IssuerUrl) -> tuple[str, ...] | None:
        publish = publishes[url]
        listing = buckets[bucket_identity(publish)].listing
        discovery_key, jwks_key = object_keys(url, publish.base_url, publish.prefix)
        # Each revocation is followed by a put of the JWKS; without one the other document has to do.
        key = next((each for each in (jwks_key, discovery_key) if each in listing), None)
        headers = None if key is None else ports.bucket(publish).head(key)
        if headers is None:
            return None
        return () if headers.snapshot is None else (headers.snapshot,)

    return named


# ----------------------------------------------------------------------------------------------- the history


@dataclass(frozen=True, slots=True)
class _FetchResult:
    """How the fetch went: the error when there was one, what to report, and the remote's head before it."""

    is_new_disk: bool = False
    before: CommitId | None = None
    error: RemoteError | None = None
    events: tuple[Event, ...] = ()
    failures: tuple[Reason, ...] = ()


def _fetch(settings: Settings, history: History) -> _FetchResult:
    """Learn the remote's branch, where there is a remote.

    Raises:
        HistoryError: The repository cannot be read.
        RemoteError: Neither this machine nor the remote has a history to begin with.
    """
    history.prepare()
    heads = history.heads()
    remote = _FetchResult(is_new_disk=heads.local is None, before=heads.remote)
    if settings.repository.remote is None:
        return _FetchResult()
    try:
        faults = history.fetch(shallow=heads.local is None)
    except RemoteError as error:
        if heads.local is None:
            raise
        if not error.damaged:
            return replace(remote, error=error, events=(Event("remote.unreachable", str(error), Level.WARNING),))
        failure = reason_from("remote.damaged", error)
        return replace(remote, error=error, failures=(failure,))
    if faults:
        sentence = f"The git remote sent objects of a wrong form; they are kept, and stop nothing: {faults}"
        remote = replace(remote, events=(Event("remote.damaged", sentence, Level.WARNING),))
    after = history.heads().remote
    if heads.remote is None or heads.remote == after:
        return remote
    if after is not None and history.is_ancestor(heads.remote, after):
        return remote
    sentence = "The branch on the git remote no longer contains what it had; our own history is merged back."
    fields = {"before": heads.remote, "after": after or ""}
    return replace(remote, events=(*remote.events, Event("history.rewritten", sentence, Level.ERROR, fields)))


def _keys_left_out(settings: Settings, ports: Ports, trust: VerificationContext) -> Iterable[Key]:
    """What git knows of issuers that this pass leaves alone; new keys are compared with those too."""
    urls = [each.url for each in publications(replace(settings, issuers=settings.left_out))]
    return ledger_keys(load_history(ports.history, urls, trust))


def _has_moved(observed: ObservedState, applied: ApplyResult, ports: Ports) -> bool:
    """Whether another mirror decided while this one put: the branch moved, or an object was written first."""
    if not (observed.remote_fetched and applied.recorded is not None and applied.recorded.pushed):
        return False
    if applied.lost_race or not applied.has_put:
        return applied.lost_race
    try:
        return ports.history.remote_head() != applied.recorded.commit
    except (RemoteError, HistoryError):
        return False  # the next pass fetches


# ------------------------------------------------------------------------------------------- what is remembered


def _stands(issuer: IssuerReport) -> bool:
    """Whether every document of the issuer is now what we mean."""
    return bool(issuer.objects) and all(o.effect in (Effect.UNCHANGED, Effect.PUT) for o in issuer.objects)


def _save_local_state(
    settings: Settings, plan: Plan, applied: ApplyResult, is_broken_off: Callable[[], bool]
) -> Report:
    """Keep what the next pass wants to know; without it that pass looks at more, so it is no failure."""
    report, recorded = _with_drift(settings, applied.report), applied.recorded
    decided = {each.url: each for each in plan.issuers if each.transition_result is not None and recorded is not None}
    stand = frozenset(each.issuer for each in report.issuers if _stands(each))
    reports = {each.issuer: each for each in applied.report.issuers}

    def edit(state: LocalState) -> LocalState:
        after = {
            url: _after(state.of(url), each, plan.observed, applied, reports.get(url)) for url, each in decided.items()
        }
        state = replace(state, issuers={**state.issuers, **after})
        if recorded is not None:
            is_trusted = plan.observed.trust.keys is None
            state = replace(
                state,
                has_pushed=state.has_pushed or recorded.pushed,
                repository=settings.repository.name,
                trusted_head=(recorded.commit or "") if is_trusted else "",
            )
        return local_state.without_adopted(state, stand)

    try:
        local_state.update(settings.state_dir, edit)
        local_state.save_verified(settings.state_dir, applied.audits)
        _save_last_pass(settings, report, is_broken_off=is_broken_off())
    except HistoryError as error:
        event = Event("state.unsaved", str(error), Level.WARNING)
        return replace(report, events=(*report.events, event))
    return report


def _save_last_pass(settings: Settings, report: Report, *, is_broken_off: bool) -> None:
    before = load_last_pass(settings.state_dir)
    if not is_broken_off:
        left_alone = [each.url for each in publications(replace(settings, issuers=settings.left_out))]
        save_last_pass(settings.state_dir, remember_pass(before, report, left_alone))
    elif before is not None:
        save_last_pass(settings.state_dir, remember_events(before, report))


def _with_drift(settings: Settings, report: Report) -> Report:
    """The report in which drift that was repaired is a failure all the same, where `fail_on_drift` says so."""
    if not settings.fail_on_drift:
        return report
    return replace(report, issuers=tuple(_failed_by_drift(each) for each in report.issuers))


def _failed_by_drift(issuer: IssuerReport) -> IssuerReport:
    found = [event for event in issuer.events if event.name == "bucket.drift"]
    remedy = "Find out who may write to the bucket. The pass repaired it; it fails because `fail_on_drift` is true."
    reasons = tuple(Reason("bucket.drift", event.sentence, remedy, event.fields.get("key", "")) for event in found)
    return replace(issuer, failures=(*issuer.failures, *reasons))


def _after(
    previous: LocalIssuerState,
    planned: IssuerPlan,
    observed: ObservedState,
    applied: ApplyResult,
    report: IssuerReport | None,
) -> LocalIssuerState:
    """What is remembered of an issuer after it was decided about."""
    recorded = applied.recorded
    decided = recorded.decided.get(planned.url) if recorded is not None else None
    return replace(
        previous,
        # An issuer that could not be decided must see a change of apiservers later.
        apiservers=planned.apiservers or previous.apiservers,
        decided=decided or previous.decided,
        held_missing_since=planned.held_missing_since,
        tolerated_since=_tolerated_since(previous.tolerated_since, planned, observed),
        safe_to_sign=_safe_to_sign(planned, report),
        unkept_headers=previous.unkept_headers | applied.unkept_headers.get(planned.url, frozenset()),
    )


def _safe_to_sign(planned: IssuerPlan, report: IssuerReport | None) -> dict[KeyId, datetime]:
    """From when on each public key may sign. A removed key is forgotten: when it returns, its time starts again."""
    if report is None:
        return dict(planned.known_safe)
    seen = planned.known_safe
    safe = {
        key_id(each.key): key_safe_at(each, safe_before(each, seen, report.records), report.safe_to_sign_at, None)
        for each in report.records
    }
    return {identity: moment for identity, moment in safe.items() if moment is not None}


def _tolerated_since(since: datetime | None, planned: IssuerPlan, observed: ObservedState) -> datetime | None:
    """When another writer's ledger or documents were first left alone, or last overwritten."""
    if planned.is_tolerant or is_recent(since, observed.now, planned.issuer.publish):
        return since
    waits = any(isinstance(decision, Deferred) for _, decision in planned.object_actions)
    overwrites = since is not None and any(isinstance(decision, PutObject) for _, decision in planned.object_actions)
    if observed.history.issuers[planned.url].unknown_signer or (
        observed.has_remote and not observed.remote_fetched and (waits or overwrites)
    ):
        return observed.now
    return None
