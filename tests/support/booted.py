"""A machine with a real systemd as PID 1: namespaces over this machine's own files, thrown away at the end."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.machine import demand

PROJECT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("boot_systemd.sh")
PATIENCE_SECONDS = 60.0
_CGROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
# The program as `make install` leaves it, of packages that are here already: nothing is fetched.
_INSTALL = """
set -e
mkdir -p /opt/oidc-mirror
/usr/bin/python3 -m venv --without-pip /opt/oidc-mirror
site=$(echo /opt/oidc-mirror/lib/python3.*/site-packages)
printf '/srv/site\\n/srv/project\\n' >"$site/oidc-mirror.pth"
cat >/opt/oidc-mirror/bin/oidc-mirror <<'END'
#!/opt/oidc-mirror/bin/python
from mirror.__main__ import main
main()
END
chmod 755 /opt/oidc-mirror/bin/oidc-mirror
cd /srv/project
OIDC_MIRROR_PROGRAM=installed scripts/install
"""


@dataclass
class Booted:
    """The machine. `pid` is systemd's, as this machine sees it."""

    pid: int

    def run(self, *words: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command as its root."""
        command = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-C", "--", *words]
        environ = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        done = subprocess.run(
            command, input=stdin, env=environ, cwd="/", capture_output=True, text=True, check=False, timeout=100
        )
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def is_up(self) -> bool:
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def sh(self, script: str, *, check: bool = True) -> str:
        done = self.run("sh", "-c", script, check=check)
        return done.stdout + done.stderr

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        self.run("sh", "-c", f"mkdir -p {os.path.dirname(path)} && cat >{path} && chmod {mode:o} {path}", stdin=text)  # noqa: PTH120  a path there

    def show(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def journal(self, unit: str = "oidc-mirror.service") -> list[Mapping[str, str]]:
        lines = self.run("journalctl", "-u", unit, "-o", "json", "--no-pager").stdout.splitlines()
        return [json.loads(line) for line in lines]

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < deadline, f"not seen: {what}\n{self.sh('journalctl --no-pager -n 12')}"
            time.sleep(0.1)


@contextmanager
def booted(folder: Path) -> Iterator[Booted]:
    """Boot it with the program installed; skipped with a reason where that cannot be."""
    for program in ("systemctl", "unshare", "nsenter"):
        demand(program, variable="OIDC_MIRROR_REQUIRE_SYSTEMD", package="systemd util-linux")
    cgroups = next((each for each in _CGROUPS if (each / "cgroup.procs").exists()), None)
    ask = "import sys; print(*sys.version_info[:2])"
    version = subprocess.run(
        ["/usr/bin/python3", "-c", ask], capture_output=True, text=True, check=False
    ).stdout.split()
    reasons = {
        "no root: namespaces and mounts need it": os.geteuid() == 0,
        "no cgroup v2 that can be written": cgroups is not None and os.access(cgroups, os.W_OK),
        "Debian's Python is of another version than the tests'": version
        == [str(each) for each in sys.version_info[:2]],
        "systemd is not installed": Path("/lib/systemd/systemd").exists(),
    }
    missing = next((reason for reason, holds in reasons.items() if not holds), None)
    if missing is not None or cgroups is None:
        pytest.skip(f"systemd cannot be booted here: {missing}")
    group = cgroups / f"oidc-mirror-test-{os.getpid()}"
    group.mkdir()
    (folder / "work").mkdir()
    words = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]
    words += [
        "--propagation",
        "private",
        "sh",
        str(SCRIPT),
        str(folder / "work"),
        sysconfig.get_path("purelib"),
        str(PROJECT),
    ]
    enter = f'echo $$ >{group}/cgroup.procs; exec "$@"'
    with (folder / "console").open("wb") as console:
        process = subprocess.Popen(["sh", "-c", enter, "sh", *words], stdout=console, stderr=console)
    try:
        machine = Booted(_child(process, folder / "console"))
        machine.wait_until(machine.is_up, "systemd runs")
        machine.run("sh", "-c", _INSTALL)
        yield machine
    finally:
        process.kill()
        process.wait()
        _remove(group)
        shutil.rmtree(folder / "work", ignore_errors=True)


def _child(process: "subprocess.Popen[bytes]", console: Path) -> int:
    """The process that `unshare` forked, once it is systemd."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, console.read_text()
        found = children.read_text().split()
        if found and Path(f"/proc/{found[0]}/comm").read_text().strip() == "systemd":
            return int(found[0])
        time.sleep(0.05)
    raise AssertionError(console.read_text())


def _remove(group: Path) -> None:
    """The kernel ends the processes with their PID namespace; their groups are empty soon after."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while group.exists() and time.monotonic() < deadline:
        for each in sorted(group.rglob("*"), key=lambda path: -len(path.parts)):
            if each.is_dir():
                with suppress(OSError):
                    each.rmdir()
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)
