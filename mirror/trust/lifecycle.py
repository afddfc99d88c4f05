"""The life of a key: ledger before + what apiservers showed + policy + now -> ledger after + what happened.

Pure: nothing here reads a clock, a file or the network, or writes a log; the caller reports the events.

    from        to          when
    --          published   first seen on any apiserver, policy `new_keys: publish`
    --          held        first seen, and `new_keys: hold`, a kid that is taken, or a limit says so; never public
    held        published   `approve` (an operator's decision, not made here)
    held        dropped     every apiserver answered without it for `retain_removed`; never after it came back once
    published   retiring    every apiserver answered, none has it (`missing_since` is set once)
    retiring    published   seen again; like any key that came back it is not retired again for `retain_removed`
    any shown   the same    an apiserver shows an `alg` that comes before the record's in the alphabet, as in `merge`
    dropped     published / held   seen again: decided as in its first pass, with the material that is shown
    retiring    dropped     missing_since + retain_removed <= now, every apiserver answered, and something is left
    any         revoked     `keys.revoked` of the configuration or `revoke`; permanent, for every kid

If the replicas of a mirror differ permanently, the mirror still writes little. A held key that came back stays held. A
published key changes its status at most twice in each `retain_removed`. The public documents do not change.

A suspended issuer takes only the last arrow.

An unreachable apiserver never removes a key: an apiserver without an accepted answer blocks every arrow that
takes a key away. It never blocks an addition.

May the public set of an issuer be empty? Only after `revoke --last`, and only until a key is public again.

    what happens                                          the permission
    `revoke --last` leaves no key public                  given: `last` on the revocations that it makes or meets
    a step (a pass or a decision) leaves keys public      taken back: no record of its ledger has `last` any more
    ledgers are merged                                    per revoked record the higher generation says; of two equal
                                                          ones the one with `last`

Giving and taking back both raise the record's generation by one. So a later change that knows of the earlier one wins
every merge, without a clock. This guarantees the following. Take ledgers that all descend from one with public keys,
without a `--last` of their own: no merge of them may be empty. None of them is empty itself, because the last key
never leaves by itself. Those that removed a key took every older permission back in the same step. The others still
have the public keys of the first one.

Merged revocations may leave no key without that permission. Then one revoked key stays public until another key is
public, or until an operator runs `revoke --last`. It is the last revoked of the keys that were public when they were
revoked. The order is a counter, 1 + the ledger's highest at each revocation, and no clock. A key that was never public
is never kept.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median

from mirror.model import (
    AWS_KEYS_OF_A_TYPE,
    MAX_GENERATION,
    PUBLIC_STATUSES,
    AnyKey,
    Event,
    Key,
    KeyId,
    KeyName,
    KeyPolicy,
    KeyRecord,
    Kid,
    Ledger,
    Level,
    Observation,
    Observed,
    Revocation,
    Status,
    Thumbprint,
    Unusable,
    key_id,
    kid_text,
    trimmed,
)
from mirror.text import counted
from mirror.trust.jwks import with_first_alg
from mirror.trust.ledger import left_out

MOST_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class PassContext:
    """What one pass knows besides the ledger.

    `now` is aware, UTC, whole seconds. `replicas` is how many observations make "every apiserver answered".
    `may_drop` is False while the git remote is unreachable: removals wait for it. `may_admit` is False for an expired
    former issuer: it gets no new keys. `is_suspended`: only revocations are applied, and `may_drop` and `may_admit`
    count as False. `sources_changed`: the issuer's apiservers or CA changed since the last pass, which restarts every
    `missing_since`.
    `suspects` are keys that must be held, each with the reason's code, whatever the policy says.
    `held_missing_since` is the time since which all apiservers answer without a held key, as recorded on this machine
    (`mirror.trust.lifecycle.held_missing_since`).
    """

    observations: tuple[Observation, ...]
    replicas: int
    now: datetime
    may_drop: bool = True
    may_admit: bool = True
    is_suspended: bool = False
    sources_changed: bool = False
    suspects: Mapping[Thumbprint, str] = field(default_factory=dict)
    held_missing_since: Mapping[KeyId, datetime] = field(default_factory=dict)


def missing_answers(observations: Iterable[Observation], replicas: int) -> tuple[str, ...]:
    """Why "every apiserver answered" does not hold: the apiservers that did not, or a sentence; empty when it does."""
    observations = tuple(observations)
    silent = tuple(o.apiserver for o in observations if isinstance(o, Unusable))
    if silent:
        return tuple(dict.fromkeys(silent))
    if len(observations) < max(replicas, 1):
        return (f"{counted(max(replicas, 1) - len(observations), 'replica')} not found",)
    return ()


def is_clock_wrong(observations: Iterable[Observation], now: datetime) -> bool:
    """Whether `now` is further from the apiservers' clocks than any date of a key may be."""
    skew = clock_skew(observations, now)
    return skew is not None and skew > MOST_CLOCK_SKEW


def clock_skew(observations: Iterable[Observation], now: datetime) -> timedelta | None:
    """How far `now` is from the median `Date` of the issuer's apiservers; None when none sent one."""
    dates = [o.date.timestamp() for o in observations if o.date is not None]
    return timedelta(seconds=abs(now.timestamp() - median(dates))) if dates else None


MOST_HELD = 32


@dataclass(frozen=True, slots=True)
class Transition:
    """One transition: the key, its new status, and one sentence."""

    key: AnyKey
    status: Status
    sentence: str


@dataclass(frozen=True, slots=True)
class LedgerUpdate:
    """The ledger after a pass, its transitions, and other events to report.

    `held_missing` are the held keys that no apiserver showed in this pass, although all answered; see
    `held_missing_since`.
    """

    ledger: Ledger
    transitions: tuple[Transition, ...]
    events: tuple[Event, ...]
    held_missing: frozenset[KeyId] = frozenset()


def advance(before: Ledger, policy: KeyPolicy, context: PassContext) -> LedgerUpdate:
    """Take every arrow of the table that `context` allows. Equal input gives equal output; a second call does nothing.

    Args:
        before: The ledger, as validated.
        policy: The issuer's `keys` configuration.
        context: The observations and circumstances of this pass.
    """
    step = _LedgerUpdate(before, policy, context)
    step.update_known_keys()
    step.add_new_keys()
    step.revoke_configured()
    step.drop_retired_keys()
    return step.outcome()


def held_missing_since(context: PassContext, outcome: LedgerUpdate) -> Mapping[KeyId, datetime]:
    """The next pass's `PassContext.held_missing_since`, stored on this machine and not in git.

    A key that is seen again, or no longer held, is removed. A change of the apiservers restarts all times. A time
    later than now was written while the clock was wrong, so now replaces it.
    """
    seen = {key_id(key) for o in context.observations if isinstance(o, Observed) for key in o.keys}
    held = {key_id(r.key) for r in outcome.ledger.records if r.status is Status.HELD} - seen
    before = {} if context.sources_changed else context.held_missing_since
    known = {identity: min(since, context.now) for identity, since in before.items() if identity in held}
    return {**dict.fromkeys(held & outcome.held_missing, context.now), **known}


def next_order(ledger: Ledger) -> int:
    """The `order` of the next revocation: 1 + the highest."""
    highest = max((r.revocation.order for r in ledger.records if r.revocation is not None), default=0)
    return min(highest + 1, MAX_GENERATION)


def revoked_thumbprints(ledger: Ledger) -> frozenset[Thumbprint]:
    """The key material that must never be public again, under any kid."""
    return frozenset(r.key.thumbprint for r in ledger.records if r.status is Status.REVOKED)


class _LedgerUpdate:
    """The working state of one `advance`: records by identity, and what happened so far."""

    def __init__(self, before: Ledger, policy: KeyPolicy, context: PassContext) -> None:
        self.before = before
        self.policy = policy
        self.given = context
        self.records: dict[KeyId, KeyRecord] = {key_id(r.key): r for r in before.records}
        self.transitions: list[Transition] = []
        self.events: list[Event] = []
        self.seen: dict[KeyId, Key] = self._seen()
        self.held_missing: set[KeyId] = set()
        self.revoked = revoked_thumbprints(before) | policy.revoked
        self.order = next_order(before)
        self.blocked_by = missing_answers(context.observations, context.replicas)
        self.clock_is_wrong = is_clock_wrong(context.observations, context.now)
        self.all_answered = not self.blocked_by and not self.clock_is_wrong
        if self.clock_is_wrong and not self.blocked_by:
            self._report_wrong_clock()

    def _seen(self) -> dict[KeyId, Key]:
        """The keys that apiservers show.

        No thumbprint covers `alg` (RFC 7638). The alphabetically first of the shown and recorded ones counts, as in
        merges. So mirrors with different replicas agree, and nothing goes back and forth.
        """
        shown: dict[KeyId, Key] = {}
        for key in (key for o in self.given.observations if isinstance(o, Observed) for key in o.keys):
            known = self.records.get(key_id(key))
            others = (shown.get(key_id(key)), known.key if known is not None else None)
            shown[key_id(key)] = with_first_alg(key, (each.alg for each in others if each is not None))
        return shown

    def _report_wrong_clock(self) -> None:
        skew = clock_skew(self.given.observations, self.given.now) or timedelta(0)
        sentence = (
            f"This machine's clock differs by {int(skew.total_seconds())} s from the apiservers'; "
            "no key begins or ends retiring until it is right."
        )
        self.events.append(Event("clock.skewed", sentence, Level.WARNING))

    # -- arrows -----------------------------------------------------------------------------------------

    def update_known_keys(self) -> None:
        """The arrows of keys that the ledger knows: absence, return, and the restart of `missing_since`."""
        for identity, record in sorted(self.records.items()):
            if self.given.is_suspended:
                self._report_revoked(identity, record)
            elif identity in self.seen:
                self._seen_again(identity, record)
            elif record.key.thumbprint in self.revoked and self._is_something_left_without(record):
                continue  # it is revoked below; the last key cannot be revoked and ages like any other
            elif record.status is Status.RETIRING and self.given.sources_changed and not self.clock_is_wrong:
                self._move(identity, Status.RETIRING, "restarts its retirement", missing_since=self.given.now)
            elif self.all_answered:
                self._missing(identity, record)

    def _report_revoked(self, identity: KeyId, record: KeyRecord) -> None:
        if identity in self.seen and record.key.thumbprint in self.revoked:
            self._report("key.revoked_shown", record.key, "is revoked, and an apiserver still shows it")

    def _seen_again(self, identity: KeyId, record: KeyRecord) -> None:
        if record.key.thumbprint in self.revoked:
            self._report_revoked(identity, record)
            return
        shown = self.seen[identity]
        if record.key != shown and record.status is not Status.DROPPED:
            self._move(identity, record.status, f"is shown with alg {shown.alg}, not {record.key.alg}", key=shown)
        if record.status is Status.RETIRING and not self._kid_is_taken(record.key, {Status.PUBLISHED}):
            self._move(identity, Status.PUBLISHED, "was seen again", missing_since=None, returned_at=self.given.now)

    def _missing(self, identity: KeyId, record: KeyRecord) -> None:
        if record.status is Status.HELD:
            self._held_is_missing(identity, record)
        elif record.status is Status.PUBLISHED and self._came_back_lately(record):
            self._report_disagreement(record)
        elif record.status is Status.PUBLISHED:
            self._move(
                identity,
                Status.RETIRING,
                "is on no apiserver any more",
                missing_since=self.given.now,
                returned_at=None,
            )

    def _held_is_missing(self, identity: KeyId, record: KeyRecord) -> None:
        self.held_missing.add(identity)
        since = self.given.held_missing_since.get(identity)
        if record.returned_at is not None:
            self._report_disagreement(record)
        elif since is not None and not self.given.sources_changed and self._is_over(since):
            self._move(identity, Status.DROPPED, "is gone before it was approved", held_because=None)

    def _report_disagreement(self, record: KeyRecord) -> None:
        sentence = "came back and no apiserver of this mirror shows it: replicas or mirrors may differ"
        self._report("apiservers.disagree", record.key, sentence)

    def _came_back_lately(self, record: KeyRecord) -> bool:
        # A flapping replica makes two commits, not two per interval.
        # A return date in the future comes from a clock that was wrong.
        came = record.returned_at
        return came is not None and came <= self.given.now < came + self.policy.retain_removed

    def add_new_keys(self) -> None:
        """-- or dropped -> published or held: keys that are shown and are not (or no longer) followed."""
        fresh = [key for identity, key in sorted(self.seen.items()) if self._is_fresh(identity)]
        kids = Counter(key.kid for key in fresh if key.thumbprint not in self.revoked)
        for key in fresh:
            if key.thumbprint in self.revoked:
                self._refuse_revoked(key)
            elif self.given.may_admit and not self.given.is_suspended:
                self._admit(key, self._held_because(key, kids))

    def _is_fresh(self, identity: KeyId) -> bool:
        record = self.records.get(identity)
        return record is None or record.status is Status.DROPPED

    def _refuse_revoked(self, key: Key) -> None:
        if key_id(key) in self.records:
            return  # reported as "seen again", and moved by `revoke_configured`
        self._report("key.revoked_shown", key, "is revoked, and an apiserver still shows it")
        known = any(r.key.thumbprint == key.thumbprint for r in self.records.values())
        never_public = not self.given.may_admit and not self.records
        if not known and not never_public:
            # Record it, so that it stays rejected after its removal from the configuration. A former issuer that has
            # no key and gets none needs no such record: revocations would seem to have emptied its set.
            self._revoke(KeyRecord(key=key, status=Status.DROPPED, generation=0, first_seen=self.given.now), None)

    def _held_because(self, key: Key, kids: Counter[Kid]) -> str | None:
        """The code of the reason why a new key is not published at once; None when there is none."""
        if self.policy.new_keys == "hold":
            return "policy"
        if key.thumbprint in self.given.suspects:
            return self.given.suspects[key.thumbprint]
        if kids[key.kid] > 1 or self._kid_is_taken(key, PUBLIC_STATUSES | {Status.HELD}):
            return "kid_taken"
        if sum(isinstance(r.key, type(key)) for r in self._public()) >= AWS_KEYS_OF_A_TYPE:
            return "too_many_keys"
        return None

    def _admit(self, key: Key, held_because: str | None) -> None:
        identity = key_id(key)
        if held_because is not None and sum(r.status is Status.HELD for r in self.records.values()) >= MOST_HELD:
            self._report("ledger.full", key, f"is not recorded, because {MOST_HELD} keys are held already")
            return
        returned_at = self.given.now if identity in self.records else None
        if identity not in self.records:
            self.records[identity] = KeyRecord(key, Status.DROPPED, generation=0, first_seen=self.given.now)
        if held_because is None:
            self._move(identity, Status.PUBLISHED, "is new", key=key, returned_at=returned_at)
        else:
            sentence = f"is new and held ({held_because}) until an operator approves it"
            self._move(identity, Status.HELD, sentence, held_because=held_because, key=key, returned_at=returned_at)

    def revoke_configured(self) -> None:
        """Any -> revoked, for the thumbprints that the configuration names; never the last public key.

        A key is revoked under all its kids or under none. In a merge, a revocation of one record reaches every other
        record of the key (`mirror.trust.merge`), and so could remove the last key.
        """
        waiting = [r for _, r in sorted(self.records.items()) if self._is_to_be_revoked(r)]
        for thumbprint in dict.fromkeys(record.key.thumbprint for record in waiting):
            ours = [record for record in waiting if record.key.thumbprint == thumbprint]
            is_last = {record.key.thumbprint for record in self._public()} == {thumbprint}
            for record in ours:
                if not is_last:
                    self._revoke(record, record.status)
                elif record.status in PUBLIC_STATUSES:
                    self._report(
                        "revocation.held", record.key, "is the last public key: it is revoked only by `--last`"
                    )

    def _is_to_be_revoked(self, record: KeyRecord) -> bool:
        return record.key.thumbprint in self.revoked and record.status is not Status.REVOKED

    def _revoke(self, record: KeyRecord, revoked_from: Status | None) -> None:
        reason = "named in keys.revoked of the configuration"
        revocation = Revocation(self.given.now, reason, revoked_from=revoked_from, order=self.order)
        self.records[key_id(record.key)] = replace(record, missing_since=None, returned_at=None, held_because=None)
        self._move(key_id(record.key), Status.REVOKED, "is revoked", revocation=revocation)

    def drop_retired_keys(self) -> None:
        """Retiring -> dropped, when `retain_removed` has passed and the set keeps another key."""
        if not self.all_answered or not self.given.may_drop or self.given.sources_changed or self.given.is_suspended:
            return
        due = [r for r in self._public() if self._is_due(r)]
        if due and len(due) == len(self._public()):
            for record in due:
                self._report("retirement.blocked", record.key, "stays, because nothing else is public")
            return
        for record in due:
            self._move(key_id(record.key), Status.DROPPED, "leaves the public set", missing_since=None)

    def _is_due(self, record: KeyRecord) -> bool:
        missing_since = record.missing_since
        if missing_since is None or key_id(record.key) in self.seen:
            return False
        return self._is_over(missing_since)

    def _is_over(self, since: datetime) -> bool:
        """Whether `retain_removed` has passed.

        A key that began to retire in this pass stays for one more pass, for any `retain_removed`: the public set never
        loses a key in the pass that first missed it.
        """
        return since < self.given.now and since + self.policy.retain_removed <= self.given.now

    # -- bookkeeping ------------------------------------------------------------------------------------

    def _public(self) -> tuple[KeyRecord, ...]:
        return tuple(r for _, r in sorted(self.records.items()) if r.status in PUBLIC_STATUSES)

    def _is_something_left_without(self, record: KeyRecord) -> bool:
        """Whether the set would still hold a key if this key's material left it."""
        return any(r.key.thumbprint != record.key.thumbprint for r in self._public())

    def _kid_is_taken(self, key: AnyKey, statuses: frozenset[Status] | set[Status]) -> bool:
        return any(
            r.key.kid == key.kid and r.key.thumbprint != key.thumbprint and r.status in statuses
            for r in self.records.values()
        )

    def _move(
        self,
        identity: KeyId,
        status: Status,
        sentence: str,
        **changes: datetime | str | Revocation | AnyKey | None,
    ) -> None:
        record = self.records[identity]
        generation = min(record.generation + 1, MAX_GENERATION)
        changed = replace(record, status=status, generation=generation, **changes)  # type: ignore[arg-type]  # fields of KeyRecord by name
        self.records[identity] = trimmed(changed)
        self.transitions.append(Transition(changed.key, status, sentence))

    def _report(self, name: str, key: AnyKey, sentence: str) -> None:
        fields = {"kid": key.kid, "thumbprint": key.thumbprint}
        self.events.append(Event(name, f"Key {kid_text(key.kid)} {sentence}.", Level.WARNING, fields))

    def outcome(self) -> LedgerUpdate:
        """The result, with the events that depend on the whole ledger."""
        self._report_blocked_retirement()
        self._report_replacement()
        if self.given.sources_changed:
            sentence = "The apiservers or their CA changed; the time of retiring keys starts again."
            self.events.append(Event("sources.changed", sentence))
        records = tuple(record for _, record in sorted(self.records.items()))
        after = clear_empty_permission(Ledger(self.before.issuer, records))
        self._report_kept_key(after)
        self._report_left_out(after)
        return LedgerUpdate(after, tuple(self.transitions), tuple(self.events), frozenset(self.held_missing))

    def _report_kept_key(self, after: Ledger) -> None:
        kept = kept_key(after)
        if kept is not None:
            sentence = (
                "is revoked and stays public, because revocations left no other key: it leaves when another key is "
                "public, or by `revoke --last`"
            )
            self._report("revocation.held", kept.key, sentence)

    def _report_left_out(self, after: Ledger) -> None:
        gone = left_out(after)
        if gone:
            sentence = (
                f"The ledger has no room for {len(gone)} dropped keys, the oldest: they are left out of the file."
            )
            self.events.append(Event("ledger.full", sentence, Level.WARNING))

    def _report_blocked_retirement(self) -> None:
        waiting = any(key_id(r.key) not in self.seen for r in self._public())
        if waiting and self.blocked_by:
            sentence = f"Keys that no apiserver shows stay public until these answer: {', '.join(self.blocked_by)}."
            self.events.append(Event("retirement.blocked", sentence, Level.WARNING))

    def _report_replacement(self) -> None:
        moved = {t.status for t in self.transitions}
        old = {key_id(r.key) for r in self.before.records if r.status is Status.PUBLISHED}
        still = any(self.records[identity].status is Status.PUBLISHED for identity in old)
        if old and not still and {Status.PUBLISHED, Status.RETIRING} <= moved:
            sentence = "Every key was replaced at once: tokens of the new ones fail until relying parties refetch."
            self.events.append(Event("keys.replaced", sentence, Level.WARNING))


def is_empty_by_revocation(ledger: Ledger) -> bool:
    """Whether no key is public and some were revoked."""
    return not ledger.public_keys() and any(record.status is Status.REVOKED for record in ledger.records)


def empty_allowed(ledger: Ledger) -> bool:
    """Whether an operator revoked with `last` and no key was public since; only then an empty set is published."""
    return any(_permits(record) for record in ledger.records)


def kept_key(ledger: Ledger) -> KeyRecord | None:
    """The revoked key that stays public to avoid an empty set; None if a key is public or the set may be empty."""
    if ledger.public_keys() or empty_allowed(ledger):
        return None
    candidates = [record for record in ledger.records if _may_be_kept(record)]
    return max(candidates, key=_revoked_last, default=None)


def _may_be_kept(record: KeyRecord) -> bool:
    return record.revocation is not None and record.keeps_material and not isinstance(record.key, KeyName)


def _revoked_last(record: KeyRecord) -> tuple[int, str, str]:
    order = record.revocation.order if record.revocation is not None else 0
    return order, record.key.thumbprint, record.key.kid


def published_keys(ledger: Ledger) -> tuple[Key, ...]:
    """The keys of the public JWKS in the order of publication: the public ones, else the kept one."""
    kept = kept_key(ledger)
    if kept is None or isinstance(kept.key, KeyName):
        return ledger.public_keys()
    return (kept.key,)


def clear_empty_permission(ledger: Ledger) -> Ledger:
    """The ledger after a step: if it has public keys, no earlier permission to empty the set remains."""
    if not ledger.public_keys() or not empty_allowed(ledger):
        return ledger
    return replace(ledger, records=tuple(_taken_back(record) for record in ledger.records))


def _permits(record: KeyRecord) -> bool:
    return record.revocation is not None and record.revocation.last


def _taken_back(record: KeyRecord) -> KeyRecord:
    if record.revocation is None or not record.revocation.last:
        return record
    generation = min(record.generation + 1, MAX_GENERATION)
    return replace(record, generation=generation, revocation=replace(record.revocation, last=False))
