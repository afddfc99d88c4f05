"""Google Cloud and Azure: commands that a shell runs as they are meant, and the files of their tools."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.errors import UsageError
from mirror.federation.render.kind import Workload
from mirror.model import IssuerName
from support.rendering import ENTRY, ISSUER, notes, text, with_audiences

SUBJECT = "system:serviceaccount:default:app"
TWO = Workload(subjects=("system:serviceaccount:a:b", "odd\"$(id)'subject"))
GOOGLE = {"PROJECT_NUMBER": "42", "GOOGLE_SERVICE_ACCOUNT": "pods@p.iam"}
AZURE = {"IDENTITY": "pods", "RESOURCE_GROUP": "rg"}


def run(script: str, folder: Path, environ: dict[str, str]) -> tuple[int, list[list[str]]]:
    """The exit status of the shell, and what each tool was called with."""
    log = folder / "log"
    log.touch()
    for tool in ("gcloud", "az"):
        (folder / tool).write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" end >> {log}\n")
        (folder / tool).chmod(0o755)
    path = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-eu"], input=script, text=True, capture_output=True, env=path | environ, check=False)
    return done.returncode, [each.split("\0")[:-1] for each in log.read_text().split("end\0")[:-1]]


@pytest.mark.parametrize("workload", [Workload(), TWO], ids=["plain", "two"])
def test_google_commands_make_pool_provider_and_bindings(workload: Workload, tmp_path: Path) -> None:
    """Issuer, audience and subjects arrive exactly; one binding a subject."""
    status, (pool, provider, *bindings) = run(text("workload-identity-provider", workload=workload), tmp_path, GOOGLE)
    assert status == 0
    assert pool == ["iam", "workload-identity-pools", "create", "syd-prod", "--location=global"]
    assert f"--issuer-uri={ISSUER}" in provider
    assert "--allowed-audiences=cluster.identifier.kubernetes.domain" in provider
    condition = next(each for each in provider if each.startswith("--attribute-condition="))
    subjects = workload.all_subjects()
    assert json.loads(condition.partition(" in ")[2]) == list(subjects)
    pool_of = "principal://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/syd-prod/subject/"
    assert [each[-1] for each in bindings] == [f"--member={pool_of}{each}" for each in subjects]
    assert {each[3] for each in bindings} == {"pods@p.iam"}


@pytest.mark.parametrize("workload", [Workload(), TWO], ids=["plain", "two"])
def test_azure_commands_make_a_credential_for_each_subject(workload: Workload, tmp_path: Path) -> None:
    """The same as in the JSON for an application; names differ."""
    status, found = run(text("federated-credential", workload=workload), tmp_path, AZURE)
    assert status == 0
    read = json.loads(text("federated-credential", "json", workload=workload))
    credentials = read if isinstance(read, list) else [read]
    assert [each["subject"] for each in credentials] == list(workload.all_subjects())
    assert len({each["name"] for each in credentials}) == len(found) == len(credentials)
    for command, each in zip(found, credentials, strict=True):
        options = dict(zip(command[3::2], command[4::2], strict=True))
        assert options == {
            "--identity-name": "pods",
            "--resource-group": "rg",
            "--name": each["name"],
            "--issuer": ISSUER,
            "--subject": each["subject"],
            "--audiences": each["audiences"][0],
        }


@pytest.mark.parametrize("kind", ["workload-identity-provider", "federated-credential"])
def test_commands_do_nothing_without_their_variables(kind: str, tmp_path: Path) -> None:
    """No name is made up: the shell stops before the first command."""
    status, found = run(text(kind), tmp_path, {})
    assert status != 0
    assert found == []


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("workload-identity-provider", "https://iam.googleapis.com/projects/1"),
        ("federated-credential", "api://AzureADTokenExchange"),
    ],
)
def test_own_audience_is_taken_and_another_clouds_is_told(kind: str, own: str) -> None:
    """A token for AWS that is good at another cloud asks for a second look."""
    assert own in text(kind, issuer=with_audiences("sts.amazonaws.com", "a", own))
    assert "another cloud's" not in notes(kind, issuer=with_audiences("sts.amazonaws.com", own))
    assert "another cloud's" in notes(kind, issuer=with_audiences("sts.amazonaws.com"))
    chosen = Workload(audience="sts.amazonaws.com")
    assert "another cloud's" not in notes(kind, issuer=with_audiences("sts.amazonaws.com"), workload=chosen)


@pytest.mark.parametrize(
    ("kind", "subjects", "words"),
    [
        pytest.param("federated-credential", ("a*",), "no patterns", id="azure-pattern"),
        pytest.param("workload-identity-provider", ("a?",), "no patterns", id="google-pattern"),
        pytest.param("workload-identity-provider", ("a" * 128,), "127 bytes", id="google-long"),
        pytest.param("federated-credential", tuple(f"s{n}" for n in range(21)), "takes 20", id="azure-many"),
    ],
)
def test_what_a_cloud_cannot_do_is_refused(kind: str, subjects: tuple[str, ...], words: str) -> None:
    """Before anything is made."""
    with pytest.raises(UsageError, match=words):
        text(kind, workload=Workload(subjects=subjects))


@pytest.mark.parametrize(
    ("name", "found"),
    [("a", "k8s-a"), ("gcp-prod", "prod"), ("x" * 40, "x" * 32), ("syd-prod", "syd-prod")],
)
def test_pool_has_an_id_that_google_takes(name: str, found: str) -> None:
    """4 to 32 characters, without the prefix that Google keeps for itself."""
    issuer = replace(ENTRY, name=IssuerName(name))
    assert f"workload-identity-pools create {found} " in text("workload-identity-provider", issuer=issuer)


def test_list_with_a_comma_has_another_separator(tmp_path: Path) -> None:
    """gcloud splits at commas unless told otherwise."""
    _, (_, provider, _) = run(text("workload-identity-provider", issuer=with_audiences("a,b")), tmp_path, GOOGLE)
    assert "--allowed-audiences=^;^a,b" in provider


def test_google_credentials_file_names_no_secret() -> None:
    """It only says where the token is and which provider it is for."""
    read = json.loads(text("workload-identity-provider", "json"))
    assert read["credential_source"] == {"file": "/var/run/secrets/oidc-token/token"}
    assert read["audience"].endswith("/workloadIdentityPools/syd-prod/providers/syd-prod")
    assert "cluster.identifier.kubernetes.domain" in notes("workload-identity-provider", "json")
