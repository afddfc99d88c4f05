"""`/status.json`: the value of `status --output json`, from what the daemon remembers. Pure.

A request never asks git, the bucket or the public URL; orphaned objects are known to the command alone.
"""

import json
from datetime import datetime

from mirror.daemon.pass_history import IssuerState, PassHistory
from mirror.model import KeyRecord, Level, key_id
from mirror.reconcile.local_state import LastResult
from mirror.report import Effect, IssuerReport
from mirror.status.result import IssuerStatus, ObjectState, ObjectStatus, PublicKeyStatus, StatusReport, to_json

_STATES = {
    Effect.UNCHANGED: ObjectState.CURRENT,
    Effect.PUT: ObjectState.CURRENT,
    Effect.PLANNED: ObjectState.OUTDATED,
    Effect.WAITING: ObjectState.OUTDATED,
    Effect.FAILED: ObjectState.UNKNOWN,
}


def render_status(pass_history: PassHistory, now: datetime) -> bytes:
    """The JSON text of `status_from_memory`."""
    return json.dumps(to_json(status_from_memory(pass_history, now)), indent=2).encode() + b"\n"


def status_from_memory(pass_history: PassHistory, now: datetime) -> StatusReport:
    """How things stand after the last pass; without any issuer before the first pass has ended."""
    report = pass_history.report
    return StatusReport(
        now,
        None if report is None else report.commit,
        "local" if report is None or report.repository_mode is None else report.repository_mode,
        pass_history.commits[0] if pass_history.commits else None,
        None if report is None else report.unpushed_commits,
        tuple(
            issuer_status(known, known.report, now)
            for known in pass_history.issuers.values()
            if known.report is not None
        ),
        events=() if report is None else report.events,
        failures=() if report is None else report.failures,
        last_pass=pass_history.last_pass,
    )


def issuer_status(state: IssuerState, report: IssuerReport, now: datetime) -> IssuerStatus:
    """One issuer, by the last pass that decided about it."""
    return IssuerStatus(
        state.name,
        state.url,
        state.is_former,
        tuple(_key(record, state, report) for record in report.records),
        tuple(ObjectStatus(each.url, each.key, _STATES[each.effect]) for each in report.objects),
        tuple(event for event in report.events if event.level is not Level.INFO),
        report.all_failures(),
        report.held,
        LastResult(now, report.state, report.rotating),
        report.must_be_public,
    )


def _key(record: KeyRecord, state: IssuerState, report: IssuerReport) -> PublicKeyStatus:
    return PublicKeyStatus(
        record,
        None if record.missing_since is None else record.missing_since + report.retain_removed,
        key_id(record.key) in state.public,
        state.key_safe_at(record),
    )
