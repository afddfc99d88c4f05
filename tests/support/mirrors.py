"""Mirrors as processes of their own that share a remote and a bucket, and every commit that they ever had."""

import json
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror.model import IssuerUrl, Ledger
from mirror.trust.ledger import LedgerRead, read_ledger
from mirror.trust.merge import merge
from support.gits import files_at, git
from support.program import MIRROR, Process, start
from support.pushers import contains
from support.worlds import World


@dataclass
class Running:
    """A mirror's process, and the file that its report goes to."""

    process: Process
    out: Path

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> int:
        return self.process.wait(60)


@dataclass
class Mirror:
    """One mirror: a state directory and a configuration of its own."""

    world: World
    commits: set[str] = field(default_factory=set)
    """Every commit that its branch ever was at, or that it reported."""

    @property
    def repository(self) -> Path:
        return self.world.folder / "state" / "snapshots.git"

    def start(self, *words: str) -> Running:
        """A pass; `words` are further options of it."""
        config, out = self.world.folder / "mirror.yaml", self.world.folder / "out.json"
        config.write_text(json.dumps(self.world.config))
        command = [*MIRROR, "--config", str(config), "--once", "--output", "json", *words]
        with out.open("wb") as stdout, (self.world.folder / "err").open("wb") as stderr:
            process = start(command, self.world.environ(), stdout=stdout.fileno(), stderr=stderr.fileno())
        return Running(process, out)

    def note(self, running: Running) -> None:
        """Remember where the branch is, and what was reported."""
        text = running.out.read_text()
        if text.endswith("}\n"):
            self.commits |= {json.loads(text)["commit"]} - {None}
        self.commits |= {head} if (head := branch(self.repository)) else set()

    def run(self) -> dict[str, Any]:
        running = self.start()
        status = running.end()
        self.note(running)
        assert status == 0, (running.out.read_text(), (self.world.folder / "err").read_text())
        report = json.loads(running.out.read_text())
        assert isinstance(report, dict)
        return report


def branch(repository: Path) -> str:
    """Where `main` is; empty while there is none."""
    if not (repository / "HEAD").exists():
        return ""
    return git(repository, "for-each-ref", "--format=%(objectname)", "refs/heads/main")


def commits_left_out(repository: Path, mirrors: Iterable[Mirror]) -> int:
    """How many commits that a mirror ever had are not part of `main`; fails the test when one of them is missed.

    A commit is left out only where `main` says all of it: of two mirrors that wrote the same files at the same second,
    the one that was killed before its push moves its branch to the other's commit, without a merge.
    """
    standing, count = ledgers_of(repository, "main"), 0
    for mirror in mirrors:
        for commit in mirror.commits:
            if not contains(repository, commit):
                for path, ledger in ledgers_of(mirror.repository, commit).items():
                    assert merge(standing[path], ledger) == standing[path], (commit, path)
                count += 1
    return count


def ledgers_of(repository: Path, commit: str) -> dict[str, Ledger]:
    """Every ledger of a commit, by path."""
    ledgers = {}
    for path, body in files_at(repository, commit).items():
        if path.startswith("ledger/") and path.endswith(".json"):
            read = read_ledger(body, issuer=IssuerUrl(json.loads(body)["issuer"]))
            assert isinstance(read, LedgerRead)
            ledgers[path] = read.ledger
    return ledgers
