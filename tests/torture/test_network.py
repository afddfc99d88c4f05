"""The network to apiservers, bucket and remote is cut off without an error, and restored."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mirror.apiserver.client import KeptConnections
from mirror.apiserver.poller import ApiserverPoller
from mirror.config.settings import Issuer, TlsSettings
from mirror.history.remote import REMOTE_TIMEOUT_SECONDS
from mirror.model import Answer, Key, Unusable
from mirror.report import ExitStatus
from support.apiserver import Apiserver
from support.askers import codes, ignore, issuer, limits
from support.git_server import running_git_server
from support.gits import bare, fsck_strict
from support.keys import EC_KEYS, RSA_KEYS
from support.mirrors import branch
from support.s3 import running_ministack
from support.situations import BOTH, JWKS_KEY, ONE
from support.tls import ca_file, server_context
from support.worlds import World, empty_bucket
from torture.namespace import Network, own_network
from torture.on_disk import OnDisk
from torture.scale import scale, tally
from torture.scenes import show

FIRST, SECOND, THIRD, FOURTH = RSA_KEYS[0], EC_KEYS[0], RSA_KEYS[1], EC_KEYS[1]
ADDRESSES = ("10.98.0.11", "10.98.0.12")
GIT = "10.98.0.13"


@dataclass
class IsolatedWorld:
    """A world in its own network namespace."""

    network: Network
    world: World
    remote: Path

    def kids(self) -> set[str]:
        body = self.world.public(JWKS_KEY).body
        return {str(key.kid) for key in (FIRST, SECOND, THIRD, FOURTH) if key.kid.encode() in body}


@pytest.fixture
def isolated(tmp_path: Path) -> Iterator[IsolatedWorld]:
    with own_network() as network, running_ministack(tmp_path / "s3") as server, ExitStack() as stack:
        network.add(*ADDRESSES, GIT)
        context = server_context(*ADDRESSES, GIT)
        first, second = (stack.enter_context(Apiserver(context, host=address)) for address in ADDRESSES)
        empty_bucket(server)
        world = World(tmp_path, (first, second), server)
        git_server = stack.enter_context(running_git_server(tmp_path, context, host=GIT))
        world.config["repository"] = {"remote": git_server.url(bare(tmp_path / "remote.git").name)}
        world.further_environ = git_server.environ(ca_file(tmp_path))
        yield IsolatedWorld(network, world, tmp_path / "remote.git")


def kids(*keys: Key) -> set[str]:
    return {str(key.kid) for key in keys}


def test_partition_keeps_the_last_good_state_and_heals(isolated: IsolatedWorld) -> None:
    """Whatever is cut off, no key is removed; what is restored counts in the next pass."""
    world, network = isolated.world, isolated.network
    show(world, (FIRST,), (FIRST,))
    assert world.mirror("--once").status == 0
    # One replica does not answer: the other one's new key is still published.
    network.cut(ADDRESSES[0])
    show(world, (FIRST,), (FIRST, SECOND))
    done = world.mirror("--once")
    assert (done.status, "degraded" in done.out) == (0, True), done.out
    assert isolated.kids() == kids(FIRST, SECOND)
    # Neither replica answers, and they have new keys that the mirror cannot see.
    network.cut(ADDRESSES[1])
    show(world, (THIRD,), (THIRD,))
    before = world.state()
    assert world.mirror("--once").status == 1
    assert world.state() == before
    # They answer again, and the bucket is cut off: the key is committed and pushed, not yet public.
    for address in ADDRESSES:
        network.mend(address)
    network.cut_loopback()
    head = branch(isolated.remote)
    assert world.mirror("--once").status == 1
    network.mend_loopback()
    assert branch(isolated.remote) != head
    assert isolated.kids() == kids(FIRST, SECOND)
    assert world.mirror("--once").status == 0
    assert isolated.kids() == kids(FIRST, SECOND, THIRD)
    # Everything is cut off at once.
    network.cut_loopback()
    network.cut(ADDRESSES[0])
    # The timeout for a remote that does not answer is two minutes; in the suite it fails at once with "no route".
    cut, mend = (network.cut, network.mend) if scale().everything else (network.unplug, network.plug)
    cut(GIT)
    show(world, (THIRD,), (THIRD, FOURTH))
    assert world.mirror("--once").status == 1
    network.mend_loopback()
    network.mend(ADDRESSES[0])
    mend(GIT)
    assert world.mirror("--once").status == 0
    assert isolated.kids() == kids(FIRST, SECOND, THIRD, FOURTH)
    assert branch(isolated.remote) == world.git("rev-parse", "main").strip()
    for repository in (isolated.remote, world.folder / "state" / "snapshots.git"):
        fsck_strict(repository)
    tally("network", "apiservers, bucket and remote cut off", cuts=5, lost=0)


def test_host_that_vanished_behind_a_kept_connection_is_connected_to_anew() -> None:
    """No error reports the lost host: the system ends the old connection, and the new one has its own timeout."""
    with own_network() as network:
        network.add(ADDRESSES[0])
        within = limits(connect_seconds=1.0, total_seconds=60.0, source_deadline_seconds=120.0)
        poller = ApiserverPoller(within, kept=KeptConnections(10))
        with Apiserver(server_context(ADDRESSES[0]), host=ADDRESSES[0]) as server, TemporaryDirectory() as folder:
            asked = issuer(server.url, tls=TlsSettings(ca_file=ca_file(Path(folder))))
            try:
                assert [codes(answers) for answers in passes_of(poller, asked)] == [[()]]
                network.cut(ADDRESSES[0])
                (answers,) = passes_of(poller, asked)
                (lost,) = answers
                assert isinstance(lost, Unusable)
                assert "limits.connect" in lost.reasons[0].sentence  # not limits.total
                network.mend(ADDRESSES[0])
                assert [codes(answers) for answers in passes_of(poller, asked)] == [[()]]
            finally:
                poller.close()


def passes_of(poller: ApiserverPoller, asked: Issuer) -> list[tuple[Answer | Unusable, ...]]:
    return list(poller.poll([asked], turn=0, progress=ignore).values())


def test_remote_that_falls_silent_holds_a_pass_up_for_its_limit_alone(tmp_path: Path) -> None:
    """The new key is published after the timeout of the fetch; when the remote answers again, all is pushed."""
    mirror, remote = OnDisk(tmp_path), tmp_path / "remote.git"
    with own_network() as network:
        network.add(GIT)
        with running_git_server(tmp_path, server_context(GIT), host=GIT) as server:
            mirror.situation.remote, mirror.environ = server.url(), server.environ(ca_file(tmp_path))
            assert mirror.run(ONE).exit_status is ExitStatus.CURRENT
            before = branch(remote)
            network.cut(GIT)
            mirror.remote_timeout_seconds = 1.0
            report = mirror.run(BOTH)
            assert report.exit_status is ExitStatus.CURRENT
            assert [(each.name, "within 1 s" in each.sentence) for each in report.events] == [
                ("remote.unreachable", True)
            ]
            assert (mirror.public_kids(), report.unpushed_commits) == (2, 1)
            network.mend(GIT)
            mirror.remote_timeout_seconds = REMOTE_TIMEOUT_SECONDS
            assert mirror.run(BOTH).exit_status is ExitStatus.CURRENT
    assert branch(remote) == branch(mirror.repository) != before
    fsck_strict(remote)
    tally("network", "a git remote fell silent", passes=3, lost=0)
