"""scripts/find-python and scripts/setup, really run with fake commands."""

import os
import sys

import pytest

from support.checkouts import Checkout

# ------------------------------------------------------------------------------------------------- find-python

REAL = os.path.realpath(sys.executable)
TOO_OLD = f"""exec '{REAL}' -I -c 'import sys; sys.version_info = (3, 10, 9); exec(sys.argv[1])' "$3" """
WITHOUT_ENSUREPIP = f"""exec '{REAL}' -I -c 'import sys; sys.modules["ensurepip"] = None; exec(sys.argv[1])' "$3" """
SHIM_OF_NOTHING = "exit 127"


@pytest.mark.parametrize("unfit", [TOO_OLD, WITHOUT_ENSUREPIP, SHIM_OF_NOTHING], ids=["old", "ensurepip", "shim"])
def test_unfit_python_is_passed_over(checkout: Checkout, unfit: str) -> None:
    """A Python that cannot make the environment is passed over for the next one."""
    checkout.fake("python3.13", unfit)
    checkout.fake("python3", f"""exec '{REAL}' "$@" """)
    assert checkout.run("scripts/find-python").stdout.strip() == REAL


@pytest.mark.parametrize("unfit", [TOO_OLD, WITHOUT_ENSUREPIP, SHIM_OF_NOTHING], ids=["old", "ensurepip", "shim"])
def test_no_fit_python_names_the_remedy(checkout: Checkout, unfit: str) -> None:
    """Without a usable Python the set-up fails, says what to install, and leaves no environment behind."""
    checkout.fake("python3", unfit)
    run = checkout.run("scripts/setup")
    assert run.returncode == 1
    assert "apt-get install python3-venv" in run.stderr
    assert not (checkout.folder / ".venv").exists()


def test_python_of_the_system_comes_first(checkout: Checkout) -> None:
    """What is first on PATH may lie below a home directory, where no service can read it."""
    checkout.fake("python3.13", f"""exec '{REAL}' "$@" """)
    checkout.fake("of-the-system", 'echo "$0"')
    system = str(checkout.commands / "of-the-system")
    assert checkout.run("scripts/find-python", SYSTEM_PYTHON=system).stdout.strip() == system


def test_named_python_is_the_only_candidate(checkout: Checkout) -> None:
    """A Python that was named but does not fit is not silently replaced by another one."""
    run = checkout.run("scripts/find-python", PYTHON=str(checkout.folder / "absent"))
    assert (run.returncode, run.stdout) == (1, "")


# ------------------------------------------------------------------------------------------------------- setup


def test_second_setup_installs_nothing(checkout: Checkout) -> None:
    """A set-up installs packages, then the project; the next one does nothing and says nothing."""
    assert checkout.run("scripts/setup").returncode == 0
    assert checkout.calls() == ["packages", "project"]
    second = checkout.run("scripts/setup")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert checkout.calls() == []


@pytest.mark.parametrize(
    ("name", "done"),
    [
        ("requirements-dev.lock", ["packages", "project"]),
        ("pyproject.toml", ["project"]),
        ("mirror/__init__.py", ["project"]),
    ],
)
def test_changed_file_is_set_up_again(checkout: Checkout, name: str, done: list[str]) -> None:
    """A changed lock file renews the whole environment, changed metadata only the project in it."""
    checkout.run("scripts/setup")
    checkout.calls()
    (checkout.folder / name).write_text("changed\n", encoding="utf-8")
    assert checkout.run("scripts/setup").returncode == 0
    assert checkout.calls() == done


def test_moved_checkout_is_set_up_again(checkout: Checkout) -> None:
    """After the checkout is moved, the environment is created again."""
    checkout.run("scripts/setup")
    checkout.calls()
    moved = Checkout(checkout.folder.rename(checkout.folder.with_name("moved")), checkout.commands, checkout.calls_file)
    assert moved.run("scripts/setup").returncode == 0
    assert moved.calls() == ["packages", "project"]


def test_vanished_interpreter_is_set_up_again(checkout: Checkout) -> None:
    """An environment without its Python is created again."""
    checkout.run("scripts/setup")
    checkout.calls()
    (checkout.folder / ".venv/bin/python").unlink()
    assert checkout.run("scripts/setup").returncode == 0
    assert checkout.calls() == ["packages", "project"]


@pytest.mark.parametrize(
    ("failing", "done"), [("PACKAGES", ["packages", "project"]), ("PROJECT", ["project"])], ids=["packages", "project"]
)
def test_failed_setup_goes_on_where_it_failed(checkout: Checkout, failing: str, done: list[str]) -> None:
    """A failed installation fails the set-up with a hint, and the next set-up does it again."""
    failed = checkout.run("scripts/setup", **{failing: "1"})
    assert failed.returncode == 1
    assert "pip config list" in failed.stderr
    checkout.calls()
    assert checkout.run("scripts/setup").returncode == 0
    assert checkout.calls() == done


def test_incomplete_lock_file_fails_the_setup(checkout: Checkout) -> None:
    """Only the lock file is used: a package missing there is reported and not installed unseen."""
    failed = checkout.run("scripts/setup", CHECK="1")
    assert failed.returncode == 1
    assert "requirements-dev.lock is not complete" in failed.stderr
    checkout.calls()
    assert checkout.run("scripts/setup").returncode == 0
    assert checkout.calls() == ["packages", "project"]


def test_demo_gets_an_environment_of_its_own_once(checkout: Checkout) -> None:
    """Without the development tools; the second time nothing is done."""
    assert checkout.run("scripts/setup", "demo").returncode == 0
    assert checkout.calls() == ["packages", "project"]
    assert (checkout.folder / ".venv-demo").is_dir()
    assert not (checkout.folder / ".venv").exists()
    assert checkout.run("scripts/setup", "check").returncode == 1
    second = checkout.run("scripts/setup", "demo")
    assert (second.returncode, second.stdout, checkout.calls()) == (0, "", [])


def test_demo_takes_the_development_environment_where_there_is_one(checkout: Checkout) -> None:
    """It holds all that the demo needs."""
    checkout.run("scripts/setup")
    checkout.calls()
    assert checkout.run("scripts/setup", "check").returncode == 0
    assert checkout.run("scripts/setup", "demo").returncode == 0
    assert checkout.calls() == []
    assert not (checkout.folder / ".venv-demo").exists()
