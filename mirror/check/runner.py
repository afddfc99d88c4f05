"""Run every check at once, each in its own time limit: one that hangs or fails hides no other.

at once:  hearing the apiservers │ configuration, state, git │ a bucket: credentials, bucket, policy, rights │ public
then:     apiservers and keys of each issuer, from these answers
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import chain

from mirror.addresses import object_keys
from mirror.check.bucket import bucket, listing, objects
from mirror.check.cluster import apiservers, keys, tokens
from mirror.check.local import circular, configuration, credentials, git, issuer_files, state
from mirror.check.ports import CheckClients
from mirror.check.public import PublicDocuments, public
from mirror.check.result import CheckLevel, CheckReport, CheckResult, CheckTarget, Component
from mirror.concurrency import DeadlineExecutor, thread_map
from mirror.config.settings import Issuer, PublishSettings, Settings
from mirror.model import Answer, IssuerName, ObjectKey, Observation, Thumbprint, Unusable
from mirror.new_keys import sound_keys
from mirror.publish.listing import Target, bucket_identity
from mirror.reconcile.state import PublishedIssuer, publications
from mirror.trust.discovery import observe

EVERYWHERE = frozenset(Component)
WORKERS = 16
COMPONENT_SECONDS = 75.0
"""How long a component may take, unless `limits.source_deadline` lets polling the apiservers take longer."""
_MARGIN_SECONDS = 15.0
_OWN_CODES = frozenset({"station.timeout", "station.broken"})
_DEFECT = "This is a defect of oidc-mirror: please report it with this sentence."


@dataclass(frozen=True, slots=True)
class _Job:
    """One component's work, and where its own failure is reported."""

    place: CheckTarget
    work: Callable[[], Iterable[CheckResult]]


@dataclass(slots=True)
class _SharedResults:
    """What jobs leave for the components that come after them; each key is written by one job."""

    observations: dict[IssuerName, tuple[Observation, ...]] = field(default_factory=dict)
    public: dict[IssuerName, PublicDocuments] = field(default_factory=dict)


def run_checks(
    settings: Settings,
    clients: CheckClients,
    now: datetime,
    *,
    names: frozenset[IssuerName],
    components: frozenset[Component] = EVERYWHERE,
    component_seconds: float | None = None,
) -> CheckReport:
    """Check every component, and give all results: what all issuers share first, then issuer by issuer.

    Args:
        settings: The whole configuration: what others publish in a bucket belongs to what is right there.
        clients: What is looked with.
        now: The moment, aware, UTC.
        names: The issuers that are looked at.
        components: The components that are checked.
        component_seconds: How long one of them may take; by default what `limits.source_deadline` needs, if more.
    """
    chosen = tuple(issuer for issuer in settings.issuers if issuer.name in names)
    seen = _SharedResults()
    needed = max(COMPONENT_SECONDS, settings.limits.source_deadline_seconds + _MARGIN_SECONDS)
    seconds = needed if component_seconds is None else component_seconds
    bounded = DeadlineExecutor(seconds)

    def cancel() -> None:
        clients.cancel()
        bounded.cancel()

    guarded = partial(_guarded, bounded, seconds)
    at_once = [
        _poll_apiservers(chosen, clients, seen),
        *_shared(settings, chosen, clients),
        *_of_issuers(settings, chosen, clients, now, seen),
    ]
    wanted = [job for job in at_once if components & _SERVES.get(job.place.component, {job.place.component})]
    found = thread_map(guarded, wanted, workers=WORKERS, cancel=cancel)
    after = [job for job in _from_clusters(chosen, seen, now) if job.place.component in components]
    found += thread_map(guarded, after, workers=1, cancel=cancel)
    results = (each for each in chain.from_iterable(found) if each.component in components or each.code in _OWN_CODES)
    return CheckReport(now, tuple(sorted(results, key=_order(settings))))


def _guarded(bounded: DeadlineExecutor, seconds: float, job: _Job) -> tuple[CheckResult, ...]:
    try:
        return bounded.call(lambda: tuple(job.work()))
    except TimeoutError:
        sentence = f"It was not done after {seconds:g} s, and was left."
        remedy = "Check for a hanging network, file system or helper program."
        return (job.place.failed("station.timeout", sentence, remedy),)
    except Exception as error:  # noqa: BLE001  one component's defect never hides another's results
        # Only the kind: the text of an unknown error might hold a secret.
        return (job.place.failed("station.broken", f"It failed unexpectedly: {type(error).__name__}.", _DEFECT),)


_SERVES = {
    Component.APISERVERS: frozenset({Component.APISERVERS, Component.KEYS}),
    Component.PUBLIC: frozenset({Component.PUBLIC, Component.KEYS}),
    Component.BUCKET: frozenset({Component.BUCKET, Component.POLICY}),
}
"""Jobs whose work is needed, or reported, by other components too."""


def _poll_apiservers(chosen: Sequence[Issuer], clients: CheckClients, shared: _SharedResults) -> _Job:
    def work() -> tuple[CheckResult, ...]:
        answers = clients.source.poll(chosen, turn=0, progress=lambda _: None)
        checked = sound_keys({name: (given, frozenset()) for name, given in answers.items()})
        for issuer in chosen:
            already_checked = checked.get(issuer.name, frozenset())
            given = answers.get(issuer.name, ())
            shared.observations[issuer.name] = tuple(_validated(issuer, each, already_checked) for each in given)
        return ()

    return _Job(CheckTarget(Component.APISERVERS, "apiservers"), work)


def _validated(issuer: Issuer, answer: Answer | Unusable, already_checked: frozenset[Thumbprint]) -> Observation:
    if isinstance(answer, Unusable):
        return answer
    return observe(answer, issuer=issuer.issuer, policy=issuer.keys, already_checked=already_checked, name=issuer.name)


def _shared(settings: Settings, chosen: Sequence[Issuer], clients: CheckClients) -> Iterator[_Job]:
    yield _Job(CheckTarget(Component.CONFIGURATION, "configuration"), partial(configuration, settings))
    yield _Job(
        CheckTarget(Component.STATE, str(settings.state_dir)),
        partial(state, settings.state_dir, clients.lock_holder),
    )
    yield _Job(
        CheckTarget(Component.GIT, str(settings.repository.path)),
        partial(git, settings.repository, clients.history, issuers=len(settings.issuers)),
    )
    yield _Job(
        CheckTarget(Component.CREDENTIALS, "credentials"), partial(circular, settings.issuers, clients.own_token)
    )
    wanted = {bucket_identity(issuer.publish) for issuer in chosen}
    by_target: dict[Target, list[PublishedIssuer]] = defaultdict(list)
    for each in publications(settings):
        by_target[bucket_identity(each.issuer.publish)].append(each)
    for target, published in by_target.items():
        if target in wanted:
            yield from _of_bucket(settings, published, clients)


def _of_bucket(settings: Settings, published: Sequence[PublishedIssuer], clients: CheckClients) -> Iterator[_Job]:
    publish = published[0].issuer.publish
    aws = clients.aws
    # One bucket may be written with several credentials; its policy is one for all.
    here = [each for each in publications(settings) if _store(each.issuer.publish) == _store(publish)]
    everything = tuple(key for each in here for key in _keys(each))
    names = tuple(key for each in published for key in _keys(each))
    subject = f"bucket {publish.bucket}"
    yield _Job(CheckTarget(Component.CREDENTIALS, subject), partial(credentials, publish, aws))
    yield _Job(CheckTarget(Component.BUCKET, subject), partial(bucket, publish, aws, everything))
    yield _Job(CheckTarget(Component.RIGHTS, subject), partial(listing, publish, aws, names))


def _store(publish: PublishSettings) -> tuple[str | None, str]:
    return publish.endpoint_url, publish.bucket


def _keys(publication: PublishedIssuer) -> tuple[ObjectKey, ObjectKey]:
    publish = publication.issuer.publish
    return object_keys(publication.url, publish.base_url, publish.prefix)


def _of_issuers(
    settings: Settings, chosen: Sequence[Issuer], clients: CheckClients, now: datetime, shared: _SharedResults
) -> Iterator[_Job]:
    for issuer in chosen:
        place = CheckTarget(Component.CONFIGURATION, issuer.issuer, issuer.name)
        yield _Job(place, partial(_files, issuer, now))
    names = {issuer.name for issuer in chosen}
    for each in publications(settings):
        if each.issuer.name in names:
            yield from _of_publication(each, clients, shared)


def _files(issuer: Issuer, now: datetime) -> Iterator[CheckResult]:
    yield from issuer_files(issuer, now)
    yield from tokens(issuer, now)


def _of_publication(publication: PublishedIssuer, clients: CheckClients, shared: _SharedResults) -> Iterator[_Job]:
    name, publish = publication.issuer.name, publication.issuer.publish

    def look() -> tuple[CheckResult, ...]:
        result = public(publication, clients.view, clients.bucket)
        if publication.accepts_new_keys_until is None:
            shared.public[name] = result
        return result.findings

    yield _Job(CheckTarget(Component.PUBLIC, publication.url, name), look)
    yield _Job(
        CheckTarget(Component.RIGHTS, publication.url, name),
        partial(objects, name, publish, _keys(publication), clients.bucket, clients.aws),
    )


def _from_clusters(chosen: Sequence[Issuer], shared: _SharedResults, now: datetime) -> Iterator[_Job]:
    for issuer in chosen:
        observed = shared.observations.get(issuer.name)
        if observed is None:
            continue  # polling failed, and that is reported
        result = shared.public.get(issuer.name)
        shown = None if result is None else result.keys
        yield _Job(
            CheckTarget(Component.APISERVERS, issuer.issuer, issuer.name), partial(apiservers, issuer, observed, now)
        )
        yield _Job(CheckTarget(Component.KEYS, issuer.issuer, issuer.name), partial(keys, issuer, observed, shown))


def _order(settings: Settings) -> Callable[[CheckResult], tuple[int, int, int]]:
    """What all share, then issuers as configured; within each by component, the worst first."""
    places = {issuer.name: number for number, issuer in enumerate(settings.issuers, start=1)}
    components, levels = list(Component), list(CheckLevel)
    return lambda each: (
        0 if each.issuer is None else places[each.issuer],
        components.index(each.component),
        levels.index(each.level),
    )
