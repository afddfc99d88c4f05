"""Wait for a key to be safe to sign with: the public JWKS is asked again and again, as an anonymous client sees it.

Time and sleep are arguments; nothing here knows the network.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mirror.errors import UsageError
from mirror.log import escaped
from mirror.model import (
    IssuerName,
    IssuerUrl,
    Key,
    KeyId,
    KeyRecord,
    Ledger,
    Reason,
    Status,
    key_id,
    key_name,
    kid_text,
)
from mirror.ports import PublicFailure, PublicResponse, PublicResult
from mirror.publish.drift import max_age_seconds, safe_to_sign_at
from mirror.report import safe_before
from mirror.status.result import public_keys
from mirror.text import moment
from mirror.trust.operator_actions import find_key, match_keys
from mirror.trust.parsing import shell_argument

POLL = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class AwaitedKey:
    """Which key of which issuer, and what the ledger says, where there is one to read.

    `known_safe` is from when on the keys may sign that the mirror saw in public before.
    """

    name: IssuerName
    issuer: IssuerUrl
    text: str
    ledger: Ledger | None = None
    known_safe: Mapping[KeyId, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as it passes: `now` gives an aware moment in UTC, `sleep` waits that many seconds."""

    now: Callable[[], datetime]
    sleep: Callable[[float], None]


@dataclass(frozen=True, slots=True)
class WaitProgress:
    """What is known after a look, in a sentence, and when the key is safe where it is public."""

    sentence: str
    safe_at: datetime | None = None


class KeyWaiter:
    """One wait for one key. `on_progress` gets a line whenever something changed."""

    def __init__(
        self, awaited: AwaitedKey, look: Callable[[], PublicResult], clock: Clock, on_progress: Callable[[str], None]
    ) -> None:
        self._wanted = awaited
        self._look = look
        self._clock = clock
        self._on_progress = on_progress
        self._there_since: datetime | None = None

    def run(self, timeout: timedelta) -> bool:
        """Whether the key became safe to sign with within `timeout`; the last sentence says why not.

        Raises:
            UsageError: KEY names several keys, or one that is revoked.
        """
        self._require_possible()
        deadline = self._clock.now() + timeout
        last_sentence = None
        while True:
            progress = self._progress()
            now = self._clock.now()
            if progress.safe_at is not None and progress.safe_at <= now:
                self._on_progress(f"{progress.sentence}: it is safe to sign with.")
                return True
            if progress.sentence != last_sentence:
                last_sentence = progress.sentence
                self._on_progress(f"{last_sentence}.")
            if now >= deadline:
                self._on_progress(f"Not safe to sign with after {int(timeout.total_seconds())} s: {last_sentence}.")
                return False
            self._clock.sleep(_pause(now, deadline, progress.safe_at))

    def _require_possible(self) -> None:
        """Refuse what waiting cannot bring about, whatever the public JWKS still shows."""
        ledger = self._wanted.ledger
        found = () if ledger is None else match_keys(ledger, self._wanted.text)
        if ledger is None or not found:
            return
        one = find_key(ledger, self._wanted.text)
        if isinstance(one, Reason):
            raise UsageError(one.sentence, remedy=one.remedy)
        if one.status is Status.REVOKED:
            raise UsageError(
                f"Key {kid_text(one.key.kid)} is revoked: it is never public again.", remedy="Sign with another key."
            )

    def _progress(self) -> WaitProgress:
        found = self._find(self._look())
        if isinstance(found, str):
            self._there_since = None
            return WaitProgress(found)
        self._there_since = self._there_since or self._clock.now()
        return self._present(*found, self._there_since)

    def _find(self, look: PublicResult) -> tuple[Key, PublicResponse] | str:
        """The key as an anonymous client sees it, or the sentence that says why it does not."""
        if isinstance(look, PublicFailure):
            return _unreadable(look.reason)
        shown = public_keys(look.body, self._wanted.ledger)
        if shown is None:
            return "The public JWKS is not one that relying parties accept"
        key = self._named(shown.keys)
        if key is None:
            said = self._ledger_says()
            return "The public JWKS does not contain the key yet" + (f", and {said}" if said else "")
        return key, look

    def _present(self, key: Key, look: PublicResponse, there_since: datetime) -> WaitProgress:
        since = look.last_modified or there_since
        safe_at = safe_to_sign_at(since, max_age_seconds(look))
        earlier = self._safe_before(key)
        if earlier is not None and earlier < safe_at:  # the document changed since because of another key
            sentence = (
                f"Key {key.thumbprint} (kid {escaped(key.kid)}) is in the public JWKS; caches have turned over at "
                f"{moment(earlier)}"
            )
            return WaitProgress(sentence, earlier)
        sentence = (
            f"Key {key_name(key)} is in the public JWKS since "
            f"{moment(since)} at the latest; caches have turned over at {moment(safe_at)}"
        )
        return WaitProgress(sentence, safe_at)

    def _safe_before(self, key: Key) -> datetime | None:
        records = () if self._wanted.ledger is None else self._wanted.ledger.records
        record = next((each for each in records if key_id(each.key) == key_id(key)), None)
        return None if record is None else safe_before(record, self._wanted.known_safe, records)

    def _named(self, keys: tuple[Key, ...]) -> Key | None:
        """The key of the public JWKS that is meant.

        Raises:
            UsageError: The text names several.
        """
        # The rule of all commands that take a KEY is about ledgers; what is public makes one.
        records = tuple(KeyRecord(key, Status.PUBLISHED, 1, self._clock.now()) for key in keys)
        public = Ledger(self._wanted.issuer, records)
        if not match_keys(public, self._wanted.text):
            return None
        found = find_key(public, self._wanted.text)
        if isinstance(found, Reason):
            raise UsageError(found.sentence, remedy=found.remedy)
        return next(key for key in keys if key_id(key) == key_id(found.key))

    def _ledger_says(self) -> str:
        ledger = self._wanted.ledger
        found = () if ledger is None else match_keys(ledger, self._wanted.text)
        if not found:
            return "" if ledger is None else "git does not know it: no apiserver showed it so far"
        if found[0].status is Status.HELD:
            argument = shell_argument(found[0].key.thumbprint)
            return f"it is held; check it, then: oidc-mirror approve {self._wanted.name} {argument}"
        return f"git says that it is {found[0].status}"


def _pause(now: datetime, deadline: datetime, safe_at: datetime | None) -> float:
    """Seconds until the next look: soon, but neither past the deadline nor past the moment that is waited for."""
    until = min(now + POLL, deadline, safe_at or deadline)
    return max((until - now).total_seconds(), 0.0)


def _unreadable(reason: Reason) -> str:
    sentence = reason.sentence.rstrip(".")
    return f"The public JWKS cannot be read: {escaped(sentence)}. {escaped(reason.remedy.rstrip('.'))}"
