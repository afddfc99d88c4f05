"""The runbook's rotation of a signing key, step by step on a model of two control plane nodes.

Its commands make the key, its flags configure the model, and the mirror publishes what the model's apiservers show.
At every moment each token that has not expired must be accepted by both apiservers and by a cloud whose copy of the
JWKS is as old as caches allow.
"""

import json
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from mirror.model import Answer
from mirror.report import ExitStatus
from support.captures import FOLDER, capture
from support.control_plane import (
    KEY_FILE,
    PKI,
    PRIVATE_KEY_FILE,
    SIGNING_KEY_FILE,
    Flags,
    Node,
    NotStartedError,
    jwk_of,
    relying_party_accepts,
)
from support.situations import ISSUER, JWKS_KEY, Situation
from support.worlds import PROJECT

RUNBOOK = (PROJECT / "docs" / "runbook.md").read_text("utf-8")
PASS = timedelta(minutes=2)
OLDEST_COPY = timedelta(minutes=10)
"""A cache may hold the JWKS for `max-age` (5 min); as long again is the mirror's margin."""
TOKEN_LIFE = timedelta(hours=1)
FIRST: tuple[Flags, Flags] = (
    ((KEY_FILE, f"{PKI}/sa.pub"), (SIGNING_KEY_FILE, f"{PKI}/sa.key")),
    ((PRIVATE_KEY_FILE, f"{PKI}/sa.key"),),
)


def steps() -> dict[int, str]:
    """The numbered steps of the section, by number."""
    section = RUNBOOK.partition("\n## Rotate a signing key\n")[2].partition("\n## ")[0]
    parts = re.split(r"^(\d)\. (?=\*\*)", section, flags=re.MULTILINE)[1:]
    return {int(number): text for number, text in zip(parts[::2], parts[1::2], strict=True)}


def shell_blocks(step: str) -> list[str]:
    return [textwrap.dedent(block) for block in re.findall(r"^ *```sh\n(.*?)^ *```", step, re.DOTALL | re.MULTILINE)]


def flags(text: str) -> Flags:
    return tuple(re.findall(r"(--service-account-[a-z-]*key-file)=(\S+?)(?=[\s`]|$)", text))


@dataclass(frozen=True)
class Stage:
    """The flags of both programs after a step; None where they stay."""

    apiserver: Flags
    controller_manager: Flags


def written() -> dict[int, Stage]:
    """What the text of steps 1, 3 and 5 gives, each on top of the one before."""
    text = steps()
    published = flags(shell_blocks(text[1])[1])
    of_step_3 = dict(flags(shell_blocks(text[3])[0]))
    signing = tuple((name, of_step_3.get(name, path)) for name, path in published)
    manager = tuple((name, of_step_3[name]) for name, _ in FIRST[1])
    (gone,) = flags(text[5].partition("```")[0])
    return {
        1: Stage(published, FIRST[1]),
        3: Stage(signing, manager),
        5: Stage(tuple(each for each in signing if each != gone), manager),
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Stage]:
    """What `render kubeadm NAME --rotation 1`, `2` and `3` give, for the same steps."""
    folder = tmp_path_factory.mktemp("render")
    entry = {"name": "syd-prod", "issuer": ISSUER, "apiservers": ["https://10.0.0.11:6443"]}
    publish = {"bucket": "oidc-bucket", "region": "ap-southeast-2"}
    (folder / "mirror.yaml").write_text(json.dumps({"state_dir": "state", "publish": publish, "issuers": [entry]}))
    found = {}
    for step, number in ((1, "1"), (3, "2"), (5, "3")):
        words = [
            sys.executable,
            "-m",
            "mirror",
            "--config",
            str(folder / "mirror.yaml"),
            "render",
            "kubeadm",
            "syd-prod",
        ]
        done = subprocess.run([*words, "--rotation", number], capture_output=True, text=True, check=True, cwd=PROJECT)
        document = yaml.safe_load(done.stdout)
        found[step] = Stage(_key_flags(document, "apiServer"), _key_flags(document, "controllerManager") or FIRST[1])
    return found


def _key_flags(document: Any, program: str) -> Flags:
    listed = document.get(program, {"extraArgs": []})["extraArgs"]
    return tuple((f"--{each['name']}", each["value"]) for each in listed if each["name"].endswith("key-file"))


@dataclass
class Cluster:
    """Two nodes and a mirror. `live` has one token for each key that signed, and when the last one of it expires."""

    nodes: tuple[Node, Node]
    mirror: Situation
    live: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    in_secrets: list[str] = field(default_factory=list)
    copies: list[tuple[datetime, bytes]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        return self.mirror.now

    def a_pass(self) -> None:
        """Some minutes later the mirror makes a pass; pods get tokens, and all of them are shown to every verifier."""
        answers = (Answer(f"https://{n}", node.discovery(), node.jwks()) for n, node in enumerate(self.nodes))
        assert self.mirror.run(*answers, after=PASS).exit_status is ExitStatus.CURRENT
        public = self.mirror.public(JWKS_KEY)
        assert public is not None
        self.copies.append((self.now, public))
        for node in self.nodes:
            self.live[node.signing_kid] = node.mint(), self.now + TOKEN_LIFE
        self.check()

    def check(self) -> None:
        self.live = {kid: each for kid, each in self.live.items() if each[1] > self.now}
        recent = [copy for at, copy in self.copies if at >= self.now - OLDEST_COPY]
        for token, _ in self.live.values():
            self.refusals += [f"apiserver {n}" for n, node in enumerate(self.nodes) if not node.accepts(token)]
            self.refusals += ["cloud" for copy in set(recent) if not relying_party_accepts(token, copy)]
        for token in self.in_secrets:
            self.refusals += [f"secret {n}" for n, node in enumerate(self.nodes) if not node.accepts(token)]

    def passes(self, time: timedelta) -> None:
        for _ in range(time // PASS):
            self.a_pass()

    def roll_out(self, stage: Stage, *, with_manager: bool = True) -> None:
        """The flags, node by node, with a pass after each."""
        for node in self.nodes:
            node.apiserver_flags = stage.apiserver
            if with_manager:
                node.controller_manager_flags = stage.controller_manager
            node.start()
            self.a_pass()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The new key pair of step 1, made by its commands, beside the old one."""
    pair = tmp_path_factory.mktemp("pair")
    script = shell_blocks(steps()[1])[0]
    made = subprocess.run(["bash", "-ec", script], cwd=pair, capture_output=True, text=True, check=True)
    assert made.stdout.strip() == jwk_of((pair / "sa-new.pub").read_bytes())["kid"]
    old = script.replace("sa-new", "sa")
    subprocess.run(["bash", "-ec", old], cwd=pair, capture_output=True, check=True)
    return pair


@pytest.fixture
def cluster(pair: Path, tmp_path: Path) -> Cluster:
    """A cluster at rest, and both key pairs on each node."""
    nodes = []
    for name in ("one", "two"):
        shutil.copytree(pair, tmp_path / name)
        nodes.append(Node(tmp_path / name, ISSUER, *FIRST))
        nodes[-1].start()
    state = tmp_path / "state"
    state.mkdir()
    cluster = Cluster((nodes[0], nodes[1]), Situation(state))
    cluster.in_secrets = [node.mint_for_secret() for node in cluster.nodes]
    cluster.passes(OLDEST_COPY)
    return cluster


def follow(cluster: Cluster, stages: dict[int, Stage], *, without: str = "") -> None:
    """The steps in their order; `without` leaves one thing out that the runbook asks for."""
    if without != "publish":
        cluster.roll_out(stages[1])
    if without != "wait":
        cluster.passes(OLDEST_COPY)  # step 2: `oidc-mirror wait` returns
    cluster.roll_out(stages[3], with_manager=without != "controller-manager")
    if without != "secrets":
        cluster.in_secrets = [node.mint_for_secret() for node in cluster.nodes]  # step 4: deleted and created again
    if without != "expiry":
        cluster.passes(TOKEN_LIFE)
    cluster.roll_out(stages[5], with_manager=without != "controller-manager")
    for node in cluster.nodes:
        (node.folder / "sa.key").unlink()
        node.start()  # a reboot, some day
    cluster.a_pass()


@pytest.fixture(params=["written", "rendered"])
def stages(request: pytest.FixtureRequest) -> dict[int, Stage]:
    """The flags as the runbook's text has them, and as the command that it names prints them."""
    if request.param == "written":
        return written()
    found: dict[int, Stage] = request.getfixturevalue("rendered")
    return found


def test_steps_of_the_runbook_refuse_no_token(cluster: Cluster, stages: dict[int, Stage]) -> None:
    """Nothing is refused at any moment, both programs start again at the end, and a day later one key is public."""
    follow(cluster, stages)
    assert cluster.refusals == []
    cluster.mirror.run(after=timedelta(days=1))
    public = cluster.mirror.public(JWKS_KEY)
    assert public is not None
    new = jwk_of((cluster.nodes[0].folder / "sa-new.pub").read_bytes())["kid"]
    assert [key["kid"] for key in json.loads(public)["keys"]] == [new]


def test_runbook_and_renderer_give_the_same_flags(rendered: dict[int, Stage]) -> None:
    """An operator may follow either."""
    assert rendered == written()


@pytest.mark.parametrize(
    ("without", "refused"),
    [
        pytest.param("publish", {"apiserver 1", "cloud"}, id="new-key-not-published-first"),
        pytest.param("wait", {"cloud"}, id="caches-not-waited-for"),
        pytest.param("secrets", {"secret 0", "secret 1"}, id="tokens-in-secrets-not-recreated"),
        pytest.param("expiry", {"apiserver 0", "apiserver 1"}, id="old-tokens-not-waited-for"),
    ],
)
def test_each_step_is_needed(cluster: Cluster, without: str, refused: set[str]) -> None:
    """Left out, tokens are refused: the model sees what the runbook warns of."""
    follow(cluster, written(), without=without)
    assert set(cluster.refusals) == refused


def test_controller_manager_without_the_new_file_does_not_start_again(cluster: Cluster) -> None:
    """Nobody notices until its next start, because it reads the file at the start only."""
    with pytest.raises(NotStartedError, match=rf"{PKI}/sa\.key"):
        follow(cluster, written(), without="controller-manager")


@pytest.mark.parametrize(
    ("case", "files"),
    [
        ("01-rsa1/anonymous-bound-", (1,)),
        ("02-rsa1-ec2-overlap/", (1, 2)),
        ("03-ec2-signs-rsa1-kept/", (2, 1)),
        ("04-rsa1-ec2-rsa3/", (1, 2, 3)),
        ("04b-rotated-away-rsa3-only/", (3,)),
    ],
)
def test_model_shows_what_a_real_apiserver_showed(cluster: Cluster, case: str, files: tuple[int, ...]) -> None:
    """With the same public keys, byte for byte."""
    node = cluster.nodes[0]
    for number in files:
        shutil.copy(FOLDER / "keys" / f"sa{number}.pub", node.folder)
    listed = tuple((KEY_FILE, f"{PKI}/sa{number}.pub") for number in files)
    node.apiserver_flags = (*listed, (SIGNING_KEY_FILE, f"{PKI}/sa.key"))
    node.restart_apiserver()
    assert node.jwks() == capture(f"{case}jwks").body()
    assert node.discovery() == capture(f"{case}discovery").body()
