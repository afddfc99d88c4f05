"""The pipelines for GitHub and GitLab: no secrets in public jobs, and only commands that the program accepts."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from mirror.cli.main import cli

FOLDER = Path(__file__).parents[3] / "config/ci"
PIPELINES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def load(name: str) -> dict[str, Any]:
    found = yaml.load(PIPELINES[name].read_text(), Loader=yaml.BaseLoader)  # noqa: S506  texts only: `on` stays `on`
    assert isinstance(found, dict)
    return found


def commands(name: str) -> list[list[str]]:
    """Every `oidc-mirror` command line of a pipeline."""
    return [line.split() for line in re.findall(r"oidc-mirror (--config [^|\n]*)", PIPELINES[name].read_text())]


@pytest.mark.parametrize("name", PIPELINES)
def test_commands_are_words_of_the_program(name: str) -> None:
    """A copied file never fails with "no such option"."""
    found = commands(name)
    assert len(found) == 3
    for option, _, word, *rest in found:
        assert option == "--config"
        command = cli.get_command(click.Context(cli, **cli.context_settings), word)
        assert command is not None
        assert command.make_context(word, rest, parent=click.Context(cli, **cli.context_settings)).params


def test_pull_request_on_github_gets_nothing_secret() -> None:
    """The one job that runs for pull requests may read the code, has no secret, no role and no runner of ours."""
    jobs = load("github-actions")["jobs"]
    open_to_all = {name: job for name, job in jobs.items() if "if" not in job}
    assert set(open_to_all) == {"validate"}
    assert open_to_all["validate"]["permissions"] == {"contents": "read"}
    assert "secrets." not in str(open_to_all)
    assert "self-hosted" not in str(open_to_all)
    assert "!= 'pull_request'" in jobs["pass"]["if"]
    assert jobs["plan"]["if"] == "github.event_name == 'push'"
    assert load("github-actions")["permissions"] == {}


def test_merge_request_on_gitlab_gets_nothing_secret() -> None:
    """The one job that runs for merge requests asks for no identity and names no variable of ours."""
    pipeline = load("gitlab-ci")
    jobs = {name: job for name, job in pipeline.items() if isinstance(job, dict) and "script" in job}
    open_to_all = [name for name, job in jobs.items() if "merge_request_event" in str(job["rules"])]
    assert open_to_all == ["oidc-mirror-validate"]
    assert not {"id_tokens", "variables", "extends", "before_script"} & set(jobs["oidc-mirror-validate"])


def test_pass_waits_for_a_reviewer_and_its_turn() -> None:
    """A merged change is planned before it is applied, and no two passes run at once."""
    github, gitlab = load("github-actions")["jobs"]["pass"], load("gitlab-ci")["oidc-mirror-pass"]
    assert "oidc-mirror" in github["environment"]
    assert github["concurrency"]["cancel-in-progress"] == "false"
    assert gitlab["rules"][1]["when"] == "manual"
    assert gitlab["resource_group"] == "oidc-mirror"


@pytest.mark.parametrize("job", ["plan", "pass"])
def test_jobs_on_github_reach_the_git_remote(job: str) -> None:
    """The plan needs history too; and in a container `runner.temp` names a folder of the host (actions/runner#965)."""
    (step,) = (each for each in load("github-actions")["jobs"][job]["steps"] if "run" in each)
    assert "secrets." in step["env"]["GIT_KEY"]
    assert 'GIT_SSH_COMMAND="ssh -i $RUNNER_TEMP/key ' in step["run"]
    assert "UserKnownHostsFile=$PWD/known_hosts" in step["run"]
    assert "runner.temp" not in PIPELINES["github-actions"].read_text()


def test_pass_alone_signs() -> None:
    """The pass has the private key; the plan verifies with the public halves next to the configuration."""
    github, gitlab = load("github-actions")["jobs"], load("gitlab-ci")
    assert "OIDC_MIRROR_SIGNING_KEY" in str(github["pass"])
    assert "OIDC_MIRROR_SIGNING_KEY" in gitlab["oidc-mirror-pass"]["variables"]
    assert '"$OIDC_MIRROR_SIGNING_KEY"' in gitlab["oidc-mirror-pass"]["script"][0]
    for job in (github["validate"], github["plan"], gitlab["oidc-mirror-plan"], gitlab[".oidc-mirror"]):
        assert "SIGNING_KEY" not in str(job)
        assert "LEDGER_KEY" not in str(job)
    for path in PIPELINES.values():
        assert "repository.allowed_signers" in path.read_text()


def test_containers_on_github_run_as_the_user_that_its_steps_need() -> None:
    """actions/checkout cannot write as the image's own user (actions/checkout#1014)."""
    jobs = load("github-actions")["jobs"].values()
    assert {each["container"]["options"] for each in jobs} == {"--user root"}


@pytest.mark.parametrize("name", PIPELINES)
def test_exit_statuses_are_explained(name: str) -> None:
    """The head of the file lists each exit status that a job can get."""
    head = PIPELINES[name].read_text().partition("\nname:")[0].partition("\nstages:")[0]
    for status in ("0 everything", "1 something failed", "2 the configuration", "3 nothing failed"):
        assert status in head.replace("\n#", "")
