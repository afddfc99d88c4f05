"""The README's quick start, command by command, for a cluster whose issuer is still internal."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from support.apiserver import raw_answer
from support.gits import program
from support.guide_stage import guide_stage
from support.stages import discovery_body
from support.worlds import PROJECT

INTERNAL = "https://kubernetes.default.svc.cluster.local"
PUBLIC = "https://my-oidc-bucket.s3.eu-central-1.amazonaws.com/prod"


@pytest.mark.s3
@pytest.mark.timeout(240)  # several processes, one after the other
def test_quick_start_is_true(tmp_path: Path) -> None:
    """Each command ends with 0; the last file lets the apiservers accept the new issuer and sign for the old one.

    `pipx install` is no part of it: a test of releases installs the wheel.
    """
    text = (PROJECT / "README.md").read_text("utf-8")
    (script,) = re.findall(r"## Quick start\n.*?```sh\n(.*?)```", text, re.DOTALL)
    assert script.startswith("pipx install ")
    with guide_stage(tmp_path) as stage:
        for replica in stage.world.replicas:
            body = discovery_body(INTERNAL, stage.keys[:1])
            replica.serve(discovery=raw_answer("200 OK", body, content_type="application/json"))
        home, place = tmp_path / "home", tmp_path / "quick"
        (home / ".kube").mkdir(parents=True)
        place.mkdir()
        shutil.copy(stage.world.folder / "admin.kubeconfig", home / ".kube" / "config")
        program(stage.world.folder / "bin" / "pipx", 'test "$1" = install')
        path = f"{stage.world.folder / 'bin'}:/usr/bin:/bin"
        environ = stage.world.environ() | {"HOME": str(home), "PATH": path}
        words = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(words, cwd=place, env=environ, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    arguments = yaml.safe_load((place / "step1.yaml").read_text())["apiServer"]["extraArgs"]
    issuers = [each["value"] for each in arguments if each["name"] == "service-account-issuer"]
    assert issuers == [INTERNAL, PUBLIC]
