"""Ledger files in a history that tests build commit by commit: signed by one key or another, unsigned, or damaged."""

import json
from collections.abc import Mapping

from mirror.addresses import repository_paths
from mirror.history.git_command import blob_id
from mirror.history.ledger_reader import (
    DecidedLedger,
    IssuerHistory,
    VerificationContext,
    load_history,
)
from mirror.model import CommitId, IssuerUrl, Key, KeyRecord, Ledger, Revocation, Status, key_id, trimmed
from mirror.trust.discovery import LedgerCache
from mirror.trust.ledger import write_ledger
from mirror.trust.ledger_signature import Role, sign_ledger
from support.fakes import MOMENT, Commit, FakeHistory, FakeRemote
from support.keys import EC_KEYS, RSA_KEYS
from support.signers import ledger_trust, signer

ISSUER = IssuerUrl("https://oidc.example.com/cluster/one")
OTHER = IssuerUrl("https://oidc.example.com/cluster/two")
PATHS = repository_paths(ISSUER)
A, B, C = RSA_KEYS[0], RSA_KEYS[1], EC_KEYS[0]
OWN, LISTED, UNLISTED = 0, 1, 2
"""Numbers of keys: the mirror's own, one of `allowed_signers`, and an unlisted one."""
SIGNED = VerificationContext(ledger_trust(OWN, LISTED))
TRUSTED = VerificationContext()
SHA1 = 40


def record(key: Key, status: Status = Status.PUBLISHED, generation: int = 1) -> KeyRecord:
    revocation = Revocation(MOMENT, "stolen") if status is Status.REVOKED else None
    missing = MOMENT if status is Status.RETIRING else None
    return trimmed(KeyRecord(key, status, generation, MOMENT, missing_since=missing, revocation=revocation))


def ledger(*entries: Key | KeyRecord, issuer: IssuerUrl = ISSUER) -> Ledger:
    records = [each if isinstance(each, KeyRecord) else record(each) for each in entries]
    return Ledger(issuer, tuple(sorted(records, key=lambda each: key_id(each.key))))


def signature(
    body: bytes, by: int = OWN, *, role: Role = "mirror", name: str = "oidc-mirror", issuer: IssuerUrl = ISSUER
) -> bytes:
    return sign_ledger(body, issuer=issuer, repository=name, role=role, key=signer(number=by))


Files = Mapping[str, bytes]


def unsigned(*entries: Key | KeyRecord) -> Files:
    return {PATHS.ledger: write_ledger(ledger(*entries))}


def signed(*entries: Key | KeyRecord, by: int = OWN, role: Role = "mirror", name: str = "oidc-mirror") -> Files:
    """The files of a ledger that a key signed."""
    body = write_ledger(ledger(*entries))
    return {PATHS.ledger: body, PATHS.signature: signature(body, by, role=role, name=name)}


def decided(files: Files, kid: str = "") -> DecidedLedger:
    """What `local-state.json` says after this mirror decided on these files."""
    made = blob_id(files[PATHS.signature], SHA1) if kid else ""
    return DecidedLedger(blob_id(files[PATHS.ledger], SHA1), made, kid)


class Git(FakeHistory):
    """A history that tests build commit by commit."""

    def add(self, files: Files, *parents: CommitId) -> CommitId:
        return self.commits.add(Commit(parents, files, "x", MOMENT))

    def chain(self, *states: Files) -> CommitId:
        """A commit for each state, one on top of the other."""
        head: tuple[CommitId, ...] = ()
        for files in states:
            head = (self.add(files, *head),)
        return head[0]


def on_remote(*states: Files) -> Git:
    """A mirror with an empty disk that has fetched these commits."""
    history = Git(remote=FakeRemote())
    history.tracking = history.chain(*states)
    return history


def read(
    history: FakeHistory,
    trust: VerificationContext = SIGNED,
    *named: str,
    before: CommitId | None = None,
    ledger_cache: LedgerCache | None = None,
) -> IssuerHistory:
    found = load_history(
        history,
        [ISSUER],
        trust,
        named_commits=lambda _: tuple(named) if named else None,
        before=before,
        ledger_cache=ledger_cache,
    )
    return found.issuers[ISSUER]


def names(found: IssuerHistory) -> list[str]:
    return [event.name for event in found.events]


def codes(found: IssuerHistory) -> list[str]:
    return [reason.code for reason in found.failures]


def damaged(body: bytes, key: Key, **changes: object) -> bytes:
    """The ledger with one record changed so that it does not validate."""
    content = json.loads(body)
    for each in content["keys"]:
        if each["thumbprint"] == key.thumbprint:
            each.update(changes)
    return json.dumps(content).encode()
