"""Credentials that are written with a line feed at their end: named as the cause, and printed nowhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.s3 import S3Server
from support.worlds import World, running_world

pytestmark = pytest.mark.s3

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_SESSION_TOKEN": "IQoJb3JpZ2luX2VjEExampleSessionToken==",
}
COMMANDS = {
    "once": ("--once",),
    "once-json": ("--log-format", "json", "--log-level", "debug", "--once", "--output", "json"),
    "dry-run": ("--dry-run",),
    "check": ("check",),
}


@pytest.fixture
def world(s3_server: S3Server, tmp_path: Path) -> Iterator[World]:
    with running_world(s3_server, tmp_path) as made:
        made.show("01-rsa1/anonymous-bound-", "01-rsa1/anonymous-bound-")
        yield made


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        *(pytest.param("AWS_SESSION_TOKEN", words, id=f"token-{name}") for name, words in COMMANDS.items()),
        pytest.param("AWS_ACCESS_KEY_ID", COMMANDS["once-json"], id="key-id"),
        pytest.param("AWS_SECRET_ACCESS_KEY", COMMANDS["check"], id="secret-key"),
    ],
)
def test_credential_with_a_line_feed_is_named_and_never_printed(
    world: World, variable: str, words: tuple[str, ...]
) -> None:
    """As a Kubernetes Secret that was made with `echo`: no token, secret or signature in any output."""
    world.further_environ = CREDENTIALS | {variable: CREDENTIALS[variable] + "\n"}
    done = world.mirror(*words)
    said = " ".join((done.out + done.err).split())  # a page may break lines
    assert done.status == 1
    for secret in (CREDENTIALS["AWS_SECRET_ACCESS_KEY"], CREDENTIALS["AWS_SESSION_TOKEN"], "Signature="):
        assert secret not in said
    assert not re.search(r"[0-9a-f]{64}/", said)
    assert f"environment variable {variable} ends with a line feed" in said
    assert "closed the connection" not in said
    assert "printf %s" in said


def test_credential_process_with_a_line_feed_names_profile_and_file(world: World) -> None:
    """What a program prints is a credential too; the file that names the program is named."""
    program = world.folder / "give-credentials"
    program.write_text(
        '#!/bin/sh\nprintf \'{"Version": 1, "AccessKeyId": "AKIAEXAMPLE", "SecretAccessKey": "process-secret", '
        '"SessionToken": "process-token\\\\n"}\'\n'
    )
    program.chmod(0o755)
    config = world.folder / "aws-config"
    config.write_text(f"[profile mirror]\ncredential_process = {program}\n")
    world.further_environ = {"AWS_CONFIG_FILE": str(config)}
    world.config["publish"]["profile"] = "mirror"
    done = world.mirror("--once")
    place = f"the session token from the credential_process of profile mirror in {config}"
    assert f"{place} ends with a line feed" in done.out
    assert "process-token" not in done.out + done.err


def test_token_file_of_a_container_is_named(world: World) -> None:
    """EKS Pod Identity and ECS give a file whose text goes into a header."""
    token = world.folder / "pod-identity-token"
    token.write_text("container-secret-token\n")
    world.further_environ = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
    }
    done = world.mirror("--once")
    assert f"in the file {token} (AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE) ends with a line feed" in done.out
    assert "container-secret-token" not in done.out + done.err
