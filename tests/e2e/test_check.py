"""`check` as users run it, against real TLS apiservers, S3, and git. It changes nothing, whatever it finds."""

import base64
import fcntl
import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from support.apiserver import always, never_answer
from support.captures import capture
from support.gits import bare, git, program
from support.situations import DISCOVERY_KEY, ISSUER, JWKS_KEY
from support.tls import server_context
from support.worlds import Done, World

ONE, BOTH = "01-rsa1/anonymous-bound-", "02-rsa1-ec2-overlap/"
SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/check.schema.json").read_text())

pytestmark = pytest.mark.s3


def check(world: World, *words: str) -> dict[str, Any]:
    """The diagnosis as data, which obeys its schema and agrees with the exit status."""
    done = world.mirror("check", "--output", "json", *words)
    assert done.out, done.err
    document = done.report()
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["exit_status"] == done.status
    return document


def found(document: dict[str, Any], *levels: str) -> set[tuple[str, str]]:
    return {(each["station"], each["code"]) for each in document["findings"] if each["level"] in levels}


def published(world: World) -> None:
    world.show(ONE, ONE)
    assert world.mirror("--once").status == 0


def test_healthy_setup_exits_0_and_is_not_changed(world: World) -> None:
    """Every component reports, while a daemon's lock is reported and not taken; branch and objects stay as they are."""
    published(world)
    before = world.state()
    with (world.folder / "state/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        document = check(world)
    assert found(document, "failed") == set()
    assert {each["station"] for each in document["findings"]} == set(SCHEMA["$defs"]["station"]["enum"]) - {
        "fleet",
        "notify",
    }
    assert {("keys", "keys.public"), ("git", "git.whole"), ("rights", "rights.put")} <= found(document, "ok")
    (held,) = [each for each in document["findings"] if each["code"] == "state.locked"]
    assert f"process {os.getpid()} " in held["sentence"]
    assert found(check(world, "--fleet"), "failed", "warning", "ok") == {("fleet", "fleet.compared")}
    assert world.state() == before


def test_faults_of_several_components_are_all_reported(world: World) -> None:
    """An expired certificate, an apiserver that hangs, an absent bucket: none hides another."""
    published(world)
    world.replicas[0].context = server_context("127.0.0.1", valid_for=timedelta(hours=-1), made=timedelta(days=-2))
    world.replicas[1].respond_with(never_answer)
    world.config["publish"]["bucket"] = "no-such-bucket"
    document = check(world)
    assert {("apiservers", "tls_expired"), ("apiservers", "timeout")} <= found(document, "failed")
    assert ("bucket", "bucket.unreachable") in found(document, "failed")
    assert {("git", "git.whole"), ("state", "state.writable")} <= found(document, "ok")


def test_wrong_issuers_are_distinguished(world: World) -> None:
    """A slash at the end is said to be the only difference; 404 means that the issuer is no https URL (facts.md#13)."""
    published(world)
    world.issuer["issuer"] = f"{ISSUER}/"
    world.replicas[1].respond_with(always(capture("06-issuer-bare-host/anonymous-discovery").raw))
    document = check(world)
    assert found(document, "failed") >= {("apiservers", "wrong_issuer"), ("apiservers", "not_found")}
    reported = {each["code"]: each for each in document["findings"]}
    assert "differ only in the trailing slash" in reported["wrong_issuer"]["sentence"]
    assert "--service-account-issuer" in reported["not_found"]["remedy"]


def test_rotation_in_progress_is_distinguished_from_tampering(world: World) -> None:
    """Which replica shows which key; a certificate that expires soon; and a document that another writer changed."""
    world.replicas[0].context = server_context("127.0.0.1", valid_for=timedelta(days=20))
    published(world)
    world.show(ONE, BOTH)
    world.overwrite(JWKS_KEY, b'{"keys":[]}')
    document = check(world)
    assert {("keys", "keys.differ"), ("apiservers", "tls.expires_soon")} <= found(document, "warning")
    assert {("public", "public.empty_jwks"), ("public", "public.wrong_cache_control")} <= found(document, "failed")


def test_before_the_first_pass_nothing_is_created(world: World) -> None:
    """No state directory, no object; what is still missing is reported without a failure."""
    world.show(ONE, ONE)
    document = check(world)
    assert found(document, "failed") == set()
    assert ("public", "public.nothing_yet") in found(document, "warning")
    assert not (world.folder / "state").exists()
    assert [world.public(key).status for key in (JWKS_KEY, DISCOVERY_KEY)] == [404, 404]


def test_text_is_readable_and_names_the_remedy(world: World) -> None:
    """One apiserver forbids anonymous requests: exit 1, and the exact command in one piece."""
    published(world)
    world.replicas[1].respond_with(always(capture("01-rsa1/anonymous-unbound-discovery").raw))
    done = world.mirror("check")
    assert done.status == 1
    assert "failed   forbidden: [discovery] Anonymous requests may not read the document" in done.out
    assert "`kubectl create clusterrolebinding oidc-mirror" in done.out
    assert "--group=system:unauthenticated`" in done.out
    assert done.out.splitlines()[-1].startswith("2 failed, ")
    assert "\x1b" not in done.out


def test_remote_that_refuses_pushes_is_reported(world: World, tmp_path: Path) -> None:
    """A hook refuses only real pushes: the commit that stays behind gives it away; nothing is pushed by looking."""
    remote = bare(tmp_path / "remote.git")
    program(remote / "hooks/pre-receive", "echo protected >&2; exit 1")
    world.config["repository"] = {"remote": str(remote)}
    world.show(ONE, ONE)
    world.mirror("--once")
    document = check(world)
    assert ("git", "git.unpushed") in found(document, "warning")
    assert ("git", "git.fetched") in found(document, "ok")
    assert git(remote, "for-each-ref") == ""


def test_token_never_appears(world: World) -> None:
    """Not in text, JSON or logs, even when the apiserver repeats it; its expiry is printed."""
    published(world)
    claims = {"exp": int(time.time()) - 60, "iss": ISSUER, "sub": "system:serviceaccount:oidc-mirror:secret-name"}
    parts = [
        base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=") for each in ({"alg": "x"}, claims)
    ]
    token = ".".join((*parts, "c2VjcmV0LXNpZ25hdHVyZQ"))
    (world.folder / "token").write_text(token)
    (world.folder / "token").chmod(0o644)
    world.issuer["auth"] = {"token_file": "token"}
    body = json.dumps({"kind": "Status", "message": f"bad token {token}"}).encode()
    head = f"HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    world.respond_with(always(head.encode() + body))
    reported: list[Done] = [
        world.mirror("check", "--log-level", "debug", *words) for words in ((), ("--output", "json"))
    ]
    assert [each.status for each in reported] == [1, 1]
    assert {("configuration", "token.expired"), ("apiservers", "unauthorized")} <= found(reported[1].report(), "failed")
    assert ("configuration", "file.not_private") in found(reported[1].report(), "warning")
    for each in reported:
        assert not [secret for secret in (*token.split("."), "secret-name") if secret in each.out + each.err]


def test_sts_error_is_explained_by_what_is_found(world: World) -> None:
    """The issuer is taken from the text; the public documents are looked at, and git is not."""
    published(world)
    world.overwrite(JWKS_KEY, b'{"keys":[]}')
    text = f"An error occurred: Couldn't retrieve verification key from your identity provider {ISSUER}"
    document = check(world, "--explain", text)
    assert document["causes"][0]["code"] == "documents_not_public"
    assert document["findings"][0]["station"] == "public"
    assert "git" not in {each["station"] for each in document["findings"]}


@pytest.mark.parametrize(
    "words",
    [("nobody",), ("--fleet", "syd-prod"), ("--fleet", "--explain", "x"), ("--configuration", "--fleet")],
    ids=["unknown-name", "fleet-of-one", "fleet-explained", "two-questions"],
)
def test_wrong_words_are_a_usage_error(world: World, words: tuple[str, ...]) -> None:
    """Exit 2 with a remedy, and nothing on stdout."""
    done = world.mirror("check", *words)
    assert (done.status, done.out) == (2, "")
    assert "remedy:" in done.err


def test_configuration_with_mistakes_lists_all_of_them(world: World) -> None:
    """Exit 2, as with every command."""
    world.config["interval"] = "soon"
    world.issuer["apiservers"] = ["http://10.0.0.1"]
    done = world.mirror("check")
    assert (done.status, done.out) == (2, "")
    assert "interval" in done.err
    assert "apiservers" in done.err


def test_missing_files_are_found_with_the_configuration(world: World) -> None:
    """`--files` looks at the files that it names, still without any network."""
    world.issuer["tls"] = {"ca_file": "missing-ca.crt"}
    world.issuer["auth"] = {"token_file": "missing-token"}
    document = check(world, "--configuration", "--files")
    assert {("configuration", "file.unreadable")} <= found(document, "failed")
    assert len([each for each in document["findings"] if each["level"] == "failed"]) == 2
    assert world.mirror("check", "--files").status == 2


def test_configuration_alone_is_checked_without_any_request(world: World) -> None:
    """A pull request has neither files nor network: nothing is asked, and no file but the configuration is read."""
    world.issuer["tls"] = {"ca_file": "absent.crt"}
    world.issuer["keys"] = {"retain_removed": "1h"}
    world.config["state_dir"] = "/proc/nowhere"
    document = check(world, "--configuration")
    assert found(document, "failed", "warning", "ok") == {
        ("configuration", "configuration.valid"),
        ("configuration", "configuration.unwise"),
    }
    assert document["exit_status"] == 0
    assert world.replicas[0].requests == []
