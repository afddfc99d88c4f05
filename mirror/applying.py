"""Carry a plan out: commit, push, put, look. Every step compares with what is there, so a kill costs nothing."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from mirror import notebook
from mirror.believing import defect
from mirror.deciding import plan_objects
from mirror.errors import BucketError, HistoryError, MirrorError, RemoteError
from mirror.history.ledgers import Memory, public_path
from mirror.history.message import IssuerChanges, compose
from mirror.history.record import Intent, Recorded, record
from mirror.model import CommitId, Event, IssuerUrl, KeyId, Ledger, Level, Reason, key_id
from mirror.plan import IssuerPlan, Plan, World
from mirror.ports import Ports
from mirror.publish.audit import Audits, Stamp, fingerprint
from mirror.publish.look import target
from mirror.publish.put import Freshness, Published, audit_headers, carry_out, on_paper, read_back, reason_of
from mirror.report import Change, Effect, IssuerReport, Report, reason_from
from mirror.trust.merge import merge


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a plan: the report, and when each issuer was last seen to be right."""

    report: Report
    audits: Audits


def preview(plan: Plan) -> Report:
    """The report of a plan that is not carried out."""
    issuers = tuple(_issuer_report(each, _not_carried_out(each)) for each in plan.issuers)
    return replace(_report(plan, issuers), dry_run=True, message=message_of(plan))


def message_of(plan: Plan) -> str:
    """The commit message that the plan would make; empty when no key changes."""
    changes = tuple(
        IssuerChanges(
            name=each.issuer.name,
            issuer=each.url,
            events=tuple((str(t.status), t.key, t.sentence) for t in each.outcome.transitions),
        )
        for each in plan.issuers
        if each.outcome is not None and each.outcome.transitions
    )
    return compose(changes)


def apply(plan: Plan, ports: Ports, audits: Audits) -> Applied:
    """Commit what the plan decided, publish the newest snapshot, and look at it as the world does.

    Nothing is put that is not committed, and, where this machine had no history of its own (or `require_push` says
    so), nothing that is not pushed.
    """
    if plan.failures:
        return Applied(replace(preview(plan), dry_run=False), audits)
    try:
        recorded = _record(plan, ports)
        blocked = _blocked_by_push(plan, recorded)
    except MirrorError as error:
        return Applied(_stopped(plan, "history.failed", error), audits)
    if blocked is not None:
        return Applied(_stopped(plan, "push.failed", blocked), audits)
    if recorded.commit is None:
        return Applied(replace(preview(plan), dry_run=False), audits)
    done = _publish_all(plan, _Publishing(plan.world, recorded, recorded.commit, ports, audits))
    issuers = tuple(_issuer_report(each, published) for each, published, _ in done)
    passed = {each.url for each, _, _ in done}
    stamps = {url: stamp for url, stamp in audits.stamps.items() if url not in passed}  # `--only` left these alone
    stamps |= {each.url: stamp for each, _, stamp in done if stamp is not None}
    return Applied(_after(plan, recorded, issuers, ports), Audits(stamps))


# -------------------------------------------------------------------------------------------------- commit


def _record(plan: Plan, ports: Ports) -> Recorded:
    intents = {
        each.url: Intent(each.outcome.ledger, each.issuer.discovery_extra)
        for each in plan.issuers
        if each.outcome is not None
    }
    world = plan.world
    message = message_of(plan) or "Bring git in line: merge branches, render what a ledger says\n"

    def note_newcomers(memory: Memory) -> None:
        # Before the commit that brings them in: after a kill the next pass would take them for our own.
        known = {url: keys for url, keys in newcomers(memory, intents).items() if not world.trusts_remote}
        found = {url: dict.fromkeys(keys, world.now) for url, keys in known.items() if keys}
        if found:
            state_dir = world.settings.state_dir
            notebook.save(state_dir, notebook.load(state_dir).with_unvouched(found))

    return record(
        ports.history,
        world.memory,
        intents,
        message=message,
        now=world.now,
        push=world.heard_remote,
        before_merge=note_newcomers,
    )


def _blocked_by_push(plan: Plan, recorded: Recorded) -> RemoteError | None:
    """Why nothing may be put: a push that has to come first did not happen."""
    world = plan.world
    first = world.shared and (world.memory.heads.local is None or world.settings.repository.require_push)
    if not first or recorded.pushed or recorded.commit is None:
        return None
    return recorded.push_error or world.remote_error or RemoteError("The git remote was not pushed to.")


# ------------------------------------------------------------------------------------------------- publish


@dataclass(frozen=True, slots=True)
class _Publishing:
    """What every issuer's publishing needs."""

    world: World
    recorded: Recorded
    commit: CommitId
    ports: Ports
    audits: Audits

    def issuer(self, planned: IssuerPlan) -> tuple[IssuerPlan, Published, Stamp | None]:
        """Publish one issuer; whatever goes wrong stays with it."""
        try:
            return self._issuer(planned)
        except Exception as error:  # noqa: BLE001  one issuer's trouble never stops another's change (design, 4)
            return replace(planned, failures=(*planned.failures, defect(error))), _not_carried_out(planned), None

    def _issuer(self, planned: IssuerPlan) -> tuple[IssuerPlan, Published, Stamp | None]:
        if planned.outcome is None:
            return planned, _not_carried_out(planned), None
        current = self._at_newest_snapshot(planned)
        if current.outcome is None or self.world.buckets[target(current.issuer.publish)].error is not None:
            return current, _not_carried_out(current), None
        bucket = self.ports.bucket(current.issuer.publish)
        done = carry_out(bucket, current.decisions, snapshot=self.commit)
        due = self.audits.due(current.url, current.issuer.publish, self.world.now)
        if due and not done.failures:
            done = self._audit(current, done)
        if done.failures or not all(o.effect in (Effect.UNCHANGED, Effect.PUT) for o in done.objects):
            return current, done, None
        if not due and all(o.effect is Effect.UNCHANGED for o in done.objects):
            return current, done, self.audits.stamps.get(current.url)
        return self._read_back(current, done)

    def _at_newest_snapshot(self, planned: IssuerPlan) -> IssuerPlan:
        """The plan again, where another mirror's changes were merged into this issuer's ledger meanwhile."""
        ledger = self.recorded.ledgers.get(planned.url)
        if ledger is None or planned.outcome is None:
            sentence = "Its ledger in git became unreadable while this pass ran; nothing of it is put."
            broken = Reason("ledger.broken", sentence, "See who pushed to the repository, and restore the ledger.")
            return replace(planned, outcome=None, failures=(*planned.failures, broken))
        if ledger == planned.outcome.ledger:
            return planned
        if not self.world.trusts_remote and _news(ledger, planned.outcome.ledger):
            sentence = "The git remote named keys or revocations of this issuer while this pass ran; it is set aside."
            event = Event("remote.unwitnessed", sentence, Level.WARNING)
            return replace(planned, outcome=None, events=(*planned.events, event))
        merged = replace(planned, outcome=replace(planned.outcome, ledger=ledger))
        return plan_objects(merged, ledger, self.world, self.ports)

    def _audit(self, planned: IssuerPlan, done: Published) -> Published:
        """Look at the headers of what was not put just now, and repair them."""
        bucket = self.ports.bucket(planned.issuer.publish)
        repairs, events = [], []
        for (wanted, _), told in zip(planned.decisions, done.objects, strict=True):
            if told.effect is not Effect.UNCHANGED:
                continue
            try:
                repair, event = audit_headers(bucket, wanted)
            except BucketError as error:
                return replace(done, failures=(*done.failures, reason_of(error)))
            if repair is not None and event is not None:
                repairs.append((wanted, repair))
                events.append(event)
        repaired = carry_out(bucket, repairs, snapshot=self.commit)
        by_key = {o.key: o for o in repaired.objects}
        objects = tuple(by_key.get(o.key, o) for o in done.objects)
        return replace(
            done.and_then(replace(repaired, objects=())),
            objects=objects,
            events=(*done.events, *events, *repaired.events),
        )

    def _read_back(self, planned: IssuerPlan, done: Published) -> tuple[IssuerPlan, Published, Stamp | None]:
        publish = planned.issuer.publish
        stamp = Stamp(self.world.now, fingerprint(publish))
        if not publish.readback.enabled or not planned.decisions:
            return planned, done, stamp
        history = self.ports.history
        freshness = Freshness(self.world.now, history.holds, lambda wanted: history.changed_at(public_path(wanted.url)))
        looked = read_back(self.ports.view, [wanted for wanted, _ in planned.decisions], publish, freshness)
        seen = replace(
            done,
            events=done.events + looked.events,
            failures=done.failures + looked.failures,
            safe_to_sign_at=looked.safe_to_sign_at,
        )
        return planned, seen, stamp if looked.fresh else None


def newcomers(memory: Memory, intents: Mapping[IssuerUrl, Intent]) -> dict[IssuerUrl, frozenset[KeyId]]:
    """For each issuer the keys that the branch calls public by now, and that our decision does not."""
    return {url: _news(memory.issuers[url].ledger, intent.ledger) for url, intent in intents.items()}


def _news(merged: Ledger | None, decided: Ledger) -> frozenset[KeyId]:
    """The public keys that a merge brought and that we did not decide about; EMPTIED when it left none."""
    if merged is None:
        return frozenset()
    if _public_ids(decided) and not _public_ids(merge(merged, decided)):
        return frozenset({notebook.EMPTIED})
    return _public_ids(merged) - _public_ids(decided)


def _public_ids(ledger: Ledger) -> frozenset[KeyId]:
    return frozenset(key_id(key) for key in ledger.public_keys())


def _publish_all(plan: Plan, publishing: _Publishing) -> tuple[tuple[IssuerPlan, Published, Stamp | None], ...]:
    with ThreadPoolExecutor(max_workers=plan.world.settings.limits.puts) as pool:
        return tuple(pool.map(publishing.issuer, plan.issuers))


# -------------------------------------------------------------------------------------------------- report


def _not_carried_out(planned: IssuerPlan) -> Published:
    done = Published()
    for wanted, decision in planned.decisions:
        done = done.and_then(on_paper(wanted, decision))
    return done


def _issuer_report(planned: IssuerPlan, published: Published) -> IssuerReport:
    outcome = planned.outcome
    transitions = outcome.transitions if outcome is not None else ()
    ledger = outcome.ledger if outcome is not None else planned.before
    told = tuple(
        Event(
            f"key.{t.status}",
            f"Key {t.key.thumbprint} {t.sentence}.",
            fields={"kid": t.key.kid, "thumbprint": t.key.thumbprint},
        )
        for t in transitions
    )
    return IssuerReport(
        name=planned.issuer.name,
        issuer=planned.url,
        observations=planned.observations,
        records=ledger.records if ledger is not None else (),
        retain_removed=planned.issuer.keys.retain_removed,
        changes=tuple(Change(t.key, t.status, t.sentence) for t in transitions),
        objects=published.objects,
        events=told
        + (outcome.events if outcome is not None else ())
        + planned.events
        + planned.drift
        + published.events,
        failures=planned.failures + published.failures,
        held=planned.held + published.held,
        safe_to_sign_at=published.safe_to_sign_at,
    )


def _report(plan: Plan, issuers: tuple[IssuerReport, ...]) -> Report:
    heads = plan.world.memory.heads
    return Report(
        now=plan.world.now,
        dry_run=False,
        issuers=issuers,
        commit=heads.local or heads.remote,
        events=plan.events,
        failures=plan.failures,
    )


def _stopped(plan: Plan, code: str, error: MirrorError) -> Report:
    report = replace(preview(plan), dry_run=False)
    return replace(report, failures=(*report.failures, reason_from(code, error)))


def _after(plan: Plan, recorded: Recorded, issuers: tuple[IssuerReport, ...], ports: Ports) -> Report:
    report = replace(_report(plan, issuers), commit=recorded.commit, committed=recorded.made)
    if recorded.made:
        report = replace(report, message=message_of(plan))
    if recorded.push_error is not None:
        event = Event("push.failed", str(recorded.push_error), Level.WARNING)
        report = replace(report, events=(*report.events, event))
    try:
        unpushed = ports.history.unpushed() if plan.world.shared and not recorded.pushed else 0
        ports.history.collect_garbage()
    except HistoryError as error:
        return replace(report, events=(*report.events, Event("history.untidy", str(error), Level.WARNING)))
    return replace(report, unpushed_commits=unpushed)
