"""`oidc-mirror demo`: the first thing that anybody runs; it has to show what it says, and leave nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.s3

DEMO = (sys.executable, "-m", "mirror", "demo")
PROJECT = Path(__file__).parents[2]


def environment(folder: Path) -> dict[str, str]:
    """A home and a temporary folder of the test's own, and none of this machine's settings."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OIDC_", "AWS_", "GIT_"))}
    return plain | {"HOME": str(folder), "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}


def test_demo_tells_its_story_serves_and_leaves_nothing(tmp_path: Path) -> None:
    """Each step ends as told, what it serves answers another pass, and Ctrl-C ends it with 0 and no folder left."""
    environ = environment(tmp_path)
    words = (*DEMO, "--serve")
    with subprocess.Popen(
        words, env=environ, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        assert demo.stdout is not None
        lines: list[str] = []
        try:
            while "verify" not in (line := demo.stdout.readline()):
                lines.append(line.strip())
                assert line, lines
            # As the last lines say; the configuration is still there, and one replica still answers 403.
            (folder,) = tmp_path.glob("oidc-mirror-demo-*")
            shown = next(line for line in lines if line.startswith("$ env AWS_"))
            once = shown.removeprefix("$ env ").split()
            given = dict(word.split("=", 1) for word in once if word.startswith("AWS_"))
            command = [sys.executable, "-m", "mirror", *once[once.index("oidc-mirror") + 1 :]]
            done = subprocess.run(
                command, env=environ | given, cwd=PROJECT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 1, (done.stdout, done.stderr)
        finally:
            demo.send_signal(signal.SIGINT)
            rest = demo.stdout.read()
    assert demo.returncode == 0, rest
    assert not folder.exists()
    text = "\n".join(lines)
    assert "This pass should have ended with" not in text
    steps = [line for line in lines if line[:1].isdigit()]
    assert [step.split(".")[0] for step in steps if step[1:3] == ". "] == list("1234567")
    assert "forbidden" in text
    # One public set at the end: the new key alone.
    assert sum(line.count('"kid"') for line in lines if line.startswith('{"keys"')) == 1


def test_demo_without_its_packages_names_the_remedy(tmp_path: Path) -> None:
    """Where the extra is not installed: one sentence, the remedy, exit status 2, no traceback."""
    # None says that there is no such module (Python's reference, section 5.3.1).
    program = "import sys; sys.modules['trustme'] = None; from mirror.__main__ import main; main()"
    words = [sys.executable, "-c", program, "demo"]
    done = subprocess.run(words, env=environment(tmp_path), cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "make demo" in done.stderr
    assert "Traceback" not in done.stderr
