"""Apiservers, bucket and git remote behind unreliable connections: delayed, split, stalled or broken, by a seed.

The suite runs a few such passes, `make torture ARGS="--only network --seed 2"` some hundred.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random

import pytest

from mirror.apiserver.poller import ApiserverPoller
from mirror.config.settings import PublishSettings, ReadbackSettings, TlsSettings
from mirror.model import IssuerUrl, Key, KeyPolicy, Ledger, Status
from mirror.publish.public_endpoint import PublicHttpClient
from mirror.publish.s3 import S3Bucket
from mirror.report import ExitStatus
from mirror.trust.discovery import render
from mirror.trust.ledger import LedgerRead, read_ledger
from support.askers import limits
from support.git_server import running_git_server
from support.gits import fsck_strict, git
from support.keys import EC_KEYS, RSA_KEYS
from support.mirrors import branch
from support.rough_line import RoughLine, random_faults, running_rough_line
from support.s3 import REGION, S3Server, aws_environment
from support.situations import BASE_URL, DISCOVERY_KEY, ISSUER, JWKS_KEY, LEDGER
from support.tls import ca_file, server_context
from support.worlds import BUCKET, World, running_world
from torture.on_disk import OnDisk
from torture.scale import scale, tally
from torture.scenes import show

pytestmark = pytest.mark.s3

STEADY, ON_ONE_REPLICA = RSA_KEYS[0], RSA_KEYS[1]
"""Keys that are always shown: by both apiservers, or only by the first one, which does not answer in every pass."""
ROTATING: tuple[Key, ...] = (RSA_KEYS[2], *EC_KEYS[:3])
PATIENT_SECONDS, IMPATIENT_SECONDS = 10.0, 1.5
"""Timeouts: for passes that have to succeed, and for passes with faults, of which many fail."""


@dataclass
class FaultyWorld:
    """A mirror, and two apiservers, the bucket and the git remote, each behind a faulty line.

    `shown` are the keys of each apiserver; `seen` are all commits so far.
    """

    mirror: OnDisk
    world: World
    lines: tuple[RoughLine, ...]
    publish: PublishSettings
    shown: list[tuple[Key, ...]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def kids_shown(self) -> set[str]:
        return {key.kid for keys in self.shown for key in keys}

    @contextmanager
    def reached_within(self, seconds: float) -> Iterator[None]:
        """Set the timeouts for the passes of this block. They share adapters, as in a daemon."""
        bucket = S3Bucket(self.publish, puts=2, read_seconds=seconds / 2, request_seconds=seconds)
        with closing(bucket), PublicHttpClient(total_seconds=seconds) as web:
            source = ApiserverPoller(limits(total_seconds=seconds))
            self.mirror.ports = {"source": source, "bucket": lambda _: bucket, "view": web}
            self.mirror.remote_timeout_seconds = 2 * seconds
            yield

    @property
    def repositories(self) -> tuple[Path, Path]:
        return self.mirror.repository, self.mirror.tmp / "remote.git"

    def public(self) -> set[str]:
        """The kids in an anonymous read without the faulty line. The bytes are in our history."""
        looked = self.world.public(JWKS_KEY)
        assert looked.status == 200
        blob = git(self.mirror.repository, "hash-object", "--stdin", stdin=looked.body)
        git(self.mirror.repository, "cat-file", "-e", blob)
        return {key["kid"] for key in json.loads(looked.body)["keys"]}

    def ledger(self, repository: Path) -> Ledger:
        """What the branch of this repository says of the keys."""
        text = git(repository, "cat-file", "blob", f"main:{LEDGER}").encode()
        read_back = read_ledger(text, issuer=IssuerUrl(ISSUER))
        assert isinstance(read_back, LedgerRead)
        return read_back.ledger

    def dropped(self) -> set[str]:
        """The kids that the mirror's own branch has as dropped. Their put may come later: it waits for the push."""
        records = self.ledger(self.mirror.repository).records
        return {record.key.kid for record in records if record.status is Status.DROPPED}

    def note(self) -> None:
        self.seen |= {branch(repository) for repository in self.repositories}


@pytest.fixture
def faulty(s3_server: S3Server, tmp_path: Path) -> Iterator[FaultyWorld]:
    mirror, certificates = OnDisk(tmp_path), s3_server.certificates
    with ExitStack() as stack:
        world = stack.enter_context(running_world(s3_server, tmp_path))
        stack.enter_context(aws_environment(certificates.ca_file, tmp_path))
        server = stack.enter_context(running_git_server(tmp_path, server_context("localhost")))
        ports = (*(each.port for each in world.replicas), s3_server.port, server.port)
        lines = tuple(stack.enter_context(running_rough_line(port)) for port in ports)
        readback = ReadbackSettings(ca_file=certificates.ca_file, connect_to=("localhost", lines[2].port))
        publish = PublishSettings(BUCKET, REGION, BASE_URL, endpoint_url=lines[2].url, readback=readback)
        mirror.issuer = {"tls": TlsSettings(ca_file(tmp_path)), "publish": publish}
        mirror.situation.apiservers = tuple(line.url for line in lines[:2])
        mirror.situation.policy = KeyPolicy(retain_removed=timedelta(0))
        mirror.situation.remote = f"{lines[3].url}/remote.git"
        mirror.environ = server.environ(ca_file(tmp_path))
        yield FaultyWorld(mirror, world, lines, publish)


def test_rough_lines_lose_nothing_and_heal(faulty: FaultyWorld) -> None:
    """No shown key is ever removed, and everything public is in git. At the end everything agrees again."""
    chance, *chances = (Random(f"{scale().seed}/{number}") for number in range(5))  # noqa: S311  no secrets
    show(faulty.world, (STEADY, ON_ONE_REPLICA), (STEADY,))
    with faulty.reached_within(PATIENT_SECONDS):
        assert faulty.mirror.run_once().exit_status is ExitStatus.CURRENT
    for line, each in zip(faulty.lines, chances, strict=True):
        line.faults = partial(random_faults, each)
    with faulty.reached_within(IMPATIENT_SECONDS):
        passes = 200 if scale().everything else 4
        failed = sum(_pass(faulty, chance) is not ExitStatus.CURRENT for _ in range(passes))
    for line in faulty.lines:
        line.clear()
    with faulty.reached_within(PATIENT_SECONDS):
        report = faulty.mirror.run_once()
    assert report.exit_status is ExitStatus.CURRENT, report
    _judge(faulty)
    met = sum((line.met for line in faulty.lines), Counter[str]())
    figures = {f"{name} connections": count for name, count in sorted(met.items())}
    tally("network", "rough lines", passes=passes, **{"failed passes": failed}, **figures, lost=0)


def _pass(faulty: FaultyWorld, chance: Random) -> ExitStatus:
    """Change the apiservers' keys and run a pass.

    No pass drops a key that is shown, and what was public and is still shown stays public, unless git had dropped it in
    an earlier pass, when no apiserver showed it.
    """
    steady = ((STEADY, ON_ONE_REPLICA), (STEADY,))
    faulty.shown = [(*keys, *chance.sample(ROTATING, chance.randrange(3))) for keys in steady]
    show(faulty.world, *faulty.shown)
    before, dropped_before = faulty.public(), faulty.dropped()
    report = faulty.mirror.run_once()
    faulty.note()
    assert not (faulty.dropped() - dropped_before) & faulty.kids_shown()
    must_stay = (before - dropped_before) & faulty.kids_shown()
    assert must_stay <= faulty.public() <= {key.kid for key in (STEADY, ON_ONE_REPLICA, *ROTATING)}
    return report.exit_status


def _judge(faulty: FaultyWorld) -> None:
    """Git and bucket have the keys that the apiservers show, the repositories are intact, and no commit is lost."""
    local, remote = faulty.repositories
    assert branch(local) == branch(remote)
    for commit in faulty.seen - {""}:
        git(remote, "merge-base", "--is-ancestor", commit, "main")
    rendered = render(faulty.ledger(remote))
    assert rendered is not None
    world = faulty.world
    assert (world.public(JWKS_KEY).body, world.public(DISCOVERY_KEY).body) == (rendered.jwks, rendered.discovery)
    assert faulty.kids_shown() <= faulty.public()
    for repository in faulty.repositories:
        fsck_strict(repository)
