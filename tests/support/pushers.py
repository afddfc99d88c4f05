"""A user who can push: a real clone, whose commits change ledgers, their signatures, or the branch itself.

A change of a ledger leaves the old signature in place, so that it is false, unless the user has a key to sign with.
Ledgers are edited here as plain JSON, so that nothing of the program stands between the attacker and the file.
"""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirror.model import Key
from support.gits import git
from support.ledger_signers import NAME, Signer
from support.situations import ISSUER, LEDGER

Record = dict[str, Any]
SIGNATURE = f"{LEDGER}.jws"
PUSHER = "OIDC_TEST_PUSHER"
"""Set for pushes of a Pusher, so that a hook of the remote may refuse those of mirrors alone."""
FIRST_SEEN = "2026-11-01T08:00:00Z"


def record(key: Key, status: str = "published", generation: int = 1, **more: object) -> Record:
    """A record as in a ledger file."""
    return {
        "kid": key.kid,
        "thumbprint": key.thumbprint,
        "status": status,
        "generation": generation,
        "first_seen": FIRST_SEEN,
        **more,
        "key": key.members(),
    }


def dropped(kid: str, thumbprint: str, generation: int = 1) -> Record:
    """A record of a key that left the set: its name and its dates, without the key."""
    return {
        "kid": kid,
        "thumbprint": thumbprint,
        "status": "dropped",
        "generation": generation,
        "first_seen": FIRST_SEEN,
    }


def ledger_body(issuer: str, records: list[Record]) -> bytes:
    """The bytes of a ledger file."""
    ordered = sorted(records, key=lambda each: (each["kid"], each["thumbprint"]))
    return (json.dumps({"issuer": issuer, "version": 1, "keys": ordered}, ensure_ascii=False, indent=2) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Pusher:
    """A clone of `remote` in `folder`, with the branch in its work tree."""

    folder: Path
    remote: Path
    branch: str = "main"

    # ------------------------------------------------------------------------------------------- the work tree

    def fetch(self) -> str:
        """Take over what the remote's branch holds now, and give its commit."""
        if not (self.folder / ".git").exists():
            self._run("clone", "--quiet", "--no-checkout", f"file://{self.remote}", str(self.folder))
        else:
            self._git("fetch", "--quiet", "origin", f"+{self.branch}:refs/remotes/origin/{self.branch}")
        self._git("checkout", "--quiet", "--force", "-B", self.branch, f"origin/{self.branch}")
        return self._git("rev-parse", "HEAD")

    def read(self, path: str = LEDGER) -> bytes:
        return (self.folder / path).read_bytes()

    def write(self, path: str, body: bytes) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(body)

    def delete(self, *paths: str) -> None:
        for path in paths:
            (self.folder / path).unlink(missing_ok=True)

    def link(self, path: str, target: str) -> None:
        self.delete(path)
        (self.folder / path).symlink_to(target)

    def make_folder(self, path: str) -> None:
        self.delete(path)
        self.write(f"{path}/x", b"x")

    def records(self, path: str = LEDGER) -> list[Record]:
        found = json.loads(self.read(path))["keys"]
        assert isinstance(found, list)
        return found

    def write_records(
        self,
        records: list[Record],
        *,
        issuer: str = ISSUER,
        path: str = LEDGER,
        signer: Signer | None = None,
        repository: str = NAME,
        role: str = "mirror",
    ) -> None:
        """Write a ledger; without `signer` its signature stays as it was."""
        body = ledger_body(issuer, records)
        self.write(path, body)
        if signer is not None:
            self.write(f"{path}.jws", signer.sign(body, issuer, repository=repository, role=role))

    def add(self, *records: Record, signer: Signer | None = None, role: str = "mirror") -> None:
        """Put records into the ledger; of one identity the new one stays."""
        found = {(each["kid"], each["thumbprint"]): each for each in (*self.records(), *records)}
        self.write_records(list(found.values()), signer=signer, role=role)

    def edit(self, change: Callable[[Record], Record | None]) -> None:
        """Change each record of the ledger; None takes it out."""
        self.write_records([after for each in self.records() if (after := change(each)) is not None])

    # ------------------------------------------------------------------------------------------------ pushing

    def push(self, message: str = "x") -> str:
        """Commit the work tree on top of what was fetched, push it, and give the commit."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", message)
        self._git("push", "--quiet", "origin", f"HEAD:{self.branch}")
        return self._git("rev-parse", "HEAD")

    def rewind(self, commit: str) -> None:
        """Move the remote's branch to `commit` by force."""
        self._git("push", "--quiet", "--force", "origin", f"{commit}:refs/heads/{self.branch}")

    def restore(self, commit: str, *paths: str) -> None:
        """Give files of the work tree the content that they had at `commit`, those that it had."""
        for path in paths:
            body = blob(self.folder / ".git", path, at=commit)
            if body is not None:
                self.write(path, body)

    def orphan(self) -> str:
        """Replace the remote's branch by a commit without parents that holds the work tree, and give it."""
        self._git("add", "--all")
        tree = self._git("write-tree")
        made = self._git("commit-tree", tree, "-m", "x")
        self.rewind(made)
        return made

    def _git(self, *words: str) -> str:
        return self._run("-C", str(self.folder), *words)

    def _run(self, *words: str) -> str:
        environ = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.remote.parent),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            PUSHER: "yes",
        }
        who = ("-c", "user.name=pusher", "-c", "user.email=pusher@example.com", "-c", "maintenance.auto=false")
        done = subprocess.run(["git", *who, *words], env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def signed_by(remote: Path, signer: Signer, *, path: str = LEDGER) -> dict[str, str] | None:
    """The header of the signature of a ledger on the remote, if `signer` made it; None otherwise."""
    body, signature = blob(remote, path), blob(remote, f"{path}.jws")
    return None if body is None or signature is None else signer.verified(body, signature)


def blob(repository: Path, path: str, *, at: str = "main") -> bytes | None:
    """The bytes of a file at a branch or commit of a bare repository; None where it has no such file."""
    command = ["git", f"--git-dir={repository}", "cat-file", "blob", f"{at}:{path}"]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def statuses(remote: Path, *, path: str = LEDGER) -> dict[str, str]:
    """The status of each key of a ledger on the remote, by kid."""
    body = blob(remote, path)
    return {} if body is None else {each["kid"]: each["status"] for each in json.loads(body)["keys"]}


def contains(repository: Path, commit: str, branch: str = "main") -> bool:
    """Whether a branch of a bare repository contains a commit, which it may not even know."""
    command = ["git", f"--git-dir={repository}", "merge-base", "--is-ancestor", commit, f"refs/heads/{branch}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def commits(repository: Path, branch: str = "main") -> int:
    """How many commits a branch contains; 0 while there is none."""
    if not git(repository, "for-each-ref", f"refs/heads/{branch}"):
        return 0
    return int(git(repository, "rev-list", "--count", f"refs/heads/{branch}"))
