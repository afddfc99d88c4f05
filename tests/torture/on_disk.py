"""A mirror with a real git history, on a disk that may be small, full or read-only."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror.history.remote import REMOTE_TIMEOUT_SECONDS
from mirror.history.repository import GitRepository
from mirror.reconcile.controller import reconcile
from mirror.report import ExitStatus, Report
from support.gits import bare, environment
from support.machine import refuse_or_skip
from support.situations import ONE, Situation

HOUR = timedelta(hours=1)


@dataclass
class OnDisk:
    """A situation with a real repository and a real remote.

    `ports` replaces other ports of `Ports` by real ones, by field name; `issuer` has fields of the issuer's entry.
    """

    tmp: Path
    situation: Situation = field(init=False)
    environ: dict[str, str] = field(default_factory=dict)
    ports: dict[str, Any] = field(default_factory=dict)
    issuer: dict[str, Any] = field(default_factory=dict)
    remote_timeout_seconds: float = REMOTE_TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        (self.tmp / "state").mkdir(exist_ok=True)
        self.situation = Situation(self.tmp / "state", remote=str(bare(self.tmp / "remote.git")))

    @property
    def repository(self) -> Path:
        return self.tmp / "state" / "snapshots.git"

    def public_kids(self) -> int:
        """The number of public keys."""
        return (self.situation.public() or b"").count(b'"kid"')

    def run(self, case: str) -> Report:
        """Run a pass an hour after the last one; the apiservers answer as in that capture."""
        self.situation.show(case)
        return self.run_once()

    def run_once(self) -> Report:
        """Run a pass an hour after the last one."""
        self.situation.now += HOUR
        settings = self.situation.settings()
        settings = replace(settings, issuers=tuple(replace(each, **self.issuer) for each in settings.issuers))
        with GitRepository(
            settings.repository,
            environment(self.tmp, **self.environ),
            settled_seconds=0,
            remote_timeout_seconds=self.remote_timeout_seconds,
        ) as history:
            ports = replace(self.situation.world.ports(), history=history, **self.ports)
            return reconcile(settings, ports, self.situation.now)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a file system of half a megabyte at `folder`."""
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        refuse_or_skip("file systems cannot be mounted here", "OIDC_MIRROR_REQUIRE_MOUNT")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Fill the disk completely."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as out:
        while True:
            out.write(bytes(4096))
    return ballast


@pytest.fixture
def world(tmp_path: Path) -> OnDisk:
    """A mirror after its first pass, which published one key."""
    made = OnDisk(tmp_path)
    assert made.run(ONE).exit_status is ExitStatus.CURRENT
    return made
