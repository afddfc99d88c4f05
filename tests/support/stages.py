"""The environment in which the operators' documents are executed, and the directions that it accepts.

    replicas show keys 1, 2                       both apiservers; `replica 2 shows key 1` is for one of them
    a pass                                        the mirror makes a pass that the document does not mention
    the next block is in the issuer's entry       the YAML of the block changes the issuer's entry
    the next block is in mirror.yaml              the YAML of the block changes the rest of the configuration
    new_keys: publish                             sets this policy, without a block
    caches turn over                              until the next direction, the public JWKS looks an hour old
    retain_removed passes                         keys that are retiring may be dropped from now on
    another tool published keys 3, 1              documents in the bucket that no mirror wrote
    begins anew                                   no history, an empty bucket, the first configuration
    a git remote                                  the same with an empty bare repository, remote.git, as the remote
    the bucket is empty                           every object is deleted

Keys are numbered from 1 and are always the same (`support.keys.RSA_KEYS`).
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import yaml

from mirror.model import Key
from support.apiserver import always, raw_answer
from support.documents import Direction, Ran
from support.gits import bare
from support.keys import RSA_KEYS, jwks_body
from support.program import installed
from support.s3 import S3Server
from support.situations import DISCOVERY_KEY, ISSUER, JWKS_KEY
from support.web import public_host
from support.worlds import BUCKET, World, request, running_world

HOUR_SECONDS = 3600
MONTH = timedelta(days=30)
_DISCOVERY = "application/json"
_JWKS = "application/jwk-set+json"


@dataclass(slots=True)
class DemoStage:
    """A `World` that a document controls. `begins anew` restores `first_config`; `keys` are the keys by number."""

    world: World
    first_config: dict[str, Any]
    stack: ExitStack = field(default_factory=ExitStack)
    keys: tuple[Key, ...] = RSA_KEYS

    def direct(self, direction: Direction) -> None:
        """Carry out a direction.

        Raises:
            ValueError: the direction is unknown.
        """
        self.world.config["publish"]["readback"] = deepcopy(self.first_config["publish"]["readback"])
        for pattern, act in self.directions().items():
            found = re.fullmatch(pattern, direction.text)
            if found:
                act(found, direction)
                self._write_config()
                return
        raise ValueError(f"the stage knows no direction {direction.text!r}")

    def directions(self) -> dict[str, "Act"]:
        """The function for each direction, by the pattern of its text."""
        return {
            r"replica(?:s| (?P<replica>[12])) shows? keys? (?P<keys>[\d, ]+)": self.show,
            r"a pass": self.a_pass,
            r"the next block is in the issuer's entry": self.configure,
            r"the next block is in mirror\.yaml": self.configure_all,
            r"new_keys: (?P<policy>hold|publish)": self.set_policy,
            r"caches turn over": self.turn_caches_over,
            r"retain_removed passes": self.let_time_pass,
            r"another tool published keys? (?P<keys>[\d, ]+)": self.publish_past_the_mirror,
            r"begins anew": self.begin_again,
            r"a git remote": self.begin_with_remote,
            r"the bucket is empty": self.empty,
        }

    def run(self, script: str, status: int) -> Ran:
        """Run `script` in bash, in the test's folder. The output does not include log lines."""
        words = ["bash", "-c", f"(exit {status})\n{script}"]
        done = subprocess.run(
            words, env=self._environ(), cwd=self.world.folder, capture_output=True, text=True, timeout=60, check=False
        )
        said = [line for line in done.stderr.splitlines() if not line.startswith('{"')]
        return Ran("\n".join((*done.stdout.splitlines(), *said)), done.returncode)

    def _environ(self) -> dict[str, str]:
        config = str(self.world.folder / "mirror.yaml")
        path = f"{self.world.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        shown = {"OIDC_MIRROR_CONFIG": config, "PATH": path, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
        return self.world.environ() | shown

    def _write_config(self) -> None:
        (self.world.folder / "mirror.yaml").write_text(json.dumps(self.world.config))

    def install(self) -> None:
        """Install the program under the name that the documents use, and write the first configuration."""
        program = self.world.folder / "bin" / "oidc-mirror"
        program.parent.mkdir(exist_ok=True)
        self.stack.enter_context(installed(program))
        self._write_config()

    def _numbered(self, text: str) -> tuple[Key, ...]:
        return tuple(self.keys[int(number) - 1] for number in text.split(","))

    # -- directions ----------------------------------------------------------------------------------------

    def show(self, found: re.Match[str], _: Direction) -> None:
        keys = self._numbered(found["keys"])
        issuer = self.world.issuer["issuer"]
        for number in (0, 1) if found["replica"] is None else (int(found["replica"]) - 1,):
            self.world.replicas[number].serve(
                discovery=raw_answer("200 OK", discovery_body(issuer, keys), content_type=_DISCOVERY),
                jwks=raw_answer("200 OK", jwks_body(*keys), content_type=_JWKS),
            )

    def a_pass(self, _: re.Match[str], __: Direction) -> None:
        done = self.world.mirror("--once")
        if done.status not in (0, 3):
            raise ValueError(f"the pass ended with {done.status}: {done.out}{done.err}")

    def configure(self, _: re.Match[str], direction: Direction) -> None:
        # The configuration is written as JSON, which has no dates.
        changes = json.loads(json.dumps(yaml.safe_load(direction.block), default=str))
        for former in changes.get("former_issuers", ()):
            # The date in a document will be in the past one day, and the document must still hold then.
            former["until"] = str(datetime.now(UTC).date() + MONTH)
        self.world.issuer.update(changes)

    def configure_all(self, _: re.Match[str], direction: Direction) -> None:
        self.world.config |= yaml.safe_load(direction.block)

    def set_policy(self, found: re.Match[str], _: Direction) -> None:
        self.world.issuer["keys"] = {"new_keys": found["policy"]}

    def turn_caches_over(self, _: re.Match[str], __: Direction) -> None:
        body, long_ago = self.world.public(JWKS_KEY), formatdate(time.time() - HOUR_SECONDS, usegmt=True)
        headers = {"content_type": _JWKS, "cache_control": body.headers["cache-control"], "last_modified": long_ago}
        host = self.stack.enter_context(public_host())
        host.respond_with(always(raw_answer("200 OK", body.body, **headers)))
        self.world.config["publish"]["readback"]["connect_to"] = f"localhost:{host.port}"

    def let_time_pass(self, _: re.Match[str], __: Direction) -> None:
        self.world.issuer["keys"] = self.world.issuer.get("keys", {}) | {"retain_removed": "1s"}
        time.sleep(1.1)  # dates have a resolution of one second

    def publish_past_the_mirror(self, found: re.Match[str], _: Direction) -> None:
        keys = self._numbered(found["keys"])
        self.world.overwrite(JWKS_KEY, jwks_body(*keys))
        self.world.overwrite(DISCOVERY_KEY, discovery_body(ISSUER, keys))

    def begin_again(self, _: re.Match[str], __: Direction) -> None:
        shutil.rmtree(self.world.folder / "state", ignore_errors=True)
        empty_bucket(self.world.server)
        self.world.config = deepcopy(self.first_config)

    def begin_with_remote(self, found: re.Match[str], direction: Direction) -> None:
        self.begin_again(found, direction)
        remote = self.world.folder / "remote.git"
        bare(remote)
        self.world.config["repository"] = {"remote": str(remote)}

    def empty(self, _: re.Match[str], __: Direction) -> None:
        empty_bucket(self.world.server)


Act = Callable[[re.Match[str], Direction], None]


def discovery_body(issuer: str, keys: tuple[Key, ...]) -> bytes:
    """The discovery document of an apiserver with these keys (facts.md#2)."""
    document = {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": sorted({key.alg for key in keys}),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def empty_bucket(server: S3Server) -> None:
    """Delete every object, because all tests of a process share one server."""
    host = f"localhost:{server.port}"
    with request(server, "GET", f"/{BUCKET}?list-type=2", host) as answer:
        keys = re.findall(r"<Key>(.*?)</Key>", answer.read().decode())
    for key in keys:
        with request(server, "DELETE", f"/{BUCKET}/{key}", host) as answer:
            assert answer.status == 204


@contextmanager
def demo_stage(server: S3Server, folder: Path) -> Iterator[DemoStage]:
    """A stage with two replicas, an empty bucket and no history."""
    with running_world(server, folder) as world, ExitStack() as stack:
        stack.callback(empty_bucket, server)
        del world.config["limits"]  # the output in a document must not depend on the speed of the machine
        stage = DemoStage(world, deepcopy(world.config), stack)
        stage.install()
        yield stage
