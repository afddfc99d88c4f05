"""A git remote over https whose password expires between passes, like the tokens of git hosts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.model import Key
from support.git_server import USER, GitServer, running_git_server
from support.gits import bare, fsck_strict, git, program
from support.keys import EC_KEYS, RSA_KEYS
from support.mirrors import branch
from support.s3 import S3Server
from support.situations import JWKS_KEY
from support.tls import ca_file, server_context
from support.worlds import Done, World, running_world
from torture.scale import tally
from torture.scenes import show

pytestmark = pytest.mark.s3

KEYS: tuple[Key, ...] = (RSA_KEYS[0], EC_KEYS[0], RSA_KEYS[1])
PASSWORD = "pass-w0rd-that-nobody-may-see"


def by_helper(folder: Path, url: str) -> str:
    """A credential helper that prints the token from a file, like those for git hosts."""
    words = f'[ "$1" = get ] || exit 0; printf "username={USER}\\npassword="; cat {folder / "token"}'
    return f"[credential]\n\thelper = {program(folder / 'helper', words)}\n"


def by_user_info(folder: Path, url: str) -> str:
    """The user's git configuration adds the password to the URL; the mirror's own configuration must not."""
    host = url.removeprefix("https://")
    return f'[url "https://{USER}:{(folder / "token").read_text()}@{host}"]\n\tinsteadOf = {url}\n'


@dataclass
class RemoteWorld:
    """A mirror and its remote, a git server over https."""

    world: World
    server: GitServer
    remote: Path

    def log_in(self, way: Callable[[Path, str], str]) -> None:
        """Configure git with the current password, in this way."""
        (self.world.folder / "token").write_text(self.server.password)
        (self.world.folder / ".gitconfig").write_text(way(self.world.folder, self.server.url()))

    def run(self, *words: str, keys: int) -> Done:
        """Run a pass while the apiservers show `keys` keys. Neither its output nor its files contain the password."""
        show(self.world, KEYS[:keys], KEYS[:keys])
        done = self.world.mirror("--once", "--log-level", "debug", *words)
        kept = [path for path in (self.world.folder / "state").rglob("*") if path.is_file()]
        for said in (done.out.encode(), done.err.encode(), *(path.read_bytes() for path in kept)):
            assert PASSWORD.encode() not in said
            assert f"{USER}:".encode() not in said
        return done

    def public_kids(self) -> int:
        return self.world.public(JWKS_KEY).body.count(b'"kid"')

    def is_pushed(self) -> bool:
        return branch(self.remote) == self.world.git("rev-parse", "main").strip()


@pytest.fixture
def served(s3_server: S3Server, tmp_path: Path) -> Iterator[RemoteWorld]:
    remote = bare(tmp_path / "remote.git")
    with (
        running_world(s3_server, tmp_path) as world,
        running_git_server(tmp_path, server_context("127.0.0.1", by="git"), password=PASSWORD) as server,
    ):
        world.config["repository"] = {"remote": server.url()}
        world.further_environ = {
            "GIT_CONFIG_GLOBAL": str(tmp_path / ".gitconfig"),
            "GIT_SSL_CAINFO": str(ca_file(tmp_path, "git")),
        }
        yield RemoteWorld(world, server, remote)


def test_password_that_ends_delays_no_addition_and_is_never_shown(served: RemoteWorld) -> None:
    """All requests or only pushes are refused: new keys are published. Later all is pushed, and no commit is lost."""
    served.log_in(by_helper)
    assert served.run(keys=1).status == 0
    assert served.is_pushed()
    first = branch(served.remote)
    # The password expires.
    served.server.password = PASSWORD[::-1]
    served.server.statuses()
    refused = served.run("--output", "json", keys=2)
    assert served.server.statuses() == {401}
    assert [each["event"] for each in refused.report()["events"]] == ["remote.unreachable"]
    assert (served.public_kids(), branch(served.remote)) == (2, first)
    second = served.world.git("rev-parse", "main").strip()
    # Another password allows only reading.
    served.server.password, served.server.takes_pushes = PASSWORD, False
    served.log_in(by_user_info)
    reported = served.run("--output", "json", keys=3).report()["events"]
    assert any("No entry for https://***@" in event["sentence"] for event in reported)
    assert served.server.statuses() >= {200, 403}
    assert (served.public_kids(), branch(served.remote)) == (3, first)
    # Now it allows writing.
    served.server.takes_pushes = True
    assert served.run(keys=3).status == 0
    assert served.is_pushed()
    for commit in (first, second):
        git(served.remote, "merge-base", "--is-ancestor", commit, "main")
    fsck_strict(served.remote)
    tally("remote", "a password over https ended between passes", passes=4, lost=0)
