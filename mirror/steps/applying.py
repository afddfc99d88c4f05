"""Carry a plan out: commit, push, publish. Every step compares with what is there, so a kill costs nothing."""

from dataclasses import dataclass, replace

from mirror.errors import HistoryError, MirrorError, RemoteError
from mirror.history.record import ATTEMPTS, Recorded, record
from mirror.model import Event, Level
from mirror.ports import Ports
from mirror.publish.audit import Audits
from mirror.report import Report
from mirror.steps.plan import Plan
from mirror.steps.publishing import Done, Progress, Publishing
from mirror.steps.reporting import intents_of, issuer_report, message_of, plan_report, preview, stopped
from mirror.steps.witness import doubts_about

ATTEMPTS_OF_A_POD = 30
"""All shards of a fleet push at the same time, and each round has one winner; who loses them all has done nothing."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a plan: the report, when each issuer was last seen to be right, whether the remote has it all."""

    report: Report
    audits: Audits
    pushed: bool = False


def apply(plan: Plan, ports: Ports, audits: Audits) -> Applied:
    """Commit what the plan decided, publish the newest snapshot, and look at it as the world does.

    Nothing is put that is not committed; and as long as the remote has none of our history, or this disk was never
    pushed from (or `require_push` says so), nothing that is not pushed.
    """
    if plan.failures:
        return Applied(replace(preview(plan), dry_run=False), audits)
    try:
        recorded = _record(plan, ports)
    except MirrorError as error:
        return Applied(stopped(plan, "history.failed", error), audits)
    blocked = _blocked_by_push(plan, recorded)
    if blocked is not None:
        return Applied(stopped(plan, "push.failed", blocked, recorded), audits)
    if recorded.commit is None:
        return Applied(replace(preview(plan), dry_run=False), audits)
    done = Publishing(plan.world, recorded, recorded.commit, ports, audits).publish(plan.issuers)
    return Applied(_report(plan, recorded, done, ports), _stamped(audits, done.issuers), recorded.pushed)


def _record(plan: Plan, ports: Ports) -> Recorded:
    world = plan.world
    message = message_of(plan)
    attempts = ATTEMPTS_OF_A_POD if world.shared and _pushes_first(plan) else ATTEMPTS
    return record(
        ports.history,
        world.memory,
        intents_of(plan),
        message=message,
        now=world.now,
        push=world.heard_remote,
        attempts=attempts,
        judge=lambda merged: doubts_about(merged, world, ports),
    )


def _blocked_by_push(plan: Plan, recorded: Recorded) -> RemoteError | None:
    """Why nothing may be put: a push that has to come first did not happen."""
    world = plan.world
    if not world.shared or not _pushes_first(plan) or recorded.pushed or recorded.commit is None:
        return None
    return recorded.push_error or world.remote_error or RemoteError("The git remote was not pushed to.")


def _pushes_first(plan: Plan) -> bool:
    """Whether nothing may be put that is not pushed.

    What a pod commits whose disk is new is gone with it, however many passes it makes, unless it is pushed once.
    """
    memory, notes = plan.world.memory, plan.world.notebook
    is_new = memory.heads.local is None or memory.heads.remote is None or not (notes.has_pushed or memory.is_shared)
    return is_new or plan.world.settings.repository.require_push


def _stamped(audits: Audits, done: tuple[Progress, ...]) -> Audits:
    passed = {each.planned.url for each in done}
    stamps = {url: stamp for url, stamp in audits.stamps.items() if url not in passed}  # `--only` left these alone
    stamps |= {each.planned.url: each.stamp for each in done if each.stamp is not None}
    return Audits(stamps)


def _report(plan: Plan, recorded: Recorded, done: Done, ports: Ports) -> Report:
    issuers = tuple(issuer_report(each.planned, each.published, each.seen) for each in done.issuers)
    report = plan_report(plan, issuers)
    report = replace(report, commit=recorded.commit, committed=recorded.made, events=report.events + done.events)
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
