"""`verify` and the probe as users run them, against real TLS, S3, git and a small STS."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mirror.model import Key
from mirror.trust.discovery import documents
from support.captures import RawAnswer
from support.s3 import S3Server
from support.situations import ISSUER, JWKS_KEY
from support.sts import SECRET, running_sts
from support.tokens import AUDIENCE, Signer, claims, mint, signer
from support.worlds import PROJECT, Done, World, run, running_world

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/verify.schema.json").read_text())
ROLE = "arn:aws:iam::123456789012:role/pod"
OLD, NEW = signer("RSA"), signer()

pytestmark = pytest.mark.s3


@pytest.fixture
def world(s3_server: S3Server, tmp_path: Path) -> Iterator[World]:
    with running_world(s3_server, tmp_path) as made:
        made.issuer["audiences"] = [AUDIENCE]
        show(made, OLD.key)
        yield made


def show(world: World, *keys: Key) -> None:
    """What both replicas answer from now on."""
    shown = documents(ISSUER, keys)
    for replica in world.replicas:
        world.answer(
            replica, _answer("application/json", shown.discovery), _answer("application/jwk-set+json", shown.jwks)
        )


def _answer(content_type: str, body: bytes) -> RawAnswer:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return RawAnswer("made", head.encode() + body)


def token(world: World, by: Signer, **changes: Any) -> str:
    """A file with a token that is good now."""
    path = world.folder / "token"
    path.write_bytes(mint(by, claims(time.time(), **changes)) + b"\n")
    return str(path)


def reported(done: Done) -> str:
    return done.out + done.err


def test_published_documents_and_a_fresh_token_are_accepted(world: World) -> None:
    """Exit 0 in words and as JSON; the token itself is nowhere, and nothing was changed by looking."""
    assert world.mirror("--once").status == 0
    before, file = world.state(), token(world, OLD)
    text, document = world.mirror("verify"), world.mirror("verify", "--token-file", file, "--output", "json")
    assert (text.status, document.status, text.err, document.err) == (0, 0, "", "")
    assert "AWS     would accept these documents" in text.out
    found = document.report()
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    (issuer,) = found["issuers"]
    assert [(party["name"], party["accepts"]) for party in issuer["relying_parties"]] == [
        ("AWS", True),
        ("GCP", True),
        ("Entra", True),
    ]
    assert {check["finding"] for check in issuer["checks"] + issuer["token_checks"]} == {"passed"}
    assert all(part not in reported(document) for part in Path(file).read_text().strip().split("."))
    assert world.state() == before


def test_unpublished_documents_are_refused(world: World) -> None:
    """Before the first pass: exit 1, with the URL and the cause."""
    done = world.mirror("verify", "syd-prod")
    assert done.status == 1
    assert "failed  discovery" in done.out
    assert "AWS would accept 0 of 1 issuer" in done.out


def test_token_from_stdin_is_read(world: World) -> None:
    """`kubectl create token … | oidc-mirror verify --token-file -`."""
    assert world.mirror("--once").status == 0
    command = [
        sys.executable,
        "-m",
        "mirror",
        "--config",
        str(world.folder / "mirror.yaml"),
        "verify",
        "--token-file",
        "-",
    ]
    body = mint(OLD, claims(time.time() - 7200))
    done = subprocess.run(command, env=world.environ(), cwd=PROJECT, input=body, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"The token expired 1 h" in done.stdout


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--token-file", "/missing"), "The token file /missing cannot be read."),
        (("--role-arn", ROLE), "STS cannot be asked without a token."),
        (("--role-arn", "no-arn", "--token-file", "-"), "This is not a role ARN."),
        (("nobody",), "No issuer is named nobody."),
    ],
)
def test_wrong_words_are_a_usage_error(world: World, words: tuple[str, ...], part: str) -> None:
    """Exit 2: nothing was looked at."""
    done = world.mirror("verify", *words)
    assert (done.status, done.out) == (2, "")
    assert part in done.err


def test_disabled_readback_is_a_usage_error(world: World) -> None:
    """As for `wait`: every reader of the public URL honours it."""
    world.config["publish"]["readback"]["enabled"] = False
    done = world.mirror("verify")
    assert done.status == 2
    assert "`publish.readback.enabled` is false" in done.err


def test_sts_has_the_last_word(world: World) -> None:
    """The real call, at the endpoint of the environment: accepted, then refused with causes; no credential shows."""
    assert world.mirror("--once").status == 0
    words = ["verify", "--token-file", token(world, OLD), "--role-arn", ROLE]
    command = [sys.executable, "-m", "mirror", "--config", str(world.folder / "mirror.yaml"), *words]
    with running_sts() as sts:
        environ = world.environ() | {"AWS_ENDPOINT_URL_STS": sts.url}
        accepted = run(command, environ, world.folder)
        sts.error = ("InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider")
        refused = run(command, environ, world.folder)
    assert (accepted.status, refused.status) == (0, 1)
    assert (
        "STS in ap-southeast-2 accepts: arn:aws:sts::123456789012:assumed-role/pod/oidc-mirror-verify" in accepted.out
    )
    assert "1. One of the two documents is not public" in refused.out
    assert SECRET not in reported(accepted) + reported(refused)


def test_history_that_cannot_be_read_is_no_hindrance(world: World) -> None:
    """Git only makes sentences better; and STS is not asked about what is no token."""
    assert world.mirror("--once").status == 0
    (world.folder / "state/snapshots.git/refs/heads/main").write_text("garbage")
    (world.folder / "token").write_text("garbage")
    assert world.mirror("verify").status == 0
    done = world.mirror("verify", "--token-file", str(world.folder / "token"), "--role-arn", ROLE)
    assert (done.status, "STS" in done.out) == (1, False)


def test_probe_reports_a_rotation_before_pods_lose_access(world: World) -> None:
    """The cluster signs with a key that it does not show: exit 1 and the event; shown, the next pass publishes it."""
    world.issuer["probe_token_file"] = token(world, OLD)
    assert world.mirror("--once").status == 0
    token(world, NEW)
    before = world.public(JWKS_KEY).body
    failed = world.mirror("--once", "--log-format", "json")
    assert (failed.status, world.public(JWKS_KEY).body) == (1, before)
    events = [json.loads(line) for line in failed.err.splitlines()]
    (event,) = (each for each in events if each["event"] == "signing_key.not_public")
    assert (event["level"], event["name"], event["kid"]) == ("error", "syd-prod", NEW.key.kid)
    assert world.mirror("verify", "--token-file", token(world, NEW)).status == 1
    show(world, OLD.key, NEW.key)
    assert world.mirror("--once").status == 0
    assert world.mirror("verify", "--token-file", token(world, NEW)).status == 0
    assert all(part not in reported(failed) for part in (world.folder / "token").read_text().strip().split("."))
