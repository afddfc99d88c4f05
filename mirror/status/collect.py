"""Collect the status: read git through a temporary copy, list the bucket, get the public URL. Nothing is changed."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from mirror.addresses import (
    canonical_url,
    discovery_url,
    is_aws_endpoint,
    is_inside,
    issuer_problems,
    jwks_uri,
    object_key_of,
    object_keys,
    repository_paths,
)
from mirror.config.settings import PublishSettings, Settings
from mirror.errors import BucketError, HistoryError, RemoteError
from mirror.history.ledger_reader import load_history
from mirror.model import (
    Event,
    IssuerName,
    IssuerUrl,
    KeyRecord,
    Ledger,
    Level,
    ObjectKey,
    Reason,
    key_id,
)
from mirror.ports import Ports
from mirror.publish.drift import (
    LONGEST_MAX_AGE_SECONDS,
    MARGIN,
    Action,
    Deferred,
    ObjectDecision,
    PutObject,
    public_objects,
)
from mirror.publish.listing import bucket_identity, list_buckets
from mirror.publish.publisher import reason_of
from mirror.reconcile import local_state
from mirror.reconcile.local_state import load_last_pass
from mirror.reconcile.planner import pending_approvals, plan_object_changes
from mirror.reconcile.state import (
    IssuerPlan,
    ObservedState,
    PublishedIssuer,
    ValidatedAnswers,
    internal_error,
    mode_of,
    publications,
    trust_of,
    unsigned_remote,
)
from mirror.report import SUSPENDED, key_safe_at, reason_from, safe_before
from mirror.status.result import (
    IssuerStatus,
    ObjectState,
    ObjectStatus,
    OrphanedDocument,
    PublicKeyStatus,
    PublicKeysView,
    StatusReport,
    read_public_keys,
)
from mirror.trust.discovery import render
from mirror.trust.lifecycle import LedgerUpdate


def collect_status(settings: Settings, ports: Ports, now: datetime, *, names: frozenset[IssuerName]) -> StatusReport:
    """How the issuers called `names` stand.

    Args:
        settings: The whole configuration: what is abandoned is judged against all of it.
        ports: The outside world; its history is a scratch copy, into which is fetched.
        now: Aware, UTC.
        names: The issuers to report about.
    """
    everything = publications(settings)
    # The buckets are listed first: what they show is judged with a history that is not older.
    keys = [
        (each.issuer.publish, key)
        for each in everything
        for key in object_keys(each.url, each.issuer.publish.base_url, each.issuer.publish.prefix)
    ]
    buckets = list_buckets(ports, keys, workers=settings.limits.puts)
    try:
        remote_error = _fetch(settings, ports)
        local = local_state.load_local_state(settings.state_dir)
        trust = trust_of(settings, ports.history, local, ports.ledger_trust())
        memory = load_history(ports.history, [each.url for each in everything], trust)
    except HistoryError as error:
        mode = mode_of(settings.repository, ports.ledger_trust())
        last = load_last_pass(settings.state_dir)
        return StatusReport(now, mode=mode, failures=(reason_from("history.failed", error),), last_pass=last)
    observed = ObservedState(settings, now, memory, ValidatedAnswers(), buckets, remote_error, local, trust=trust)
    mode = mode_of(settings.repository, trust.keys)
    last = load_last_pass(settings.state_dir)
    known = {} if last is None else last.issuers
    issuers = tuple(replace(each, last=known.get(each.issuer)) for each in _issuers(everything, observed, ports, names))
    result = StatusReport(now, memory.base, mode, issuers=issuers, last_pass=last)
    if mode == "trusted":
        result = replace(result, events=(unsigned_remote(settings),))
    if remote_error is not None:
        code = "remote.damaged" if remote_error.damaged else "remote.unreachable"
        result = replace(result, failures=(reason_from(code, remote_error),))
    return _with_git(result, everything, observed, ports)


def _fetch(settings: Settings, ports: Ports) -> RemoteError | None:
    history = ports.history
    history.prepare()
    if settings.repository.remote is None:
        return None
    is_empty = history.heads().local is None
    try:
        history.fetch(shallow=is_empty)
    except RemoteError as error:
        return error
    newest = history.heads().remote
    if is_empty and newest is not None:
        # Only the scratch copy's branch: from here on it is asked like that of a machine with a history.
        history.fast_forward(newest, expect=None)
    return None


def _with_git(
    report: StatusReport, everything: tuple[PublishedIssuer, ...], observed: ObservedState, ports: Ports
) -> StatusReport:
    """The status, with what git says of the whole."""
    history, base = ports.history, observed.history.base
    try:
        last = history.versions(None, most=1)
        unpushed = history.unpushed() if observed.remote_fetched else None
        paths = () if base is None else history.list_paths(base, "public")
    except HistoryError as error:
        return replace(report, failures=(*report.failures, reason_from("history.failed", error)))
    left, failures = orphaned(paths, everything, ports)
    former, unread = former_jwks_objects(everything, observed, ports)
    left, failures = left + former, failures + unread
    return replace(
        report,
        last_commit=last[-1] if last else None,
        unpushed_commits=unpushed,
        orphaned=left,
        failures=report.failures + failures,
    )


# ------------------------------------------------------------------------------------------------ an issuer


def _issuers(
    everything: tuple[PublishedIssuer, ...], observed: ObservedState, ports: Ports, names: frozenset[IssuerName]
) -> tuple[IssuerStatus, ...]:
    chosen = [each for each in everything if each.issuer.name in names]

    def one(publication: PublishedIssuer) -> IssuerStatus:
        try:
            return _issuer(publication, observed, ports)
        except Exception as error:  # noqa: BLE001  one issuer's trouble never hides how the others stand
            return replace(_named(publication, observed.now), failures=(internal_error(error),))

    with ThreadPoolExecutor(max_workers=observed.settings.limits.puts) as pool:
        return tuple(pool.map(one, chosen))


def _named(publication: PublishedIssuer, now: datetime) -> IssuerStatus:
    issuer = publication.issuer
    is_former = publication.url != issuer.issuer
    must_be_public = publication.accepts_new_keys(now)
    # The configuration says it, whether or not a pass was made since; a pass also names what waits.
    sentence = "The issuer is suspended (`suspend: true`): nothing of it changes but revocations. Remove it to go on."
    events = (Event(SUSPENDED, sentence, Level.WARNING),) if issuer.suspend else ()
    return IssuerStatus(issuer.name, publication.url, is_former, events=events, must_be_public=must_be_public)


def _issuer(publication: PublishedIssuer, observed: ObservedState, ports: Ports) -> IssuerStatus:
    issuer_history, found = observed.history.issuers[publication.url], _named(publication, observed.now)
    found = replace(found, failures=issuer_history.failures, events=found.events + issuer_history.events)
    if issuer_history.ledger is None:
        return found if issuer_history.is_lost else _unknown_to_git(found, publication, observed)
    ledger, issuer = issuer_history.ledger, publication.issuer
    planned = plan_object_changes(IssuerPlan(publication, previous_ledger=ledger), ledger, observed, ports)
    view = read_public_keys(publication, ledger, ports.view)
    seen = observed.local_state.of(publication.url).safe_to_sign
    return replace(
        found,
        keys=tuple(
            _key(record, publication, view, safe_before(record, seen, ledger.records)) for record in ledger.records
        ),
        objects=_objects(publication, ledger, planned),
        events=found.events + planned.drift + view.events,
        failures=issuer_history.failures + planned.failures + view.failures,
        held=pending_approvals(issuer, LedgerUpdate(ledger, (), ())),
    )


def _unknown_to_git(status: IssuerStatus, publication: PublishedIssuer, observed: ObservedState) -> IssuerStatus:
    publish = publication.issuer.publish
    shown = observed.buckets[bucket_identity(publish)]
    if shown.error is not None:
        return replace(status, failures=(reason_of(shown.error),))
    keys = object_keys(publication.url, publish.base_url, publish.prefix)
    if not any(key in shown.listing for key in keys):
        return status
    sentence = (
        "Documents are public that git does not know; the first pass compares them with what apiservers show, and "
        f"where they differ asks for: oidc-mirror adopt {status.name}"
    )
    return replace(status, events=(*status.events, Event("takeover.possible", sentence, Level.WARNING)))


def _objects(publication: PublishedIssuer, ledger: Ledger, planned: IssuerPlan) -> tuple[ObjectStatus, ...]:
    documents = render(ledger, publication.issuer.discovery_extra)
    wanted = public_objects(publication.issuer, publication.url, documents) if documents is not None else ()
    decided = {each.key: decision for each, decision in planned.object_actions}
    return tuple(
        ObjectStatus(each.url, each.key, _state(decided[each.key]) if each.key in decided else ObjectState.UNKNOWN)
        for each in wanted
    )


_STATES = {
    Action.CREATE: ObjectState.MISSING,
    Action.UPDATE: ObjectState.OUTDATED,
    Action.REPAIR: ObjectState.DRIFT,
}


def _state(decision: ObjectDecision | None) -> ObjectState:
    match decision:
        case None:
            return ObjectState.CURRENT
        case PutObject(action=action):
            return _STATES[action]
        case Deferred():
            return ObjectState.DRIFT
        case _:
            assert_never(decision)


def _key(
    record: KeyRecord, publication: PublishedIssuer, view: PublicKeysView, earlier: datetime | None
) -> PublicKeyStatus:
    missing_since, retain = record.missing_since, publication.issuer.keys.retain_removed
    shown = None if view.keys is None else key_id(record.key) in view.keys
    return PublicKeyStatus(
        record,
        leaves_at=None if missing_since is None else missing_since + retain,
        in_public_jwks=shown,
        safe_to_sign_at=key_safe_at(record, earlier, view.safe_to_sign_at, None) if shown else None,
    )


_CACHED = timedelta(seconds=LONGEST_MAX_AGE_SECONDS) + MARGIN
"""How long relying parties may keep a discovery document of another tool: as for documents without a max-age."""
MOST = 500
"""How many former issuers are looked at: who may push to the remote could list any number."""
_ENDS = ("/.well-known/openid-configuration", "/openid/v1/jwks")
_Store = tuple[str | None, str, ObjectKey]


def orphaned(
    paths: Iterable[str], publications: Iterable[PublishedIssuer], ports: Ports
) -> tuple[tuple[OrphanedDocument, ...], tuple[Reason, ...]]:
    """The public documents of issuers that git knows and the configuration does not.

    Args:
        paths: Every file of the newest snapshot below `public/`; text from outside.
        publications: All that the configuration publishes.
        ports: Where buckets are asked whether an object is still there.

    Returns:
        What is abandoned, and what could not be read or was left out.
    """
    wanted = tuple(publications)
    gone = issuers_without_configuration(paths, wanted)
    live = frozenset(_stores(wanted))
    publishes = tuple(dict.fromkeys(each.issuer.publish for each in wanted))
    found: list[OrphanedDocument] = []
    failures: list[Reason] = []
    for issuer in gone[:MOST]:
        try:
            found += _documents(issuer, _holder(issuer, publishes), live, ports)
        except BucketError as error:
            failures.append(reason_of(error))
    if len(gone) > MOST:
        sentence = f"{len(gone) - MOST} further issuers of the git repository are not configured."
        failures.append(Reason("abandoned.many", sentence, "See who writes to the repository's folder `public`."))
    return tuple(found), tuple(dict.fromkeys(failures))


def former_jwks_objects(
    published: Iterable[PublishedIssuer], observed: ObservedState, ports: Ports
) -> tuple[tuple[OrphanedDocument, ...], tuple[Reason, ...]]:
    """The objects that adopted discovery documents named for their keys; unused once caches have turned over."""
    everything = tuple(published)
    live = frozenset(_stores(everything))
    found: list[OrphanedDocument] = []
    failures: list[Reason] = []
    for each in everything:
        publish = each.issuer.publish
        for url, adopted_at in observed.local_state.of(each.url).former_jwks.items():
            key = object_key_of(url, publish.base_url, publish.prefix)
            if key is None:
                found.append(OrphanedDocument(url, needed_until=adopted_at + _CACHED))
                continue
            try:
                is_there = ports.bucket(publish).head(key) is not None
            except BucketError as error:
                failures.append(reason_of(error))
                continue
            if is_there and (publish.endpoint_url, publish.bucket, key) not in live:
                found.append(_in_bucket(url, publish, key, adopted_at + _CACHED))
    return tuple(found), tuple(failures)


def issuers_without_configuration(paths: Iterable[str], published: Iterable[PublishedIssuer]) -> tuple[IssuerUrl, ...]:
    """The issuers whose documents are below `public/` and that no publication names, sorted.

    A path that no valid issuer could have is no issuer's document.
    """
    configured = [repository_paths(each.url) for each in published]
    expected = {path for each in configured for path in (each.discovery, each.jwks)}
    places = (path.removesuffix(end) for path in paths for end in _ENDS if path.endswith(end) and path not in expected)
    found = (IssuerUrl(f"https://{place.removeprefix('public/')}") for place in places if place.startswith("public/"))
    return tuple(sorted({issuer for issuer in found if not issuer_problems(issuer, allow_private=True)}))


def _stores(published: Iterable[PublishedIssuer]) -> Iterator[_Store]:
    """Every object that is wanted, wherever it is: one bucket has several host styles, so two issuers may share it."""
    for each in published:
        publish = each.issuer.publish
        for key in object_keys(each.url, publish.base_url, publish.prefix):
            yield publish.endpoint_url, publish.bucket, key


def _holder(issuer: IssuerUrl, publishes: Iterable[PublishSettings]) -> PublishSettings | None:
    """The settings of the bucket that holds the issuer's URL, the closest one."""
    fitting = [each for each in publishes if is_inside(issuer, each.base_url)]
    return max(fitting, key=lambda each: len(canonical_url(each.base_url)), default=None)


def _documents(
    issuer: IssuerUrl, publish: PublishSettings | None, live: frozenset[_Store], ports: Ports
) -> Iterator[OrphanedDocument]:
    urls = (discovery_url(issuer), jwks_uri(issuer))
    if publish is None:
        yield from (OrphanedDocument(url) for url in urls)
        return
    for url, key in zip(urls, object_keys(issuer, publish.base_url, publish.prefix), strict=True):
        if (publish.endpoint_url, publish.bucket, key) not in live and ports.bucket(publish).head(key) is not None:
            yield _in_bucket(url, publish, key)


def _in_bucket(
    url: str, publish: PublishSettings, key: ObjectKey, needed_until: datetime | None = None
) -> OrphanedDocument:
    endpoint = publish.endpoint_url
    given: Mapping[str, str | None] = {
        "--region": publish.region,
        "--profile": publish.profile,
        "--endpoint-url": None if endpoint is None or is_aws_endpoint(endpoint) else endpoint,
    }
    options = (word for name, value in given.items() if value is not None for word in (name, value))
    s3_url = f"s3://{publish.bucket}/{key}"
    return OrphanedDocument(url, s3_url, ("aws", "s3", "rm", s3_url, *options), needed_until)
