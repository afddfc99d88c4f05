"""The local state: what only this mirror knows and git does not, in three files of the state directory.

It belongs to this machine alone, because mirrors may ask different replicas. A lost, damaged or newer file is an empty
one: then this mirror works like a pod with an empty disk.

`local-state.json` has what a pass decides by. A pass and operators' commands may write at the same time: each changes
what is there by then (`update`).

`audit.json` says when each issuer's headers and public URLs were last seen to be right.
A cache and nothing more: what is lost, damaged, from the future, or about other settings is audited now. Only
successes are remembered, so a failure is looked at again in every pass until it is gone.

`last-pass.json` says how the last pass ended, and what happened in the last seven days.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mirror.apiserver.kubeconfig import read_kubeconfig
from mirror.apiserver.tls import MAX_PEM_BYTES
from mirror.config.settings import Issuer, PublishSettings
from mirror.files import DAMAGED, read_small, update_atomically, write_atomically
from mirror.history.ledger_reader import DecidedLedger
from mirror.model import Event, IssuerUrl, KeyId, Kid, Ledger, Level, ListedObject, Reason, Thumbprint
from mirror.report import ExitStatus, Report, State
from mirror.text import read_time
from mirror.trust.lifecycle import revoked_thumbprints

LOCAL_STATE_FILE_NAME = "local-state.json"
FORMER_FILE_NAME = "notebook.json"
"""The file of programs before 1.0; it is read once and replaced."""
VERSION = 1


@dataclass(frozen=True, slots=True)
class LocalIssuerState:
    """What is remembered of one issuer.

    `apiservers` is the fingerprint of its apiservers and their CA in the last pass (`apiserver_fingerprint`). `adopted`
    are the digests of public documents that an operator took over and that still stand. `held_missing_since` says
    since when every apiserver has answered without a held key. `tolerated_since` is when another writer's documents
    were first left alone, or last overwritten. `unkept_headers` are headers that the store does not keep.
    `safe_to_sign` is from when on each public key may sign, by the first look that saw it in public.
    `former_jwks` are URLs that the public discovery document named before it was adopted, and when that was.
    """

    apiservers: str = ""
    adopted: frozenset[str] = frozenset()
    decided: DecidedLedger | None = None
    held_missing_since: Mapping[KeyId, datetime] = field(default_factory=dict)
    tolerated_since: datetime | None = None
    unkept_headers: frozenset[str] = frozenset()
    safe_to_sign: Mapping[KeyId, datetime] = field(default_factory=dict)
    former_jwks: Mapping[str, datetime] = field(default_factory=dict)


_NOTHING = LocalIssuerState()


@dataclass(frozen=True, slots=True)
class LocalState:
    """Everything. `has_pushed` says that the git remote had all commits of this machine once.

    `repository` is the `repository.name` under which the ledgers of `issuers` were decided on. `trusted_head` is the
    last commit of this repository that was trusted without signatures; empty where there was none, or none since they
    are checked. `warning` says why the file was ignored.
    """

    issuers: Mapping[IssuerUrl, LocalIssuerState] = field(default_factory=dict)
    has_pushed: bool = False
    repository: str = ""
    trusted_head: str = ""
    is_former: bool = False
    warning: str = ""

    def of(self, issuer: IssuerUrl) -> LocalIssuerState:
        """What is remembered of `issuer`."""
        return self.issuers.get(issuer, _NOTHING)

    def apiservers_changed(self, issuer: IssuerUrl, fingerprint: str) -> bool:
        """Whether the issuer's apiservers or CA differ from those of the last pass that knew any."""
        return self.of(issuer).apiservers not in ("", fingerprint)

    def is_adopted(self, issuer: IssuerUrl, body: bytes) -> bool:
        """Whether an operator here took over these very bytes, and nothing of ours stands in their place yet."""
        return digest_of(body) in self.of(issuer).adopted


def apiserver_fingerprint(issuer: Issuer) -> str:
    """A short digest of where the issuer's documents come from: its apiservers and the bytes of their CA.

    Of a kubeconfig server and CA count, not its token. Replicas that discovery finds may come and go: they are counted.
    """
    ca_file = issuer.tls.ca_file
    try:
        ca = read_small(ca_file, MAX_PEM_BYTES) if ca_file is not None else b""
    except OSError:
        ca = b"unreadable"
    shape = (sorted(issuer.apiservers), issuer.load_balancer, issuer.discover, issuer.tls.server_name)
    return hashlib.sha256(repr(shape).encode() + b"\0" + ca + _of_kubeconfig(issuer)).hexdigest()[:16]


def _of_kubeconfig(issuer: Issuer) -> bytes:
    if issuer.auth.kubeconfig is None:
        return b""
    found = read_kubeconfig(issuer.auth.kubeconfig, issuer.auth.context)
    if isinstance(found, tuple):
        return b"\0unreadable"
    return b"\0" + repr((found.server, found.server_name, found.ca)).encode()


def is_recent(moment: datetime | None, now: datetime, publish: PublishSettings) -> bool:
    """Whether something was less than one audit interval ago; what never was, or is yet to be, is not."""
    return moment is not None and timedelta(0) <= now - moment < timedelta(seconds=publish.audit_interval_seconds)


def digest_of(body: bytes) -> str:
    """What is remembered of a document: its SHA-256, in hexadecimal digits."""
    return hashlib.sha256(body).hexdigest()


def record_adopted(
    state_dir: Path,
    bodies: Mapping[IssuerUrl, Iterable[bytes]],
    *,
    former_jwks: Mapping[IssuerUrl, Mapping[str, datetime]] | None = None,
) -> None:
    """An operator takes these public documents over; that they are not ours is no intrusion.

    `former_jwks` are the URLs that their discovery documents name for the keys, where these are not ours, with the time
    of the adoption.

    Raises:
        HistoryError: The state directory cannot be written.
    """

    def edit(state: LocalState) -> LocalState:
        adopted = {
            issuer: replace(
                state.of(issuer),
                adopted=frozenset(map(digest_of, found)),
                former_jwks={**state.of(issuer).former_jwks, **(former_jwks or {}).get(issuer, {})},
            )
            for issuer, found in bodies.items()
        }
        return replace(state, issuers={**state.issuers, **adopted})

    update(state_dir, edit)


def without_adopted(state: LocalState, issuers: Container[IssuerUrl]) -> LocalState:
    """The state after our own documents of these issuers came to stand: from then on the old ones are drift."""
    known = state.issuers.items()
    return replace(
        state, issuers={url: replace(each, adopted=frozenset()) if url in issuers else each for url, each in known}
    )


# --------------------------------------------------------------------------------------------------- the file


def load_local_state(state_dir: Path) -> LocalState:
    """The state; an empty one, with a warning, when the file is damaged or of a newer program."""
    try:
        body = (state_dir / LOCAL_STATE_FILE_NAME).read_bytes()
    except FileNotFoundError:
        return _load_former(state_dir)
    except OSError as error:
        return LocalState(warning=f"{LOCAL_STATE_FILE_NAME} cannot be read ({error.strerror}); it is ignored.")
    try:
        content = json.loads(body)
        if content["version"] != VERSION:
            return LocalState(
                warning=f"{LOCAL_STATE_FILE_NAME} is of version {content['version']!r}, not {VERSION}; it is ignored."
            )
        return LocalState(
            issuers={IssuerUrl(url): _read_issuer(entry) for url, entry in content["issuers"].items()},
            has_pushed=bool(content["has_pushed"]),
            repository=str(content["repository"]),
            trusted_head=str(content["trusted_head"]),
        )
    except DAMAGED:
        return LocalState(warning=f"{LOCAL_STATE_FILE_NAME} is damaged; it is ignored and written again.")


def _load_former(state_dir: Path) -> LocalState:
    """What the file of an earlier program says that still has a meaning."""
    try:
        content = json.loads((state_dir / FORMER_FILE_NAME).read_bytes())
        sources, adopted = content["sources"], content.get("adopted", {})
        issuers = {
            IssuerUrl(url): LocalIssuerState(str(sources.get(url, "")), frozenset(map(str, adopted.get(url, ()))))
            for url in {**sources, **adopted}
        }
        return LocalState(issuers, has_pushed=bool(content.get("has_pushed", True)), is_former=True)
    except DAMAGED:
        return LocalState()


def _read_issuer(entry: Mapping[str, Any]) -> LocalIssuerState:
    decided, since = entry.get("decided"), entry.get("tolerated_since")
    return LocalIssuerState(
        apiservers=str(entry.get("apiservers", "")),
        adopted=frozenset(map(str, entry.get("adopted", ()))),
        decided=None if decided is None else DecidedLedger(*(str(decided[each]) for each in _DECIDED)),
        held_missing_since=_read_moments(entry.get("held_missing", ()), "since"),
        tolerated_since=None if since is None else read_time(since),
        unkept_headers=frozenset(map(str, entry.get("unkept_headers", ()))),
        safe_to_sign=_read_moments(entry.get("safe_to_sign", ()), "at"),
        former_jwks={str(url): read_time(at) for url, at in entry.get("former_jwks", {}).items()},
    )


def _read_moments(entries: Iterable[Mapping[str, Any]], name: str) -> dict[KeyId, datetime]:
    return {(Kid(str(each["kid"])), Thumbprint(str(each["thumbprint"]))): read_time(each[name]) for each in entries}


def _moments(moments: Mapping[KeyId, datetime], name: str) -> list[dict[str, str]]:
    return [
        {"kid": kid, "thumbprint": thumbprint, name: moment.isoformat()}
        for (kid, thumbprint), moment in sorted(moments.items())
    ]


_DECIDED = ("ledger", "signature", "kid")


def update(state_dir: Path, edit: Callable[[LocalState], LocalState]) -> None:
    """Write what `edit` makes of the state as it is now; nothing where that is the same.

    Raises:
        HistoryError: The state directory cannot be written.
    """

    def edited() -> str | None:
        before = load_local_state(state_dir)
        after = edit(before)
        return None if after == before and not before.is_former else _text(after)

    update_atomically(state_dir / LOCAL_STATE_FILE_NAME, edited)
    # Crash window: both files stand; the new one counts.
    with suppress(OSError):
        (state_dir / FORMER_FILE_NAME).unlink(missing_ok=True)


def _text(state: LocalState) -> str:
    content = {
        "version": VERSION,
        "repository": state.repository,
        "trusted_head": state.trusted_head,
        "has_pushed": state.has_pushed,
        "issuers": {url: _members(each) for url, each in sorted(state.issuers.items()) if each != _NOTHING},
    }
    return json.dumps(content, indent=1) + "\n"


def _members(state: LocalIssuerState) -> dict[str, object]:
    decided, since = state.decided, state.tolerated_since
    members: dict[str, object] = {
        "apiservers": state.apiservers,
        "adopted": sorted(state.adopted),
        "decided": decided and {each: getattr(decided, each) for each in _DECIDED},
        "held_missing": _moments(state.held_missing_since, "since"),
        "tolerated_since": since and since.isoformat(),
        "unkept_headers": sorted(state.unkept_headers),
        "safe_to_sign": _moments(state.safe_to_sign, "at"),
        "former_jwks": {url: at.isoformat() for url, at in sorted(state.former_jwks.items())},
    }
    return {name: value for name, value in members.items() if value}


VERIFIED_FILE_NAME = "audit.json"


@dataclass(frozen=True, slots=True)
class VerifiedAt:
    """When an issuer's objects were last right (aware, UTC), and what they were (`fingerprint`).

    `newest` is the latest Last-Modified of these objects; None where a put of ours was not seen again yet.
    """

    at: datetime
    what: str
    newest: datetime | None = None

    def is_older_than(self, listed: ListedObject) -> bool:
        """Whether the object was written after it was right, if only with other headers. S3 counts whole seconds."""
        return self.newest is None or self.newest.replace(microsecond=0) < listed.last_modified.replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class VerificationCache:
    """All stamps, by issuer."""

    stamps: Mapping[IssuerUrl, VerifiedAt] = field(default_factory=dict)

    def is_due(
        self, issuer: IssuerUrl, publish: PublishSettings, bodies: Iterable[bytes], ledger: Ledger, now: datetime
    ) -> bool:
        """Whether the issuer's headers and public URLs must be looked at in this pass.

        `bodies` are those that should stand: a put of others that was never looked at, because the pass was killed,
        leaves no stamp of theirs. `ledger` is what they were rendered from: after each revocation the object must name
        a commit that knows it.
        """
        return not is_recent(self.last_verified_at(issuer, publish, bodies, ledger), now, publish)

    def last_verified_at(
        self, issuer: IssuerUrl, publish: PublishSettings, bodies: Iterable[bytes], ledger: Ledger
    ) -> datetime | None:
        """When exactly these bodies were last seen to stand as these settings say; None when they never were."""
        stamp = self.stamps.get(issuer)
        return stamp.at if stamp is not None and stamp.what == fingerprint(publish, bodies, ledger) else None


def fingerprint(publish: PublishSettings, bodies: Iterable[bytes], ledger: Ledger) -> str:
    """A short digest of what should be seen: bodies, revocations, and every setting that says how they should stand."""
    digest = hashlib.sha256(repr(publish).encode())
    for body in bodies:
        digest.update(hashlib.sha256(body).digest())
    for thumbprint in sorted(revoked_thumbprints(ledger)):
        digest.update(thumbprint.encode())
    return digest.hexdigest()[:16]


def load_verified(state_dir: Path) -> VerificationCache:
    """The remembered stamps; none when the file is missing or damaged."""
    try:
        entries = json.loads((state_dir / VERIFIED_FILE_NAME).read_bytes())["issuers"]
        return VerificationCache({IssuerUrl(url): _stamp(entry) for url, entry in entries.items()})
    except DAMAGED:
        return VerificationCache()


def _stamp(entry: dict[str, str]) -> VerifiedAt:
    newest = read_time(entry["newest"]) if "newest" in entry else None
    return VerifiedAt(read_time(entry["at"]), str(entry["what"]), newest)


def _stamp_members(stamp: VerifiedAt) -> dict[str, str]:
    newest = {} if stamp.newest is None else {"newest": stamp.newest.isoformat()}
    return {"at": stamp.at.isoformat(), "what": stamp.what, **newest}


def save_verified(state_dir: Path, audits: VerificationCache) -> None:
    """Write the stamps by rename, so that a reader or a kill never sees half a file.

    Raises:
        HistoryError: The state directory cannot be written.
    """
    entries = {url: _stamp_members(stamp) for url, stamp in sorted(audits.stamps.items())}
    write_atomically(state_dir / VERIFIED_FILE_NAME, json.dumps({"version": 1, "issuers": entries}, indent=1) + "\n")


# ---------------------------------------------------------------------------------------------- the last pass

LAST_RESULT_FILE_NAME = "last-pass.json"
LAST_PASS_VERSION = 1
KEPT_FOR = timedelta(days=7)
MOST_KEPT_EVENTS = 500
"""Limits the file: a writer of the bucket or the remote could cause any number of events."""
KEPT_EVENTS = frozenset(
    {
        "bucket.drift",
        "bucket.header_not_kept",
        "drift.repaired",
        "history.mismatch",
        "history.rewritten",
        "keys.replaced",
        "ledger.damaged",
        "ledger.lost",
        "ledger.unknown_signer",
        "ledger.unsigned",
        "snapshot.unknown",
    }
)
"""Events that need attention although a later pass finds everything in order."""


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of a pass at `at`, and of every later one up to `until`. `issuer` is empty where it is of no issuer."""

    at: datetime
    until: datetime
    name: str
    issuer: str
    event: Event


@dataclass(frozen=True, slots=True)
class LastResult:
    """What the last pass over one issuer found."""

    at: datetime
    state: State
    rotating: bool


@dataclass(frozen=True, slots=True)
class LastPass:
    """The last pass: when it was, its exit status, and its failures that are of no issuer.

    `issuers` has the result of each issuer's own last pass, which may be an earlier one (`--only`, an operator's
    command). `events` are those of the last seven days, oldest first. `whole_since` is when the daemon's pass began
    that this is the end of; None while a pass may go on, and of every other pass.
    """

    at: datetime
    exit_status: ExitStatus
    failures: tuple[Reason, ...] = ()
    issuers: Mapping[IssuerUrl, LastResult] = field(default_factory=dict)
    events: tuple[PastEvent, ...] = ()
    whole_since: datetime | None = None


def remember_pass(before: LastPass | None, report: Report, left_alone: Collection[IssuerUrl] = ()) -> LastPass:
    """What is remembered after a pass. Pure.

    Args:
        before: What was remembered until now.
        report: The pass.
        left_alone: Configured issuers that this pass leaves alone.
    """
    known = {} if before is None else dict(before.issuers)
    results = {each.issuer: LastResult(report.now, each.state, each.rotating) for each in report.issuers}
    if report.issuers:
        known = {url: known[url] for url in left_alone if url in known}
    elif report.failures:  # the pass came to no issuer: what was found before is no longer sure
        known = {url: replace(each, at=report.now, state=State.FAILED) for url, each in known.items()}
    return LastPass(
        report.now,
        report.exit_status,
        report.failures,
        known | results,
        _events(before, report),
    )


def remember_events(before: LastPass, report: Report) -> LastPass:
    """What is remembered after a pass that was broken off: what it saw, and the result of the pass before. Pure."""
    return replace(before, events=_events(before, report))


def _events(before: LastPass | None, report: Report) -> tuple[PastEvent, ...]:
    return tuple(_joined_events(before, report))[-MOST_KEPT_EVENTS:]


def _joined_events(before: LastPass | None, report: Report) -> Iterator[PastEvent]:
    """The events of seven days; one that goes on from pass to pass is one event."""
    new = {_identity(name, issuer, event): (name, issuer, event) for name, issuer, event in _new_events(report)}
    for past in before.events if before is not None else ():
        goes_on = before is not None and past.until >= before.at  # later where a pass was broken off
        if goes_on and new.pop(_identity(past.name, past.issuer, past.event), None) is not None:
            past = replace(past, until=report.now)  # noqa: PLW2901  the same event, up to now
        if report.now - past.until < KEPT_FOR:
            yield past
    yield from (PastEvent(report.now, report.now, name, issuer, event) for name, issuer, event in new.values())


def _new_events(report: Report) -> Iterator[tuple[str, str, Event]]:
    yield from (("", "", event) for event in report.events if event.name in KEPT_EVENTS)
    for each in report.issuers:
        yield from ((each.name, each.issuer, event) for event in each.events if event.name in KEPT_EVENTS)


def _identity(name: str, issuer: str, event: Event) -> tuple[str, str, str, str]:
    return name, issuer, event.name, event.sentence


# --------------------------------------------------------------------------------------------------- the file


def load_last_pass(state_dir: Path) -> LastPass | None:
    """What is remembered; None when there is no file, or none that can be read."""
    try:
        content = json.loads((state_dir / LAST_RESULT_FILE_NAME).read_bytes())
        if content["version"] != LAST_PASS_VERSION:
            return None
        return LastPass(
            read_time(content["time"]),
            ExitStatus(content["exit_status"]),
            tuple(Reason(each["code"], each["sentence"], each["remedy"]) for each in content["failures"]),
            {
                IssuerUrl(url): LastResult(read_time(each["time"]), State(each["state"]), bool(each["rotating"]))
                for url, each in content["issuers"].items()
            },
            tuple(_past(each) for each in content["events"][-MOST_KEPT_EVENTS:]),
            read_time(content["whole_since"]) if content.get("whole_since") else None,
        )
    except DAMAGED:
        return None


def save_last_pass(state_dir: Path, last: LastPass) -> None:
    """Write the file by rename.

    Raises:
        HistoryError: The state directory cannot be written.
    """
    content = {
        "version": LAST_PASS_VERSION,
        "time": last.at.isoformat(),
        "exit_status": int(last.exit_status),
        "failures": [{"code": each.code, "sentence": each.sentence, "remedy": each.remedy} for each in last.failures],
        "issuers": {
            url: {"time": each.at.isoformat(), "state": str(each.state), "rotating": each.rotating}
            for url, each in sorted(last.issuers.items())
        },
        "events": [past_event_json(each) for each in last.events],
        "whole_since": None if last.whole_since is None else last.whole_since.isoformat(),
    }
    write_atomically(state_dir / LAST_RESULT_FILE_NAME, json.dumps(content, indent=1) + "\n")


def past_event_json(past: PastEvent) -> dict[str, object]:
    """An event of the last seven days as plain data."""
    return {
        "time": past.at.isoformat(),
        "until": past.until.isoformat(),
        "name": past.name or None,
        "issuer": past.issuer or None,
        "event": past.event.name,
        "level": str(past.event.level),
        "sentence": past.event.sentence,
        "fields": dict(past.event.fields),
    }


def _past(entry: Mapping[str, Any]) -> PastEvent:
    fields = {str(name): str(value) for name, value in entry["fields"].items()}
    event = Event(str(entry["event"]), str(entry["sentence"]), Level(entry["level"]), fields)
    issuer = str(entry["issuer"] or "")
    return PastEvent(read_time(entry["time"]), read_time(entry["until"]), str(entry["name"] or ""), issuer, event)
