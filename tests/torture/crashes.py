"""Scenes in which a mirror is killed: each can be reset after a kill, and its result is checked."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import boto3
from botocore.config import Config

from mirror.model import IssuerUrl
from mirror.trust.discovery import render
from mirror.trust.ledger import LedgerRead, read_ledger
from support.gits import fsck_strict, git
from support.machine import refuse_or_skip
from support.mirrors import branch
from support.s3 import ACCESS_KEY, REGION, SECRET_KEY
from support.situations import DISCOVERY_KEY, ISSUER, JWKS_KEY, LEDGER, PUBLIC
from support.worlds import BUCKET, PROJECT, World

KILLER = Path(__file__).with_name("killer.py")
Mode = Literal["all", "one"]
MODES: tuple[Mode, Mode] = ("all", "one")
ONCE = ("--once", "--output", "json")


@dataclass(frozen=True, slots=True)
class Killed:
    """The result of a command that was to be killed. `calls` is their number; `at` is the call before which it died."""

    calls: int
    at: str | None
    status: int | None


@dataclass
class Scene:
    """A world with one git remote, and its saved initial state.

    `words` is the command that is killed and then repeated. `heads` are the commits that must never be lost. `begins`
    resets what is outside of state directory, remote and bucket; `goes_on` changes it between kill and next run.
    """

    world: World
    remote: Path
    words: tuple[str, ...] = ONCE
    objects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    heads: frozenset[str] = frozenset()
    begins: Callable[[], None] = lambda: None
    goes_on: Callable[[], None] | None = None

    @property
    def folder(self) -> Path:
        return self.world.folder

    @property
    def repository(self) -> Path:
        return self.folder / "state" / "snapshots.git"

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.world.server.url,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            verify=str(self.world.server.certificates.ca_file),
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def stored(self) -> dict[str, dict[str, Any]]:
        """The issuer's objects with their headers, as parameters of a put."""
        client = self.client()
        found = {}
        for each in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
            got = client.get_object(Bucket=BUCKET, Key=each["Key"])
            headers = {name: got[name] for name in ("ContentType", "CacheControl", "Metadata") if name in got}
            found[each["Key"]] = {"Body": got["Body"].read(), **headers}
        return found

    def remember(self) -> None:
        """Save the current state; `set_back` restores it."""
        self.objects = self.stored()
        for name in ("state", "remote.git"):
            shutil.rmtree(self.folder / f"{name}.kept", ignore_errors=True)
            if (self.folder / name).exists():
                shutil.copytree(self.folder / name, self.folder / f"{name}.kept")
        self.heads = frozenset({branch(self.repository), branch(self.remote)} - {""})

    def set_back(self) -> None:
        """Restore state directory, remote and bucket as saved by `remember`, and call `begins`."""
        self.begins()
        for name in ("state", "remote.git"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            if (self.folder / f"{name}.kept").exists():
                shutil.copytree(self.folder / f"{name}.kept", self.folder / name)
        client, there = self.client(), self.stored()
        for key in there.keys() - self.objects.keys():
            client.delete_object(Bucket=BUCKET, Key=key)
        for key in (key for key in self.objects if there.get(key) != self.objects[key]):
            client.put_object(Bucket=BUCKET, Key=key, **self.objects[key])

    def killed(self, number: int, mode: Mode) -> Killed:
        """Run the command and kill it before its call `number`; 0 only counts the calls."""
        result = self.folder / "killed.json"
        result.unlink(missing_ok=True)
        config = self.folder / "mirror.yaml"
        config.write_text(json.dumps(self.world.config))
        mirror = [sys.executable, "-m", "mirror", "--config", str(config), *self.words]
        command = [sys.executable, "-I", "-S", str(KILLER), str(number), mode, str(result), *mirror]
        environ = self.world.environ()
        with (self.folder / "killed.out").open("w") as out:
            done = subprocess.run(
                command,
                env=environ | {"PYTHONDONTWRITEBYTECODE": "1"},
                cwd=PROJECT,
                stdout=out,
                stderr=out,
                check=False,
            )
        if done.returncode == 98:
            refuse_or_skip("processes cannot be traced here (ptrace, seccomp; x86-64)", "OIDC_MIRROR_REQUIRE_PTRACE")
        assert done.returncode == 0, (number, mode, (self.folder / "killed.out").read_text())
        found = json.loads(result.read_text())
        at = None if found["at"] is None else f"{found['at'][0]} {self.plain(found['at'][1])}".rstrip()
        return Killed(found["calls"], at, found["status"])

    def plain(self, target: str) -> str:
        return target.replace(str(self.folder), "").partition(":[")[0]

    def heads_now(self) -> frozenset[str]:
        return frozenset({branch(self.repository), branch(self.remote)} - {""})


@dataclass(frozen=True, slots=True)
class FinalState:
    """The state after all passes: each key's state, both public documents, and the files beside the history."""

    keys: frozenset[tuple[str, str]]
    jwks: bytes
    discovery: bytes
    state_files: frozenset[str]


def settle(scene: Scene) -> None:
    """Run the command again after a kill; it must succeed."""
    done = scene.world.mirror(*scene.words)
    assert done.status == 0, (done.out, done.err)


def final_state(scene: Scene, never_lost: frozenset[str]) -> FinalState:
    """The state, after checks: git = bucket, intact repositories, no lock file, no commit lost."""
    head = branch(scene.repository)
    assert head
    assert branch(scene.remote) == head
    for commit in never_lost:
        git(scene.remote, "merge-base", "--is-ancestor", commit, head)
    read_back = read_ledger(scene.world.committed(LEDGER), issuer=IssuerUrl(ISSUER))
    assert isinstance(read_back, LedgerRead)
    ledger = read_back.ledger
    rendered = render(ledger)
    assert rendered is not None
    public = scene.stored()
    for key, body, path in (
        (JWKS_KEY, rendered.jwks, "openid/v1/jwks"),
        (DISCOVERY_KEY, rendered.discovery, ".well-known/openid-configuration"),
    ):
        assert public[key]["Body"] == body
        assert scene.world.committed(f"{PUBLIC}/{path}") == body
    for repository in (scene.repository, scene.remote):
        fsck_strict(repository)
        assert list(repository.rglob("*.lock")) == []
    keys = frozenset((record.key.thumbprint, record.status.value) for record in ledger.records)
    return FinalState(keys, rendered.jwks, rendered.discovery, frozenset(state_files(scene)))


def state_files(scene: Scene) -> Iterator[str]:
    """The files of the state directory outside the history."""
    yield from (path.name for path in (scene.folder / "state").iterdir())


def expected(scene: Scene) -> tuple[FinalState, ...]:
    """The states that the command may reach.

    If the cluster changes after the kill, an early kill may leave nothing of the first run, so there are two.
    """
    scene.set_back()
    settle(scene)
    if scene.goes_on is None:
        return (final_state(scene, scene.heads),)
    scene.goes_on()
    settle(scene)
    both = final_state(scene, scene.heads)
    scene.set_back()
    scene.goes_on()
    settle(scene)
    return (both, final_state(scene, scene.heads))


def kill_and_settle(scene: Scene, wanted: tuple[FinalState, ...], number: int, mode: Mode) -> Killed:
    """Kill the command once, run it again, and check the result."""
    scene.set_back()
    killed = scene.killed(number, mode)
    never_lost = scene.heads | scene.heads_now()
    if scene.goes_on is not None:
        scene.goes_on()
    settle(scene)
    found = final_state(scene, never_lost)
    assert found in wanted, (number, mode, killed)
    return killed
