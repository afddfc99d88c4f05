"""`approve`, `revoke` and `adopt --branch` with a real git remote: exit status and remote content.

Neither the bucket nor an apiserver is reachable, so the pass afterwards always fails.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mirror.cli.main import main
from mirror.history.ledger_reader import HistoryState, VerificationContext, load_history
from mirror.history.ledger_store import Committer, LedgerChange, commit_ledgers
from mirror.history.repository import GitRepository
from mirror.model import IssuerUrl, Key, KeyRecord, Ledger, Revocation, Status, key_id, trimmed
from mirror.trust.ledger import LedgerRead, read_ledger
from mirror.trust.ledger_signature import LedgerTrust, SignatureHeader
from support.fakes import MOMENT
from support.gits import bare, environment, files_at, git, open_repository
from support.keys import RSA_KEYS, with_kid
from support.signers import key_file, ledger_trust, public_line, signer, write_key
from support.situations import BASE_URL, ISSUER, LEDGER

A, B, C, D = RSA_KEYS[:4]
MIRROR, OPERATOR, UNLISTED = 0, 1, 2
SIGNATURE = f"{LEDGER}.jws"
NOWHERE = "https://127.0.0.1:1"


def record(key: Key, status: Status = Status.PUBLISHED, generation: int = 1) -> KeyRecord:
    return trimmed(
        KeyRecord(
            key,
            status,
            generation,
            MOMENT,
            missing_since=MOMENT if status is Status.RETIRING else None,
            held_because="policy" if status is Status.HELD else None,
            revocation=Revocation(MOMENT, "stolen") if status is Status.REVOKED else None,
        )
    )


def ledger(*entries: Key | KeyRecord) -> Ledger:
    records = [each if isinstance(each, KeyRecord) else record(each) for each in entries]
    return Ledger(ISSUER, tuple(sorted(records, key=lambda each: key_id(each.key))))


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


@dataclass
class Operator:
    """An operator's machine: a configuration, a remote shared with mirrors, and no other reachable service."""

    folder: Path
    remote: Path
    repository: dict[str, Any] = field(default_factory=dict)

    def run(self, *words: str) -> Ended:
        """Run a command of the program in this process."""
        config = {
            "state_dir": "state",
            "repository": {"remote": str(self.remote), **self.repository},
            "limits": {"connect": "100ms", "total": "200ms", "source_deadline": "500ms"},
            "publish": {
                "bucket": "oidc-bucket",
                "region": "ap-southeast-2",
                "base_url": BASE_URL,
                "endpoint_url": NOWHERE,
                "readback": {"connect_to": "127.0.0.1:1"},
            },
            "issuers": [{"name": "syd-prod", "issuer": ISSUER, "apiservers": [NOWHERE]}],
        }
        path = self.folder / "mirror.yaml"
        path.write_text(json.dumps(config))
        env: dict[str, str | None] = {name: None for name in os.environ if name.startswith(("AWS_", "GIT_", "OIDC_"))}
        env |= environment(self.folder) | {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
        env |= {"AWS_EC2_METADATA_DISABLED": "true"}
        with CliRunner().isolation(env=env) as (out, err, _):
            status = main(["--config", str(path), *words])
            return Ended(status, out.getvalue().decode(), err.getvalue().decode())

    def seed(self, *ledgers: Ledger, keys: LedgerTrust | None = None) -> str:
        """Commits and pushes ledgers as a mirror, and returns the head of the remote."""
        with open_repository(self.folder, name="mirror.git", remote=self.remote) as repository:
            for each in ledgers:
                push(repository, each, keys)
        return self.head()

    def head(self) -> str:
        return git(self.remote, "rev-parse", "main")

    def files(self) -> dict[str, bytes]:
        return files_at(self.remote)

    def statuses(self) -> dict[str, Status]:
        """The statuses in the remote's ledger, by the number of the key."""
        found = read_ledger(self.files()[LEDGER], issuer=ISSUER)
        assert isinstance(found, LedgerRead)
        names = {key.thumbprint: name for name, key in zip("ABCD", (A, B, C, D), strict=True)}
        return {names[each.key.thumbprint]: each.status for each in found.ledger.records}

    def signed_by(self, keys: LedgerTrust) -> tuple[str, str]:
        """The kid and the role of the signature on the remote."""
        files = self.files()
        verdict = keys.verify(files[LEDGER], files[SIGNATURE], ISSUER)
        assert isinstance(verdict, SignatureHeader)
        return verdict.kid, verdict.role


def push(repository: GitRepository, changed: Ledger, keys: LedgerTrust | None) -> None:
    repository.fetch(shallow=False)

    def reread(issuers: Iterable[IssuerUrl]) -> HistoryState:
        return load_history(repository, issuers, VerificationContext(keys))

    changes = {ISSUER: LedgerChange(changed)}
    done = commit_ledgers(
        Committer(repository, reread, keys), reread([ISSUER]), changes, message="x\n", now=MOMENT, push=True
    )
    assert done.pushed


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path, bare(tmp_path / "remote.git"))


# -------------------------------------------------------------------------------------------------- revoke


def revoke(operator: Operator, *words: str) -> Ended:
    return operator.run("revoke", "syd-prod", "--reason", "leaked", "--no-pass", *words)


def test_revocation_without_a_pass_says_that_the_key_is_still_public(operator: Operator) -> None:
    """Exit 0: committed and pushed. The mirrors remove the key from the bucket."""
    operator.seed(ledger(A, B))
    ended = revoke(operator, "--", A.thumbprint)
    assert ended.status == 0, ended.err
    assert "Committed and pushed as " in ended.out
    assert "The key is still public: the next pass of a mirror takes it away." in ended.out
    assert operator.statuses() == {"A": Status.REVOKED, "B": Status.PUBLISHED}
    again = revoke(operator, "--", A.thumbprint)
    assert (again.status, "Recorded already" in again.out) == (0, True)
    assert "still public" not in again.out


def test_revocation_of_a_key_that_is_not_public_has_no_warning(operator: Operator) -> None:
    """A held key was never public."""
    operator.seed(ledger(A, record(B, Status.HELD)))
    ended = revoke(operator, "--", B.thumbprint)
    assert (ended.status, "still public" in ended.out) == (0, False)


@pytest.mark.parametrize(
    ("words", "status", "left"),
    [
        (("--", A.thumbprint), 3, {"A": Status.PUBLISHED}),
        (("--all",), 3, {"A": Status.PUBLISHED}),
        (("--last", "--yes", "--", A.thumbprint), 0, {"A": Status.REVOKED}),
        (("--all", "--last", "--yes"), 0, {"A": Status.REVOKED}),
    ],
    ids=["the-last", "all", "the-last-with-last", "all-with-last"],
)
def test_last_key_is_revoked_only_on_purpose(
    operator: Operator, words: tuple[str, ...], status: int, left: dict[str, Status]
) -> None:
    """Exit 3: the revocation is held, nothing is committed, and the remedy names `--last`."""
    head = operator.seed(ledger(A))
    ended = revoke(operator, *words)
    assert (ended.status, operator.statuses()) == (status, left)
    assert (operator.head() == head) is (status == 3)
    assert ("held: " in ended.err and "--last" in ended.err) is (status == 3)


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        (("revoke", "syd-prod", "--reason", "x"), "Give one KEY, or `--all`."),
        (("revoke", "syd-prod", "--reason", "x", "--all", "--", "abcdefgh"), "Give one KEY, or `--all`."),
        (("revoke", "syd-prod", "--", "abcdefgh"), "--reason"),
        (("revoke", "mel-prod", "--reason", "x", "--all"), "mel-prod"),
        (("revoke", "syd-prod", "--reason", "x", "--", "unknown-key"), "keys.revoked"),
        (("revoke", "syd-prod", "--reason", "x", "--", "shared-kid"), "2 keys have a kid or thumbprint"),
        (("revoke", "syd-prod", "--reason", "a\nb", "--", A.thumbprint), "printable characters"),
        (("approve", "syd-prod", "unknown-key"), "No key has a kid or thumbprint"),
        (("approve", "syd-prod", "shared-kid"), "2 keys have a kid or thumbprint"),
        (("approve", "syd-prod", "--", A.thumbprint), "is revoked, and a revoked key never comes back"),
        (("approve", "syd-prod", "--", B.thumbprint), "is retiring, not held"),
        (("adopt",), "It must be clear what is adopted"),
        (("adopt", "syd-prod", "--all"), "It must be clear what is adopted"),
        (("adopt", "syd-prod", "--branch"), "It must be clear what is adopted"),
        (("adopt", "syd-prod"), "The history knows syd-prod already"),
        (("adopt", "--branch"), "Ledgers are not signed here"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(operator: Operator, words: tuple[str, ...], reported: str) -> None:
    """Exit 2: nothing was done."""
    head = operator.seed(
        ledger(
            record(A, Status.REVOKED),
            record(B, Status.RETIRING),
            with_kid(C, "shared-kid-1"),
            record(with_kid(D, "shared-kid-2"), Status.HELD),
        )
    )
    ended = operator.run(*words)
    assert (ended.status, reported in ended.err) == (2, True), ended.err
    assert operator.head() == head


def test_revocation_of_everything_where_nothing_is_known_is_a_usage_error(operator: Operator) -> None:
    """There is no key yet."""
    with open_repository(operator.folder, name="mirror.git", remote=operator.remote) as repository:
        repository.commit(base=None, parents=(), changes={"x": b"x"}, message="x", when=MOMENT, expect=None)
        repository.push()
    ended = revoke(operator, "--all")
    assert (ended.status, "No key of syd-prod is known yet." in ended.err) == (2, True)


@pytest.mark.parametrize("command", ["revoke", "approve"])
def test_unpushed_decision_is_a_failure(operator: Operator, command: str) -> None:
    """Exit 1: a hook rejects the push, or the remote is unreachable. The message says that nothing was decided."""
    head = operator.seed(ledger(A, B, record(C, Status.HELD)))
    hook = operator.remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    key = C.thumbprint
    words = ("revoke", "--reason", "x") if command == "revoke" else ("approve",)
    ended = operator.run(*words, "syd-prod", "--no-pass", "--", key)
    assert (ended.status, "was not pushed, so nothing was decided" in ended.err) == (1, True)
    assert operator.head() == head
    operator.remote.rename(operator.folder / "away.git")
    ended = operator.run(*words, "syd-prod", "--no-pass", "--", key)
    assert (ended.status, "could not be fetched" in ended.err) == (1, True)


def test_revocation_with_a_failed_pass_is_a_failure(operator: Operator) -> None:
    """Exit 1: the revocation is committed. Whether the key is gone is unknown, because the bucket does not answer."""
    operator.seed(ledger(A, B))
    ended = operator.run("revoke", "syd-prod", "--reason", "leaked", "--", A.thumbprint)
    assert ended.status == 1
    assert "Committed and pushed as " in ended.out
    assert "is not known" in ended.err
    assert "deny its tokens there until then" in ended.out
    assert operator.statuses()["A"] is Status.REVOKED


# ------------------------------------------------------------------------------------------------- approve


def test_approved_key_is_public_by_the_ledger(operator: Operator) -> None:
    """Exit 0: committed and pushed. A second approval changes nothing."""
    operator.seed(ledger(A, record(B, Status.HELD)))
    ended = operator.run("approve", "syd-prod", "--no-pass", "--", B.thumbprint[:8])
    assert (ended.status, "Committed and pushed as " in ended.out) == (0, True), ended.err
    assert f"thumbprint  {B.thumbprint}" in ended.out
    assert operator.statuses() == {"A": Status.PUBLISHED, "B": Status.PUBLISHED}
    again = operator.run("approve", "syd-prod", "--no-pass", "--", B.thumbprint)
    assert (again.status, "Recorded already" in again.out) == (0, True)


def test_approval_with_a_failed_pass_is_a_failure(operator: Operator) -> None:
    """Exit 1: the decision is committed, but no pass has published it yet."""
    operator.seed(ledger(A, record(B, Status.HELD)))
    ended = operator.run("approve", "syd-prod", "--", B.thumbprint)
    assert ended.status == 1
    assert operator.statuses()["B"] is Status.PUBLISHED


# --------------------------------------------------------------------------------------------- signatures


def signing(operator: Operator, *, readable: bool = True, listed: Iterable[int] = (OPERATOR,)) -> None:
    """Ledgers are signed: optionally with the mirror's own key on this machine, and with other listed keys."""
    path = operator.folder / "signing_key"
    if readable:
        write_key(path, number=MIRROR)
    (operator.folder / "signers").write_text("".join(public_line(number=each) for each in (MIRROR, *listed)))
    operator.repository |= {"signing_key": str(path), "allowed_signers": str(operator.folder / "signers")}


@pytest.mark.parametrize(
    ("readable", "key", "by"),
    [
        (True, None, (MIRROR, "mirror")),
        (True, MIRROR, (MIRROR, "mirror")),
        (True, OPERATOR, (OPERATOR, "operator")),
        (False, OPERATOR, (OPERATOR, "operator")),
    ],
    ids=["the-mirrors-key", "the-mirrors-key-named", "an-operators-key", "on-a-laptop"],
)
def test_decision_is_signed(operator: Operator, *, readable: bool, key: int | None, by: tuple[int, str]) -> None:
    """`--signing-key` gives the key, by default the mirror's. A key from `allowed_signers` signs as an operator's."""
    operator.seed(ledger(A, B), keys=ledger_trust(MIRROR))
    signing(operator, readable=readable)
    words = () if key is None else ("--signing-key", str(write_key(operator.folder / "own", number=key)))
    ended = revoke(operator, *words, "--", A.thumbprint)
    assert ended.status == 0, ended.err
    assert operator.statuses()["A"] is Status.REVOKED
    assert operator.signed_by(ledger_trust(MIRROR, OPERATOR)) == (signer(number=by[0]).kid, by[1])


@pytest.mark.parametrize(
    ("key", "reported"),
    [(None, "--signing-key FILE"), (UNLISTED, "does not list it"), ("nonsense", "is no OpenSSH private key")],
    ids=["none-that-can-be-read", "one-that-nobody-lists", "no-key"],
)
def test_operator_who_cannot_sign_decides_nothing(operator: Operator, key: int | str | None, reported: str) -> None:
    """Exit 2 before any commit, with the remedy."""
    head = operator.seed(ledger(A, B), keys=ledger_trust(MIRROR))
    signing(operator, readable=False)
    own = operator.folder / "own"
    own.write_bytes(key.encode() if isinstance(key, str) else key_file(number=key or 0))
    words = () if key is None else ("--signing-key", str(own))
    ended = revoke(operator, *words, "--", A.thumbprint)
    assert (ended.status, reported in ended.err) == (2, True), ended.err
    assert operator.head() == head


def test_operator_without_any_key_does_not_decide_in_a_signed_repository(operator: Operator) -> None:
    """Exit 2: no mirror would accept the unsigned commit."""
    head = operator.seed(ledger(A, B), keys=ledger_trust(MIRROR))
    ended = revoke(operator, "--", A.thumbprint)
    assert (ended.status, "repository.signed" in ended.err) == (2, True), ended.err
    assert operator.head() == head


def test_ledger_that_does_not_count_is_not_decided_about(operator: Operator) -> None:
    """Exit 1: its content is unknown, and the remedy is printed."""
    head = operator.seed(ledger(A, B))
    signing(operator)
    ended = revoke(operator, "--", A.thumbprint)
    assert (ended.status, "adopt --branch" in ended.err) == (1, True), ended.err
    assert operator.head() == head


def test_untrusted_change_on_top_is_reported_and_overwritten(operator: Operator) -> None:
    """The record of an unauthorized pusher is ignored. The revocation is committed on top."""
    operator.seed(ledger(A, B), keys=ledger_trust(MIRROR))
    operator.seed(ledger(A, B, C), keys=ledger_trust(UNLISTED, MIRROR))
    signing(operator)
    ended = revoke(operator, "--", A.thumbprint)
    assert (ended.status, "ledger.unknown_signer" in ended.err) == (0, True), ended.err
    assert operator.statuses() == {"A": Status.REVOKED, "B": Status.PUBLISHED}


# ------------------------------------------------------------------------------------------ adopt --branch


def test_branch_is_signed_as_it_is_after_it_was_shown(operator: Operator) -> None:
    """The output shows head, author, and the public and revoked keys of each issuer. The same bytes are then signed."""
    head = operator.seed(ledger(A, record(B, Status.RETIRING), record(C, Status.REVOKED), record(D, Status.HELD)))
    body = operator.files()[LEDGER]
    signing(operator)
    ended = operator.run("adopt", "--branch", "--no-pass")
    assert ended.status == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0] == f"head    {head}"
    assert lines[1].startswith("author  oidc-mirror at 2026-11-23 08:00:00Z: x")
    assert lines[2] == f"syd-prod: {ISSUER}"
    shown = {(line.split(":")[0].strip(), line.rpartition(" ")[2].rstrip(")")) for line in lines[3:6]}
    assert shown == {("published", A.thumbprint), ("retiring", B.thumbprint), ("revoked", C.thumbprint)}
    assert D.thumbprint not in ended.out
    assert "Committed as " in lines[6]
    assert operator.files()[LEDGER] == body
    assert operator.signed_by(ledger_trust(MIRROR)) == (signer(number=MIRROR).kid, "mirror")
    again = operator.run("adopt", "--branch", "--no-pass")
    assert (again.status, "Every ledger was signed already." in again.out) == (0, True)


def test_branch_of_an_unknown_signer_is_signed_with_an_operators_key(operator: Operator) -> None:
    """After the mirrors' key was stolen or lost, the operator signs any history that he has reviewed."""
    operator.seed(ledger(A, B), keys=ledger_trust(UNLISTED))
    signing(operator, readable=False)
    own = write_key(operator.folder / "own", number=OPERATOR)
    ended = operator.run("adopt", "--branch", "--no-pass", "--signing-key", str(own))
    assert ended.status == 0, ended.err
    assert operator.signed_by(ledger_trust(MIRROR, OPERATOR)) == (signer(number=OPERATOR).kid, "operator")
    assert operator.statuses() == {"A": Status.PUBLISHED, "B": Status.PUBLISHED}


def test_branch_that_a_former_key_signed_is_signed_with_the_own_key(operator: Operator) -> None:
    """During a key change the former key is still listed. Its signatures stop counting when it is removed."""
    operator.seed(ledger(A, B), keys=ledger_trust(MIRROR))
    signing(operator)
    own = write_key(operator.folder / "own", number=OPERATOR)
    ended = operator.run("adopt", "--branch", "--no-pass", "--signing-key", str(own))
    assert (ended.status, "Committed as " in ended.out) == (0, True), ended.err
    assert operator.signed_by(ledger_trust(OPERATOR)) == (signer(number=OPERATOR).kid, "operator")


def test_branch_that_moved_since_it_was_shown_is_not_signed(operator: Operator) -> None:
    """Exit 1: another push moved the head after it was shown. The operator must review it again."""
    operator.seed(ledger(A))
    before = operator.head()
    after = operator.seed(ledger(A, B))
    git(operator.remote, "update-ref", "refs/heads/main", before)
    hook = operator.remote / "hooks" / "pre-receive"
    hook.write_text(
        "#!/bin/sh\nunset GIT_QUARANTINE_PATH\n"
        f"exec git --git-dir={operator.remote} update-ref refs/heads/main {after}\n"
    )
    hook.chmod(0o755)
    signing(operator)
    ended = operator.run("adopt", "--branch", "--no-pass")
    assert ended.status == 1
    assert "the branch may have moved since it was shown" in ended.err
    assert "oidc-mirror adopt --branch" in ended.err
    assert operator.head() == after
    assert SIGNATURE not in operator.files()


def test_pass_after_the_adoption_decides_the_exit_status(operator: Operator) -> None:
    """Exit 1: no other service answers here. The ledgers are signed all the same."""
    operator.seed(ledger(A))
    signing(operator)
    assert operator.run("adopt", "--branch").status == 1
    assert operator.signed_by(ledger_trust(MIRROR))[1] == "mirror"


def test_empty_branch_is_nothing_to_sign(operator: Operator) -> None:
    """Without a head there is no ledger and no commit."""
    signing(operator)
    ended = operator.run("adopt", "--branch", "--no-pass")
    assert (ended.status, ended.out.splitlines()[0]) == (0, "head    none")
    assert "Every ledger was signed already." in ended.out


def test_nothing_is_left_to_adopt(operator: Operator) -> None:
    """Exit 0: the history knows every issuer."""
    operator.seed(ledger(A))
    ended = operator.run("adopt", "--all")
    assert (ended.status, "there is nothing to adopt" in ended.out) == (0, True)


def test_issuer_without_any_source_is_not_adopted(operator: Operator) -> None:
    """Exit 1: neither an apiserver nor the public document answers."""
    with open_repository(operator.folder, name="mirror.git", remote=operator.remote) as repository:
        repository.commit(base=None, parents=(), changes={"x": b"x"}, message="x", when=MOMENT, expect=None)
        repository.push()
    head = operator.head()
    ended = operator.run("adopt", "syd-prod")
    assert (ended.status, "not adopted: " in ended.out) == (1, True)
    assert operator.head() == head
