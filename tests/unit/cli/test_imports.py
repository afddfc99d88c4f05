"""Each command imports only the packages that it uses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "apscheduler",
    "boto3",
    "botocore",
    "cryptography",
    "httpx",
    "jinja2",
    "jwcrypto",
    "prometheus_client",
    "pydantic",
    "rich",
    "starlette",
    "structlog",
    "uvicorn",
    "yaml",
)
PROGRAM = f"""
import contextlib, io, json, sys
from mirror.cli.startup import speed_up_imports
speed_up_imports()
from mirror.cli.main import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    status = main(sys.argv[1:])
print(json.dumps([status, [each for each in {HEAVY!r} if each in sys.modules]]))
"""
CONFIGURATION = """
state_dir: state
publish:
  bucket: oidc-bucket
  region: ap-southeast-2
  endpoint_url: http://127.0.0.1:1
  base_url: https://127-0-0-1.example.invalid
issuers:
  - name: syd
    issuer: https://127-0-0-1.example.invalid/a
    apiservers: [https://127.0.0.1:1]
"""
CONFIG_READER = ["pydantic", "yaml"]
TRUST = ["cryptography", "jwcrypto"]
NETWORK = ["boto3", "botocore", "httpx"]
COMMANDS = ("run", "status", "history", "wait", "verify", "approve", "revoke", "adopt", "check", "init", "provision")


def imported(folder: Path, *words: str) -> tuple[int, list[str]]:
    """The exit status of a command, and the heavy packages that it imported."""
    environ = {"PATH": "/usr/bin:/bin", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "HOME": str(folder)}
    command = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, cwd=folder, env=environ, stdout=subprocess.PIPE, check=True)
    status, found = json.loads(done.stdout)
    return status, found


@pytest.mark.parametrize("words", [("--help",), *((name, "--help") for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The help appears without delay."""
    assert imported(tmp_path, *words) == (0, [])


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((), id="daemon"),
        pytest.param(("--once",), id="once"),
        *(pytest.param((name,), id=name) for name in ("status", "history", "verify", "check")),
        pytest.param(("wait", "syd", "abcdefgh"), id="wait"),
        pytest.param(("approve", "syd", "abcdefgh"), id="approve"),
        pytest.param(("provision", "bucket", "syd"), id="provision"),
    ],
)
def test_mistake_of_the_configuration_is_reported_before_anything_else_is_imported(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Only the packages that read configurations are imported."""
    assert imported(tmp_path, "--config", "missing.yaml", *words) == (2, CONFIG_READER)


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        pytest.param(("schema",), 0, ["pydantic"], id="schema"),
        pytest.param(("render", "iam-role", "syd"), 0, [*TRUST, *CONFIG_READER], id="render"),
        pytest.param(("render", "rbac", "syd"), 0, [*TRUST, *CONFIG_READER], id="render-rbac"),
        pytest.param(("check", "--configuration"), 0, [*TRUST, *CONFIG_READER], id="check-configuration"),
        pytest.param(("history",), 1, [*TRUST, *CONFIG_READER], id="history"),
        pytest.param(("wait", "syd", "abcdefgh", "--timeout", "1s"), 1, [*TRUST, "httpx", *CONFIG_READER], id="wait"),
        pytest.param(("verify",), 1, [*TRUST, "httpx", *CONFIG_READER], id="verify"),
        pytest.param(("status",), 1, [*NETWORK, *TRUST, *CONFIG_READER], id="status"),
        pytest.param(("--once",), 1, [*NETWORK, *TRUST, *CONFIG_READER, "structlog"], id="once"),
        pytest.param(
            ("provision", "bucket", "syd", "--dry-run"),
            1,
            ["boto3", "botocore", *TRUST, *CONFIG_READER],
            id="provision",
        ),
    ],
)
def test_command_imports_what_it_uses(tmp_path: Path, words: tuple[str, ...], status: int, expected: list[str]) -> None:
    """Commands without network access import neither boto3 nor httpx. Only the daemon imports its packages."""
    (tmp_path / "mirror.yaml").write_text(CONFIGURATION)
    assert imported(tmp_path, "--config", "mirror.yaml", *words) == (status, sorted(expected))
