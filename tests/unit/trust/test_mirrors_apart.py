"""Invariants of mirrors and operators that work separately and merge through git, for any order of actions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.model import (
    PUBLIC_STATUSES,
    EcKey,
    Key,
    KeyId,
    KeyPolicy,
    Ledger,
    Observed,
    RsaKey,
    Status,
    Thumbprint,
    key_id,
)
from mirror.trust.ledger import LedgerRead, read_ledger, write_ledger
from mirror.trust.lifecycle import (
    LedgerUpdate,
    PassContext,
    advance,
    empty_allowed,
    held_missing_since,
    kept_key,
    published_keys,
    revoked_thumbprints,
)
from mirror.trust.merge import merge
from mirror.trust.operator_actions import approve, revoke
from support.keys import EC_KEYS, RSA_KEYS, with_kid
from support.strategies import ISSUER

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
# The fourth key has the first one's material under another kid; the fifth has the second one's kid.
KEYS: tuple[Key, ...] = (
    with_kid(EC_KEYS[0], "a"),
    with_kid(EC_KEYS[1], "b"),
    with_kid(RSA_KEYS[0], "c"),
    with_kid(EC_KEYS[0], "d"),
    with_kid(RSA_KEYS[1], "b"),
)
MIRRORS = 3


@dataclass
class Mirror:
    """One mirror with its own head, replicas and local state."""

    policy: KeyPolicy
    shown: tuple[Key, ...] = (KEYS[0],)
    head: Ledger = field(default_factory=lambda: Ledger(ISSUER))
    missing: Mapping[KeyId, datetime] = field(default_factory=dict)

    def look(self, now: datetime) -> None:
        """A pass while the remote is unreachable."""
        observed = Observed("https://one", tuple(sorted(self.shown, key=key_id)))
        given = PassContext((observed,), 1, now, held_missing_since=self.missing)
        outcome = advance(self.head, self.policy, given)
        self.missing = held_missing_since(given, outcome)
        self.head = outcome.ledger


@dataclass
class Fleet:
    """Mirrors and operators. `asked` are the keys that operators revoked; `emptied` is set by `--last`."""

    mirrors: tuple[Mirror, ...]
    now: datetime = START
    shared: Ledger = field(default_factory=lambda: Ledger(ISSUER))
    asked: set[Thumbprint] = field(default_factory=set)
    emptied: bool = False

    def meet(self, mirror: Mirror) -> None:
        """Fetch, merge and push. The ledger can be read again and has every revocation of either side."""
        revoked = revoked_thumbprints(self.shared) | revoked_thumbprints(mirror.head)
        mirror.head = self.shared = merge(self.shared, mirror.head)
        assert read_ledger(write_ledger(self.shared), issuer=ISSUER) == LedgerRead(self.shared)
        assert revoked_thumbprints(self.shared) == revoked

    def decide(self, mirror: Mirror, key: Key, what: str) -> None:
        """An operator's command at one mirror: approve, revoke, or revoke with `--last`."""
        if what == "approve":
            held = [r for r in mirror.head.records if r.status is Status.HELD and key_id(r.key) == key_id(key)]
            outcome = approve(mirror.head, key_id(key), self.now) if held else None
        else:
            last = what == "last"
            outcome = revoke(mirror.head, [key.thumbprint], now=self.now, reason="stolen", last=last)
            if isinstance(outcome, LedgerUpdate):
                self.asked |= revoked_thumbprints(outcome.ledger)
                self.emptied |= empty_allowed(outcome.ledger)
        if isinstance(outcome, LedgerUpdate):
            mirror.head = outcome.ledger

    def settle(self) -> None:
        """All mirrors merge and run passes until a complete round changes nothing."""
        for _ in range(12):
            before = self.shared
            for mirror in self.mirrors:
                self.meet(mirror)
                mirror.look(self.now)
                self.meet(mirror)
            if self.shared == before:
                return
        raise AssertionError("the mirrors do not come to rest")


policies = st.builds(
    KeyPolicy,
    new_keys=st.sampled_from(["publish", "publish", "hold"]),
    revoked=st.sets(st.sampled_from([key.thumbprint for key in KEYS]), max_size=1).map(frozenset),
)
shown = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique_by=lambda key: key.kid).map(tuple)
events = st.one_of(
    st.tuples(st.just("look"), st.just(KEYS[0])),
    st.tuples(st.just("meet"), st.just(KEYS[0])),
    st.tuples(st.just("later"), st.just(KEYS[0])),
    st.tuples(st.sampled_from(["approve", "revoke", "revoke", "last"]), st.sampled_from(KEYS)),
    st.tuples(st.just("show"), shown),
)


@settings(max_examples=2 * settings().max_examples)
@given(
    st.lists(policies, min_size=MIRRORS, max_size=MIRRORS),
    st.lists(st.tuples(st.integers(0, MIRRORS - 1), events), max_size=30),
)
def test_mirrors_that_worked_apart_agree(
    chosen: list[KeyPolicy], history: list[tuple[int, tuple[str, object]]]
) -> None:
    """All mirrors converge. A revoked key is public only as the last one. Apiservers showed every public key."""
    fleet = Fleet(tuple(Mirror(policy) for policy in chosen))
    ever: set[KeyId] = {key_id(KEYS[0])}
    for number, (what, argument) in history:
        mirror = fleet.mirrors[number]
        if what == "show":
            assert isinstance(argument, tuple)
            mirror.shown = argument
            ever |= {key_id(key) for key in argument}
        elif what == "later":
            fleet.now += 13 * HOUR
        elif what == "look":
            mirror.look(fleet.now)
        elif what == "meet":
            fleet.meet(mirror)
        elif isinstance(argument, RsaKey | EcKey):
            fleet.decide(mirror, argument, what)
    fleet.settle()
    public = published_keys(fleet.shared)
    kept = kept_key(fleet.shared)
    revoked = revoked_thumbprints(fleet.shared)
    assert {key_id(key) for key in public} <= ever
    assert fleet.asked <= revoked
    if kept is None:
        assert not {key.thumbprint for key in public} & revoked
    else:
        assert public == (kept.key,)
        assert kept.revocation is not None
        assert kept.revocation.revoked_from in PUBLIC_STATUSES
    if not public and not fleet.emptied:
        assert not any(r.revocation and r.revocation.revoked_from in PUBLIC_STATUSES for r in fleet.shared.records)
