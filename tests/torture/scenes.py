"""The scenes in which a mirror is killed: in each, one pass or one command has something to do."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mirror.model import Key
from support.apiserver import raw_answer
from support.gits import bare
from support.keys import EC_KEYS, RSA_KEYS, jwks_body
from support.s3 import S3Server
from support.stages import discovery_body
from support.worlds import World, running_world
from torture.crashes import ONCE, Scene

FIRST, SECOND, THIRD = RSA_KEYS[0], EC_KEYS[0], RSA_KEYS[1]
ONE, OVERLAP, THREE = (FIRST,), (FIRST, SECOND), (FIRST, SECOND, THIRD)


def show(world: World, *shown: tuple[Key, ...]) -> None:
    """Set the answers of each replica. They have no `Date`, because an old one would block every retirement."""
    for replica, keys in zip(world.replicas, shown, strict=True):
        replica.serve(
            discovery=raw_answer(
                "200 OK", discovery_body(world.issuer["issuer"], keys), content_type="application/json"
            ),
            jwks=raw_answer("200 OK", jwks_body(*keys), content_type="application/jwk-set+json"),
        )


def _pass(scene: Scene, *shown: tuple[Key, ...]) -> None:
    show(scene.world, *shown)
    done = scene.world.mirror(*ONCE)
    assert done.status == 0, (done.out, done.err)


def first_pass(scene: Scene) -> None:
    """There is no state directory, and the remote and the bucket are empty."""
    show(scene.world, ONE, ONE)


def rotation(scene: Scene) -> None:
    """A second key has appeared at one replica."""
    _pass(scene, ONE, ONE)
    show(scene.world, ONE, OVERLAP)


def retirement(scene: Scene) -> None:
    """A key that no replica shows is due for removal."""
    _pass(scene, OVERLAP, OVERLAP)
    _pass(scene, ONE, ONE)
    time.sleep(1.1)  # ledgers have whole seconds: within the same one it is not due yet
    scene.world.issuer["keys"] = {"retain_removed": "0s"}


def revocation(scene: Scene) -> None:
    """An operator has added a key's thumbprint to the configuration."""
    _pass(scene, OVERLAP, OVERLAP)
    scene.world.issuer["keys"] = {"revoked": [SECOND.thumbprint]}


def revoke_command(scene: Scene) -> None:
    """An operator revokes a key by a command, which is killed and repeated."""
    _pass(scene, OVERLAP, OVERLAP)
    words = ("--reason", "stolen", "--yes")
    scene.words = ("revoke", "syd-prod", SECOND.thumbprint, *words)


def merge(scene: Scene) -> None:
    """This mirror committed while the remote was unreachable; meanwhile another one pushed."""
    _pass(scene, ONE, ONE)
    alone, away = scene.folder / "state.alone", scene.remote.with_name("away.git")
    shutil.copytree(scene.folder / "state", alone)
    _pass(scene, ONE, OVERLAP)  # the other mirror, which pushes
    shutil.rmtree(scene.folder / "state")
    alone.rename(scene.folder / "state")
    scene.remote.rename(away)
    show(scene.world, ONE, THREE)
    scene.world.mirror(*ONCE)
    away.rename(scene.remote)


def replacement(scene: Scene) -> None:
    """A second key has appeared; before the run after the kill, a third one replaces it."""
    _pass(scene, ONE, ONE)
    scene.begins = lambda: show(scene.world, OVERLAP, OVERLAP)
    scene.goes_on = lambda: show(scene.world, (FIRST, THIRD), (FIRST, THIRD))


SITUATIONS: Mapping[str, Callable[[Scene], None]] = {
    "first pass": first_pass,
    "rotation": rotation,
    "retirement": retirement,
    "revocation": revocation,
    "revoke command": revoke_command,
    "merge": merge,
    "replacement": replacement,
}


@contextmanager
def running_scene(server: S3Server, folder: Path, name: str) -> Iterator[Scene]:
    """The scene of that name, with its initial state saved."""
    remote = bare(folder / "remote.git")
    with running_world(server, folder) as world:
        world.config["repository"] = {"remote": str(remote)}
        scene = Scene(world, remote)
        SITUATIONS[name](scene)
        scene.remember()
        yield scene
