"""What a pass would do, as a value: for each issuer what its apiservers said, the ledger that follows, and the puts.

Nothing here does anything: `deciding` makes plans, `applying` carries them out, and a dry run only shows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from mirror.config.settings import Issuer, Settings
from mirror.errors import RemoteError
from mirror.history.ledger_reader import HistoryState, Trust
from mirror.model import Event, IssuerUrl, KeyId, Ledger, Observation, PublicObject, Reason
from mirror.publish.audit import Audits
from mirror.publish.drift import Decision
from mirror.publish.listing import Shown, Target
from mirror.reconcile.believing import Beliefs
from mirror.reconcile.local_state import LocalState
from mirror.trust.lifecycle import Outcome
from mirror.trust.tokens import Token

Decided = tuple[PublicObject, Decision | None]
"""One object as it should stand, and what must be done for it (None: nothing)."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One issuer text under which an entry's keys are public: the issuer's own, or that of a former issuer.

    Each has a ledger, documents and objects of its own. `until` is the last day (UTC) on which a former one gets new
    keys; None for the issuer itself.
    """

    issuer: Issuer
    url: IssuerUrl
    until: date | None = None

    def admits(self, now: datetime) -> bool:
        """Whether new keys are published under this issuer at `now` (aware, UTC)."""
        return self.until is None or now.date() <= self.until


def publications(settings: Settings) -> tuple[Publication, ...]:
    """Everything that a pass publishes: each issuer, followed by its former ones."""
    return tuple(
        publication
        for issuer in settings.issuers
        for publication in (
            Publication(issuer, issuer.issuer),
            *(Publication(issuer, former.issuer, former.until) for former in issuer.former_issuers),
        )
    )


@dataclass(frozen=True, slots=True)
class World:
    """Everything that was read before anything is decided. `remote_error` tells why the git remote was not fetched.

    `local` is what this machine remembers beside git, `audits` when it last saw each issuer to be right, `trust` by
    what ledgers are believed. `is_new_disk` tells that the pass began without any history of its own. `push_rejected`
    tells, once it is known, that the remote was fetched and did not take our commits.
    """

    settings: Settings
    now: datetime
    memory: HistoryState
    beliefs: Beliefs
    buckets: Mapping[Target, Shown]
    remote_error: RemoteError | None = None
    local: LocalState = field(default_factory=LocalState)
    audits: Audits = field(default_factory=Audits)
    trust: Trust = field(default_factory=Trust)
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

    `outcome` is None where nothing may be decided: then nothing of this issuer is committed or put. `is_tolerant` tells
    that another writer's ledger and documents are left as they are in this pass. `held_missing_since` is what the next
    pass wants to know of held keys. `probe` is a token that the cluster signed. `apiservers` says where the documents
    came from in this pass (`local_state.apiserver_fingerprint`), where that was decided about.
    """

    publication: Publication
    observations: tuple[Observation, ...] = ()
    before: Ledger | None = None
    outcome: Outcome | None = None
    decisions: tuple[Decided, ...] = ()
    events: tuple[Event, ...] = ()
    drift: tuple[Event, ...] = ()
    failures: tuple[Reason, ...] = ()
    held: tuple[Reason, ...] = ()
    is_tolerant: bool = False
    held_missing_since: Mapping[KeyId, datetime] = field(default_factory=dict)
    probe: Token | None = None
    apiservers: str = ""

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

    world: World
    issuers: tuple[IssuerPlan, ...] = ()
    failures: tuple[Reason, ...] = ()
    events: tuple[Event, ...] = ()
    reported: tuple[Reason, ...] = ()
