"""What this machine remembers beside git: the sources of each issuer, and keys of the remote that nobody vouched for.

`notebook.json` in the state directory. It belongs to this mirror alone, because mirrors may ask different replicas and
trust different things. When it is lost the mirror is only more careful, or a key's retirement is not started anew.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mirror.config.settings import Issuer
from mirror.files import write_atomically
from mirror.model import IssuerUrl, KeyId, Kid, Thumbprint

FILE_NAME = "notebook.json"

Unvouched = Mapping[KeyId, datetime]
"""Keys that only the remote says are public, and since when we know."""

EMPTIED: KeyId = (Kid(""), Thumbprint(""))
"""Stands among the unvouched for revocations that would leave an issuer without any key. No real kid is empty."""


@dataclass(frozen=True, slots=True)
class Notebook:
    """Both memories, by issuer."""

    sources: Mapping[IssuerUrl, str] = field(default_factory=dict)
    unvouched: Mapping[IssuerUrl, Unvouched] = field(default_factory=dict)

    def sources_changed(self, issuer: Issuer) -> bool:
        """Whether the issuer's apiservers or CA differ from those of the last pass that knew any."""
        known = self.sources.get(issuer.issuer)
        return known is not None and known != sources_of(issuer)

    def with_sources(self, issuers: Iterable[Issuer]) -> "Notebook":
        """The notebook after a pass over `issuers`."""
        return replace(self, sources={**self.sources, **{each.issuer: sources_of(each) for each in issuers}})

    def with_unvouched(self, found: Mapping[IssuerUrl, Unvouched]) -> "Notebook":
        """The notebook with what a plan found; an issuer without any such key is forgotten."""
        merged = {**self.unvouched, **found}
        return replace(self, unvouched={url: keys for url, keys in merged.items() if keys})


def sources_of(issuer: Issuer) -> str:
    """A short digest of where the issuer's documents come from: its apiservers and the bytes of their CA."""
    ca_file = issuer.tls.ca_file
    try:
        ca = ca_file.read_bytes() if ca_file is not None else b""
    except OSError:
        ca = b"unreadable"
    shape = (sorted(issuer.apiservers), issuer.load_balancer, issuer.discover, issuer.tls.server_name)
    return hashlib.sha256(repr(shape).encode() + b"\0" + ca).hexdigest()[:16]


def vouch(state_dir: Path, url: IssuerUrl) -> None:
    """An operator decided about an issuer: what only the remote named is vouched for from now on.

    Raises:
        HistoryError: The state directory cannot be written.
    """
    save(state_dir, load(state_dir).with_unvouched({url: {}}))


def load(state_dir: Path) -> Notebook:
    """The notebook; an empty one when the file is missing or damaged."""
    try:
        content = json.loads((state_dir / FILE_NAME).read_bytes())
        sources = {IssuerUrl(url): str(digest) for url, digest in content["sources"].items()}
        unvouched = {IssuerUrl(url): dict(map(_key, keys)) for url, keys in content["unvouched"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Notebook()
    return Notebook(sources, unvouched)


def _key(entry: Any) -> tuple[KeyId, datetime]:
    since = datetime.fromisoformat(entry["since"]).astimezone(UTC)
    return (Kid(entry["kid"]), Thumbprint(entry["thumbprint"])), since


def save(state_dir: Path, notebook: Notebook) -> None:
    """Write the notebook, unless it says what the file says already.

    Raises:
        HistoryError: The state directory cannot be written.
    """
    if notebook == load(state_dir):
        return
    unvouched = {
        url: [{"kid": kid, "thumbprint": print_, "since": since.isoformat()} for (kid, print_), since in keys.items()]
        for url, keys in sorted(notebook.unvouched.items())
    }
    content = {"version": 1, "sources": dict(sorted(notebook.sources.items())), "unvouched": unvouched}
    write_atomically(state_dir / FILE_NAME, json.dumps(content, indent=1) + "\n")
