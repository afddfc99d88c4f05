"""Many processes, each with one shard of the fleet: every issuer is in exactly one, and they share one history.

The suite runs a few issuers; `make torture ARGS="--only shards"` runs forty.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.addresses import object_keys
from mirror.daemon.sharding import Shard, shard_of, sharded
from mirror.model import IssuerUrl, Key
from support.apiserver import Apiserver, raw_answer
from support.gits import bare, fsck_strict, git
from support.keys import EC_KEYS, RSA_KEYS, jwks_body
from support.mirrors import Mirror, commits_left_out
from support.pass_histories import settings
from support.s3 import S3Server
from support.situations import BASE_URL
from support.stages import discovery_body
from support.tls import server_context
from support.worlds import World, running_world
from torture.scale import scale, tally

FLEET = 10_000
POOL: tuple[Key, ...] = (*RSA_KEYS, *EC_KEYS)


def test_each_of_ten_thousand_issuers_is_in_one_shard_of_eight_and_then_of_five() -> None:
    """Every issuer is in exactly one shard, before and after the change; those of the first five shards stay there."""
    urls = [IssuerUrl(f"https://oidc.example.com/region-{number % 7}/cluster/{number}") for number in range(FLEET)]
    before, after = ([[u for u in urls if Shard(i, count).holds(u)] for i in range(count)] for count in (8, 5))
    for shards in (before, after):
        assert sorted(url for shard in shards for url in shard) == sorted(urls)
        assert min(map(len, shards)) > 0.9 * FLEET / len(shards)
    stays = [url for url in urls if shard_of(url, 8) < 5]
    assert [shard_of(url, 5) for url in stays] == [shard_of(url, 8) for url in stays]
    tally("shards", "10 000 issuers, 8 shards, then 5", issuers=FLEET, missed=0, doubled=0)


def test_settings_of_all_shards_are_the_whole() -> None:
    """The configurations of all shards together have every entry exactly once."""
    whole = settings(*(f"c{number}" for number in range(200)))
    parts = [each for index in range(8) for each in sharded(whole, Shard(index, 8)).issuers]
    assert sorted(parts, key=whole.issuers.index) == list(whole.issuers)


@dataclass(frozen=True)
class Fleet:
    """Issuers with one apiserver each, and one mirror for each shard."""

    remote: Path
    mirrors: tuple[Mirror, ...]
    issuers: tuple[IssuerUrl, ...]
    apiservers: tuple[Apiserver, ...]

    def show(self, *numbers: int) -> None:
        """Let every cluster show its own keys with these numbers."""
        for place, (url, apiserver) in enumerate(zip(self.issuers, self.apiservers, strict=True)):
            keys = tuple(POOL[(place + number) % len(POOL)] for number in numbers)
            apiserver.serve(
                discovery=raw_answer("200 OK", discovery_body(url, keys), content_type="application/json"),
                jwks=raw_answer("200 OK", jwks_body(*keys), content_type="application/jwk-set+json"),
            )

    def run(self, count: int, *, killed: int | None = None) -> None:
        """Run one pass of each of `count` shards at the same time; kill one of them during its pass."""
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda index: self._run_one(index, count, dies=index == killed), range(count)))

    def _run_one(self, index: int, count: int, *, dies: bool) -> None:
        mirror = self.mirrors[index]
        running = mirror.start("--shard", f"{index}/{count}")
        if dies:
            while not (mirror.repository / "refs").exists() and running.process.poll() is None:
                time.sleep(0.01)
            running.kill()
        else:
            status = running.end()
            assert status == 0, (running.out.read_text(), (mirror.world.folder / "err").read_text())
        mirror.note(running)

    def judge(self, *numbers: int) -> None:
        """Check that every issuer's public keys are those of its cluster, and that no commit is lost."""
        commits_left_out(self.remote, self.mirrors)
        for place, url in enumerate(self.issuers):
            kids = {POOL[(place + number) % len(POOL)].kid for number in numbers}
            _, key = object_keys(url, BASE_URL, "")
            public = json.loads(self.mirrors[0].world.public(key).body)
            assert {each["kid"] for each in public["keys"]} >= kids
        for repository in (self.remote, *(mirror.repository for mirror in self.mirrors)):
            fsck_strict(repository)


@pytest.fixture
def fleet(s3_server: S3Server, tmp_path: Path) -> Iterator[Fleet]:
    count = 40 if scale().everything else 8
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    remote, context = bare(tmp_path / "remote.git"), server_context("127.0.0.1", "localhost")
    apiservers = tuple(Apiserver(context) for _ in range(count))
    urls = tuple(IssuerUrl(f"{BASE_URL}/{tmp_path.name}/{number}") for number in range(count))
    with running_world(s3_server, folders[0]) as first:
        for apiserver in apiservers:
            apiserver.__enter__()
        entries = [
            first.issuer | {"name": f"c{number}", "issuer": url, "apiservers": [apiserver.url]}
            for number, (url, apiserver) in enumerate(zip(urls, apiservers, strict=True))
        ]
        worlds = [first, *(World(folder, first.replicas, s3_server) for folder in folders[1:])]
        for world in worlds:
            world.config |= {"repository": {"remote": str(remote)}, "issuers": entries}
            world.config["limits"] = {"connect": "10s", "total": "20s", "source_deadline": "40s"}
        yield Fleet(remote, tuple(Mirror(world) for world in worlds), urls, apiservers)
        for apiserver in apiservers:
            apiserver.__exit__(None, None, None)


@pytest.mark.s3
def test_shard_that_is_killed_and_then_one_less_lose_nothing(fleet: Fleet) -> None:
    """One of four shards is killed: after the next pass all issuers are public, also with three shards."""
    fleet.show(0)
    fleet.run(4, killed=2)
    fleet.run(4)
    fleet.judge(0)
    fleet.show(0, 1)
    fleet.run(3)
    fleet.judge(0, 1)
    commits = int(git(fleet.remote, "rev-list", "--count", "main"))
    merges = int(git(fleet.remote, "rev-list", "--count", "--merges", "main"))
    # At most four writers in three rounds: each merges at most once for each of the others.
    assert commits <= 4 * 4 * 3
    case = f"{len(fleet.issuers)} issuers, 4 shards, one killed, then 3"
    tally("shards", case, issuers=len(fleet.issuers), kills=1, commits=commits, merges=merges, lost=0)
