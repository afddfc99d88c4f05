"""From plans, and what came of them, to the report."""

from dataclasses import replace

from mirror.errors import MirrorError
from mirror.history.commit_message import IssuerChanges, compose
from mirror.history.ledger_store import CommitResult, Committer, LedgerChange, is_pending
from mirror.model import Event, IssuerUrl, Status, kid_text
from mirror.publish.publisher import ObjectResults, planned_result
from mirror.reconcile.state import IssuerPlan, Plan, mode_of
from mirror.reconcile.token_probe import check_probe_token
from mirror.report import Change, IssuerReport, Report, reason_from
from mirror.trust.lifecycle import published_keys
from mirror.trust.relying_parties import compatibility
from mirror.trust.token_probe import ProbeResult

_TRANSITION_EVENTS = frozenset(f"key.{status}" for status in Status)
DEFAULT_MESSAGE = "Bring git in line: merge branches, render what a ledger says\n"
"""The message of a commit in which no key changes."""


def message_of(plan: Plan) -> str:
    """The message of the commit that the plan makes, if it makes one."""
    changes = tuple(
        IssuerChanges(
            name=each.issuer.name,
            issuer=each.url,
            events=tuple((str(t.status), t.key, t.sentence) for t in each.transition_result.transitions),
        )
        for each in plan.issuers
        if each.transition_result is not None and each.transition_result.transitions
    )
    return compose(changes) or DEFAULT_MESSAGE


def ledger_changes(plan: Plan) -> dict[IssuerUrl, LedgerChange]:
    """What the plan would have committed."""
    return {
        each.url: LedgerChange(each.transition_result.ledger, each.issuer.discovery_extra)
        for each in plan.issuers
        if each.transition_result is not None and not each.is_tolerant
    }


def preview(plan: Plan, committer: Committer) -> Report:
    """The report of a plan that is not carried out."""
    if plan.failures:
        code = plan.failures[0].code
        issuers = tuple(replace(_undone(each, code), blocked_by=code) for each in plan.issuers)
        return replace(plan_report(plan, issuers), dry_run=True)
    issuers = tuple(_without_key_events(issuer_report(each, planned_only(each))) for each in plan.issuers)
    message = message_of(plan) if is_pending(committer, plan.observed.history, ledger_changes(plan)) else ""
    return replace(plan_report(plan, issuers), dry_run=True, message=message)


def planned_only(planned: IssuerPlan) -> ObjectResults:
    """What the decisions of a plan say without being carried out."""
    done = ObjectResults()
    for wanted, decision in planned.object_actions:
        done = done.and_then(planned_result(wanted, decision))
    return done


def aborted_report(plan: Plan, code: str, error: MirrorError, recorded: CommitResult | None = None) -> Report:
    """The report of a pass that ended before its puts: nothing that it wanted has happened, but a commit may have."""
    issuers = tuple(_undone(each, code) for each in plan.issuers)
    report = plan_report(plan, issuers)
    if recorded is not None:
        report = replace(report, commit=recorded.commit, committed=recorded.made)
    return replace(report, failures=(*report.failures, reason_from(code, error)))


def _undone(planned: IssuerPlan, code: str) -> IssuerReport:
    """What is left of a plan that was not carried out: the ledger as it was, and whether something waits."""
    report = _without_key_events(issuer_report(planned, ObjectResults()))
    records = planned.previous_ledger.records if planned.previous_ledger is not None else ()
    transitions = planned.transition_result.transitions if planned.transition_result is not None else ()
    waits = bool(transitions) or any(decision is not None for _, decision in planned.object_actions)
    objects = () if waits else planned_only(planned).objects
    return replace(report, records=records, changes=(), objects=objects, blocked_by=code if waits else "")


def _without_key_events(report: IssuerReport) -> IssuerReport:
    """Without the events of transitions that were not committed; `changes` says what they would be."""
    return replace(report, events=tuple(event for event in report.events if event.name not in _TRANSITION_EVENTS))


def issuer_report(planned: IssuerPlan, published: ObjectResults, public_jwks: bytes | None = None) -> IssuerReport:
    """One publication: what its apiservers said, what changed, and what became of its objects.

    `public_jwks` is the public JWKS as an anonymous request got it in this pass.
    """
    outcome = planned.transition_result
    transitions = outcome.transitions if outcome is not None else ()
    ledger = outcome.ledger if outcome is not None else planned.previous_ledger
    probe = ProbeResult() if planned.probe is None else check_probe_token(planned, published, ledger, public_jwks)
    changes = tuple(
        Event(
            f"key.{t.status}",
            f"Key {kid_text(t.key.kid)} {t.sentence}.",
            fields={"kid": t.key.kid, "thumbprint": t.key.thumbprint},
        )
        for t in transitions
    )
    further = outcome.events if outcome is not None else ()
    return IssuerReport(
        name=planned.issuer.name,
        issuer=planned.url,
        observations=planned.observations,
        records=ledger.records if ledger is not None else (),
        retain_removed=planned.issuer.keys.retain_removed,
        changes=tuple(Change(t.key, t.status, t.sentence) for t in transitions),
        objects=published.objects,
        events=changes + further + planned.events + planned.drift + published.events + probe.events,
        notes=compatibility(planned.url, published_keys(ledger)) if ledger is not None else (),
        failures=planned.failures + published.failures + probe.failures,
        held=planned.held + published.held,
        safe_to_sign_at=published.safe_to_sign_at,
        look=published.look,
        expected_apiservers=planned.issuer.expected_answers,
        must_be_public=planned.must_be_public,
        known_safe=planned.known_safe,
    )


def plan_report(plan: Plan, issuers: tuple[IssuerReport, ...]) -> Report:
    """The report of a plan, with the state of git as the pass found it."""
    heads = plan.observed.history.heads
    return Report(
        now=plan.observed.now,
        dry_run=False,
        issuers=issuers,
        commit=heads.local or heads.remote,
        events=plan.events,
        failures=plan.failures + plan.reported,
        repository_mode=mode_of(plan.observed.settings.repository, plan.observed.trust.keys),
    )
