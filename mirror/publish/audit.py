"""When each issuer's headers and public URLs were last seen to be right: `audit.json` in the state directory.

A cache and nothing more: what is lost, damaged, from the future, or about other settings is audited now. Only
successes are remembered, so a failure is looked at again in every pass until it is gone.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mirror.config.settings import Publish
from mirror.files import write_atomically
from mirror.model import IssuerUrl, Ledger
from mirror.trust.lifecycle import revoked_thumbprints

FILE_NAME = "audit.json"


@dataclass(frozen=True, slots=True)
class Stamp:
    """When an issuer's objects were last right (aware, UTC), and what they were (`fingerprint`)."""

    at: datetime
    what: str


@dataclass(frozen=True, slots=True)
class Audits:
    """All stamps, by issuer."""

    stamps: Mapping[IssuerUrl, Stamp] = field(default_factory=dict)

    def due(self, issuer: IssuerUrl, publish: Publish, bodies: Iterable[bytes], ledger: Ledger, now: datetime) -> bool:
        """Whether the issuer's headers and public URLs must be looked at in this pass.

        `bodies` are those that should stand: a put of others that was never looked at, because the pass was killed,
        leaves no stamp of theirs. `ledger` is what they were rendered from: after each revocation the object must name
        a commit that knows it.
        """
        stamp = self.stamps.get(issuer)
        if stamp is None or stamp.what != fingerprint(publish, bodies, ledger):
            return True
        age = now - stamp.at
        return not timedelta(0) <= age < timedelta(seconds=publish.audit_interval_seconds)

    def stood_at(self, issuer: IssuerUrl, publish: Publish, bodies: Iterable[bytes], ledger: Ledger) -> datetime | None:
        """When exactly these bodies were last seen to stand as these settings say; None when they never were."""
        stamp = self.stamps.get(issuer)
        return stamp.at if stamp is not None and stamp.what == fingerprint(publish, bodies, ledger) else None


def fingerprint(publish: Publish, bodies: Iterable[bytes], ledger: Ledger) -> str:
    """A short digest of what should be seen: bodies, revocations, and every setting that says how they should stand."""
    digest = hashlib.sha256(repr(publish).encode())
    for body in bodies:
        digest.update(hashlib.sha256(body).digest())
    for thumbprint in sorted(revoked_thumbprints(ledger)):
        digest.update(thumbprint.encode())
    return digest.hexdigest()[:16]


def load(state_dir: Path) -> Audits:
    """The remembered stamps; none when the file is missing or damaged."""
    try:
        entries = json.loads((state_dir / FILE_NAME).read_bytes())["issuers"]
        return Audits({IssuerUrl(url): _stamp(entry) for url, entry in entries.items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Audits()


def _stamp(entry: dict[str, str]) -> Stamp:
    return Stamp(datetime.fromisoformat(entry["at"]).astimezone(UTC), str(entry["what"]))


def save(state_dir: Path, audits: Audits) -> None:
    """Write the stamps by rename, so that a reader or a kill never sees half a file.

    Raises:
        HistoryError: The state directory cannot be written.
    """
    entries = {url: {"at": stamp.at.isoformat(), "what": stamp.what} for url, stamp in sorted(audits.stamps.items())}
    write_atomically(state_dir / FILE_NAME, json.dumps({"version": 1, "issuers": entries}, indent=1) + "\n")
