"""One pass: ask, believe, decide, commit, publish, look, report. The daemon, the CronJob and `--once` only call it.

    config --> source --> trust ---------> history --> publish --> read back --> report
               bytes      plan (pure)      commit      put         GET           exit status

`propose` ends with the plan and changes nothing; `apply` does the rest. The apiservers are asked in a thread of their
own while the bucket is listed and the git remote is fetched, in that order: what a listing shows is judged with a
history that is not older than it.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime

from mirror.addresses import object_keys
from mirror.config.settings import Settings
from mirror.errors import HistoryError, RemoteError
from mirror.history.ledgers import Memory, remember
from mirror.model import Event, Heads, IssuerName, IssuerUrl, Key, Level, Thumbprint
from mirror.ports import History, Ports
from mirror.publish import audit
from mirror.publish.look import Shown, Target, list_buckets
from mirror.report import Effect, IssuerReport, Report, reason_from
from mirror.steps import notebook
from mirror.steps.applying import Applied, apply
from mirror.steps.at_once import for_each
from mirror.steps.believing import Answers, Beliefs, believe, recorded_keys
from mirror.steps.circular import circular_credentials
from mirror.steps.deciding import plan_publication
from mirror.steps.plan import Plan, World, publications
from mirror.steps.reporting import preview
from mirror.steps.witness import public_ids
from mirror.trust.emptiness import is_emptied
from mirror.trust.ledger import EVERYTHING
from mirror.trust.lifecycle import revoked_thumbprints

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
    _vouch_ahead(settings, plan)
    applied = apply(plan, ports, plan.world.audits)
    return _remember_pass(settings, plan, applied)


def dry_run(settings: Settings, ports: Ports, now: datetime, *, progress: Progress = lambda _: None) -> Report:
    """What `run_once` would do."""
    return preview(propose(settings, ports, now, progress=progress))


def propose(settings: Settings, ports: Ports, now: datetime, *, progress: Progress = lambda _: None) -> Plan:
    """The plan of a pass. Nothing outside changes by it."""
    now = now.replace(microsecond=0)
    with _asking(settings, ports, now, progress) as asked:
        buckets = _list_buckets(settings, ports)
        notes, audits = notebook.load(settings.state_dir), audit.load(settings.state_dir)
        try:
            memory, remote = _remember(settings, ports, notes)
            beliefs = believe(
                settings.issuers, asked.result(), memory, left_out=lambda: _keys_left_out(settings, ports.history)
            )
        except (HistoryError, RemoteError) as error:
            world = World(settings, now, _NOTHING, Beliefs(), buckets, audits=audits)
            return Plan(world, failures=(reason_from("history.failed", error),))
        world = World(settings, now, memory, beliefs, buckets, remote.error, notes, audits)
    issuers = for_each(
        lambda each, reachable: plan_publication(each, world, reachable),
        publications(settings),
        ports,
        workers=settings.limits.puts,
    )
    return Plan(world, issuers, events=remote.events + _circular(settings, ports))


def _circular(settings: Settings, ports: Ports) -> tuple[Event, ...]:
    found = circular_credentials(settings.issuers, ports.own_token, left_out=settings.left_out)
    return tuple(each.event for each in found)


@contextmanager
def _asking(settings: Settings, ports: Ports, now: datetime, progress: Progress) -> Iterator[Future[Answers]]:
    """Ask the apiservers in the background; whoever leaves early ends the asking."""
    turn = int(now.timestamp() // max(settings.interval.total_seconds(), 1))
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="source") as pool:
        asked = pool.submit(ports.source.ask, settings.issuers, turn=turn, progress=progress)
        try:
            yield asked
        finally:
            if not asked.done():
                ports.source.cancel()


def _list_buckets(settings: Settings, ports: Ports) -> Mapping[Target, Shown]:
    keys = [
        (each.issuer.publish, key)
        for each in publications(settings)
        for key in object_keys(each.url, each.issuer.publish.base_url, each.issuer.publish.prefix)
    ]
    return list_buckets(ports, keys, workers=settings.limits.puts)


@dataclass(frozen=True, slots=True)
class _Remote:
    """How the fetch went: the error when there was one, and what is worth telling."""

    error: RemoteError | None = None
    events: tuple[Event, ...] = ()


def _remember(settings: Settings, ports: Ports, notes: notebook.Notebook) -> tuple[Memory, _Remote]:
    """What git knows, after a fetch.

    Raises:
        HistoryError: The repository cannot be read.
        RemoteError: Neither this machine nor the remote has a history to begin with.
    """
    ports.history.prepare()
    remote = _fetch(ports.history) if settings.repository.remote is not None else _Remote()
    urls = [each.url for each in publications(settings)]

    def checked(url: IssuerUrl) -> Container[Thumbprint]:
        # Without a remote nobody but this mirror wrote the ledgers; with one, what it vouched for was checked.
        vouched = notes.vouched.get(url, frozenset())
        return EVERYTHING if settings.repository.remote is None else {thumbprint for _, thumbprint, _ in vouched}

    return remember(ports.history, urls, checked=checked), remote


def _keys_left_out(settings: Settings, history: History) -> Iterable[Key]:
    """What git knows of issuers that this pass leaves alone. Only compared with, so their strength does not matter."""
    urls = [each.url for each in publications(replace(settings, issuers=settings.left_out))]
    return recorded_keys(remember(history, urls, checked=lambda _: EVERYTHING))


def _fetch(history: History) -> _Remote:
    before = history.heads()
    try:
        history.fetch(shallow=before.local is None)
    except RemoteError as error:
        if before.local is None:
            raise
        return _Remote(error, (Event("remote.unreachable", str(error), Level.WARNING),))
    after = history.heads().remote
    if before.remote is None or before.remote == after:
        return _Remote()
    if after is not None and history.is_ancestor(before.remote, after):
        return _Remote()
    sentence = "The branch on the git remote no longer contains what it had; our own history is merged back."
    fields = {"before": before.remote, "after": after or ""}
    return _Remote(events=(Event("history.rewritten", sentence, Level.ERROR, fields),))


def _stands(issuer: IssuerReport) -> bool:
    """Whether every document of the issuer is now what we mean."""
    return bool(issuer.objects) and all(o.effect in (Effect.UNCHANGED, Effect.PUT) for o in issuer.objects)


def _vouch_ahead(settings: Settings, plan: Plan) -> None:
    """Note whose keys this pass makes public, before a commit or a push names them.

    Killed in between, the next pass would take its own keys for a stranger's as soon as no apiserver shows them any
    more. A disk that takes no note keeps nobody from publishing; `_remember_pass` tells of it.
    """
    if not plan.world.needs_witness or plan.failures:
        return
    known = plan.world.notebook.vouched
    keys = {each.url: public_ids(each.outcome.ledger) for each in plan.issuers if each.outcome is not None}
    new = {url: ids for url, ids in keys.items() if not ids <= known.get(url, frozenset())}
    if new:
        with suppress(HistoryError):
            notebook.vouch(settings.state_dir, new)


def _remember_pass(settings: Settings, plan: Plan, applied: Applied) -> Report:
    """Keep what the next pass wants to know; without it that pass looks at more, so it is no failure."""
    decided = [each for each in plan.issuers if each.outcome is not None and not applied.report.failures]
    vouched = {each.url: public_ids(each.outcome.ledger) for each in decided if each.outcome is not None}
    waiting = {each.url: each.waits_since for each in plan.issuers if each.waits_since is not None}
    revoked = {each.url: revoked_thumbprints(each.outcome.ledger) for each in decided if each.outcome is not None}
    # Each publication for itself: one that could not be decided must hear of a change of sources later.
    sources = {each.url: each.sources for each in decided if each.sources}
    refilled = {each.url for each in decided if each.before is not None and is_emptied(each.before)}
    stand = [each.issuer for each in applied.report.issuers if _stands(each)]

    def edit(notes: notebook.Notebook) -> notebook.Notebook:
        notes = notes.with_sources(sources).with_revoked(revoked)
        if plan.world.needs_witness:
            notes = notes.with_vouched(vouched, plan.world.notebook, refilled=refilled).with_waiting(waiting)
        return replace(notes.without_adopted(stand), has_pushed=notes.has_pushed or applied.pushed)

    try:
        notebook.change(settings.state_dir, edit)
        audit.save(settings.state_dir, applied.audits)
    except HistoryError as error:
        event = Event("state.unsaved", str(error), Level.WARNING)
        return replace(applied.report, events=(*applied.report.events, event))
    return applied.report
