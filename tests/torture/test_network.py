"""The mirror cut off from apiservers, bucket and remote, silently, and found again."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.model import Key
from support.apiserver import Apiserver
from support.gits import bare, fsck_strict
from support.keys import EC_KEYS, RSA_KEYS
from support.mirrors import branch
from support.s3 import running_ministack
from support.situations import JWKS_KEY
from support.tls import server_context
from support.worlds import World, empty_bucket
from torture.namespace import Network, own_network
from torture.scale import tally
from torture.scenes import show

FIRST, SECOND, THIRD, FOURTH = RSA_KEYS[0], EC_KEYS[0], RSA_KEYS[1], EC_KEYS[1]
ADDRESSES = ("10.98.0.11", "10.98.0.12")


@dataclass
class Apart:
    """A world in a network of its own."""

    network: Network
    world: World
    remote: Path

    def kids(self) -> set[str]:
        body = self.world.public(JWKS_KEY).body
        return {str(key.kid) for key in (FIRST, SECOND, THIRD, FOURTH) if key.kid.encode() in body}


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Apart]:
    with own_network() as network, running_ministack(tmp_path / "s3") as server, ExitStack() as stack:
        network.add(*ADDRESSES)
        context = server_context(*ADDRESSES)
        first, second = (stack.enter_context(Apiserver(context, host=address)) for address in ADDRESSES)
        empty_bucket(server)
        world = World(tmp_path, (first, second), server)
        world.config["repository"] = {"remote": str(bare(tmp_path / "remote.git"))}
        yield Apart(network, world, tmp_path / "remote.git")


def kids(*keys: Key) -> set[str]:
    return {str(key.kid) for key in keys}


def test_partition_keeps_the_last_good_state_and_heals(apart: Apart) -> None:
    """Whoever is cut off, nothing leaves the public set; whoever is back is heard in the next pass."""
    world, network = apart.world, apart.network
    show(world, (FIRST,), (FIRST,))
    assert world.mirror("--once").status == 0
    # One replica is silent: the other one's new key is public all the same.
    network.cut(ADDRESSES[0])
    show(world, (FIRST,), (FIRST, SECOND))
    done = world.mirror("--once")
    assert (done.status, "degraded" in done.out) == (0, True), done.out
    assert apart.kids() == kids(FIRST, SECOND)
    # Both are silent, and have new keys that nobody hears of.
    network.cut(ADDRESSES[1])
    show(world, (THIRD,), (THIRD,))
    before = world.state()
    assert world.mirror("--once").status == 1
    assert world.state() == before
    # They are back, and the bucket is away: committed and pushed, not yet public.
    for address in ADDRESSES:
        network.mend(address)
    network.cut_loopback()
    head = branch(apart.remote)
    assert world.mirror("--once").status == 1
    network.mend_loopback()
    assert branch(apart.remote) != head
    assert apart.kids() == kids(FIRST, SECOND)
    assert world.mirror("--once").status == 0
    assert apart.kids() == kids(FIRST, SECOND, THIRD)
    # Everything is away at once.
    apart.remote.rename(apart.remote.with_name("away.git"))
    network.cut_loopback()
    network.cut(ADDRESSES[0])
    show(world, (THIRD,), (THIRD, FOURTH))
    assert world.mirror("--once").status == 1
    network.mend_loopback()
    network.mend(ADDRESSES[0])
    apart.remote.with_name("away.git").rename(apart.remote)
    assert world.mirror("--once").status == 0
    assert apart.kids() == kids(FIRST, SECOND, THIRD, FOURTH)
    assert branch(apart.remote) == world.git("rev-parse", "main").strip()
    for repository in (apart.remote, world.folder / "state" / "snapshots.git"):
        fsck_strict(repository)
    tally("network", "apiservers, bucket and remote cut off", cuts=5, lost=0)
