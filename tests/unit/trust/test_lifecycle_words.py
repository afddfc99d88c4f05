"""The sentence of each transition and event: git stores the sentences permanently, and people search for the names."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from mirror.model import (
    AWS_KEYS_OF_A_TYPE,
    Event,
    IssuerUrl,
    KeyName,
    KeyPolicy,
    KeyRecord,
    Kid,
    Ledger,
    Level,
    Observed,
    Reason,
    Revocation,
    Status,
    Thumbprint,
    Unusable,
    key_id,
)
from mirror.trust.lifecycle import MOST_HELD, LedgerUpdate
from support.lifecycles import NOW, rsa, step

P, R, H, D, X = Status.PUBLISHED, Status.RETIRING, Status.HELD, Status.DROPPED, Status.REVOKED
FIELDS: dict[Status, dict[str, object]] = {
    R: {"missing_since": NOW - timedelta(days=2)},
    H: {"held_because": "policy"},
    X: {"revocation": Revocation(NOW, "stolen")},
}


def ledger(**records: Status) -> Ledger:
    """A ledger of keys with one-letter names, such as `ledger(a=P, b=R)`."""
    made = (KeyRecord(rsa(name), status, 1, NOW - timedelta(days=9)) for name, status in records.items())
    filled = (replace(each, **FIELDS.get(each.status, {})) for each in made)  # type: ignore[arg-type]  # by name
    return Ledger(IssuerUrl("https://issuer.example.com"), tuple(sorted(filled, key=lambda r: key_id(r.key))))


def shows(*names: str, late: timedelta = timedelta(0)) -> Observed:
    return Observed("https://one", tuple(rsa(name) for name in names), date=NOW + late)


def silent(number: int) -> Unusable:
    return Unusable(f"https://silent-{number}", (Reason("timeout", "It did not answer.", "Wait."),))


REVOKE_A = KeyPolicy(revoked=frozenset({Thumbprint("t-a")}))
HOLD = KeyPolicy(new_keys="hold")
FULL = ledger(**{f"h{number:02}": H for number in range(MOST_HELD)}, b=P)
CROWD = ledger(**{f"k{number:03}": P for number in range(AWS_KEYS_OF_A_TYPE)})
SHOWN = "is revoked, and an apiserver still shows it"


@pytest.mark.parametrize(
    ("happens", "name", "status", "sentence", "held_because"),
    [
        (lambda: step(ledger(b=P), shows("a", "b")), "a", P, "is new", None),
        (lambda: step(ledger(a=D, b=P), shows("a", "b")), "a", P, "is new", None),
        (
            lambda: step(ledger(b=P), shows("a", "b"), policy=HOLD),
            *("a", H, "is new and held (policy) until an operator approves it", "policy"),
        ),
        (
            lambda: step(CROWD, shows("a"), silent(1)),
            *("a", H, "is new and held (too_many_keys) until an operator approves it", "too_many_keys"),
        ),
        (
            lambda: step(ledger(b=P), shows("a", "b"), suspects={Thumbprint("t-a"): "shared_prime"}),
            *("a", H, "is new and held (shared_prime) until an operator approves it", "shared_prime"),
        ),
        (
            lambda: step(ledger(a=H, b=P), shows("b"), held_missing_since={key_id(rsa("a")): NOW - timedelta(days=2)}),
            *("a", D, "is gone before it was approved", None),
        ),
        (lambda: step(ledger(a=P, b=P), shows("b")), "a", R, "is on no apiserver any more", None),
        (lambda: step(ledger(a=R, b=P), shows("a", "b")), "a", P, "was seen again", None),
        (lambda: step(ledger(a=R, b=P), shows("b"), sources_changed=True), "a", R, "restarts its retirement", None),
        (lambda: step(ledger(a=R, b=P), shows("b")), "a", D, "leaves the public set", None),
        (lambda: step(ledger(a=P, b=P), shows("b"), policy=REVOKE_A), "a", X, "is revoked", None),
    ],
    ids=[
        *("new", "returned", "new_and_held", "one_too_many", "suspect", "gone_unapproved", "missing"),
        *("seen_again", "sources_changed", "time_is_over", "revoked"),
    ],
)
def test_each_arrow_says_what_happened(
    happens: Callable[[], LedgerUpdate], name: str, status: Status, sentence: str, held_because: str | None
) -> None:
    """One transition, with the sentence in commit and report; the record agrees with it."""
    outcome = happens()
    (transition,) = outcome.transitions
    assert (transition.key, transition.status, transition.sentence) == (rsa(name), status, sentence)
    record = next(r for r in outcome.ledger.records if key_id(r.key) == key_id(transition.key))
    assert (record.status, record.held_because) == (status, held_because)


def warning(name: str, sentence: str, key: str | None = None) -> Event:
    fields = {} if key is None else {"kid": key, "thumbprint": f"t-{key}"}
    return Event(name, sentence, Level.WARNING, fields)


DISAGREE = "came back and no apiserver of this mirror shows it: replicas or mirrors may differ"


def came_back(at: Ledger) -> Ledger:
    """The ledger in which the first key was seen again an hour ago."""
    first, *others = at.records
    return replace(at, records=(replace(first, returned_at=NOW - timedelta(hours=1)), *others))


def kept(name: str) -> Ledger:
    """A ledger of one key that was public when it was revoked."""
    (record,) = ledger(**{name: X}).records
    revocation = Revocation(NOW, "stolen", revoked_from=P, order=1)
    return replace(ledger(), records=(replace(record, revocation=revocation),))


def crowded() -> Ledger:
    """A ledger with more dropped keys than fit into 4 MiB."""
    names = [KeyName(Kid(f"{i:04}" + "\U0001f511" * 1020), "RS256", Thumbprint(f"{i:043}")) for i in range(980)]
    long_ago = (KeyRecord(name, D, 1, NOW - timedelta(days=i)) for i, name in enumerate(names))
    return replace(ledger(), records=(*long_ago, *ledger(b=P).records))


@pytest.mark.parametrize(
    ("happens", "event"),
    [
        (lambda: step(ledger(a=X, b=P), shows("a", "b")), warning("key.revoked_shown", f"Key a {SHOWN}.", "a")),
        (
            lambda: step(ledger(b=P), shows("a", "b"), policy=REVOKE_A),
            warning("key.revoked_shown", f"Key a {SHOWN}.", "a"),
        ),
        (
            lambda: step(FULL, shows("a"), silent(1), policy=HOLD),
            warning("ledger.full", "Key a is not recorded, because 32 keys are held already.", "a"),
        ),
        (
            lambda: step(ledger(a=P), shows("a"), policy=REVOKE_A),
            warning("revocation.held", "Key a is the last public key: it is revoked only by `--last`.", "a"),
        ),
        (
            lambda: step(kept("a"), shows("a")),
            warning(
                "revocation.held",
                "Key a is revoked and stays public, because revocations left no other key: "
                "it leaves when another key is public, or by `revoke --last`.",
                "a",
            ),
        ),
        (
            lambda: step(came_back(ledger(a=H, b=P)), shows("b")),
            warning("apiservers.disagree", f"Key a {DISAGREE}.", "a"),
        ),
        (
            lambda: step(came_back(ledger(a=P, b=P)), shows("b")),
            warning("apiservers.disagree", f"Key a {DISAGREE}.", "a"),
        ),
        (
            lambda: step(crowded(), shows("b")),
            warning(
                "ledger.full", "The ledger has no room for 4 dropped keys, the oldest: they are left out of the file."
            ),
        ),
        (
            lambda: step(ledger(a=R), shows()),
            warning("retirement.blocked", "Key a stays, because nothing else is public.", "a"),
        ),
        (
            lambda: step(ledger(a=P, b=P), shows("b"), silent(1), silent(2)),
            warning(
                "retirement.blocked",
                "Keys that no apiserver shows stay public until these answer: https://silent-1, https://silent-2.",
            ),
        ),
        (
            lambda: step(ledger(a=P), shows("b")),
            warning(
                "keys.replaced",
                "Every key was replaced at once: tokens of the new ones fail until relying parties refetch.",
            ),
        ),
        (
            lambda: step(ledger(a=P, b=P), shows("b", late=timedelta(minutes=6))),
            warning(
                "clock.skewed",
                "This machine's clock differs by 360 s from the apiservers'; "
                "no key begins or ends retiring until it is right.",
            ),
        ),
        (
            lambda: step(ledger(a=P), shows("a"), sources_changed=True),
            Event("sources.changed", "The apiservers or their CA changed; the time of retiring keys starts again."),
        ),
    ],
    ids=[
        *("revoked_shown", "revoked_by_configuration_shown", "full", "last_public_key", "kept"),
        *("held_again_elsewhere", "public_again_elsewhere", "no_room", "last_retiring_key"),
        *("silent_replicas", "replaced", "skewed", "sources_changed"),
    ],
)
def test_each_event_says_what_an_operator_needs(happens: Callable[[], LedgerUpdate], event: Event) -> None:
    """The event has the exact name, sentence, level and fields, and is reported once."""
    assert [each for each in happens().events if each.name == event.name] == [event]
