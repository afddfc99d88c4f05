"""Waiting until a key is safe to sign with; in these tests time passes only during a sleep."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from mirror.errors import UsageError
from mirror.model import Key, KeyRecord, Ledger, Reason, Revocation, Status
from mirror.ports import PublicFailure, PublicResponse, PublicResult
from mirror.status.wait import POLL, AwaitedKey, Clock, KeyWaiter
from support.fakes import MOMENT
from support.keys import EC_KEYS, RSA_KEYS, jwks_body, with_kid
from support.situations import ISSUER, NAME

OLD, NEW = RSA_KEYS[0], RSA_KEYS[1]
BLOCKED = PublicFailure(Reason("forbidden", "The bucket says \x1b[31m403.", "Allow it."))
SAFE = timedelta(seconds=60) + timedelta(minutes=5)


def shown(*keys: Key, since: datetime | None = MOMENT, body: bytes | None = None) -> PublicResponse:
    return PublicResponse(
        jwks_body(*keys) if body is None else body, "application/jwk-set+json", "max-age=60", since, 0.1
    )


@dataclass
class Public:
    """A client whose public documents depend on the time; `reported` are the lines that `wait` prints."""

    at: Callable[[datetime], PublicResult]
    now: datetime = MOMENT
    slept: list[float] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)

    def wait(
        self, text: str = NEW.kid, *, ledger: Ledger | None = None, timeout: timedelta = timedelta(minutes=30)
    ) -> bool:
        clock = Clock(lambda: self.now, self._sleep)
        wanted = AwaitedKey(NAME, ISSUER, text, ledger)
        return KeyWaiter(wanted, lambda: self.at(self.now), clock, self.reported.append).run(timeout)

    def _sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)


def from_minute(minutes: int, before: PublicResult, after: PublicResult) -> Callable[[datetime], PublicResult]:
    return lambda now: before if now < MOMENT + timedelta(minutes=minutes) else after


def ledger(status: Status, *keys: Key) -> Ledger:
    revocation = Revocation(MOMENT, "lost") if status is Status.REVOKED else None
    held = "policy" if status is Status.HELD else None
    return Ledger(
        ISSUER, tuple(KeyRecord(key, status, 1, MOMENT, held_because=held, revocation=revocation) for key in keys)
    )


def test_key_that_is_long_public_is_safe_at_once() -> None:
    """No sleep, one line, which names the key by its kid."""
    public = Public(lambda _: shown(OLD, NEW, since=MOMENT - timedelta(days=1)))
    assert public.wait()
    assert public.slept == []
    assert [NEW.kid in line and line.endswith("it is safe to sign with.") for line in public.reported] == [True]


def test_wait_ends_at_the_very_moment() -> None:
    """A key that is public since just now is safe after max-age and five minutes, not a poll later."""
    public = Public(lambda _: shown(OLD, NEW))
    assert public.wait()
    assert public.now == MOMENT + SAFE
    assert len(public.reported) == 2


def test_key_that_is_not_there_yet_is_waited_for() -> None:
    """One line while it is missing, one when it appears, one at the end; no line is repeated."""
    came = MOMENT + timedelta(minutes=3)
    public = Public(from_minute(3, shown(OLD), shown(OLD, NEW, since=came)))
    assert public.wait()
    assert public.now == came + SAFE
    assert ["does not contain" in line for line in public.reported] == [True, False, False]


def test_key_that_never_comes_times_out() -> None:
    """False after the timeout and not later; the last line says what is missing."""
    public = Public(lambda _: shown(OLD))
    assert not public.wait(timeout=timedelta(seconds=25))
    assert public.slept == [POLL.total_seconds(), POLL.total_seconds(), 5.0]
    assert "does not contain the key yet" in public.reported[-1]


def test_key_that_leaves_again_is_not_safe() -> None:
    """The newest read counts: a JWKS that lost the key restarts the wait."""
    public = Public(from_minute(2, shown(OLD, NEW), shown(OLD, since=MOMENT + timedelta(minutes=2))))
    assert not public.wait()
    assert "does not contain" in public.reported[-1]


def test_later_change_of_the_jwks_restarts_the_wait() -> None:
    """Last-Modified moves when another key is added: then caches may again hold an older set."""
    later = MOMENT + timedelta(minutes=4)
    public = Public(from_minute(4, shown(OLD, NEW), shown(OLD, NEW, EC_KEYS[0], since=later)))
    assert public.wait()
    assert public.now == later + SAFE


def test_without_last_modified_the_first_look_counts() -> None:
    """Without Last-Modified the key counts as public since the first read that saw it, not since the latest."""
    public = Public(lambda _: shown(OLD, NEW, since=None))
    assert public.wait()
    assert public.now == MOMENT + SAFE


@pytest.mark.parametrize(
    ("away", "words"),
    [
        (BLOCKED, "cannot be read"),
        (shown(OLD, since=None), "does not contain"),
        (shown(body=b"evil"), "not one that relying parties accept"),
        (shown(body=b'{"keys":[]}'), "not one that relying parties accept"),
    ],
    ids=["unreadable", "missing", "no_json", "empty"],
)
def test_read_without_the_key_restarts_the_wait(away: PublicResult, words: str) -> None:
    """Time before an interruption does not count if only our own reads give the time."""
    here = shown(OLD, NEW, since=None)

    def at(now: datetime) -> PublicResult:
        return away if timedelta(minutes=2) <= now - MOMENT < timedelta(minutes=3) else here

    public = Public(at)
    assert public.wait()
    assert public.now == MOMENT + timedelta(minutes=3) + SAFE
    assert any(words in line for line in public.reported)


def test_cause_of_an_unreadable_url_is_reported_escaped() -> None:
    """Sentence and remedy, and no control character reaches the terminal."""
    public = Public(lambda _: BLOCKED)
    assert not public.wait(timeout=timedelta(seconds=1))
    assert public.reported[0].endswith("The bucket says \\x1b[31m403. Allow it.")


@pytest.mark.parametrize(
    "text", [NEW.kid, NEW.thumbprint, NEW.kid[:8], NEW.thumbprint[:12]], ids=["kid", "thumbprint", "kid8", "thumb12"]
)
def test_key_is_named_in_every_form(text: str) -> None:
    """A kid, a thumbprint, or a beginning of either."""
    assert Public(lambda _: shown(OLD, NEW, since=MOMENT - timedelta(days=1))).wait(text)


@pytest.mark.parametrize("text", [NEW.kid[:7], "nosuchkey", ""], ids=["short", "unknown", "empty"])
def test_other_text_names_no_key(text: str) -> None:
    """Waiting for a short prefix or an unknown text never succeeds."""
    assert not Public(lambda _: shown(OLD, NEW)).wait(text, timeout=timedelta(seconds=1))


SAME_PREFIX = with_kid(OLD, "same-beginning-1"), with_kid(NEW, "same-beginning-2")


@pytest.mark.parametrize("known", [None, ledger(Status.PUBLISHED, *SAME_PREFIX)], ids=["public", "ledger"])
def test_ambiguous_text_is_refused(known: Ledger | None) -> None:
    """A beginning of two keys is a mistake of the operator, whether the JWKS or the ledger shows it."""
    with pytest.raises(UsageError):
        Public(lambda _: shown(*SAME_PREFIX)).wait("same-beginning", ledger=known)


def test_revoked_key_is_refused_though_it_is_public_still() -> None:
    """A cache may show it for a while; it is never safe."""
    public = Public(lambda _: shown(OLD, NEW, since=MOMENT - timedelta(days=1)))
    with pytest.raises(UsageError, match="revoked"):
        public.wait(ledger=ledger(Status.REVOKED, NEW))
    assert public.reported == []


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (ledger(Status.HELD, NEW), f"oidc-mirror approve syd-prod {NEW.thumbprint}"),
        (ledger(Status.PUBLISHED, NEW), "git says that it is published"),
        (ledger(Status.PUBLISHED, OLD), "no apiserver showed it so far"),
    ],
    ids=["held", "published", "unknown"],
)
def test_ledger_explains_why_the_key_is_not_public(known: Ledger, words: str) -> None:
    """A held key comes with the command that approves it."""
    public = Public(lambda _: shown(OLD))
    assert not public.wait(ledger=known, timeout=timedelta(seconds=1))
    assert words in public.reported[0]


def test_hostile_kid_reaches_the_terminal_escaped() -> None:
    """A kid with an escape sequence is printed as text."""
    # The reader rejects such a kid; the line is safe even so.
    public = Public(lambda _: replace(shown(with_kid(NEW, "\u202eevil")), last_modified=MOMENT - timedelta(days=1)))
    public.wait(NEW.thumbprint, timeout=timedelta(seconds=1))
    assert all(line.isprintable() for line in public.reported)
