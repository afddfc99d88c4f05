"""Pure: the pass history as Prometheus metrics; `docs/reference/metrics.md` explains each.

Each rendering builds the series from the pass history, so series of removed issuers disappear.
Texts from outside become labels only where the ledger bounds their number: the kid of a recorded key.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from mirror import __version__
from mirror.daemon.pass_history import RESULTS, IssuerState, PassHistory
from mirror.model import TRANSIENT_CODES, IssuerName, Observation, Observed, Status
from mirror.report import State

PREFIX = "oidc_mirror_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NOT_PUBLIC = "signing_key.not_public"
APISERVER_STATES = ("usable", "unreachable", "refused")
_Group = tuple[IssuerState, ...]


def render(pass_history: PassHistory) -> bytes:
    """The metrics in Prometheus' text form, version 0.0.4."""
    return generate_latest(_Rendering(pass_history))


class _Rendering(Collector):
    """Shows one pass history as a registry does."""

    def __init__(self, pass_history: PassHistory) -> None:
        self._pass_history = pass_history

    def collect(self) -> Iterator[Metric]:
        """See `families`."""
        return families(self._pass_history)


def families(pass_history: PassHistory) -> Iterator[Metric]:
    """Every metric, those without a sample included: what is not known, as before the first pass, has none."""
    yield from _of_passes(pass_history)
    groups = pass_history.groups()
    yield _succeeded(groups)
    yield _repaired(pass_history, groups)
    groups = {name: group for name, group in groups.items() if group[0].report is not None}
    yield _apiservers(groups)
    yield _counted(
        "issuer_apiservers_expected",
        "How many apiservers must answer before a key begins or ends retiring.",
        {name: float(group[0].report.expected_apiservers) for name, group in groups.items() if group[0].report},
    )
    yield from _states(groups)
    yield _certificates(groups)
    yield _counted(
        "issuer_replicas_disagree",
        "Whether apiservers show different keys (1) or the same (0).",
        {name: float(group[0].replicas_disagree()) for name, group in groups.items()},
    )
    yield from _of_keys(groups)
    yield from _of_readback(groups)


# ------------------------------------------------------------------------------------------------- passes


def _of_passes(pass_history: PassHistory) -> Iterator[Metric]:
    build = _gauge("build_info", "The running version, as a label.", "version")
    build.add_metric([__version__], 1)
    yield build
    yield _plain("pass_duration_seconds", "How long the last pass took.", pass_history.seconds)
    ended = None if pass_history.ended_at is None else pass_history.ended_at.timestamp()
    yield _plain("pass_last_end_timestamp_seconds", "When the last pass ended.", ended)
    passes = CounterMetricFamily(f"{PREFIX}passes", "Passes by result: current, failed or held.", labels=["result"])
    for result in RESULTS.values():
        passes.add_metric([result], pass_history.passes.get(result, 0))
    yield passes
    unpushed = None if pass_history.report is None else pass_history.report.unpushed_commits
    mode = _gauge("repository_mode", "Mode of the git history: 1 for local, trusted or signed.", "mode")
    if pass_history.report is not None and pass_history.report.repository_mode is not None:
        mode.add_metric([pass_history.report.repository_mode], 1)
    yield mode
    refused = float(pass_history.refused is not None)
    yield _plain("config_refused", "Whether the configuration on disk is refused (1) or in effect (0).", refused)
    yield _plain("unpushed_commits", "Commits that the git remote is not known to have.", unpushed)


# ------------------------------------------------------------------------------------------------ issuers


def _succeeded(groups: Mapping[IssuerName, _Group]) -> Metric:
    """0 for never, so that an alert on its age also covers an issuer that never worked."""
    oldest = {
        name: min(0.0 if each.succeeded_at is None else each.succeeded_at.timestamp() for each in group)
        for name, group in groups.items()
    }
    return _counted(
        "issuer_last_success_timestamp_seconds", "When a pass last found nothing failed; 0 for never.", oldest
    )


def _repaired(pass_history: PassHistory, groups: Mapping[IssuerName, _Group]) -> Metric:
    metric = CounterMetricFamily(
        f"{PREFIX}drift_repaired", "Repaired objects that another writer had changed.", labels=["issuer"]
    )
    for name, group in groups.items():
        metric.add_metric([name], pass_history.repaired_before.get(name, 0) + sum(each.repaired for each in group))
    return metric


def _states(groups: Mapping[IssuerName, _Group]) -> Iterator[Metric]:
    """One 1 for each entry: the worst of its issuers, as the report, the page and `status` have it."""
    metric = _gauge("issuer_state", "An issuer's state: 1 for the one that holds.", "issuer", "state")
    rotating = {}
    for name, group in groups.items():
        reports = [each.report for each in group if each.report is not None]
        if reports:
            worst = min((report.state for report in reports), key=list(State).index)
            for state in State:
                metric.add_metric([name, str(state)], float(state is worst))
            rotating[name] = float(any(report.rotating for report in reports))
    yield metric
    yield _counted("issuer_rotating", "Whether a rotation of keys is under way.", rotating)


def _apiservers(groups: Mapping[IssuerName, _Group]) -> Metric:
    metric = _gauge("issuer_apiservers", "Apiservers by what came of asking them.", "issuer", "state")
    for name, group in groups.items():
        states = [_state(each) for each in _observations(group)]
        for state in APISERVER_STATES:
            metric.add_metric([name, state], states.count(state))
    return metric


def _observations(group: _Group) -> tuple[Observation, ...]:
    report = group[0].report
    return () if report is None else report.observations


def _state(observation: Observation) -> str:
    if isinstance(observation, Observed):
        return "usable"
    transient = all(reason.code in TRANSIENT_CODES for reason in observation.reasons)
    return "unreachable" if transient else "refused"


def _certificates(groups: Mapping[IssuerName, _Group]) -> Metric:
    metric = _gauge(
        "issuer_apiserver_certificate_expiry_timestamp_seconds",
        "When the certificate ends that an apiserver showed.",
        "issuer",
        "apiserver",
    )
    for name, group in groups.items():
        ends: dict[str, float] = {}
        for each in _observations(group):  # behind a load balancer one URL shows several
            if each.certificate_expires_at is not None:
                end = each.certificate_expires_at.timestamp()
                ends[each.apiserver] = min(end, ends.get(each.apiserver, end))
        for apiserver, end in ends.items():
            metric.add_metric([name, apiserver], end)
    return metric


def _of_keys(groups: Mapping[IssuerName, _Group]) -> Iterator[Metric]:
    keys = _gauge("issuer_keys", "Recorded keys by status.", "issuer", "status")
    safe = _gauge("key_safe_to_sign_timestamp_seconds", "From when on a public key may sign.", "issuer", "kid")
    leaves = _gauge("key_leaves_timestamp_seconds", "When a retiring key may leave the public set.", "issuer", "kid")
    for name, group in groups.items():
        state = group[0]
        records = () if state.report is None else state.report.records
        for status in Status:
            keys.add_metric([name, str(status)], sum(each.status is status for each in records))
        # One kid can be on two records; one of them is public at most, or both change together: the later date counts.
        moments: dict[tuple[bool, str], float] = {}
        for record in records:
            safe_at = state.key_safe_at(record) if record.status is Status.PUBLISHED else None
            if safe_at is not None:
                _later(moments, (True, record.key.kid), safe_at)
            if record.missing_since is not None and record.status is Status.RETIRING and state.report is not None:
                _later(moments, (False, record.key.kid), record.missing_since + state.report.retain_removed)
        for (is_safe, kid), moment in moments.items():
            (safe if is_safe else leaves).add_metric([name, kid], moment)
    yield keys
    yield safe
    yield leaves
    hidden = {name: float(len(group[0].apiserver_keys() - group[0].public)) for name, group in groups.items()}
    yield _counted("issuer_keys_not_public", "Keys that an apiserver shows and that are not public.", hidden)
    unknown = {name: float(any(_signs_in_vain(each) for each in group)) for name, group in groups.items()}
    yield _counted("issuer_signing_key_not_public", "Whether a token was signed by a key that is not public.", unknown)
    held = {name: float(sum(len(each.report.held) for each in group if each.report)) for name, group in groups.items()}
    yield _counted("issuer_held", "Changes that wait for an operator.", held)


def _signs_in_vain(state: IssuerState) -> bool:
    return state.report is not None and any(each.name == _NOT_PUBLIC for each in state.report.events)


def _later(moments: dict[tuple[bool, str], float], at: tuple[bool, str], moment: datetime) -> None:
    moments[at] = max(moment.timestamp(), moments.get(at, 0.0))


def _of_readback(groups: Mapping[IssuerName, _Group]) -> Iterator[Metric]:
    ok = _gauge(
        "readback_ok", "Whether the public sees the documents as meant (1) or not (0), by the last look.", "issuer"
    )
    seconds = _gauge("readback_seconds", "How long the slowest answer of the last look took.", "issuer")
    for name, group in groups.items():
        looks = [each.look for each in group if each.look is not None]
        slowest = [look.seconds for look in looks if look.seconds is not None]
        if looks:
            ok.add_metric([name], float(all(look.ok for look in looks)))
        if slowest:
            seconds.add_metric([name], max(slowest))
    yield ok
    yield seconds


# ------------------------------------------------------------------------------------------------ families


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=labels)


def _plain(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """A metric without labels; without a value it has no sample."""
    metric = _gauge(name, text)
    if value is not None:
        metric.add_metric([], value)
    return metric


def _counted(name: str, text: str, values: Mapping[IssuerName, float]) -> GaugeMetricFamily:
    metric = _gauge(name, text, "issuer")
    for issuer, value in values.items():
        metric.add_metric([issuer], value)
    return metric


# ---------------------------------------------------------------------------------------- what was counted


def resumed(text: str) -> PassHistory:
    """What an earlier process counted, from the file that it wrote: counters go on, a last success stays known.

    Text that is no such file gives an empty pass history.
    """
    passes: dict[str, int] = {}
    repaired: dict[IssuerName, int] = {}
    succeeded: dict[IssuerName, datetime] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name, issuer = sample.name.removeprefix(PREFIX), IssuerName(sample.labels.get("issuer", ""))
                if name == "passes_total" and sample.labels.get("result") in RESULTS.values():
                    passes[sample.labels["result"]] = int(sample.value)
                elif name == "drift_repaired_total":
                    repaired[issuer] = int(sample.value)
                elif name == "issuer_last_success_timestamp_seconds" and sample.value > 0:
                    succeeded[issuer] = datetime.fromtimestamp(sample.value, UTC)
    except (ValueError, KeyError, OverflowError, OSError):
        return PassHistory()
    return PassHistory(passes=passes, repaired_before=repaired, succeeded_before=succeeded)
