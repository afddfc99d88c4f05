"""Carry a plan out: commit, push, publish. Every step compares with what is there, so a kill costs nothing."""

from dataclasses import dataclass, replace

from mirror.errors import HistoryError, MirrorError, RemoteError, UsageError
from mirror.history.ledger_reader import load_history
from mirror.history.ledger_store import ATTEMPTS, CommitResult, Committer, commit_ledgers
from mirror.model import Event, Level
from mirror.ports import Ports
from mirror.publish.audit import Audits
from mirror.reconcile.executor import Done, Progress, Publishing
from mirror.reconcile.reporting import issuer_report, ledger_changes, message_of, plan_report, preview, stopped
from mirror.reconcile.state import Plan, World, publications
from mirror.report import Effect, Report
from mirror.trust.ledger_signature import LedgerTrust

EPHEMERAL_PUSH_ATTEMPTS = 30
"""All shards of a fleet push at the same time, and each round has one winner; who loses them all has done nothing."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a plan: the report, when each issuer was last seen to be right, and what was committed.

    `has_put` tells that something was put, `lost_race` that a put was not made, because another mirror wrote the object
    first.
    """

    report: Report
    audits: Audits
    recorded: CommitResult | None = None
    has_put: bool = False
    lost_race: bool = False


def apply(plan: Plan, ports: Ports, audits: Audits) -> Applied:
    """Commit what the plan decided, publish the newest snapshot, and look at it as the world does.

    Nothing is put that is not committed; and as long as the remote has none of our history, or this disk was never
    pushed from (or `require_push` says so), nothing that is not pushed.
    """
    if plan.failures:
        return Applied(replace(preview(plan, committer_of(plan.world, ports)), dry_run=False), audits)
    try:
        recorded = _record(plan, ports)
    except UsageError:
        raise
    except MirrorError as error:
        return Applied(stopped(plan, "history.failed", error), audits)
    blocked = _blocked_by_push(plan, recorded)
    if blocked is not None:
        return Applied(stopped(plan, "push.failed", blocked, recorded), audits)
    if recorded.commit is None:
        return Applied(replace(preview(plan, committer_of(plan.world, ports)), dry_run=False), audits)
    done = Publishing(plan.world, recorded, recorded.commit, ports, audits).publish(plan.issuers)
    return Applied(
        _report(plan, recorded, done, ports),
        _stamped(audits, done.issuers),
        recorded,
        has_put=any(map(_has_put, done.issuers)),
        lost_race=any(map(_lost_race, done.issuers)),
    )


def committer_of(world: World, ports: Ports) -> Committer:
    """How this pass commits."""
    settings = world.settings
    everything = publications(replace(settings, issuers=(*settings.issuers, *settings.left_out)))
    return Committer(
        ports.history,
        reread=lambda issuers: load_history(ports.history, issuers, world.trust),
        keys=world.trust.keys if isinstance(world.trust.keys, LedgerTrust) else None,
        others={each.url: each.issuer.discovery_extra for each in everything},
        always=world.trust.is_first_signing,
    )


def _record(plan: Plan, ports: Ports) -> CommitResult:
    world = plan.world
    return commit_ledgers(
        committer_of(world, ports),
        world.memory,
        ledger_changes(plan),
        message=message_of(plan),
        now=world.now,
        push=world.remote_fetched,
        attempts=EPHEMERAL_PUSH_ATTEMPTS if world.has_remote and _pushes_first(plan) else ATTEMPTS,
    )


def _lost_race(done: Progress) -> bool:
    """Whether an object changed between our look at it and our put."""
    return any(event.name == "bucket.changed" for event in done.published.events)


def _has_put(done: Progress) -> bool:
    return any(each.effect is Effect.PUT for each in done.published.objects)


def _blocked_by_push(plan: Plan, recorded: CommitResult) -> RemoteError | None:
    """Why nothing may be put: a push that has to come first did not happen."""
    world = plan.world
    if not world.has_remote or not _pushes_first(plan) or recorded.pushed or recorded.commit is None:
        return None
    return recorded.push_error or world.remote_error or RemoteError("The git remote was not pushed to.")


def _pushes_first(plan: Plan) -> bool:
    """Whether nothing may be put that is not pushed.

    What a pod commits whose disk is new is gone with it, however many passes it makes, unless it is pushed once.
    """
    memory, local = plan.world.memory, plan.world.local
    is_new = memory.heads.local is None or memory.heads.remote is None or not (local.has_pushed or memory.is_pushed)
    return is_new or plan.world.settings.repository.require_push


def _stamped(audits: Audits, done: tuple[Progress, ...]) -> Audits:
    passed = {each.planned.url for each in done}
    stamps = {url: stamp for url, stamp in audits.stamps.items() if url not in passed}  # `--only` left these alone
    stamps |= {each.planned.url: each.stamp for each in done if each.stamp is not None}
    return Audits(stamps)


def _report(plan: Plan, recorded: CommitResult, done: Done, ports: Ports) -> Report:
    issuers = tuple(issuer_report(each.planned, each.published, each.seen) for each in done.issuers)
    report = plan_report(plan, issuers)
    report = replace(report, commit=recorded.commit, committed=recorded.made, events=report.events + done.events)
    if recorded.made:
        report = replace(report, message=message_of(plan))
    if recorded.push_error is not None:
        event = Event("push.failed", str(recorded.push_error), Level.WARNING)
        report = replace(report, events=(*report.events, event))
    try:
        unpushed = ports.history.unpushed() if plan.world.has_remote and not recorded.pushed else 0
        ports.history.collect_garbage()
    except HistoryError as error:
        return replace(report, events=(*report.events, Event("history.untidy", str(error), Level.WARNING)))
    return replace(report, unpushed_commits=unpushed)
