"""What this machine remembers beside git: the sources of each issuer, the keys that it vouches for, and the revoked.

`notebook.json` in the state directory. It belongs to this mirror alone, because mirrors may ask different replicas and
trust different things. A key is vouched for when this mirror saw it on an apiserver or in the public object, or when an
operator decided about it here; never because a branch says so. When the file is lost every public key needs a witness
again, and the public object usually is one.

A pass and operators' commands may write at the same time: everybody changes what is there by then (`change`), and takes
away only what he knew.
"""

import hashlib
import json
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mirror.config.settings import Issuer
from mirror.files import update_atomically
from mirror.model import AnyKey, IssuerUrl, Kid, Thumbprint
from mirror.source.kubeconfig import read_kubeconfig

FILE_NAME = "notebook.json"

PublicId = tuple[Kid, Thumbprint, str]
"""A key as it stands in a public set: its identity, and its `alg`, which no thumbprint covers (RFC 7638)."""
EMPTIED: PublicId = (Kid(""), Thumbprint(""), "")
"""Stands among keys for "none is public, by revocation": that too needs a witness. No real kid is empty."""


_MAY_BE_EMPTY = frozenset({EMPTIED})


def public_id(key: AnyKey) -> PublicId:
    """What is vouched for when `key` is."""
    return (key.kid, key.thumbprint, key.alg)


@dataclass(frozen=True, slots=True)
class Notebook:
    """All memories, by issuer. `waiting_since` tells since when something of an issuer waits for a witness.

    `adopted` are the digests (`digest_of`) of public documents that an operator took over and that still stand.
    `has_pushed` tells that the git remote had everything of this machine once: it is no pod whose disk is new.
    `revoked` is the key material that was ever known to be revoked: who breaks a ledger and then mends it without a
    revocation must not bring the key back.
    """

    sources: Mapping[IssuerUrl, str] = field(default_factory=dict)
    vouched: Mapping[IssuerUrl, frozenset[PublicId]] = field(default_factory=dict)
    waiting_since: Mapping[IssuerUrl, datetime] = field(default_factory=dict)
    adopted: Mapping[IssuerUrl, frozenset[str]] = field(default_factory=dict)
    revoked: Mapping[IssuerUrl, frozenset[Thumbprint]] = field(default_factory=dict)
    has_pushed: bool = False

    def sources_changed(self, issuer: IssuerUrl, sources: str) -> bool:
        """Whether the issuer's apiservers or CA (`sources_of`) differ from those of the last pass that knew any."""
        return self.sources.get(issuer, sources) != sources

    def with_sources(self, sources: Mapping[IssuerUrl, str]) -> "Notebook":
        """The notebook after a pass that decided about these issuers by what such `sources` said."""
        return replace(self, sources={**self.sources, **sources})

    def with_vouched(
        self,
        keys: Mapping[IssuerUrl, frozenset[PublicId]],
        known: "Notebook",
        *,
        refilled: Container[IssuerUrl] = frozenset(),
    ) -> "Notebook":
        """The notebook after a pass that knew `known`: these keys, and of others those that came up meanwhile.

        An operator's word that a set may be empty stays until it was: he says it ahead of his commit, and the pass may
        have read the one without the other.
        """
        nobody = frozenset[PublicId]()
        vouched = {}
        for url, new in keys.items():
            now, before = self.vouched.get(url, nobody), known.vouched.get(url, nobody)
            vouched[url] = new | (now - before) | (now & _MAY_BE_EMPTY if url not in refilled else nobody)
        waiting = {url: since for url, since in self.waiting_since.items() if url not in keys}
        return replace(self, vouched={**self.vouched, **vouched}, waiting_since=waiting)

    def without_vouched(self, keys: Mapping[IssuerUrl, frozenset[PublicId]]) -> "Notebook":
        """The notebook after it turned out that nothing was decided about these keys."""
        left = {url: self.vouched.get(url, frozenset()) - gone for url, gone in keys.items()}
        return replace(self, vouched={**self.vouched, **left})

    def with_waiting(self, since: Mapping[IssuerUrl, datetime]) -> "Notebook":
        """The notebook after something of these issuers had no witness; the first time counts."""
        return replace(self, waiting_since={**since, **self.waiting_since})

    def with_revoked(self, keys: Mapping[IssuerUrl, frozenset[Thumbprint]]) -> "Notebook":
        """The notebook after these were known to be revoked; none is ever forgotten."""
        known = {url: self.revoked.get(url, frozenset()) | new for url, new in keys.items()}
        return replace(self, revoked={**self.revoked, **{url: them for url, them in known.items() if them}})

    def is_adopted(self, url: IssuerUrl, body: bytes) -> bool:
        """Whether an operator here took over these very bytes, and nothing of ours stands in their place yet."""
        return digest_of(body) in self.adopted.get(url, frozenset())

    def without_adopted(self, urls: Container[IssuerUrl]) -> "Notebook":
        """The notebook after our own documents of these issuers came to stand: from then on the old ones are drift."""
        return replace(self, adopted={url: digests for url, digests in self.adopted.items() if url not in urls})


def sources_of(issuer: Issuer) -> str:
    """A short digest of where the issuer's documents come from: its apiservers and the bytes of their CA.

    Of a kubeconfig server and CA count, not its token. Replicas that discovery finds may come and go: they are counted.
    """
    ca_file = issuer.tls.ca_file
    try:
        ca = ca_file.read_bytes() if ca_file is not None else b""
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


def digest_of(body: bytes) -> str:
    """What is remembered of a document: its SHA-256, in hexadecimal digits."""
    return hashlib.sha256(body).hexdigest()


def note_adopted(state_dir: Path, bodies: Mapping[IssuerUrl, Iterable[bytes]]) -> None:
    """An operator takes these public documents over; that they are not ours is no intrusion.

    Raises:
        HistoryError: The state directory cannot be written.
    """
    digests = {url: frozenset(map(digest_of, found)) for url, found in bodies.items()}
    change(state_dir, lambda notes: replace(notes, adopted={**notes.adopted, **digests}))


def vouch(state_dir: Path, keys: Mapping[IssuerUrl, frozenset[PublicId]]) -> Mapping[IssuerUrl, frozenset[PublicId]]:
    """Besides what is vouched for, these keys are from now on: this pass believes them, or an operator decides.

    Returns:
        Those that were not vouched for before.

    Raises:
        HistoryError: The state directory cannot be written.
    """
    new: dict[IssuerUrl, frozenset[PublicId]] = {}

    def add(notes: Notebook) -> Notebook:
        new.update({url: ids - notes.vouched.get(url, frozenset()) for url, ids in keys.items()})
        return notes.with_vouched({url: notes.vouched.get(url, frozenset()) | ids for url, ids in keys.items()}, notes)

    change(state_dir, add)
    return new


def load(state_dir: Path) -> Notebook:
    """The notebook; an empty one when the file is missing or damaged."""
    try:
        content = json.loads((state_dir / FILE_NAME).read_bytes())
        return Notebook(
            sources={IssuerUrl(url): str(digest) for url, digest in content["sources"].items()},
            vouched={
                IssuerUrl(url): frozenset(map(_public_id, keys))
                for url, keys in content.get("vouched_with_alg", content["vouched"]).items()
            },
            waiting_since={IssuerUrl(url): _moment(text) for url, text in content["waiting_since"].items()},
            adopted={IssuerUrl(url): frozenset(map(str, d)) for url, d in content.get("adopted", {}).items()},
            revoked={
                IssuerUrl(url): frozenset(Thumbprint(str(each)) for each in keys)
                for url, keys in content.get("revoked", {}).items()
            },
            has_pushed=bool(content.get("has_pushed", True)),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Notebook()


def _public_id(entry: Any) -> PublicId:
    # Earlier programs noted no `alg`: their keys need a witness once more.
    kid, thumbprint, alg = entry if len(entry) == len(EMPTIED) else (*entry, "")
    return (Kid(str(kid)), Thumbprint(str(thumbprint)), str(alg))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def save(state_dir: Path, notebook: Notebook) -> None:
    """Write the notebook, whatever the file says.

    Raises:
        HistoryError: The state directory cannot be written.
    """
    change(state_dir, lambda _: notebook)


def change(state_dir: Path, edit: Callable[[Notebook], Notebook]) -> None:
    """Write what `edit` makes of the notebook as it is now; nothing where that is the same.

    Raises:
        HistoryError: The state directory cannot be written.
    """

    def edited() -> str | None:
        before = load(state_dir)
        after = edit(before)
        return None if after == before else _text(after)

    update_atomically(state_dir / FILE_NAME, edited)


def _text(notebook: Notebook) -> str:
    content = {
        "version": 1,
        "sources": dict(sorted(notebook.sources.items())),
        # As the programs before read it: after a downgrade nothing is forgotten.
        "vouched": {url: sorted({each[:2] for each in keys}) for url, keys in sorted(notebook.vouched.items())},
        "vouched_with_alg": {url: sorted(keys) for url, keys in sorted(notebook.vouched.items())},
        "waiting_since": {url: since.isoformat() for url, since in sorted(notebook.waiting_since.items())},
        "adopted": {url: sorted(digests) for url, digests in sorted(notebook.adopted.items())},
        "revoked": {url: sorted(thumbprints) for url, thumbprints in sorted(notebook.revoked.items())},
        "has_pushed": notebook.has_pushed,
    }
    return json.dumps(content, indent=1) + "\n"
