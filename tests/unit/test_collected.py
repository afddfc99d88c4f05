"""The suite itself: long tests start first, and coverage of properties is not measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[1]
EXAMPLES = """
import pytest
def test_one(): pass
def test_two(): pass
"""
ASKS_FOR_MORE = """
import pytest
def test_usual(): pass
@pytest.mark.timeout({seconds})
def test_long(): pass
"""
MEASURED = """
def by_an_example():
    return 1
def by_a_property():
    return 2
def by_what_comes_after():
    return 3
"""
CALLS = """
from hypothesis import given, strategies as st
from measured import by_a_property, by_an_example, by_what_comes_after
def test_example():
    assert by_an_example() == 1
@given(st.integers())
def test_property(_):
    assert by_a_property() == 2
def test_after():
    assert by_what_comes_after() == 3
"""


CALLS_ONE = """
import measured

def test_it():
    measured.{}()
"""


STARTS_PROCESSES = """
import os
import pytest
@pytest.mark.unmeasured
def test_unmeasured(): pass
def test_environment():
    assert [name for name in os.environ if name.startswith("COVERAGE_")] == []
"""


IS_TRACED = """
import sys
import pytest
@pytest.fixture
def traced():
    return sys.gettrace() is not None
@pytest.mark.unmeasured
def test_unmeasured(traced):
    assert not traced
    assert sys.gettrace() is None
def test_measured(traced):
    assert traced
    assert sys.gettrace() is not None
def test_measured_to_the_end(request):
    assert request.getfixturevalue("traced")
    assert sys.gettrace() is not None
@pytest.mark.unmeasured
def test_unmeasured_after(traced):
    assert not traced
    assert sys.gettrace() is None
"""


def run(folder: Path, files: dict[str, str], *words: str) -> str:
    """Run a suite of its own that has our hooks, and give what it said."""
    for name, text in {"conftest.py": "from support.collected import *\n", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", *words]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join((str(SUPPORT), str(folder)))}
    done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_long_tests_begin_first_and_files_stay_whole(tmp_path: Path) -> None:
    """Files by the longest limit that a test set, then whole programs by folder, then the others as they are."""
    files = {
        "tests/attacks/test_a.py": EXAMPLES,
        "tests/e2e/test_b.py": EXAMPLES,
        "tests/torture/test_f.py": EXAMPLES,
        "tests/e2e/test_c.py": ASKS_FOR_MORE.format(seconds=300),
        "tests/unit/test_d.py": ASKS_FOR_MORE.format(seconds=600),
        "tests/unit/test_e.py": EXAMPLES,
    }
    said = run(tmp_path, files, "--collect-only", "tests")
    assert [line.rpartition("/")[2] for line in said.splitlines() if "::" in line] == [
        *("test_d.py::test_usual", "test_d.py::test_long"),
        *("test_c.py::test_usual", "test_c.py::test_long"),
        *("test_f.py::test_one", "test_f.py::test_two"),
        *("test_b.py::test_one", "test_b.py::test_two"),
        *("test_a.py::test_one", "test_a.py::test_two"),
        *("test_e.py::test_one", "test_e.py::test_two"),
    ]


def test_properties_are_not_measured(tmp_path: Path) -> None:
    """A line that only a property reaches counts as missed; what runs before and after it counts."""
    files = {"measured.py": MEASURED, "tests/unit/test_it.py": CALLS}
    run(tmp_path, files, "--cov=measured", "--cov-report=json", "tests")
    missed = json.loads((tmp_path / "coverage.json").read_text())["files"]["measured.py"]["missing_lines"]
    assert missed == [MEASURED.splitlines().index("    return 2") + 1]


def test_only_unit_tests_and_attacks_are_measured(tmp_path: Path) -> None:
    """A line that only a test of another folder reaches counts as missed, wherever the checkout lies."""
    checkout = tmp_path / "unit"
    files = {
        "measured.py": "def one():\n    return 1\n\ndef two():\n    return 2\n",
        "tests/unit/test_one.py": CALLS_ONE.format("one"),
        "tests/e2e/test_two.py": CALLS_ONE.format("two"),
    }
    run(checkout, files, "--cov=measured", "--cov-report=json", "tests")
    assert json.loads((checkout / "coverage.json").read_text())["files"]["measured.py"]["missing_lines"] == [5]


def test_processes_are_not_measured_by_themselves(tmp_path: Path) -> None:
    """With our configuration: coverage would hand its variables to every process, also when it goes on measuring."""
    config = SUPPORT.parent / "pyproject.toml"
    run(tmp_path, {"tests/unit/test_it.py": STARTS_PROCESSES}, "--cov=tests", f"--cov-config={config}", "tests")


@pytest.mark.parametrize("workers", [0, 1], ids=["alone", "a worker"])
def test_what_is_not_measured_is_not_traced(tmp_path: Path, workers: int) -> None:
    """Tracing takes longer than most tests; also in a worker, where pytest-cov starts two measurements."""
    run(tmp_path, {"tests/unit/test_it.py": IS_TRACED}, "--cov=tests", f"-n{workers}", "tests")
