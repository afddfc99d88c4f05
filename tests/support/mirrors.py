"""Mirrors as processes of their own that share a remote and a bucket, and every commit that they ever had."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.gits import git
from support.worlds import PROJECT, World


@dataclass
class Running:
    """A mirror's process, and the file that its report goes to."""

    process: subprocess.Popen[bytes]
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
        command = [sys.executable, "-m", "mirror", "--config", str(config), "--once", "--output", "json", *words]
        with out.open("wb") as stdout, (self.world.folder / "err").open("wb") as stderr:
            process = subprocess.Popen(command, env=self.world.environ(), cwd=PROJECT, stdout=stdout, stderr=stderr)
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
