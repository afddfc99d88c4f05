"""The README's quick start, command by command, for a cluster whose issuer is still internal."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from support.apiserver import Apiserver, raw_answer
from support.gits import program
from support.guide_stage import GuideStage, guide_stage
from support.stages import discovery_body
from support.worlds import PROJECT

INTERNAL = "https://kubernetes.default.svc.cluster.local"
PUBLIC = "https://my-oidc-bucket.s3.eu-central-1.amazonaws.com/prod"
Shell = Callable[[str], "subprocess.CompletedProcess[str]"]


def issuers_of(path: Path) -> list[str]:
    """The issuers of every apiserver in a rendered file, in their order."""
    arguments = yaml.safe_load(path.read_text())["apiServer"]["extraArgs"]
    return [each["value"] for each in arguments if each["name"] == "service-account-issuer"]


def signs_for(replica: Apiserver, issuer: str, stage: GuideStage) -> None:
    body = discovery_body(issuer, stage.keys[:1])
    replica.serve(discovery=raw_answer("200 OK", body, content_type="application/json"))


@pytest.mark.s3
@pytest.mark.timeout(240)  # several processes, one after the other
def test_quick_start_is_true(tmp_path: Path) -> None:
    """Each command ends with 0; the last file lets the apiservers accept the new issuer and sign for the old one.

    What the README says of the next steps holds too. `pipx install` is no part of it: a test of releases does that.
    """
    text = (PROJECT / "README.md").read_text("utf-8")
    part = text.partition("## Quick start\n")[2].partition("\n## ")[0]
    script, second = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    assert script.startswith("pipx install . ")
    with guide_stage(tmp_path) as stage:
        for replica in stage.world.replicas:
            signs_for(replica, INTERNAL, stage)
        home, place = tmp_path / "home", tmp_path / "quick"
        (home / ".kube").mkdir(parents=True)
        place.mkdir()
        shutil.copy(stage.world.folder / "admin.kubeconfig", home / ".kube" / "config")
        program(stage.world.folder / "bin" / "pipx", 'test "$*" = "install ."')
        path = f"{stage.world.folder / 'bin'}:/usr/bin:/bin"
        environ = stage.world.environ() | {"HOME": str(home), "PATH": path}

        def shell(commands: str) -> "subprocess.CompletedProcess[str]":
            words = ["bash", "-euo", "pipefail", "-c", commands]
            return subprocess.run(
                words, cwd=place, env=environ, capture_output=True, text=True, timeout=200, check=False
            )

        done = shell(script)
        assert done.returncode == 0, done.stdout + done.stderr
        assert issuers_of(place / "step1.yaml") == [INTERNAL, PUBLIC]
        environ["OIDC_MIRROR_CONFIG"] = str(place / "mirror.yaml")
        stand_in_for_dns(place / "mirror.yaml", stage)
        expect_wrong_issuer(shell)
        assert second.partition(" > ")[0] in (place / "step1.yaml").read_text()
        assert shell(second).returncode == 0
        assert issuers_of(place / "step2.yaml") == [PUBLIC, INTERNAL]
        demand_first_documents(stage, shell)


def stand_in_for_dns(path: Path, stage: GuideStage) -> None:
    """The bucket's host leads to the store of the test, by the key that exists for that."""
    config = yaml.safe_load(path.read_text())
    config["publish"]["readback"] = stage.world.config["publish"]["readback"]
    path.write_text(yaml.safe_dump(config))


def expect_wrong_issuer(shell: Shell) -> None:
    """It is the only failure, and its remedy has the command that was just run, with the entry's name."""
    document = json.loads(shell("oidc-mirror check --output json || test $? = 1").stdout)
    failed = [each for each in document["findings"] if each["level"] == "failed"]
    assert {each["code"] for each in failed} == {"wrong_issuer"}, failed
    assert "`oidc-mirror render apiserver-flags prod --keep-issuer OLD`" in failed[0]["remedy"]


def demand_first_documents(stage: GuideStage, shell: Shell) -> None:
    """With the flags of step 2 on one apiserver a pass publishes; it ends with 0 when all have them."""
    first, second = stage.world.replicas
    signs_for(first, PUBLIC, stage)
    half = shell("oidc-mirror --once")
    assert half.returncode == 1, half.stdout + half.stderr
    assert f"put {PUBLIC}/openid/v1/jwks (create)" in half.stdout
    assert half.stdout.count("oidc-mirror render apiserver-flags prod") == 1
    signs_for(second, PUBLIC, stage)
    whole = shell("oidc-mirror --once")
    assert whole.returncode == 0, whole.stdout + whole.stderr
