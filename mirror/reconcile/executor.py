"""Carry a plan out: commit, push, put the objects, read them back, invalidate CDNs.

Invalidate the CDNs in front of the buckets: one invalidation a distribution, of exactly the changed paths.
A kill between a put and its invalidation loses no change: no state records the invalidation, the next pass
reads the public URL back because no stamp says that it was right, and asks again for whatever is still stale there.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import groupby

from mirror.addresses import jwks_uri, repository_paths
from mirror.concurrency import thread_map
from mirror.config.settings import PublishSettings
from mirror.errors import BucketError, HistoryError, MirrorError, RemoteError, UsageError
from mirror.history.ledger_reader import load_history, public_path
from mirror.history.ledger_store import ATTEMPTS, CommitResult, Committer, commit_ledgers
from mirror.model import ARCHIVE_CLASSES, CommitId, Event, IssuerUrl, Ledger, Level, ObjectKey, PublicObject, Reason
from mirror.ports import Cdn, Ports
from mirror.publish.drift import Action, Deferred, ObjectDecision, PutObject, suspended
from mirror.publish.listing import BucketListing, bucket_identity
from mirror.publish.publisher import (
    OTHER_BYTES,
    STALE,
    CacheContext,
    CachingPublicEndpoint,
    ObjectResults,
    audit_headers,
    carry_out,
    not_kept,
    read_back,
    reason_of,
    unkept_headers,
)
from mirror.reconcile.local_state import VerificationCache, VerifiedAt, fingerprint
from mirror.reconcile.planner import pending_approvals, plan_object_changes
from mirror.reconcile.reporting import (
    aborted_report,
    issuer_report,
    ledger_changes,
    message_of,
    plan_report,
    planned_only,
    preview,
)
from mirror.reconcile.state import IssuerPlan, ObservedState, Plan, internal_error, publications
from mirror.report import Effect, Report, reason_from
from mirror.text import counted
from mirror.trust.ledger import ALL_THUMBPRINTS, read_ledger
from mirror.trust.ledger_signature import LedgerTrust
from mirror.trust.lifecycle import revoked_thumbprints
from mirror.trust.parsing import Rejected

MOST_PATHS = 3000
"""What CloudFront takes at once (its developer guide, "Quotas on invalidations")."""


@dataclass(frozen=True, slots=True)
class ChangedPath:
    """A public URL whose cached copies are old; `what` distinguishes this change from others of the same URL."""

    publish: PublishSettings
    url: str
    what: str


@dataclass(frozen=True, slots=True)
class Invalidation:
    """What one distribution is asked to invalidate. The same changes of the same commit have the same `reference`."""

    publish: PublishSettings
    paths: tuple[str, ...]
    reference: str
    left_out: int = 0


def invalidations(changed: Iterable[ChangedPath], commit: CommitId) -> tuple[Invalidation, ...]:
    """One for each distribution (as one identity sees it) that any change is behind; none for other buckets. Pure."""
    behind = sorted((each for each in changed if each.publish.cloudfront_distribution), key=_order)
    return tuple(_invalidation(tuple(group), commit) for _, group in groupby(behind, key=lambda it: _order(it)[0]))


def _order(changed: ChangedPath) -> tuple[tuple[str, ...], str, str]:
    publish = changed.publish
    identity = (publish.cloudfront_distribution or "", publish.profile or "", publish.role_arn or "")
    return identity, path_of(changed.url), changed.what


def _invalidation(changed: tuple[ChangedPath, ...], commit: CommitId) -> Invalidation:
    sent = changed[:MOST_PATHS]
    digest = hashlib.sha256(repr([(path_of(each.url), each.what) for each in sent]).encode()).hexdigest()
    paths = tuple(dict.fromkeys(path_of(each.url) for each in sent))
    return Invalidation(sent[0].publish, paths, f"oidc-mirror-{commit[:16]}-{digest[:32]}", len(changed) - len(sent))


def path_of(url: str) -> str:
    """The path of a public https URL as an invalidation names it: what RFC 1738 calls unsafe is escaped.

    Of the characters that an issuer may have this is `~` alone.
    """
    return "/" + url.removeprefix("https://").partition("/")[2].replace("~", "%7E")


def send_invalidations(ports: Ports, invalidations: Iterable[Invalidation], *, workers: int) -> tuple[Event, ...]:
    """Ask for them at once; a failure is a warning, because every cache turns over by itself."""
    lists = thread_map(
        lambda each: tuple(_invalidation_event(ports.cdn, each)), invalidations, workers=workers, cancel=ports.cancel
    )
    return tuple(event for events in lists for event in events)


def _invalidation_event(cdn: Cdn, invalidation: Invalidation) -> Iterator[Event]:
    distribution = invalidation.publish.cloudfront_distribution or ""
    fields = {"distribution": distribution, "paths": str(len(invalidation.paths)), "reference": invalidation.reference}
    reason = cdn.invalidate(invalidation.publish, invalidation.paths, reference=invalidation.reference)
    if reason is not None:
        sentence = f"{reason.sentence} {reason.remedy}"
        yield Event("cdn.invalidation_failed", sentence, Level.WARNING, {**fields, "code": reason.code})
        return
    paths = counted(len(invalidation.paths), "changed path")
    sentence = f"The CloudFront distribution {distribution} invalidates {paths}."
    yield Event("cdn.invalidated", sentence, fields=fields)
    if invalidation.left_out:
        paths = counted(invalidation.left_out, "further path")
        sentence = f"{paths} did not fit into one request; caches drop them within max-age."
        yield Event("cdn.invalidation_partial", sentence, Level.WARNING, fields)


def never_failing(work: Callable[[], tuple[Event, ...]]) -> tuple[Event, ...]:
    """Whatever goes wrong with a cache stays with the cache."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  whatever it is, a pass never fails for it
        sentence = f"A CDN was not invalidated, because of a defect of this program ({type(error).__name__})."
        return (Event("cdn.invalidation_failed", sentence, Level.WARNING, {"code": "cdn.defect"}),)


@dataclass(frozen=True, slots=True)
class IssuerProgress:
    """How far one publication is: its plan (at the newest snapshot), what was done, and when it was seen to be right.

    `look` says that the public view is still to be taken; `seen` is the public JWKS in it, None where nothing came.
    `unkept` are headers of which this pass learned that the store does not keep them.
    """

    planned: IssuerPlan
    published: ObjectResults
    stamp: VerifiedAt | None = None
    look: bool = False
    seen: bytes | None = None
    unkept: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Publisher:
    """Puts and reads back. `commit` is the newest snapshot; `verification_cache`: when each issuer was last right."""

    observed: ObservedState
    recorded: CommitResult
    commit: CommitId
    ports: Ports
    verification_cache: VerificationCache

    def publish(self, plans: Sequence[IssuerPlan]) -> tuple[tuple[IssuerProgress, ...], tuple[Event, ...]]:
        """Put what must be put, then look at what was put or is due; what goes wrong stays with its issuer.

        The events say what the caches in front of the buckets were asked to invalidate.
        """
        workers = self.observed.settings.limits.puts
        put = thread_map(self.put, plans, workers=workers, cancel=self.ports.cancel)
        # A kill between the puts and this leaves caches that are stale, for max-age at the longest.
        events = self._invalidate(self._changed(put))
        looked = thread_map(self.look, put, workers=workers, cancel=self.ports.cancel)
        return looked, events + self._invalidate(_stale(looked))

    def put(self, planned: IssuerPlan) -> IssuerProgress:
        """Put what must be put for one publication."""
        return _guarded(lambda: self._put(planned), IssuerProgress(planned, planned_only(planned)))

    def look(self, progress: IssuerProgress) -> IssuerProgress:
        """Look at one publication as an anonymous client does, where that is to be done."""
        return _guarded(lambda: self._look(progress), replace(progress, stamp=None)) if progress.look else progress

    # -- caches -----------------------------------------------------------------------------------------

    def _invalidate(self, changed: Iterable[ChangedPath]) -> tuple[Event, ...]:
        workers = self.observed.settings.limits.puts
        return never_failing(
            lambda: send_invalidations(self.ports, invalidations(changed, self.commit), workers=workers)
        )

    def _changed(self, progress: Iterable[IssuerProgress]) -> Iterator[ChangedPath]:
        """What was put in this pass. A repair of the same commit differs by what it wrote over."""
        for each in progress:
            publish = each.planned.issuer.publish
            listing = self._shown(each.planned).listing
            for done in each.published.objects:
                if done.effect is Effect.PUT:
                    before = listing.get(ObjectKey(done.key))
                    what = "" if before is None else f"{before.etag} {before.last_modified.isoformat()}"
                    yield ChangedPath(publish, done.url, what)

    # -- put --------------------------------------------------------------------------------------------

    def _put(self, planned: IssuerPlan) -> IssuerProgress:
        current = self._at_newest_snapshot(planned)
        if current.transition_result is None or self._shown(current).error is not None:
            return IssuerProgress(current, planned_only(current))
        bodies = tuple(wanted.body for wanted, _ in current.object_actions)
        due = self._is_due(current, bodies, current.transition_result.ledger)
        bucket = self.ports.bucket(current.issuer.publish)
        done = carry_out(bucket, current.object_actions, snapshot=self.commit, shared=self.observed.has_remote)
        unkept: frozenset[str] = frozenset()
        if due and _is_well(done):
            done, unkept = self._audit(current, done)
        if _is_well(done) and not due and not any(o.effect is Effect.PUT for o in done.objects):
            return IssuerProgress(current, done, self.verification_cache.stamps.get(current.url))
        return IssuerProgress(current, done, look=self._must_look(current, done), unkept=unkept)

    def _is_due(self, planned: IssuerPlan, bodies: tuple[bytes, ...], ledger: Ledger) -> bool:
        """Whether headers and public URLs are looked at: after each interval, and where a listing hints at a change."""
        if self.verification_cache.is_due(planned.url, planned.issuer.publish, bodies, ledger, self.observed.now):
            return True
        listing, stamp = self._shown(planned).listing, self.verification_cache.stamps[planned.url]
        lines = (listing[wanted.key] for wanted, _ in planned.object_actions if wanted.key in listing)
        return any(stamp.is_older_than(each) or each.storage_class in ARCHIVE_CLASSES for each in lines)

    def _at_newest_snapshot(self, planned: IssuerPlan) -> IssuerPlan:
        """The plan again, if another mirror's changes were merged into the ledger, or the push failed."""
        outcome = planned.transition_result
        if outcome is None:
            return planned
        ledger = self.recorded.ledgers.get(planned.url, outcome.ledger if planned.is_tolerant else None)
        if ledger is None:
            sentence = (
                f"Its ledger could not be recorded, and nothing of it is put: {self.recorded.errors[planned.url]}"
            )
            remedy = "See what was pushed to the repository last, and restore the ledger."
            broken = Reason("ledger.broken", sentence, remedy)
            return replace(planned, transition_result=None, object_actions=(), failures=(*planned.failures, broken))
        if ledger == outcome.ledger and not self._is_rejected():
            return planned
        outcome = replace(outcome, ledger=ledger)
        merged = replace(planned, transition_result=outcome, held=pending_approvals(planned.issuer, outcome))
        if self._shown(planned).error is not None:
            return merged
        observed = replace(self.observed, push_rejected=self._is_rejected())
        return plan_object_changes(merged, ledger, observed, self.ports)

    def _is_rejected(self) -> bool:
        """Whether the remote was fetched but rejected our commits: then no other mirror sees our removals."""
        return self.observed.remote_fetched and not self.recorded.pushed

    def _shown(self, planned: IssuerPlan) -> BucketListing:
        return self.observed.buckets[bucket_identity(planned.issuer.publish)]

    def _audit(self, planned: IssuerPlan, done: ObjectResults) -> tuple[ObjectResults, frozenset[str]]:
        """Look at the headers of what was not put just now, and repair them; also which the store does not keep."""
        bucket, listing = self.ports.bucket(planned.issuer.publish), self._shown(planned).listing
        steps: list[tuple[PublicObject, ObjectDecision]] = []
        events: list[Event] = []
        for at, (wanted, _) in enumerate(planned.object_actions):
            listed = listing.get(wanted.key)
            if done.objects[at].effect is not Effect.UNCHANGED or listed is None:
                continue
            try:
                decision, event = audit_headers(
                    bucket,
                    wanted,
                    listed.etag,
                    lacks=partial(self._lacks_revocations, planned),
                    unkept=self.observed.local_state.of(planned.url).unkept_headers,
                )
            except BucketError as error:
                return replace(done, failures=(*done.failures, reason_of(error))), frozenset()
            events += [event] if event is not None else []
            if planned.issuer.suspend and isinstance(decision, PutObject) and decision.action is Action.REPAIR:
                decision = suspended(wanted)
            steps += [(wanted, decision)] if decision is not None else []
        repaired = carry_out(bucket, steps, snapshot=self.commit, shared=self.observed.has_remote)
        by_key = {each.key: each for each in repaired.objects}
        audited = replace(done, objects=tuple(by_key.get(each.key, each) for each in done.objects))
        audited = replace(audited, events=(*done.events, *events)).and_then(replace(repaired, objects=()))
        put = [wanted for wanted, _ in steps if by_key[wanted.key].effect is Effect.PUT]
        unkept, unkept_events = self._unkept(planned, put)
        return replace(audited, events=(*audited.events, *unkept_events)), unkept

    def _unkept(self, planned: IssuerPlan, put: Iterable[PublicObject]) -> tuple[frozenset[str], tuple[Event, ...]]:
        """The headers that the store did not keep of what was put just now, where that was not known."""
        bucket = self.ports.bucket(planned.issuer.publish)
        known = self.observed.local_state.of(planned.url).unkept_headers
        found: frozenset[str] = frozenset()
        events: list[Event] = []
        for wanted in put:
            with suppress(BucketError):  # the next pass finds it out
                missing = unkept_headers(bucket, wanted) - known
                found |= missing
                events += [not_kept(wanted, missing)] if missing else []
        return found, tuple(events)

    def _lacks_revocations(self, planned: IssuerPlan, snapshot: str) -> bool:
        """Whether the commit that a JWKS names does not know every revocation.

        A mirror with an empty disk reads that commit, so that a branch that was set back brings no key back.
        """
        outcome = planned.transition_result
        revoked = frozenset() if outcome is None else revoked_thumbprints(outcome.ledger)
        if not revoked:
            return False
        if not self.ports.history.obtain(snapshot):
            return not self.observed.has_remote or self.observed.remote_fetched
        path = repository_paths(planned.url).ledger
        body = self.ports.history.read(CommitId(snapshot), [path]).get(path, b"")
        read = read_ledger(body, issuer=planned.url, already_checked=ALL_THUMBPRINTS)
        return isinstance(read, Rejected) or not revoked <= revoked_thumbprints(read.ledger)

    # -- look -------------------------------------------------------------------------------------------

    def _must_look(self, planned: IssuerPlan, done: ObjectResults) -> bool:
        """Whether the public URL decides: all is as meant, or what stands there may be wrong."""
        if done.failures or not planned.object_actions:
            return False
        wrong = any(isinstance(decision, Deferred) and decision.is_wrong for _, decision in planned.object_actions)
        return wrong or _is_well(done)

    def _look(self, progress: IssuerProgress) -> IssuerProgress:
        planned, publish = progress.planned, progress.planned.issuer.publish
        bodies = tuple(wanted.body for wanted, _ in planned.object_actions)
        ledger = planned.transition_result.ledger if planned.transition_result is not None else Ledger(planned.url)
        stamp = VerifiedAt(self.observed.now, fingerprint(publish, bodies, ledger))
        if not publish.readback.enabled:
            stamp = replace(stamp, newest=self._newest(progress, None))
            return replace(progress, stamp=stamp if _is_well(progress.published) else None)
        history = self.ports.history
        unkept = self.observed.local_state.of(planned.url).unkept_headers | progress.unkept
        freshness = CacheContext(
            self.observed.now,
            history.contains_blob,
            lambda wanted: history.last_changed_at(public_path(wanted.url)),
            unkept,
        )
        view, bucket = CachingPublicEndpoint(self.ports.view), self.ports.bucket(publish)
        wanted = [each for each, _ in planned.object_actions]
        looked = read_back(view, bucket, wanted, publish, freshness)
        unkept_events: tuple[Event, ...] = ()
        if any(reason.code.endswith(".wrong_cache_control") for reason in looked.failures):
            put = {each.key for each in progress.published.objects if each.effect is Effect.PUT}
            learned, unkept_events = self._unkept(planned, [each for each in wanted if each.key in put])
            if learned:
                unkept |= learned
                looked = read_back(view, bucket, wanted, publish, replace(freshness, unkept=unkept))
        seen = replace(
            progress.published,
            events=progress.published.events + unkept_events + looked.events,
            failures=progress.published.failures + looked.failures,
            safe_to_sign_at=looked.safe_to_sign_at,
            look=looked.summary(),
        )
        stamp = replace(stamp, newest=self._newest(progress, view))
        jwks = view.answer(jwks_uri(planned.url))
        return replace(
            progress,
            published=seen,
            stamp=stamp if looked.fresh and _is_well(seen) else None,
            seen=None if jwks is None else jwks.body,
            unkept=unkept,
        )

    def _newest(self, progress: IssuerProgress, view: CachingPublicEndpoint | None) -> datetime | None:
        """When the newest of an issuer's objects was written; None where a put of this pass was not seen in public."""
        listing, found = self._shown(progress.planned).listing, []
        effects = {each.key: each.effect for each in progress.published.objects}
        for desired, _ in progress.planned.object_actions:
            if effects.get(desired.key) is Effect.PUT or desired.key not in listing:
                answer = None if view is None else view.answer(desired.url)
                found.append(None if answer is None else answer.last_modified)
            else:
                found.append(listing[desired.key].last_modified)
        known = [each for each in found if each is not None]
        return max(known) if known and len(known) == len(found) else None


def _stale(looked: Iterable[IssuerProgress]) -> Iterator[ChangedPath]:
    """What a cache still shows from before an earlier pass, whose invalidation may have been lost with it.

    Asked for in every pass until it is gone: the same reference is one invalidation.
    """
    for each in looked:
        put = {done.url for done in each.published.objects if done.effect is Effect.PUT}
        for event in each.published.events:
            url = event.fields.get("url", "")
            is_old = event.name == STALE or event.fields.get("cause") == OTHER_BYTES
            if is_old and url not in put:
                yield ChangedPath(each.planned.issuer.publish, url, "stale")


def _is_well(done: ObjectResults) -> bool:
    """Whether every object stands as meant, as far as we know."""
    return not done.failures and all(each.effect in (Effect.UNCHANGED, Effect.PUT) for each in done.objects)


def _guarded(work: Callable[[], IssuerProgress], so_far: IssuerProgress) -> IssuerProgress:
    """One issuer's trouble never stops another's change; what was done before it is not forgotten."""
    try:
        return work()
    except MirrorError as error:
        reason = reason_from("history.failed", error)
    except Exception as error:  # noqa: BLE001  whatever it is, it stays with its issuer (design, 4)
        reason = internal_error(error)
    failed = replace(so_far.published, failures=(*so_far.published.failures, reason))
    return replace(so_far, published=failed, stamp=None, look=False)


EPHEMERAL_PUSH_ATTEMPTS = 30
"""All shards of a fleet push at the same time, and each round has one winner; who loses them all has done nothing."""


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What came of a plan: the report, when each issuer was last seen to be right, and what was committed.

    `has_put` says that something was put, `lost_race` that a put was not made, because another mirror wrote the object
    first. `unkept_headers` are those that a store was found not to keep.
    """

    report: Report
    audits: VerificationCache
    recorded: CommitResult | None = None
    has_put: bool = False
    lost_race: bool = False
    unkept_headers: Mapping[IssuerUrl, frozenset[str]] = field(default_factory=dict)


def apply(plan: Plan, ports: Ports, audits: VerificationCache) -> ApplyResult:
    """Commit what the plan decided, publish the newest snapshot, and look at it as an anonymous client does.

    Nothing is put that is not committed; and as long as the remote has none of our history, or this disk was never
    pushed from (or `require_push` says so), nothing that is not pushed.
    """
    if plan.failures:
        return ApplyResult(replace(preview(plan, committer_of(plan.observed, ports)), dry_run=False), audits)
    try:
        recorded = _record(plan, ports)
    except UsageError:
        raise
    except MirrorError as error:
        return ApplyResult(aborted_report(plan, "history.failed", error), audits)
    blocked = _blocked_by_push(plan, recorded)
    if blocked is not None:
        report = aborted_report(plan, "push.failed", blocked, recorded)
        with suppress(HistoryError):  # the report says already what failed
            report = replace(report, unpushed_commits=ports.history.unpushed())
        return ApplyResult(report, audits)
    if recorded.commit is None:
        return ApplyResult(replace(preview(plan, committer_of(plan.observed, ports)), dry_run=False), audits)
    issuers, events = Publisher(plan.observed, recorded, recorded.commit, ports, audits).publish(plan.issuers)
    return ApplyResult(
        _report(plan, recorded, issuers, events, ports),
        _stamped(audits, issuers),
        recorded,
        has_put=any(done.effect is Effect.PUT for each in issuers for done in each.published.objects),
        lost_race=any(event.name == "bucket.changed" for each in issuers for event in each.published.events),
        unkept_headers={each.planned.url: each.unkept for each in issuers if each.unkept},
    )


def committer_of(observed: ObservedState, ports: Ports) -> Committer:
    """How this pass commits."""
    settings = observed.settings
    everything = publications(replace(settings, issuers=(*settings.issuers, *settings.left_out)))
    return Committer(
        ports.history,
        reread=lambda issuers: load_history(ports.history, issuers, observed.trust, ledger_cache=ports.ledger_cache),
        keys=observed.trust.keys if isinstance(observed.trust.keys, LedgerTrust) else None,
        others={each.url: each.issuer.discovery_extra for each in everything},
        always=observed.trust.as_it_is,
        ledger_cache=ports.ledger_cache,
    )


def _record(plan: Plan, ports: Ports) -> CommitResult:
    observed = plan.observed
    return commit_ledgers(
        committer_of(observed, ports),
        observed.history,
        ledger_changes(plan),
        message=message_of(plan),
        now=observed.now,
        push=observed.remote_fetched,
        attempts=EPHEMERAL_PUSH_ATTEMPTS if observed.has_remote and _pushes_first(plan) else ATTEMPTS,
    )


def _blocked_by_push(plan: Plan, recorded: CommitResult) -> RemoteError | None:
    """Why nothing may be put: a push that has to come first did not happen."""
    observed = plan.observed
    if not observed.has_remote or not _pushes_first(plan) or recorded.pushed or recorded.commit is None:
        return None
    return recorded.push_error or observed.remote_error or RemoteError("The git remote was not pushed to.")


def _pushes_first(plan: Plan) -> bool:
    """Whether nothing may be put that is not pushed.

    What a pod commits whose disk is new is gone with it, however many passes it makes, unless it is pushed once.
    """
    history_state, local = plan.observed.history, plan.observed.local_state
    is_new = (
        history_state.heads.local is None
        or history_state.heads.remote is None
        or not (local.has_pushed or history_state.is_pushed)
    )
    return is_new or plan.observed.settings.repository.require_push


def _stamped(audits: VerificationCache, done: tuple[IssuerProgress, ...]) -> VerificationCache:
    passed = {each.planned.url for each in done}
    stamps = {url: stamp for url, stamp in audits.stamps.items() if url not in passed}  # `--only` left these alone
    stamps |= {each.planned.url: each.stamp for each in done if each.stamp is not None}
    return VerificationCache(stamps)


def _report(
    plan: Plan, recorded: CommitResult, done: Iterable[IssuerProgress], events: tuple[Event, ...], ports: Ports
) -> Report:
    report = plan_report(plan, tuple(issuer_report(each.planned, each.published, each.seen) for each in done))
    report = replace(report, commit=recorded.commit, committed=recorded.made, events=report.events + events)
    if recorded.made:
        report = replace(report, message=message_of(plan))
    if recorded.push_error is not None:
        event = Event("push.failed", str(recorded.push_error), Level.WARNING)
        report = replace(report, events=(*report.events, event))
    try:
        unpushed = ports.history.unpushed() if plan.observed.has_remote and not recorded.pushed else 0
        if plan.observed.remote_fetched and not plan.observed.is_new_disk and recorded.push_error is None:
            ports.history.complete()  # this disk outlives a pass: it can restore the remote one day
        ports.history.collect_garbage()
    except (HistoryError, RemoteError) as error:
        return replace(report, events=(*report.events, Event("history.untidy", str(error), Level.WARNING)))
    return replace(report, unpushed_commits=unpushed)
