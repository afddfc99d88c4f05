"""Plan one issuer: validate the answers, move its keys, compare with the bucket, list pending approvals.

Reads what a listing does not show (a body, the commit that an object names) and changes nothing.

Whether the mirror's own AWS credentials rest on an issuer that it publishes.
Then an unannounced rotation of that issuer locks the mirror out: STS no longer accepts the token that would let it
publish the new key.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from mirror.addresses import jwks_uri, object_keys
from mirror.config.settings import Issuer, PublishSettings
from mirror.errors import BucketError, MirrorError
from mirror.history.ledger_reader import IssuerHistory, public_path
from mirror.model import (
    CommitId,
    Event,
    IssuerName,
    IssuerUrl,
    KeyId,
    KeyPolicy,
    KeyRecord,
    Ledger,
    Level,
    ListedObject,
    ObjectKey,
    Observation,
    PublicObject,
    Reason,
    Status,
    StoredObject,
    Thumbprint,
    key_id,
    kid_text,
)
from mirror.ports import Bucket, Ports, WebIdentityToken
from mirror.publish.drift import (
    DriftContext,
    ObjectDecision,
    PutObject,
    etag_of,
    needs_body,
    plan_object,
    public_objects,
    stored_body,
    suspended,
)
from mirror.publish.listing import BucketListing, bucket_identity
from mirror.publish.publisher import JWKS_SUFFIX, reason_of
from mirror.reconcile.local_state import is_recent
from mirror.reconcile.state import IssuerPlan, ObservedState, PublishedIssuer, internal_error
from mirror.reconcile.token_probe import attach_probe_token, check_own_token
from mirror.report import reason_from
from mirror.text import in_words, iso_time, moment
from mirror.trust.discovery import parse_public_jwks
from mirror.trust.ledger import ALL_THUMBPRINTS
from mirror.trust.lifecycle import (
    LedgerUpdate,
    PassContext,
    advance,
    empty_allowed,
    held_missing_since,
    is_clock_wrong,
    is_empty_by_revocation,
    kept_key,
    published_keys,
    revoked_thumbprints,
)
from mirror.trust.operator_actions import adopt
from mirror.trust.parsing import shell_argument

_ANY_KID = KeyPolicy(kid="opaque")
UNREADABLE_CODES = frozenset({"AccessDenied", "InvalidRequest", "KMS.DisabledException", "KMS.NotFoundException"})
"""How stores refuse to give an object that exists (S3 API reference, GetObject)."""


def plan_object_changes(planned: IssuerPlan, ledger: Ledger, observed: ObservedState, ports: Ports) -> IssuerPlan:
    """Compare the documents of `ledger` with the bucket, and decide what to put."""
    issuer, publication = planned.issuer, planned.publication
    issuer_history = observed.history.issuers[planned.url]
    listing = observed.buckets[bucket_identity(issuer.publish)]
    if listing.error is not None:
        return _without_bucket(planned, issuer_history, listing.error)
    documents = ports.ledger_cache.render(ledger, issuer.discovery_extra)
    desired = public_objects(issuer, planned.url, documents) if documents is not None else ()
    last_verified_at = observed.verification_cache.last_verified_at(
        planned.url, issuer.publish, (each.body for each in desired), ledger
    )
    differ = _ObjectDiffer(
        planned, ports.bucket(issuer.publish), listing, issuer_history, observed, ports, last_verified_at
    )
    try:
        if (
            issuer_history.ledger is None
            and (ledger.records or issuer_history.is_lost)
            and differ.removes_foreign_keys(desired)
        ):
            held = () if issuer_history.is_lost else (adoption_required(publication),)
            return replace(planned, transition_result=None, held=held)
        results = tuple(differ.plan(each, ledger) for each in desired)
    except BucketError as error:
        return _without_bucket(planned, issuer_history, error)
    decisions = tuple((each, decision) for each, (decision, _) in zip(desired, results, strict=True))
    drift = tuple(event for _, event in results if event is not None)
    if not desired and not ledger.records:
        drift = differ.not_repaired()
    return replace(planned, object_actions=decisions, drift=drift)


def _without_bucket(planned: IssuerPlan, issuer_history: IssuerHistory, error: BucketError) -> IssuerPlan:
    failed = replace(planned, failures=(*planned.failures, reason_of(error)))
    # Without a ledger and without the bucket it is not known whether another tool's documents are public.
    return replace(failed, transition_result=None) if issuer_history.ledger is None else failed


def _read_unknown(
    bucket: Bucket, desired: PublicObject, listed: ListedObject | None, committed: frozenset[bytes]
) -> StoredObject | None:
    """The stored object, if the listing is not enough to identify it.

    A listed object that the mirror may not read (encrypted with another key, for example) has no bytes: the mirror
    overwrites it like any change of another writer.

    Raises:
        BucketError: It could not be read.
    """
    if listed is None or not needs_body(desired, listed, committed):
        return None
    try:
        return bucket.get(desired.key)
    except BucketError as error:
        if error.code not in UNREADABLE_CODES:
            raise
        return StoredObject(b"", listed.etag, "", "", None, listed.last_modified)


@dataclass(frozen=True, slots=True)
class _ObjectDiffer:
    """One issuer's objects in the bucket, against what git knows of them."""

    planned: IssuerPlan
    bucket: Bucket
    listing: BucketListing
    history: IssuerHistory
    observed: ObservedState
    ports: Ports
    last_verified_at: datetime | None

    def plan(self, desired: PublicObject, ledger: Ledger) -> tuple[ObjectDecision | None, Event | None]:
        """What to do about one object of `ledger`, and the event when another writer changed it."""
        listed = self.listing.listing.get(desired.key)
        path = public_path(desired.url)
        committed = self.history.known_texts.get(path, frozenset())
        stored = _read_unknown(self.bucket, desired, listed, committed)
        if stored is None and listed is not None and self._is_cut_off() and listed.etag != etag_of(desired.body):
            stored = self.bucket.get(desired.key)  # the bytes are known, but who put them counts now
        own = stored is not None and stored.snapshot is not None and self.ports.history.has_commit(stored.snapshot)
        if stored is not None and stored.snapshot is not None and own:
            # The metadata counts only if the commit that it names really has these bytes.
            committed |= frozenset(self.ports.history.read(CommitId(stored.snapshot), [path]).values())
        if stored is not None and self.observed.local_state.is_adopted(self.planned.url, stored.body):
            committed |= {stored.body}  # an operator has just taken it over
        body = stored_body(desired, listed, stored, committed)
        if body == desired.body:
            return None, None  # so says `plan_object` too, whatever else is known: nothing else needs to be found out
        waits_for = self._waits_for(desired, body, ledger, is_unknown=_names_commit(stored) and not own)
        is_foreign = stored is not None and stored.snapshot is not None and not own and not self.observed.has_remote
        decision, drift = plan_object(
            desired, listed, stored, DriftContext(committed, waits_for, is_foreign, self.last_verified_at)
        )
        if self.planned.issuer.suspend and isinstance(decision, PutObject):
            revoked, there = revoked_thumbprints(ledger), _keys_of(body, desired)
            decision = decision if _holds_revoked(body, there, revoked, desired) else suspended(desired)
        return decision, drift

    def _waits_for(self, desired: PublicObject, body: bytes | None, ledger: Ledger, *, is_unknown: bool) -> str:
        """What a put would do that has to wait; empty when it may be made.

        `is_unknown` says that the object names a commit which this mirror does not have.
        """
        there, ours, revoked = _keys_of(body, desired), _keys_of(desired.body, desired), revoked_thumbprints(ledger)
        lost = frozenset(identity for identity in there - ours if identity[1] not in revoked)
        unheard = self.observed.push_rejected or self._is_cut_off()
        if unheard and lost & self.history.remote_public_keys:
            return "take away a key that the remote's ledger has as public"
        if _holds_revoked(body, there, revoked, desired):
            return ""  # taking revoked keys away never waits
        if self.planned.is_tolerant:
            return "undo what a mirror published whose signing key is not listed here"
        # Unknown content stays for one audit interval; then what the ledger says is put, once in each.
        since = self.observed.local_state.of(self.planned.url).tolerated_since
        tolerates = since is None or is_recent(since, self.observed.now, self.planned.issuer.publish)
        if not (self._is_cut_off() and is_unknown and tolerates):
            return ""
        before = published_keys(self.history.ledger) if self.history.ledger is not None else ()
        returning = (ours - there) & {key_id(key) for key in before}
        if lost or returning or not desired.url.endswith(JWKS_SUFFIX):
            return "undo what another mirror may have published"
        return ""

    def _is_cut_off(self) -> bool:
        return self.observed.has_remote and not self.observed.remote_fetched

    # -- before the first ledger --------------------------------------------------------------------------

    def removes_foreign_keys(self, desired: tuple[PublicObject, ...]) -> bool:
        """Whether a put would remove keys that another writer made public, of an issuer that git does not know."""
        bodies = {each.key: each.body for each in desired}
        discovery_key, jwks_key = self._keys()
        discovery, jwks = self._foreign(discovery_key, bodies), self._foreign(jwks_key, bodies)
        named = _members(discovery.body).get("jwks_uri") if discovery is not None else None
        if isinstance(named, str) and named != jwks_uri(self.planned.url):
            return True
        if jwks is None:
            return False
        if self.observed.local_state.is_adopted(self.planned.url, jwks.body):
            return False
        there, left_out = parse_public_jwks(jwks.body, _ANY_KID, already_checked=ALL_THUMBPRINTS)
        ours, _ = parse_public_jwks(bodies.get(jwks_key), _ANY_KID, already_checked=ALL_THUMBPRINTS)
        return bool(there.keys() - ours.keys()) or bool(left_out and _members(jwks.body).get("keys"))

    def not_repaired(self) -> tuple[Event, ...]:
        """`bucket.drift` for documents that stand where neither git nor an apiserver says what belongs there."""
        if self.planned.issuer.suspend or not any(key in self.listing.listing for key in self._keys()):
            return ()
        sentence = (
            f"Documents of {self.planned.url} are public, and neither git nor an apiserver says what they should be: "
            "they could not be checked or repaired."
        )
        return (Event("bucket.drift", sentence, Level.ERROR, {"key": self._keys()[1]}),)

    def _keys(self) -> tuple[ObjectKey, ObjectKey]:
        publish = self.planned.issuer.publish
        return object_keys(self.planned.url, publish.base_url, publish.prefix)

    def _foreign(self, key: ObjectKey, wanted: dict[ObjectKey, bytes]) -> StoredObject | None:
        """The object at `key` where it is not what we would put."""
        listed = self.listing.listing.get(key)
        if listed is None or (key in wanted and listed.etag == etag_of(wanted[key])):
            return None
        stored = self.bucket.get(key)
        return None if stored is None or stored.body == wanted.get(key) else stored


def _names_commit(stored: StoredObject | None) -> bool:
    """Whether the object's metadata names a commit; only its form, because any writer of the object can invent it."""
    snapshot = stored.snapshot if stored is not None else None
    return snapshot is not None and len(snapshot) in (40, 64) and not snapshot.strip("0123456789abcdef")


def _holds_revoked(
    body: bytes | None, there: frozenset[KeyId], revoked: frozenset[Thumbprint], desired: PublicObject
) -> bool:
    """Whether a JWKS has a revoked key, or may have one because it is not acceptable as a whole."""
    if body is None or not revoked or not desired.url.endswith(JWKS_SUFFIX):
        return False
    return any(thumbprint in revoked for _, thumbprint in there) or bool(
        parse_public_jwks(body, _ANY_KID, already_checked=ALL_THUMBPRINTS)[1]
    )


def _members(document: bytes) -> Mapping[str, object]:
    """The members of another writer's document, unchecked; none where it is no JSON object."""
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _keys_of(body: bytes | None, desired: PublicObject) -> frozenset[KeyId]:
    """The keys of a body in the place of a JWKS; none for discovery, and none if it is rejected."""
    if body is None or not desired.url.endswith(JWKS_SUFFIX):
        return frozenset()
    return frozenset(parse_public_jwks(body, _ANY_KID, already_checked=ALL_THUMBPRINTS)[0])


WARN_WITHIN = timedelta(days=14)


def expiring(observations: Iterable[Observation], now: datetime) -> tuple[Event, ...]:
    """One `apiserver.certificate_expiring` for each certificate that ends within 14 days of `now` (aware, UTC)."""
    # Behind a load balancer one address shows the certificates of several replicas.
    shown = {(each.apiserver, each.certificate_expires_at) for each in observations if each.certificate_expires_at}
    events = []
    for apiserver, ends in sorted(shown):
        if ends - now < WARN_WITHIN:
            when = f"ended at {moment(ends)}" if ends <= now else f"ends at {moment(ends)} (in {in_words(ends - now)})"
            sentence = (
                f"The certificate of {apiserver} {when}. Renew it"
                " (kubeadm: `kubeadm certs renew apiserver`): from then on no key of this apiserver is seen."
            )
            fields = {"apiserver": apiserver, "expires_at": iso_time(ends)}
            events.append(Event("apiserver.certificate_expiring", sentence, Level.WARNING, fields))
    return tuple(events)


CODE = "credentials.circular"
REMEDY = (
    "Give the mirror credentials that do not depend on an issuer of its own: those of its machine or of another "
    "cluster, or a profile of its own in `publish.profile`."
)


@dataclass(frozen=True, slots=True)
class SelfDependentCredentials:
    """`writers` are the entries that are published with a token of `issuer`, whose entry is `name`."""

    name: IssuerName
    issuer: IssuerUrl
    token_file: Path
    writers: tuple[IssuerName, ...]

    @property
    def sentence(self) -> str:
        """What is wrong, and what comes of it."""
        return (
            f"The mirror's own AWS credentials come from a token of {self.issuer} ({self.token_file}), which the "
            f"mirror itself publishes as `{self.name}`: a key that changes without notice would lock the mirror out."
        )

    @property
    def event(self) -> Event:
        """The warning of a pass."""
        fields = {"issuer": self.issuer, "entry": self.name, "token_file": str(self.token_file)}
        return Event(CODE, f"{self.sentence} {REMEDY}", Level.WARNING, fields)


def find_self_dependent_credentials(
    issuers: Iterable[Issuer],
    own_token: Callable[[PublishSettings], WebIdentityToken | None],
    *,
    left_out: Iterable[Issuer] = (),
) -> tuple[SelfDependentCredentials, ...]:
    """Every issuer (former ones included) of which a token gives the credentials for any entry.

    Args:
        issuers: The entries that are published here.
        own_token: `mirror.ports.Ports.own_token`.
        left_out: All other entries of the configuration: a token may be of one of theirs.
    """
    entries = tuple(issuers)
    ours = {url: entry.name for entry in (*entries, *left_out) for url in entry.urls}
    tokens = {each.publish.profile: own_token(each.publish) for each in entries}  # only the profile distinguishes them
    found = dict.fromkeys(token for token in tokens.values() if token is not None and token.issuer in ours)
    return tuple(
        SelfDependentCredentials(
            ours[IssuerUrl(token.issuer)],
            IssuerUrl(token.issuer),
            token.file,
            tuple(each.name for each in entries if tokens[each.publish.profile] == token),
        )
        for token in found
    )


def plan_issuer(publication: PublishedIssuer, observed: ObservedState, ports: Ports) -> IssuerPlan:
    """Decide for one publication; whatever goes wrong stays with it."""
    try:
        return _with_tokens(_plan_publication(publication, observed, ports), observed.now)
    except BucketError as error:
        reason = reason_of(error)
    except MirrorError as error:
        reason = reason_from("history.failed", error)
    except Exception as error:  # noqa: BLE001  one issuer's trouble never stops another's change (design, 4)
        reason = internal_error(error)
    observations = observed.validated.observations.get(publication.issuer.name, ())
    return IssuerPlan(publication, observations, failures=(reason,))


def _with_tokens(planned: IssuerPlan, now: datetime) -> IssuerPlan:
    """The plan with what the configured token files say: the mirror's own token, and the one to probe with."""
    issuer = planned.issuer
    if issuer.auth.token_file is not None:
        planned = check_own_token(planned, now)
    if issuer.auth.token_file is not None or issuer.probe_token_file is not None:
        planned = attach_probe_token(planned, now)
    return planned


def _missing(issuer: Issuer, observations: tuple[Observation, ...]) -> tuple[Event, ...]:
    """`apiservers.missing`, where fewer apiservers were found than are expected."""
    expected, found = issuer.expected_answers, len(observations)
    if found >= expected:
        return ()
    sentence = (
        f"{found} of {expected} expected apiservers were found; keys are added, and none begins or ends retiring until "
        "all answer. Find the missing ones, or correct `expect_replicas`."
    )
    fields = {"found": str(found), "expected": str(expected)}
    return (Event("apiservers.missing", sentence, Level.WARNING, fields),)


def _plan_publication(publication: PublishedIssuer, observed: ObservedState, ports: Ports) -> IssuerPlan:
    issuer, issuer_history = publication.issuer, observed.history.issuers[publication.url]
    before = issuer_history.ledger or Ledger(publication.url)
    observations = observed.validated.observations.get(issuer.name, ())
    events = issuer_history.events
    if publication.accepts_new_keys_until is None:  # a former issuer has the same apiservers: once is enough
        events = expiring(observations, observed.now) + _missing(issuer, observations) + events
    start = IssuerPlan(
        publication,
        observations,
        before,
        events=events,
        failures=issuer_history.failures,
        must_be_public=publication.accepts_new_keys(observed.now) and not issuer.suspend,
        known_safe=observed.local_state.of(publication.url).safe_to_sign,
    )
    if issuer.name in observed.validated.internal_errors:
        return replace(start, failures=(*start.failures, observed.validated.internal_errors[issuer.name]))
    if issuer_history.is_lost and observed.trust.is_signed:
        return start  # its revocations are unknown
    apiservers = observed.validated.apiservers[issuer.name]
    policy = replace(issuer.keys, revoked=revoked_of(issuer, observed))
    given = _pass_context(publication, observations, observed, apiservers)
    outcome = advance(before, policy, given)
    if issuer_history.is_lost and not issuer.suspend:
        outcome = _recovered(publication, policy, given, ports) or outcome
    found = (
        _mismatch(issuer, issuer_history, ports)
        + emptied_event(outcome.ledger)
        + observed.validated.events.get(issuer.name, ())
        + _suspended(issuer, before, policy, given)
    )
    # With a wrong clock no retirement restarts: the next pass must see the change of apiservers once more.
    kept = "" if is_clock_wrong(observations, observed.now) or issuer.suspend else apiservers
    planned = replace(
        start,
        transition_result=outcome,
        held=pending_approvals(issuer, outcome),
        events=events + found,
        apiservers=kept,
        held_missing_since=given.held_missing_since if issuer.suspend else held_missing_since(given, outcome),
        is_tolerant=_is_tolerant(publication, issuer_history, outcome, observed),
    )
    return plan_object_changes(planned, outcome.ledger, observed, ports)


def _suspended(issuer: Issuer, before: Ledger, policy: KeyPolicy, context: PassContext) -> tuple[Event, ...]:
    """`issuer.suspended`, with what this pass would have changed otherwise."""
    if not issuer.suspend:
        return ()
    moves = advance(before, policy, replace(context, is_suspended=False)).transitions
    waiting = [f"key {kid_text(t.key.kid)} {t.sentence}" for t in moves if t.status is not Status.REVOKED]
    more = [f"{len(waiting) - MOST_WAITING} more"] if len(waiting) > MOST_WAITING else []
    waits = f" What waits: {'; '.join((*waiting[:MOST_WAITING], *more))}." if waiting else ""
    sentence = (
        f"The issuer is suspended (`suspend: true`): nothing of it changes but revocations.{waits}"
        " Remove `suspend` to go on."
    )
    return (Event("issuer.suspended", sentence, Level.WARNING, {"waiting": str(len(waiting))}),)


MOST_WAITING = 3
"""As many keys are named that a suspended issuer keeps waiting."""


def _recovered(
    publication: PublishedIssuer, policy: KeyPolicy, context: PassContext, ports: Ports
) -> LedgerUpdate | None:
    """The ledger of a trusted repository in which nothing of the issuer can be read: as `adopt` would make it.

    What apiservers show is published, and no key of the public document is taken away before its time.

    Raises:
        BucketError: The public document could not be read.
    """
    publish = publication.issuer.publish
    _, jwks_key = object_keys(publication.url, publish.base_url, publish.prefix)
    stored = ports.bucket(publish).get(jwks_key)
    found = adopt(publication.url, stored.body if stored is not None else None, policy, context)
    return None if isinstance(found, Reason) else found.outcome


def _is_tolerant(
    publication: PublishedIssuer, issuer_history: IssuerHistory, outcome: LedgerUpdate, observed: ObservedState
) -> bool:
    """Whether another mirror's ledger stays: mirrors that do not know each other's keys report, and do not fight."""
    since = observed.local_state.of(publication.url).tolerated_since
    if since is None and observed.is_new_disk:
        since = issuer_history.foreign_since  # a pod remembers nothing: the branch says since when
    tolerates = is_recent(since, observed.now, publication.issuer.publish)
    return bool(issuer_history.unknown_signer) and tolerates and not outcome.transitions


def revoked_of(issuer: Issuer, observed: ObservedState) -> frozenset[Thumbprint]:
    """The key material that is revoked for an entry: by the configuration, or under any of its issuer texts."""
    ledgers = (observed.history.issuers[url].ledger for url in issuer.urls if url in observed.history.issuers)
    return issuer.keys.revoked.union(*(revoked_thumbprints(ledger) for ledger in ledgers if ledger is not None))


def _pass_context(
    publication: PublishedIssuer, observations: tuple[Observation, ...], observed: ObservedState, apiservers: str
) -> PassContext:
    issuer = publication.issuer
    return PassContext(
        observations=observations,
        replicas=issuer.expected_answers,
        now=observed.now,
        may_drop=not observed.has_remote or (observed.remote_fetched and observed.history.is_pushed),
        may_admit=publication.accepts_new_keys(observed.now),
        is_suspended=issuer.suspend,
        sources_changed=not issuer.suspend and observed.local_state.apiservers_changed(publication.url, apiservers),
        suspects=observed.validated.suspects,
        held_missing_since=observed.local_state.of(publication.url).held_missing_since,
    )


def _mismatch(issuer: Issuer, issuer_history: IssuerHistory, ports: Ports) -> tuple[Event, ...]:
    """`history.mismatch` where a committed document is not what the committed ledger says."""
    ledger = issuer_history.ledger
    rendered = None if ledger is None else ports.ledger_cache.render(ledger, issuer.discovery_extra)
    if rendered is None:
        return ()
    paths = issuer_history.paths
    # A discovery document also differs after a change of `discovery_extra`; a JWKS never does by itself.
    pairs = ((paths.jwks, rendered.jwks, Level.ERROR), (paths.discovery, rendered.discovery, Level.WARNING))
    words = "in git does not match its ledger and the configuration; it is rendered again."
    return tuple(
        Event("history.mismatch", f"{path} {words}", level, {"path": path})
        for path, body, level in pairs
        if issuer_history.files.get(path, body) != body
    )


HELD_EVENTS = {
    "revocation.held": "Publish another key first, or revoke it with `--last`.",
    "ledger.full": "Find out where so many keys come from; approve or revoke those that are held.",
}
"""Events after which something is not as it should be until an operator acts, and what he may do."""


def pending_approvals(issuer: Issuer, outcome: LedgerUpdate) -> tuple[Reason, ...]:
    """Every change of the issuer that waits for an operator, with the command that decides it."""
    keys = tuple(_held_key(issuer, record) for record in outcome.ledger.records if record.status is Status.HELD)
    reported = tuple(
        Reason(event.name, event.sentence, HELD_EVENTS[event.name])
        for event in outcome.events
        if _holds_up(event, outcome.ledger)
    )
    return keys + reported + _emptied_unasked(issuer, outcome.ledger)


def _holds_up(event: Event, ledger: Ledger) -> bool:
    """Whether the event says that something waits. A ledger without room for old keys names none, and holds nothing up.

    That a revoked key is kept as the last one is reported of the ledger itself.
    """
    is_kept = event.name == "revocation.held" and kept_key(ledger) is not None
    return event.name in HELD_EVENTS and "kid" in event.fields and not is_kept


def _emptied_unasked(issuer: Issuer, ledger: Ledger) -> tuple[Reason, ...]:
    """Revocations that together left no key, none of them with `--last`: no operator asked for an empty set."""
    if not is_empty_by_revocation(ledger) or empty_allowed(ledger):
        return ()
    kept = kept_key(ledger)
    if kept is not None:
        sentence = f"Key {kid_text(kept.key.kid)} is revoked and stays public, because nothing else of the issuer is."
        return (Reason("revocation.held", sentence, HELD_EVENTS["revocation.held"]),)
    sentence = (
        f"Revocations left no key of {ledger.issuer} that may be public; what is public stays as it is, with the keys "
        "that it has."
    )
    remedy = f"Give the cluster a new key, or: oidc-mirror revoke {issuer.name} --all --last --reason TEXT"
    return (Reason("emptied.held", sentence, remedy),)


def emptied_event(ledger: Ledger) -> tuple[Event, ...]:
    """`issuer.emptied`, as long as an operator's `revoke --last` leaves no key public."""
    if not is_empty_by_revocation(ledger) or not empty_allowed(ledger):
        return ()
    sentence = f"Every key of {ledger.issuer} is revoked and its public set is empty: no token of it is accepted."
    return (Event("issuer.emptied", sentence, Level.WARNING),)


def _held_key(issuer: Issuer, record: KeyRecord) -> Reason:
    sentence = f"Key {kid_text(record.key.kid)} is held ({record.held_because}) and not public."
    remedy = f"Check it, then: oidc-mirror approve {issuer.name} {shell_argument(record.key.thumbprint)}"
    return Reason("key.held", sentence, remedy)


def adoption_required(publication: PublishedIssuer) -> Reason:
    """Documents of another tool exist, and git has none."""
    sentence = f"Documents of {publication.url} are public already and differ from what this mirror would put."
    remedy = f"Compare both, then: oidc-mirror adopt {publication.issuer.name}"
    return Reason("takeover.held", sentence, remedy)
