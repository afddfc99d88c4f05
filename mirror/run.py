"""One pass: ask, believe, decide, commit, publish, look, report. The daemon, the CronJob and `--once` only call it.

    config --> source --> trust ---------> history --> publish --> read back --> report
               bytes      plan (pure)      commit      put         GET           exit status

`propose` ends with the plan and changes nothing; `apply` does the rest. The apiservers are asked in a thread of their
own while the bucket is listed and the git remote is fetched, in that order: what a listing shows is judged with a
history that is not older than it.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from mirror.addresses import object_keys
from mirror.applying import apply, preview
from mirror.config.settings import Settings
from mirror.deciding import plan_issuer
from mirror.errors import HistoryError, RemoteError
from mirror.history.ledgers import Memory, remember
from mirror.model import Answer, Event, Heads, IssuerName, Level, Unusable
from mirror.plan import Plan, World
from mirror.ports import Ports
from mirror.publish import audit
from mirror.publish.look import Shown, Target, list_buckets
from mirror.report import Report, reason_from

Answers = Mapping[IssuerName, tuple[Answer | Unusable, ...]]
Progress = Callable[[IssuerName], None]

_NOTHING = Memory(Heads(None, None), None, (), {})


def run_once(settings: Settings, ports: Ports, now: datetime, *, progress: Progress = lambda _: None) -> Report:
    """One whole pass.

    Args:
        settings: The configuration.
        ports: The outside world.
        now: The time of the pass, aware, UTC; read once.
        progress: Called with an issuer's name when its apiservers have answered.
    """
    plan = propose(settings, ports, now, progress=progress)
    applied = apply(plan, ports, audit.load(settings.state_dir))
    return _remember_audits(settings, applied.audits, applied.report)


def dry_run(settings: Settings, ports: Ports, now: datetime, *, progress: Progress = lambda _: None) -> Report:
    """What `run_once` would do."""
    return preview(propose(settings, ports, now, progress=progress))


def propose(settings: Settings, ports: Ports, now: datetime, *, progress: Progress = lambda _: None) -> Plan:
    """The plan of a pass. Nothing outside changes by it."""
    now = now.replace(microsecond=0)
    with _asking(settings, ports, now, progress) as asked:
        buckets = _list_buckets(settings, ports)
        try:
            memory, remote_error = _remember(settings, ports)
        except (HistoryError, RemoteError) as error:
            world = World(settings, now, _NOTHING, {}, buckets)
            return Plan(world, failures=(reason_from("history.failed", error),))
        world = World(settings, now, memory, asked.result(), buckets, remote_error)
    issuers = tuple(plan_issuer(issuer, world, ports) for issuer in settings.issuers)
    return Plan(world, issuers, events=_remote_events(remote_error))


@contextmanager
def _asking(settings: Settings, ports: Ports, now: datetime, progress: Progress) -> Iterator[Future[Answers]]:
    """Ask the apiservers in the background; whoever leaves early ends the asking."""
    turn = int(now.timestamp() // max(settings.interval.total_seconds(), 1))
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="source") as pool:
        try:
            yield pool.submit(ports.source.ask, settings.issuers, turn=turn, progress=progress)
        except BaseException:
            ports.source.cancel()
            raise


def _list_buckets(settings: Settings, ports: Ports) -> Mapping[Target, Shown]:
    keys = [
        (issuer.publish, key)
        for issuer in settings.issuers
        for key in object_keys(issuer.issuer, issuer.publish.base_url, issuer.publish.prefix)
    ]
    return list_buckets(ports, keys, workers=settings.limits.puts)


def _remember(settings: Settings, ports: Ports) -> tuple[Memory, RemoteError | None]:
    """What git knows, after a fetch.

    Raises:
        HistoryError: The repository cannot be read.
        RemoteError: Neither this machine nor the remote has a history to begin with.
    """
    history = ports.history
    history.prepare()
    is_empty = history.heads().local is None
    remote_error: RemoteError | None = None
    if settings.repository.remote is not None:
        try:
            history.fetch(shallow=is_empty)
        except RemoteError as error:
            if is_empty:
                raise
            remote_error = error
    return remember(history, [issuer.issuer for issuer in settings.issuers]), remote_error


def _remote_events(error: RemoteError | None) -> tuple[Event, ...]:
    return () if error is None else (Event("remote.unreachable", str(error), Level.WARNING),)


def _remember_audits(settings: Settings, audits: audit.Audits, report: Report) -> Report:
    try:
        audit.save(settings.state_dir, audits)
    except HistoryError as error:
        return replace(report, events=(*report.events, Event("audit.unsaved", str(error), Level.WARNING)))
    return report
