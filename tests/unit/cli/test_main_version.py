"""`--version` prints what a bug report needs, for every kind of installation."""

import platform
import subprocess
from pathlib import Path

from click.testing import CliRunner

from mirror import __version__
from mirror.cli.main import COMMIT_FILE, cli, commit_of, version_text

PROJECT = Path(__file__).parents[3]


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    done = subprocess.run(("git", *identity, "-C", folder, *words), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def checkout(folder: Path) -> Path:
    """A repository with one commit and a package."""
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "first")
    package = folder / "mirror"
    package.mkdir()
    return package


def test_version_names_commit_python_and_git() -> None:
    """The version of this checkout has all three."""
    done = CliRunner().invoke(cli, ["--version"])
    assert done.output.splitlines() == [
        f"oidc-mirror, version {__version__}",
        f"commit  {git(PROJECT, 'rev-parse', 'HEAD')}",
        f"Python  {platform.python_version()}",
        f"git     {git(PROJECT, '--version').removeprefix('git version ')}",
    ]
    assert done.exit_code == 0


def test_checkout_is_asked(tmp_path: Path) -> None:
    """The version names the newest commit."""
    package = checkout(tmp_path)
    assert commit_of(package) == git(tmp_path, "rev-parse", "HEAD")


def test_what_the_build_wrote_comes_first(tmp_path: Path) -> None:
    """The build information takes precedence at any location."""
    package = checkout(tmp_path)
    (package / COMMIT_FILE).write_text("a" * 40 + "\n")
    assert commit_of(package) == "a" * 40


def test_installation_inside_of_another_repository_is_not_its_commit(tmp_path: Path) -> None:
    """A virtual environment is often inside the checkout of another project."""
    checkout(tmp_path)
    package = tmp_path / ".venv/lib/site-packages/mirror"
    package.mkdir(parents=True)
    assert commit_of(package) == "unknown"


def test_checkout_without_a_commit_or_with_damage_is_unknown(tmp_path: Path) -> None:
    """`--version` never prints a traceback."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "mirror").mkdir()
    assert "commit  unknown" in version_text(tmp_path / "mirror")
