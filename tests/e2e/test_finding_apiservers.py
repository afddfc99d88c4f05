"""The whole program with a kubeconfig, and with replicas that it finds by name: a process of its own, real servers."""

import json
import sys

import pytest

from support.apiserver import Apiserver
from support.captures import RawAnswer, capture
from support.kubeconfigs import kubeconfig
from support.situations import JWKS_KEY
from support.tls import server_context
from support.worlds import World, run

BOTH = "02-rsa1-ec2-overlap/"
LAST = "04b-rotated-away-rsa3-only/"

pytestmark = pytest.mark.s3


def test_kubeconfig_alone_is_enough(world: World) -> None:
    """Server, CA and token come from the kubeconfig; a renewed token is used by the next pass and is in no output."""
    world.show(BOTH, BOTH)
    first, _ = world.replicas
    del world.issuer["apiservers"], world.issuer["tls"]
    world.issuer["auth"] = {"kubeconfig": "kubeconfig"}
    outputs = ""
    for token in ("first-s3cr3t", "second-s3cr3t"):
        kubeconfig(world.folder, first.url, user={"token": token})
        done = world.mirror("--once", "--output", "json", "--log-level", "debug")
        assert done.status == 0, done.err
        outputs += done.out + done.err
    assert [request.headers["authorization"] for request in first.requests[::2]] == [
        "Bearer first-s3cr3t",
        "Bearer second-s3cr3t",
    ]
    assert "s3cr3t" not in outputs
    assert b"s3cr3t" not in b"".join(
        path.read_bytes() for path in (world.folder / "state").rglob("*") if path.is_file()
    )


def test_proxy_variables_are_ignored(world: World) -> None:
    """Apiservers are asked directly whatever the environment's proxies are; boto3 and git may need those."""
    world.show(BOTH, BOTH)
    dead = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:1")
    (world.folder / "mirror.yaml").write_text(json.dumps(world.config))
    command = [sys.executable, "-m", "mirror", "--config", str(world.folder / "mirror.yaml"), "--dry-run"]
    done = run(command, world.environ() | dead | {"NO_PROXY": "localhost"}, world.folder)
    assert (done.status, "shows 2 keys" in done.out) == (0, True), done.out


def test_exec_plugin_is_refused_in_words(world: World) -> None:
    """A kubeconfig as cloud vendors write it ends with exit 1, the reason and the remedy; nothing was run."""
    proof = world.folder / "proof"
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [str(proof)]}
    kubeconfig(world.folder, "https://127.0.0.1:1", user={"exec": plugin})
    del world.issuer["apiservers"], world.issuer["tls"]
    world.issuer["auth"] = {"kubeconfig": "kubeconfig"}
    done = world.mirror("--once")
    assert (done.status, proof.exists(), "Traceback" in done.err) == (1, False, False)
    assert "kubeconfig_refused" in done.out
    assert "runs a program to log in" in done.out
    assert "kubectl create token" in done.out


def test_fewer_found_replicas_publish_and_do_not_retire(world: World) -> None:
    """Behind localhost stands one of three expected replicas: its keys are public, what it no longer shows stays."""
    with Apiserver(server_context("localhost")) as server:
        world.issuer["apiservers"] = [f"https://localhost:{server.port}"]
        world.issuer["keys"] = {"retain_removed": "0s"}
        world.issuer["discover"], world.issuer["expect_replicas"] = "dns", 3
        replica = server.url
        world.answer(server, *captures_of(BOTH))
        world.mirror("--once")
        both = world.public(JWKS_KEY).body
        world.answer(server, *captures_of(LAST))
        done = world.mirror("--once", "--output", "json")
    events = {event["event"] for event in done.report()["issuers"][0]["events"]}
    assert "retirement.blocked" in events
    assert both.count(b'"kid"') == 2
    assert world.public(JWKS_KEY).body.count(b'"kid"') == 3
    assert replica in {each["url"] for each in done.report()["issuers"][0]["apiservers"]}


def captures_of(case: str) -> tuple[RawAnswer, RawAnswer]:
    return capture(f"{case}discovery"), capture(f"{case}jwks")


def test_pods_login_outside_of_a_pod_is_reported(world: World) -> None:
    """`in_cluster` on a machine that is no pod: the reasons in words, exit 1."""
    del world.issuer["apiservers"], world.issuer["tls"]
    world.issuer["auth"] = {"in_cluster": True}
    done = world.mirror("--once")
    assert (done.status, "Traceback" in done.err) == (1, False)
    assert "not_in_cluster" in done.out
