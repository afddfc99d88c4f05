"""The observed state and the plan of a pass, as values.

Nothing here does anything: `planner.py` makes plans, `executor.py` carries them out, and a dry run only shows them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from mirror.addresses import repository_paths
from mirror.config.settings import Issuer, RepositorySettings, Settings
from mirror.errors import RemoteError
from mirror.history.ledger_reader import HistoryState, VerificationContext
from mirror.model import (
    Answer,
    AnswersByIssuer,
    CommitId,
    Event,
    IssuerName,
    IssuerUrl,
    Key,
    KeyId,
    KeyName,
    Ledger,
    Level,
    Observation,
    Observed,
    PublicObject,
    Reason,
    RepositoryMode,
    Status,
    Thumbprint,
    Unusable,
)
from mirror.new_keys import FEW_KEYS, fast_integer, sound_keys
from mirror.ports import History
from mirror.publish.drift import ObjectDecision
from mirror.publish.listing import BucketListing, Target
from mirror.reconcile.local_state import LocalState, VerificationCache, apiserver_fingerprint
from mirror.redaction import describe
from mirror.trust.discovery import BelievedAnswers
from mirror.trust.ledger_signature import LedgerVerifier
from mirror.trust.lifecycle import LedgerUpdate
from mirror.trust.tokens import Token
from mirror.trust.weak_keys import keys_sharing_primes, keys_used_twice


@dataclass(frozen=True, slots=True)
class ValidatedAnswers:
    """Everything that apiservers showed in this pass, by issuer name.

    `internal_errors` names issuers whose answers made our own code fail. `suspects` are new keys that must be held,
    with the reason's code; `events` what keys of several issuers have in common. `apiservers` says where the answers
    come from (`local_state.apiserver_fingerprint`).
    """

    observations: Mapping[IssuerName, tuple[Observation, ...]] = field(default_factory=dict)
    internal_errors: Mapping[IssuerName, Reason] = field(default_factory=dict)
    suspects: Mapping[Thumbprint, str] = field(default_factory=dict)
    events: Mapping[IssuerName, tuple[Event, ...]] = field(default_factory=dict)
    apiservers: Mapping[IssuerName, str] = field(default_factory=dict)


def validate_answers(
    issuers: Iterable[Issuer],
    answers: AnswersByIssuer,
    history_state: HistoryState,
    *,
    left_out: Callable[[], Iterable[Key]] = tuple,
    believed: BelievedAnswers | None = None,
) -> ValidatedAnswers:
    """Validate every answer; what fails unexpectedly stays with its issuer.

    Args:
        issuers: Whose answers.
        answers: What their apiservers said.
        history_state: What git knows of them.
        left_out: Gives the known keys of all other issuers, with which new keys are compared too; called only when
            there are new keys.
        believed: The cache of the previous pass; None for nothing.
    """
    believed = BelievedAnswers() if believed is None else believed
    believed.begin_pass()
    observations: dict[IssuerName, tuple[Observation, ...]] = {}
    defects: dict[IssuerName, Reason] = {}
    apiservers: dict[IssuerName, str] = {}
    asked = tuple(issuers)
    remembered = [each for each in asked if each.issuer in history_state.issuers]  # who is not is reported below
    unjudged = {each.name: _unjudged(each, answers, history_state, believed) for each in remembered}
    checked: Mapping[IssuerName, frozenset[Thumbprint]] = {}
    if sum(_bytes(found) for found, _ in unjudged.values()) > MANY_BYTES:
        checked = sound_keys(unjudged)
    for issuer in asked:
        try:
            observations[issuer.name] = _observations(
                issuer, answers.get(issuer.name, ()), history_state, checked, believed
            )
            # Not in the threads that plan: each file that one of them reads makes it wait for all others.
            apiservers[issuer.name] = apiserver_fingerprint(issuer)
        except Exception as error:  # noqa: BLE001  one issuer's trouble never stops another's change (design, 4)
            defects[issuer.name] = internal_error(error)
    usable = {name: [each for each in found if isinstance(each, Observed)] for name, found in observations.items()}
    shown = {name: tuple(key for each in found for key in each.keys) for name, found in usable.items()}
    known_keys = {key.thumbprint: key for key in ledger_keys(history_state)}
    followed = _followed(history_state)
    new = {key.thumbprint: key for keys in shown.values() for key in keys if key.thumbprint not in followed}
    others = (*known_keys.values(), *left_out()) if new else ()
    suspected = keys_sharing_primes(new.values(), others, number=integer_type()) if len(new) + len(others) > 1 else {}
    events = keys_used_twice(shown) if len(shown) > 1 else {}
    return ValidatedAnswers(observations, defects, suspected, events, apiservers)


MANY_BYTES = FEW_KEYS * 340
"""A smaller set has no more than `FEW_KEYS` RSA keys of 2048 bits: each modulus alone is 342 characters."""


def _bytes(answers: Iterable[Answer | Unusable]) -> int:
    """The size of the different key sets of one issuer's apiservers."""
    # What is no bytes breaks the reading later, and stays with its issuer there.
    return sum(len(body) for body in {each.jwks for each in answers if isinstance(each, Answer)} if body)


def internal_error(error: Exception) -> Reason:
    """An unexpected exception as a reason of one issuer: nothing lost, no other issuer stopped."""
    sentence = f"This issuer's pass failed unexpectedly: {type(error).__name__}: {describe(error)}"
    return Reason("broken", sentence, "This is a defect of oidc-mirror: please report it with this sentence.")


def _known(issuer: Issuer, history_state: HistoryState) -> frozenset[Thumbprint]:
    ledger = history_state.issuers[issuer.issuer].ledger
    return frozenset(record.key.thumbprint for record in ledger.records) if ledger is not None else frozenset()


def _unjudged(
    issuer: Issuer, answers: AnswersByIssuer, history_state: HistoryState, believed: BelievedAnswers
) -> tuple[tuple[Answer, ...], frozenset[Thumbprint]]:
    """The answers whose keys may be new, and the keys whose strength was checked before."""
    known = _known(issuer, history_state)
    received = (each for each in answers.get(issuer.name, ()) if isinstance(each, Answer))
    unjudged = (
        each
        for each in received
        if not believed.knows(each, issuer=issuer.issuer, policy=issuer.keys, already_checked=known)
    )
    return tuple(unjudged), known


def _observations(
    issuer: Issuer,
    answers: Iterable[Answer | Unusable],
    history_state: HistoryState,
    checked: Mapping[IssuerName, frozenset[Thumbprint]],
    believed: BelievedAnswers,
) -> tuple[Observation, ...]:
    already_checked = _known(issuer, history_state) | checked.get(issuer.name, frozenset())
    return tuple(
        answer
        if isinstance(answer, Unusable)
        else believed.observe(
            answer, issuer=issuer.issuer, policy=issuer.keys, already_checked=already_checked, name=issuer.name
        )
        for answer in answers
    )


def _followed(history_state: HistoryState) -> frozenset[Thumbprint]:
    """The keys that were compared when they came in and are remembered since; a dropped one is new when it returns."""
    ledgers = (known.ledger.records for known in history_state.issuers.values() if known.ledger is not None)
    return frozenset(r.key.thumbprint for records in ledgers for r in records if r.status is not Status.DROPPED)


def ledger_keys(history_state: HistoryState) -> Iterable[Key]:
    """The keys of all ledgers whose material is kept, whatever their status."""
    ledgers = (known.ledger for known in history_state.issuers.values())
    keys = (record.key for ledger in ledgers if ledger is not None for record in ledger.records)
    return (key for key in keys if not isinstance(key, KeyName))


ObjectAction = tuple[PublicObject, ObjectDecision | None]
"""One object as it should stand, and what must be done for it (None: nothing)."""


@dataclass(frozen=True, slots=True)
class PublishedIssuer:
    """One issuer text under which an entry's keys are public: the issuer's own, or that of a former issuer.

    Each has a ledger, documents and objects of its own. `accepts_new_keys_until` is the last day (UTC) on which a
    former one gets new keys; None for the issuer itself.
    """

    issuer: Issuer
    url: IssuerUrl
    accepts_new_keys_until: date | None = None

    def accepts_new_keys(self, now: datetime) -> bool:
        """Whether new keys are published under this issuer at `now` (aware, UTC)."""
        return self.accepts_new_keys_until is None or now.date() <= self.accepts_new_keys_until


def publications(settings: Settings) -> tuple[PublishedIssuer, ...]:
    """Everything that a pass publishes: each issuer, followed by its former ones."""
    return tuple(
        publication
        for issuer in settings.issuers
        for publication in (
            PublishedIssuer(issuer, issuer.issuer),
            *(PublishedIssuer(issuer, former.issuer, former.until) for former in issuer.former_issuers),
        )
    )


@dataclass(frozen=True, slots=True)
class ObservedState:
    """Everything that was read before anything is decided. `remote_error` says why the git remote was not fetched.

    `local_state` is what only this machine knows. `verification_cache` says when it last saw each issuer to be
    right, `trust` which ledgers are trusted. `is_new_disk`: the pass began without a history of its own.
    `push_rejected`: the remote was fetched and did not take our commits; false until that is known.
    """

    settings: Settings
    now: datetime
    history: HistoryState
    validated: ValidatedAnswers
    buckets: Mapping[Target, BucketListing]
    remote_error: RemoteError | None = None
    local_state: LocalState = field(default_factory=LocalState)
    verification_cache: VerificationCache = field(default_factory=VerificationCache)
    trust: VerificationContext = field(default_factory=VerificationContext)
    is_new_disk: bool = False
    push_rejected: bool = False

    @property
    def has_remote(self) -> bool:
        """Whether other mirrors may work on the same history."""
        return self.settings.repository.remote is not None

    @property
    def remote_fetched(self) -> bool:
        """Whether the remote was fetched in this pass, after the buckets were read."""
        return self.has_remote and self.remote_error is None


@dataclass(frozen=True, slots=True)
class IssuerPlan:
    """What the pass would do for one publication.

    `transition_result` is None where nothing may be decided: then nothing of this issuer is committed or put.
    `is_tolerant`: another writer's ledger and documents are left as they are in this pass. `held_missing_since` is what
    the next pass needs to know about held keys. `probe` is a token that the cluster signed. `apiservers` says where the
    documents came from in this pass (`local_state.apiserver_fingerprint`), where that was decided about.
    `must_be_public` is false for a former issuer that no longer gets new keys. `known_safe` is what earlier passes saw
    (`IssuerState.safe_to_sign`).
    """

    publication: PublishedIssuer
    observations: tuple[Observation, ...] = ()
    previous_ledger: Ledger | None = None
    transition_result: LedgerUpdate | None = None
    object_actions: tuple[ObjectAction, ...] = ()
    events: tuple[Event, ...] = ()
    drift: tuple[Event, ...] = ()
    failures: tuple[Reason, ...] = ()
    held: tuple[Reason, ...] = ()
    is_tolerant: bool = False
    held_missing_since: Mapping[KeyId, datetime] = field(default_factory=dict)
    probe: Token | None = None
    apiservers: str = ""
    must_be_public: bool = True
    known_safe: Mapping[KeyId, datetime] = field(default_factory=dict)

    @property
    def issuer(self) -> Issuer:
        """The entry of the configuration."""
        return self.publication.issuer

    @property
    def url(self) -> IssuerUrl:
        """The issuer text that is published."""
        return self.publication.url


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole pass before it is applied.

    `failures` are those that keep every issuer from being decided, `reported` those that do not.
    """

    observed: ObservedState
    issuers: tuple[IssuerPlan, ...] = ()
    failures: tuple[Reason, ...] = ()
    events: tuple[Event, ...] = ()
    reported: tuple[Reason, ...] = ()


def trust_of(
    settings: Settings,
    history: History,
    local: LocalState,
    keys: LedgerVerifier | None,
    *,
    before: CommitId | None = None,
) -> VerificationContext:
    """Which ledgers of this repository count.

    Args:
        settings: The configuration.
        history: The repository, after a fetch.
        local: What this machine remembers.
        keys: The accepted signers; None if the remote is trusted.
        before: The remote's head before the fetch.

    Raises:
        HistoryError: The repository could not be read.
    """
    known = local.issuers.items() if local.repository == settings.repository.name else ()
    decided = {url: state.decided for url, state in known if state.decided is not None}
    trust = VerificationContext(keys, settings.repository.name, decided)
    if keys is None:
        return trust
    heads = (history.heads().local, history.heads().remote, before)
    is_first = _is_first_signing(settings, history, local, [head for head in dict.fromkeys(heads) if head is not None])
    return replace(trust, as_it_is=is_first, trusts_own_head=local.is_former)


def mode_of(settings: RepositorySettings, keys: LedgerVerifier | None) -> RepositoryMode:
    """The mode of the repository, in a word."""
    if keys is not None:
        return "signed"
    return "local" if settings.remote is None else "trusted"


def unsigned_remote(settings: Settings) -> Event:
    """What it means that the remote is trusted."""
    branch, remote = settings.repository.branch, settings.repository.remote
    sentence = (
        f"Anyone who can push to {branch} of {remote}, its administrators included, can publish a key, act as any pod"
        f" of {len(settings.issuers)} issuers, and undo a revocation; set `repository.signing_key`, or protect "
        "the branch."
    )
    return Event("repository.unsigned", sentence, Level.WARNING)


def _is_first_signing(settings: Settings, history: History, local: LocalState, heads: Sequence[CommitId]) -> bool:
    """Whether this machine has trusted this repository until now, and no signature is known in it."""
    trusted = history.has_commit(local.trusted_head) if local.trusted_head else local.is_former and bool(heads)
    if not trusted:
        return False
    everything = publications(replace(settings, issuers=(*settings.issuers, *settings.left_out)))
    signatures = [repository_paths(each.url).signature for each in everything]
    return not any(history.read(head, signatures) for head in heads)


MANY_KEYS = 2000
"""From so many keys on (1 s with gmpy2, several without) it is worth telling how it goes faster."""

_SLOW: Callable[[int], Any] = Decimal


def integer_type() -> Callable[[int], Any]:
    """gmpy2 if it is installed: 2 s instead of 22 s for 10 000 keys."""
    number = fast_integer()
    return _SLOW if number is int else number


def gmpy2_hint(count: int, number: Callable[[int], Any]) -> str | None:
    """How the next comparison of `count` keys would be faster; None when it would not, or is fast enough."""
    if count < MANY_KEYS or number is not _SLOW:
        return None
    return f"{count} keys are compared without gmpy2, which is ten times as fast: pip install 'oidc-mirror[fleet]'"
