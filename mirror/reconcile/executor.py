"""Publish the newest snapshot: all puts first, then every look, so that a slow look never delays another's change."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mirror.addresses import jwks_uri, repository_paths
from mirror.concurrency import for_each
from mirror.errors import BucketError, MirrorError
from mirror.history.ledger_reader import public_path
from mirror.history.ledger_store import CommitResult
from mirror.model import CommitId, Event, Ledger, ObjectKey, Reason
from mirror.ports import Ports
from mirror.publish.audit import Audits, Stamp, fingerprint
from mirror.publish.drift import Decision, Waiting
from mirror.publish.listing import Shown, target
from mirror.publish.publisher import (
    OTHER_BYTES,
    STALE,
    Freshness,
    Published,
    audit_headers,
    carry_out,
    read_back,
    reason_of,
)
from mirror.reconcile.believing import defect
from mirror.reconcile.holding import held_changes
from mirror.reconcile.invalidating import Changed, guarded, invalidations, tell
from mirror.reconcile.planner import plan_objects
from mirror.reconcile.reporting import untouched
from mirror.reconcile.state import IssuerPlan, World
from mirror.reconcile.token_probe import Remembering
from mirror.report import Effect, reason_from
from mirror.trust.ledger import EVERYTHING as ALL_THUMBPRINTS
from mirror.trust.ledger import read_ledger
from mirror.trust.lifecycle import revoked_thumbprints
from mirror.trust.parsing import Refused


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one publication is: its plan (at the newest snapshot), what was done, and when it was seen to be right.

    `look` tells that the world's view is still to be taken; `seen` is the public JWKS in it, None where nothing came.
    """

    planned: IssuerPlan
    published: Published
    stamp: Stamp | None = None
    look: bool = False
    seen: bytes | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What publishing came to, and what the caches in front of the buckets were told."""

    issuers: tuple[Progress, ...]
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Publishing:
    """What publishing needs: `commit` is the newest snapshot, `audits` when each issuer was last seen to be right."""

    world: World
    recorded: CommitResult
    commit: CommitId
    ports: Ports
    audits: Audits

    def publish(self, plans: Sequence[IssuerPlan]) -> Done:
        """Put what must be put, then look at what was put or is due; what goes wrong stays with its issuer."""
        workers = self.world.settings.limits.puts
        put = for_each(lambda each, ports: replace(self, ports=ports).put(each), plans, self.ports, workers=workers)
        # A kill between the puts and this leaves caches that are stale, for max-age at the longest; see `invalidating`.
        told = self._invalidate(self._changed(put))
        looked = for_each(lambda each, ports: replace(self, ports=ports).look(each), put, self.ports, workers=workers)
        return Done(looked, told + self._invalidate(_stale(looked)))

    def put(self, planned: IssuerPlan) -> Progress:
        """Put what must be put for one publication."""
        return _guarded(lambda: self._put(planned), Progress(planned, untouched(planned)))

    def look(self, progress: Progress) -> Progress:
        """Look at one publication as the world does, where that is to be done."""
        return _guarded(lambda: self._look(progress), replace(progress, stamp=None)) if progress.look else progress

    # -- caches -----------------------------------------------------------------------------------------

    def _invalidate(self, changed: Iterable[Changed]) -> tuple[Event, ...]:
        workers = self.world.settings.limits.puts
        return guarded(lambda: tell(self.ports, invalidations(changed, self.commit), workers=workers))

    def _changed(self, progress: Iterable[Progress]) -> Iterator[Changed]:
        """What was put in this pass. A repair of the same commit differs by what it wrote over."""
        for each in progress:
            publish = each.planned.issuer.publish
            listing = self._shown(each.planned).listing
            for done in each.published.objects:
                if done.effect is Effect.PUT:
                    before = listing.get(ObjectKey(done.key))
                    what = "" if before is None else f"{before.etag} {before.last_modified.isoformat()}"
                    yield Changed(publish, done.url, what)

    # -- put --------------------------------------------------------------------------------------------

    def _put(self, planned: IssuerPlan) -> Progress:
        current = self._at_newest_snapshot(planned)
        if current.outcome is None or self._shown(current).error is not None:
            return Progress(current, untouched(current))
        bodies = tuple(wanted.body for wanted, _ in current.decisions)
        due = self.audits.due(current.url, current.issuer.publish, bodies, current.outcome.ledger, self.world.now)
        bucket = self.ports.bucket(current.issuer.publish)
        done = carry_out(bucket, current.decisions, snapshot=self.commit, shared=self.world.has_remote)
        if due and _is_well(done):
            done = self._audit(current, done)
        if _is_well(done) and not due and not any(o.effect is Effect.PUT for o in done.objects):
            return Progress(current, done, self.audits.stamps.get(current.url))
        return Progress(current, done, look=self._must_look(current, done))

    def _at_newest_snapshot(self, planned: IssuerPlan) -> IssuerPlan:
        """The plan again, where another mirror's changes were merged into the ledger meanwhile, or the push failed."""
        if planned.outcome is None:
            return planned
        ledger = self.recorded.ledgers.get(planned.url, planned.outcome.ledger if planned.is_tolerant else None)
        if ledger is None:
            sentence = (
                f"Its ledger could not be recorded, and nothing of it is put: {self.recorded.errors[planned.url]}"
            )
            remedy = "See what was pushed to the repository last, and restore the ledger."
            broken = Reason("ledger.broken", sentence, remedy)
            return replace(planned, outcome=None, decisions=(), failures=(*planned.failures, broken))
        if ledger == planned.outcome.ledger and not self._is_rejected():
            return planned
        outcome = replace(planned.outcome, ledger=ledger)
        merged = replace(planned, outcome=outcome, held=held_changes(planned.issuer, outcome))
        if self._shown(planned).error is not None:
            return merged
        return plan_objects(merged, ledger, replace(self.world, push_rejected=self._is_rejected()), self.ports)

    def _is_rejected(self) -> bool:
        """Whether the remote, which was fetched, did not take our commits: then nobody else knows of our removals."""
        return self.world.remote_fetched and not self.recorded.pushed

    def _shown(self, planned: IssuerPlan) -> Shown:
        return self.world.buckets[target(planned.issuer.publish)]

    def _audit(self, planned: IssuerPlan, done: Published) -> Published:
        """Look at the headers of what was not put just now, and repair them."""
        bucket, listing = self.ports.bucket(planned.issuer.publish), self._shown(planned).listing
        decisions: list[tuple[int, Decision]] = []
        events: list[Event] = []
        for at, (wanted, _) in enumerate(planned.decisions):
            listed = listing.get(wanted.key)
            if done.objects[at].effect is not Effect.UNCHANGED or listed is None:
                continue
            try:
                decision, event = audit_headers(
                    bucket, wanted, listed.etag, lacks=partial(self._lacks_revocations, planned)
                )
            except BucketError as error:
                return replace(done, failures=(*done.failures, reason_of(error)))
            events += [event] if event is not None else []
            decisions += [(at, decision)] if decision is not None else []
        steps = [(planned.decisions[at][0], decision) for at, decision in decisions]
        repaired = carry_out(bucket, steps, snapshot=self.commit, shared=self.world.has_remote)
        by_key = {each.key: each for each in repaired.objects}
        audited = replace(done, objects=tuple(by_key.get(each.key, each) for each in done.objects))
        return replace(audited, events=(*done.events, *events)).and_then(replace(repaired, objects=()))

    def _lacks_revocations(self, planned: IssuerPlan, snapshot: str) -> bool:
        """Whether the commit that a JWKS names does not know every revocation.

        A mirror with an empty disk reads that commit, so that a branch that was set back brings no key back.
        """
        revoked = revoked_thumbprints(planned.outcome.ledger) if planned.outcome is not None else frozenset()
        if not revoked:
            return False
        if not self.ports.history.obtain(snapshot):
            return not self.world.has_remote or self.world.remote_fetched
        path = repository_paths(planned.url).ledger
        body = self.ports.history.read(CommitId(snapshot), [path]).get(path, b"")
        read = read_ledger(body, issuer=planned.url, known=ALL_THUMBPRINTS)
        return isinstance(read, Refused) or not revoked <= revoked_thumbprints(read.ledger)

    # -- look -------------------------------------------------------------------------------------------

    def _must_look(self, planned: IssuerPlan, done: Published) -> bool:
        """Whether the world's view decides: all stands as meant, or what stands there may be wrong."""
        if done.failures or not planned.decisions:
            return False
        wrong = any(isinstance(decision, Waiting) and decision.is_wrong for _, decision in planned.decisions)
        return wrong or _is_well(done)

    def _look(self, progress: Progress) -> Progress:
        planned, publish = progress.planned, progress.planned.issuer.publish
        bodies = tuple(wanted.body for wanted, _ in planned.decisions)
        ledger = planned.outcome.ledger if planned.outcome is not None else Ledger(planned.url)
        stamp = Stamp(self.world.now, fingerprint(publish, bodies, ledger))
        if not publish.readback.enabled:
            return replace(progress, stamp=stamp if _is_well(progress.published) else None)
        history = self.ports.history
        freshness = Freshness(self.world.now, history.holds, lambda wanted: history.changed_at(public_path(wanted.url)))
        view, bucket = Remembering(self.ports.view), self.ports.bucket(publish)
        looked = read_back(view, bucket, [wanted for wanted, _ in planned.decisions], publish, freshness)
        seen = replace(
            progress.published,
            events=progress.published.events + looked.events,
            failures=progress.published.failures + looked.failures,
            safe_to_sign_at=looked.safe_to_sign_at,
            look=looked.told(),
        )
        stamped = stamp if looked.fresh and _is_well(seen) else None
        return replace(progress, published=seen, stamp=stamped, seen=view.body(jwks_uri(planned.url)))


def _stale(looked: Iterable[Progress]) -> Iterator[Changed]:
    """What a cache still shows from before an earlier pass, whose invalidation may have been lost with it.

    Asked for in every pass until it is gone: the same reference is one invalidation.
    """
    for each in looked:
        put = {done.url for done in each.published.objects if done.effect is Effect.PUT}
        for event in each.published.events:
            url = event.fields.get("url", "")
            is_old = event.name == STALE or event.fields.get("cause") == OTHER_BYTES
            if is_old and url not in put:
                yield Changed(each.planned.issuer.publish, url, "stale")


def _is_well(done: Published) -> bool:
    """Whether every object stands as meant, as far as we know."""
    return not done.failures and all(each.effect in (Effect.UNCHANGED, Effect.PUT) for each in done.objects)


def _guarded(work: Callable[[], Progress], so_far: Progress) -> Progress:
    """One issuer's trouble never stops another's change; what was done before it is not forgotten."""
    try:
        return work()
    except MirrorError as error:
        reason = reason_from("history.failed", error)
    except Exception as error:  # noqa: BLE001  whatever it is, it stays with its issuer (design, 4)
        reason = defect(error)
    failed = replace(so_far.published, failures=(*so_far.published.failures, reason))
    return replace(so_far, published=failed, stamp=None, look=False)
