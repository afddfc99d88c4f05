"""What a pass would do, as a value: for each issuer what its apiservers said, the ledger that follows, and the puts.

Nothing here does anything: `mirror.deciding` makes plans, `mirror.applying` carries them out, and a dry run only shows
them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mirror.config.settings import Issuer, Settings
from mirror.errors import RemoteError
from mirror.history.ledgers import Memory
from mirror.model import Answer, Event, IssuerName, Ledger, Observation, PublicObject, Reason, Unusable
from mirror.publish.look import Shown, Target
from mirror.publish.reconcile import Decision
from mirror.trust.lifecycle import Outcome

Decided = tuple[PublicObject, Decision | None]
"""One object as it should stand, and what must be done for it (None: nothing)."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything that was read before anything is decided. `remote_error` tells why the git remote was not heard."""

    settings: Settings
    now: datetime
    memory: Memory
    answers: Mapping[IssuerName, tuple[Answer | Unusable, ...]]
    buckets: Mapping[Target, Shown]
    remote_error: RemoteError | None = None

    @property
    def shared(self) -> bool:
        """Whether other mirrors may work on the same history."""
        return self.settings.repository.remote is not None

    @property
    def heard_remote(self) -> bool:
        """Whether the remote was fetched in this pass, after the buckets were read."""
        return self.shared and self.remote_error is None


@dataclass(frozen=True, slots=True)
class IssuerPlan:
    """What one issuer's part of the pass would do.

    `outcome` is None where nothing may be decided: then nothing of this issuer is committed or put.
    """

    issuer: Issuer
    observations: tuple[Observation, ...] = ()
    before: Ledger | None = None
    outcome: Outcome | None = None
    decisions: tuple[Decided, ...] = ()
    events: tuple[Event, ...] = ()
    drift: tuple[Event, ...] = ()
    failures: tuple[Reason, ...] = ()
    held: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole pass before it is applied. `failures` are those that keep every issuer from being decided."""

    world: World
    issuers: tuple[IssuerPlan, ...] = ()
    failures: tuple[Reason, ...] = ()
    events: tuple[Event, ...] = ()
