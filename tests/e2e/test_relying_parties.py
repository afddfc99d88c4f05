"""Relying parties that are not ours accept what was published, over HTTPS, with captured tokens of a real cluster.

Time is set back to a minute after each token was made. Each program in tests/relying_parties follows the issuer's own
discovery document to its `jwks_uri`, as any relying party does.
"""

import json
import os
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.captures import FOLDER
from support.proxy import Proxy
from support.s3 import S3Server
from support.situations import ISSUER
from support.worlds import World, running_world

pytestmark = pytest.mark.s3

TESTS = Path(__file__).parents[1]
AUDIENCE = "cluster.identifier.kubernetes.domain"
ACCEPTED = "accepted system:serviceaccount:lab:prober"
NO_NODE = "node with npm's jose is missing: install nodejs and npm, then run scripts/relying-parties"
YEAR_SECONDS = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Token:
    """A captured token; `at` is a minute after it was made, in seconds since 1970."""

    text: str
    at: int

    def line(self, *, text: str = "", audience: str = AUDIENCE, later_seconds: int = 0) -> str:
        """The question whether the token, or this one with some part changed, is good."""
        return f"{audience} {self.at + later_seconds} {text or self.text}"


def token(name: str) -> Token:
    claims = json.loads((FOLDER / f"{name}.json").read_text())["claims"]
    return Token((FOLDER / f"{name}.jwt").read_text().strip(), int(claims["iat"]) + 60)


def changed(original: Token) -> dict[str, str]:
    """Every way in which a token can be wrong, as a question; `original` is good."""
    other_key = token("04-rsa1-ec2-rsa3/token-cluster-aud")
    head, claims, signature = original.text.split(".")
    forged = urlsafe_b64encode(b'{"sub":"any-user"}').decode().rstrip("=")
    return {
        "signed by a key that is not public": other_key.line(),
        "for another audience": original.line(audience="sts.amazonaws.com"),
        "years later": original.line(later_seconds=2 * YEAR_SECONDS),
        "with other claims": original.line(text=f"{head}.{forged}.{signature}"),
        "without a signature": original.line(text=f"{head}.{claims}."),
        "of another issuer": token("06-issuer-bare-host/token-cluster-aud").line(),
    }


SIGNED_IN_TIME = (
    "01-rsa1/sa-token-cluster-aud",
    "02-rsa1-ec2-overlap/token-cluster-aud",
    "03-ec2-signs-rsa1-kept/token-cluster-aud",
    "04d-all-algs/token-cluster-aud",
)
"""RS256 before and while a second key is added, ES256 after the switch, ES512 among five keys of all algorithms."""


@dataclass(frozen=True, slots=True)
class Party:
    """One relying party: how it is started, and what its environment needs besides."""

    command: tuple[str, ...]
    environ: Mapping[str, str]

    def judge(self, lines: list[str]) -> list[str]:
        """Its answer to each question, from one process."""
        plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        done = subprocess.run(
            [*self.command, ISSUER],
            input="\n".join(lines) + "\n",
            env={**plain, **self.environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


def node() -> str:
    """The program; skips where it or its package is missing, fails with OIDC_MIRROR_REQUIRE_NODE=1."""
    found = shutil.which("node")
    if found is not None and (TESTS / "relying_parties" / "node_modules" / "jose").is_dir():
        return found
    if os.environ.get("OIDC_MIRROR_REQUIRE_NODE") == "1":
        pytest.fail(NO_NODE)
    pytest.skip(NO_NODE)


def python_party(name: str) -> Callable[[World, Proxy], Party]:
    def party(world: World, proxy: Proxy) -> Party:
        trust = {"https_proxy": proxy.url, "SSL_CERT_FILE": str(world.server.certificates.ca_file)}
        return Party((sys.executable, "-m", f"relying_parties.{name}"), {**trust, "PYTHONPATH": str(TESTS)})

    return party


def javascript_party(world: World, _: Proxy) -> Party:
    trust = {
        "CONNECT_TO": f"localhost:{world.server.port}",
        "NODE_EXTRA_CA_CERTS": str(world.server.certificates.ca_file),
    }
    return Party((node(), str(TESTS / "relying_parties" / "with_jose.mjs")), trust)


PARTIES = {
    "pyjwt": python_party("with_pyjwt"),
    "joserfc": python_party("with_joserfc"),
    "jose": javascript_party,
}


@pytest.fixture(scope="module")
def world(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A published cluster with keys of all algorithms."""
    with running_world(s3_server, tmp_path_factory.mktemp("world")) as found:
        found.show("04d-all-algs/", "04d-all-algs/")
        done = found.mirror("--once")
        assert done.status == 0, (done.out, done.err)
        yield found


@pytest.mark.parametrize("party", PARTIES.values(), ids=PARTIES)
def test_captured_tokens_are_accepted_and_all_others_refused(
    world: World, party: Callable[[World, Proxy], Party]
) -> None:
    """Each relying party accepts real tokens of every algorithm on the public documents, and really verifies them."""
    with Proxy(reroute=("localhost", world.server.port)) as proxy:
        good = [token(name) for name in SIGNED_IN_TIME]
        bad = changed(good[0])
        answers = party(world, proxy).judge([each.line() for each in good] + list(bad.values()))
    assert answers[: len(good)] == [ACCEPTED] * len(good)
    assert len(answers) == len(good) + len(bad)
    refused = dict(zip(bad, answers[len(good) :], strict=True))
    assert {what for what, said in refused.items() if not said.startswith("refused ")} == set()
