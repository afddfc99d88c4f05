"""Host names of apiservers, bucket or git remote that do not resolve during one pass of the whole program."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from mirror.model import Key
from support.git_server import running_git_server
from support.gits import bare, fsck_strict, git
from support.keys import EC_KEYS, RSA_KEYS
from support.mirrors import branch
from support.s3 import STORE_HOST, S3Server
from support.situations import JWKS_KEY
from support.tls import ca_file, server_context
from support.worlds import Done, World, running_world
from torture.namespace import where_names_are
from torture.scale import tally
from torture.scenes import show

KEYS: tuple[Key, ...] = (RSA_KEYS[0], EC_KEYS[0], RSA_KEYS[1], EC_KEYS[1])
GIT_HOST = "git.example.com"
NAMES = ("api-1.example.com", "api-2.example.com", STORE_HOST, GIT_HOST)


@dataclass
class Named:
    """A world whose apiservers, bucket and git remote have host names, all on this machine."""

    world: World
    remote: Path

    def run(self, keys: int, *, without: str = "") -> Done:
        """Run a pass while the apiservers show `keys` keys, and names that begin with `without` do not resolve."""
        show(self.world, KEYS[:keys], KEYS[:keys])
        names = {name: "127.0.0.1" for name in NAMES if not without or not name.startswith(without)}
        return where_names_are(names, self.world.folder, partial(self.world.mirror, "--once"))

    def public_kids(self) -> int:
        return self.world.public(JWKS_KEY).body.count(b'"kid"')


@pytest.fixture
def named(s3_server: S3Server, tmp_path: Path) -> Iterator[Named]:
    remote = bare(tmp_path / "remote.git")
    with (
        running_world(s3_server, tmp_path) as world,
        running_git_server(tmp_path, server_context(GIT_HOST)) as server,
    ):
        world.further_environ = server.environ(ca_file(tmp_path))
        world.config["repository"] = {"remote": server.url(remote.name, host=GIT_HOST)}
        world.config["publish"]["endpoint_url"] = f"https://{STORE_HOST}:{s3_server.port}"
        world.config["publish"]["readback"]["connect_to"] = f"{STORE_HOST}:{s3_server.port}"
        places = zip(NAMES, world.replicas, strict=False)
        world.issuer["apiservers"] = [f"https://{name}:{replica.port}" for name, replica in places]
        world.issuer["tls"]["server_name"] = "localhost"
        yield Named(world, remote)


@pytest.mark.s3
def test_names_that_lead_to_nothing_for_a_pass_lose_nothing(named: Named) -> None:
    """Names are missing in turn: each pass does what is possible, and a later one does the rest."""
    assert named.run(1).status == 0
    first = branch(named.remote)
    # The bucket's name does not resolve: the key is committed and pushed, not yet public.
    assert named.run(2, without=STORE_HOST).status == 1
    second = branch(named.remote)
    assert (named.public_kids(), second != first) == (1, True)
    # The git remote's name does not resolve: the key is public, not yet pushed.
    assert named.run(3, without=GIT_HOST).status == 0
    assert (named.public_kids(), branch(named.remote)) == (3, second)
    # The apiservers' names do not resolve: no new answer arrives, and the remaining commits are pushed.
    assert named.run(4, without="api-").status == 1
    assert (named.public_kids(), branch(named.remote)) == (3, named.world.git("rev-parse", "main").strip())
    assert named.run(4).status == 0
    assert named.public_kids() == 4
    assert branch(named.remote) == named.world.git("rev-parse", "main").strip()
    git(named.remote, "merge-base", "--is-ancestor", second, "main")
    fsck_strict(named.remote)
    tally("network", "names of apiservers, bucket and remote lead to nothing", passes=5, lost=0)
