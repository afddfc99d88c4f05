"""Google Cloud and Azure: commands that a shell runs as they are meant, and the files of their tools."""

import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mirror.errors import UsageError
from mirror.federation.render import KINDS
from mirror.federation.render.base import Workload
from mirror.model import IssuerName, TokenAudiences
from support.rendering import ACCOUNT, ENTRY, ISSUER, notes, text, with_audiences

SUBJECT = "system:serviceaccount:default:app"
TWO = Workload(subjects=("system:serviceaccount:a:b", "odd\"$(id)'subject"))
GOOGLE = {"PROJECT_NUMBER": "42", "GOOGLE_SERVICE_ACCOUNT": "pods@p.iam"}
AZURE = {"IDENTITY": "pods", "RESOURCE_GROUP": "rg"}


POOLS = "iam workload-identity-pools"
OF_PROVIDER = f"{POOLS} providers describe syd-prod --location=global --workload-identity-pool=syd-prod"
LOOKS = ("list", "describe")


def run(
    script: str, folder: Path, environ: dict[str, str], answers: Mapping[str, str] | None = None
) -> tuple[int, list[list[str]]]:
    """The exit status of the shell, and what each tool was called with to change something.

    Args:
        answers: what a tool prints, by the beginning of its words; `FAIL` makes it fail.
    """
    log = folder / "log"
    log.write_bytes(b"")
    cases = "".join(
        f"  {shlex.quote(words)}*) {'exit 1' if reported == 'FAIL' else f'printf %s {shlex.quote(reported)}'} ;;\n"
        for words, reported in (answers or {}).items()
    )
    for tool in ("gcloud", "az"):
        reported = f'case "$*" in\n{cases}esac\n'
        (folder / tool).write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" end >> {log}\n{reported}")
        (folder / tool).chmod(0o755)
    path = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run(["sh"], input=script, text=True, capture_output=True, env=path | environ, check=False)
    found = [each.split("\0")[:-1] for each in log.read_text().split("end\0")[:-1]]
    return done.returncode, [each for each in found if not set(LOOKS) & set(each[:5])]


@pytest.mark.parametrize("workload", [Workload(), TWO], ids=["plain", "two"])
def test_google_commands_make_pool_provider_and_bindings(workload: Workload, tmp_path: Path) -> None:
    """Issuer, audience and subjects arrive exactly; one binding a subject."""
    status, (pool, provider, *bindings) = run(text("workload-identity-provider", workload=workload), tmp_path, GOOGLE)
    assert status == 0
    assert pool == ["iam", "workload-identity-pools", "create", "syd-prod", "--location=global"]
    assert f"--issuer-uri={ISSUER}" in provider
    assert not any(each.startswith("--allowed-audiences") for each in provider)
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


def condition(workload: Workload) -> str:
    """The attribute condition that the commands for a workload make."""
    (line,) = [
        each for each in text("workload-identity-provider", workload=workload).splitlines() if "condition=" in each
    ][:1]
    return shlex.split(line)[0].partition("=")[2]


def test_second_namespace_joins_the_pool_of_its_issuer(tmp_path: Path) -> None:
    """The condition lets in the subjects of both: the first one is not replaced, and one that is in it is not added."""
    there = {
        f"{POOLS} list": "other\nsyd-prod\n",
        f"{POOLS} providers list": "syd-prod\n",
        f"{OF_PROVIDER} --format=value(oidc": ISSUER,
        f"{OF_PROVIDER} --format=value(attr": condition(Workload()),
    }
    shop = Workload("shop", "web")
    status, (update, binding) = run(text("workload-identity-provider", workload=shop), tmp_path, GOOGLE, there)
    assert (status, update[3]) == (0, "update-oidc")
    assert update[-1] == f"--attribute-condition=({condition(Workload())}) || {condition(shop)}"
    assert binding[-1].endswith("/subject/system:serviceaccount:shop:web")
    status, found = run(text("workload-identity-provider"), tmp_path, GOOGLE, there)
    assert (status, [each[1] for each in found]) == (0, ["service-accounts"])


def test_pool_of_another_issuer_is_not_touched(tmp_path: Path) -> None:
    """Nothing is bound: the subject would be another cluster's."""
    there = {
        f"{POOLS} list": "syd-prod\n",
        f"{POOLS} providers list": "syd-prod\n",
        f"{POOLS} providers describe": f"{ISSUER}other",
    }
    assert run(text("workload-identity-provider"), tmp_path, GOOGLE, there) == (1, [])


@pytest.mark.parametrize(
    "failing", [f"{POOLS} list", f"{POOLS} create", f"{POOLS} providers list", f"{POOLS} providers create"]
)
def test_google_commands_stop_at_the_first_error(failing: str, tmp_path: Path) -> None:
    """Nothing is bound to a pool that could not be made, or looked at."""
    status, found = run(text("workload-identity-provider"), tmp_path, GOOGLE, {failing: "FAIL"})
    assert status != 0
    assert not any("add-iam-policy-binding" in each for each in found)


@pytest.mark.parametrize(
    ("there", "status", "made"),
    [
        pytest.param("", 0, 1, id="nothing"),
        pytest.param(f"{ISSUER}\t{SUBJECT}\n", 0, 0, id="the same"),
        pytest.param(f"{ISSUER}\tsystem:serviceaccount:shop:app\n", 1, 0, id="another subject"),
        pytest.param(f"{ISSUER}x\t{SUBJECT}\n", 1, 0, id="another issuer"),
        pytest.param("FAIL", 1, 0, id="cannot be asked"),
    ],
)
def test_azure_commands_change_no_credential_of_others(there: str, status: int, made: int, tmp_path: Path) -> None:
    """What exists for the same subject is left; anything else stops the script."""
    answers = {"identity federated-credential list": there}
    found, calls = run(text("federated-credential"), tmp_path, AZURE, answers)
    assert (found, len(calls)) == (status, made)


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("workload-identity-provider", "https://iam.googleapis.com/projects/1"),
        ("federated-credential", "api://AzureADTokenExchangeUSGov"),
    ],
)
def test_each_cloud_gets_its_own_audience(kind: str, own: str) -> None:
    """Those of another cloud are not in it; without its own it takes the usual one."""
    assert own in text(kind, issuer=with_audiences("sts.amazonaws.com", "a", own))
    for issuer in (with_audiences("sts.amazonaws.com", "a", own), with_audiences("sts.amazonaws.com", "a")):
        written = text(kind, issuer=issuer)
        assert "sts.amazonaws.com" not in written
        assert notes(kind, issuer=issuer).find("another cloud's") == -1
    by_cloud = replace(
        ENTRY, audiences_by_cloud=TokenAudiences(gcp=("sts.amazonaws.com",), azure=("sts.amazonaws.com",))
    )
    assert "another cloud's" in notes(kind, issuer=by_cloud)


def test_chosen_audience_goes_to_its_cloud() -> None:
    """`--audience` wins over the configuration for every kind, `iam-provider` included; an unknown one is refused."""
    issuer = with_audiences("sts.amazonaws.com", "a", "api://AzureADTokenExchange")
    chosen = Workload(audience="a")
    provider = yaml.safe_load(text("iam-provider", issuer=issuer, workload=chosen))["Resources"]["Provider"]
    assert provider["Properties"]["ClientIdList"] == ["a"]
    assert json.loads(text("federated-credential", "json", issuer=issuer, workload=chosen))["audiences"] == ["a"]
    assert "--allowed-audiences=a " in text("workload-identity-provider", issuer=issuer, workload=chosen)
    azure = Workload(audience="api://AzureADTokenExchange")
    assert "another cloud's" in notes("iam-provider", issuer=issuer, workload=azure)
    assert "another cloud's" in notes("iam-role", issuer=issuer, workload=azure)
    for kind in ("iam-provider", "federated-credential", "workload-identity-provider", "iam-role", "pod"):
        with pytest.raises(UsageError, match="no such audience"):
            text(kind, issuer=issuer, workload=Workload(audience="other"))


def test_aws_gets_no_audience_of_another_cloud() -> None:
    """After the guide's section on Azure a token for Entra logs in nowhere at AWS."""
    issuer = with_audiences(
        "sts.amazonaws.com",
        "api://AzureADTokenExchange",
        "API://azureadtokenexchange",
        "//iam.googleapis.com/projects/1",
    )
    for kind in ("iam-provider", "iam-role"):
        for form in KINDS[kind].formats:
            written = text(kind, form, issuer=issuer, workload=Workload(account=ACCOUNT))
            assert "sts.amazonaws.com" in written
            assert "exchange" not in written.lower()
            assert "googleapis" not in written


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
    [
        ("syd-prod", "syd-prod"),
        ("prod", "prod"),
        ("x" * 32, "x" * 32),
        ("a", r"a-[0-9a-f]{8}"),
        ("gcp-prod", r"prod-[0-9a-f]{8}"),
        ("x" * 40, r"x{23}-[0-9a-f]{8}"),
        ("prod-", r"prod-[0-9a-f]{8}"),
    ],
)
def test_pool_has_an_id_that_google_takes(name: str, found: str) -> None:
    """4 to 32 characters, without the prefix that Google keeps for itself; a hash where the name was changed."""
    written = text("workload-identity-provider", issuer=replace(ENTRY, name=IssuerName(name)))
    assert re.search(rf"^pool={found}$", written, re.MULTILINE)


def test_pool_and_credential_keep_the_names_that_they_have() -> None:
    """For what was made by an earlier version."""
    assert "pool=old-pool\n" in text("workload-identity-provider", workload=Workload(pool="old-pool"))
    assert json.loads(text("workload-identity-provider", "json", workload=Workload(pool="old-pool")))[
        "audience"
    ].endswith("/workloadIdentityPools/old-pool/providers/old-pool")
    named = Workload(credential_name="syd-prod-app")
    assert json.loads(text("federated-credential", "json", workload=named))["name"] == "syd-prod-app"
    with pytest.raises(UsageError, match="several credentials"):
        text("federated-credential", workload=replace(TWO, credential_name="syd-prod-app"))


def test_list_with_a_comma_has_another_separator(tmp_path: Path) -> None:
    """gcloud splits lists at commas, so a list with a comma in a value needs another separator."""
    issuer = replace(ENTRY, audiences_by_cloud=TokenAudiences(gcp=("a,b", "c")))
    _, (_, provider, _) = run(text("workload-identity-provider", issuer=issuer), tmp_path, GOOGLE)
    assert "--allowed-audiences=^;^a,b;c" in provider


def test_google_credentials_file_names_no_secret() -> None:
    """It contains only the path of the token and its provider; the audience of the token is printed beside it."""
    read = json.loads(text("workload-identity-provider", "json"))
    assert read["credential_source"] == {"file": "/var/run/secrets/oidc-token/token"}
    assert read["audience"].endswith("/workloadIdentityPools/syd-prod/providers/syd-prod")
    assert f"has the audience https:{read['audience']}." in notes("workload-identity-provider", "json")
