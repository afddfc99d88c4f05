"""The units for systemd, checked by systemd's own tools without a running systemd."""

import re
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest

from support.machine import demand

FOLDER = Path(__file__).parents[3] / "systemd"
SERVICES = ("oidc-mirror.service", "oidc-mirror-once.service")
UNITS = (*SERVICES, "oidc-mirror-once.timer")


@pytest.fixture
def analyze() -> str:
    return demand("systemd-analyze", variable="OIDC_MIRROR_REQUIRE_SYSTEMD", package="systemd")


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(each) for each in words], capture_output=True, text=True, check=False)


def entries(name: str) -> list[str]:
    """The lines of [Service] with content."""
    section = (FOLDER / name).read_text().partition("[Service]\n")[2].partition("\n[")[0]
    return [line for line in section.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_hardened(analyze: str, name: str) -> None:
    """`systemd-analyze security` rates each service 2.0 or better (its threshold is in tenths)."""
    judged = run(analyze, "security", "--offline=true", "--no-pager", "--threshold=20", FOLDER / name)
    assert judged.returncode == 0, judged.stdout


def test_units_have_no_mistake(analyze: str, tmp_path: Path) -> None:
    """systemd understands every line; the program that is not installed here is put in for the test."""
    for name in UNITS:
        text = (FOLDER / name).read_text().replace("/opt/oidc-mirror/bin/oidc-mirror", sys.executable)
        (tmp_path / name).write_text(text)
    judged = run(analyze, "verify", "--man=no", *(tmp_path / name for name in UNITS))
    assert (judged.returncode, judged.stderr) == (0, "")


def test_both_services_have_one_sandbox() -> None:
    """The timer's service may do exactly what the daemon may; what differs is how each is started and ended."""
    own = re.compile(r"(Type|NotifyAccess|ExecCondition|ExecStart|ExecReload|Restart\w*|WatchdogSec|Timeout\w+)=")
    daemon, once = ([line for line in entries(name) if not own.match(line)] for name in SERVICES)
    assert daemon == once
    assert "NoNewPrivileges=yes" in daemon


@pytest.mark.parametrize("name", SERVICES)
def test_held_change_is_no_failed_unit(name: str) -> None:
    """Exit status 3 means that nothing failed."""
    assert "SuccessExitStatus=3" in entries(name)


def test_daemon_reports_its_state_to_systemd() -> None:
    """Type=notify, a watchdog, and a time to stop that is longer than the ten seconds that the daemon takes."""
    found = dict(line.split("=", 1) for line in entries("oidc-mirror.service"))
    assert found["Type"] == "notify"
    assert int(found["WatchdogSec"]) >= 60
    assert int(found["TimeoutStopSec"]) > 10
    assert found["LoadCredential"].endswith(":/etc/oidc-mirror/credentials")


@pytest.mark.parametrize("name", SERVICES)
def test_signing_key_is_a_credential(name: str) -> None:
    """The unit names the copy that systemd makes of the key, and the comment how the key is made."""
    assert "Environment=OIDC_MIRROR_SIGNING_KEY=%d/mirror_signing_key" in entries(name)
    assert "ssh-keygen -t ed25519 -N '' -f /etc/oidc-mirror/credentials/signing_key" in (FOLDER / name).read_text()


def test_timer_starts_the_one_pass_service() -> None:
    """The timer's name is its service's."""
    timer = RawConfigParser()
    timer.read(FOLDER / "oidc-mirror-once.timer")
    assert timer["Timer"]["Persistent"] == "true"
    assert (FOLDER / "oidc-mirror-once.service").exists()


def test_user_and_folders_fit_the_units(tmp_path: Path) -> None:
    """sysusers makes the user that the units name, tmpfiles the folders that credentials and tokens come from."""
    for program in ("systemd-sysusers", "systemd-tmpfiles"):
        demand(program, variable="OIDC_MIRROR_REQUIRE_SYSTEMD", package="systemd")
    (tmp_path / "etc").mkdir()
    made = run("systemd-sysusers", f"--root={tmp_path}", FOLDER / "oidc-mirror.sysusers")
    assert made.returncode == 0, made.stderr
    assert "oidc-mirror:" in (tmp_path / "etc/passwd").read_text()
    made = run("systemd-tmpfiles", "--create", f"--root={tmp_path}", FOLDER / "oidc-mirror.tmpfiles")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "etc/oidc-mirror/credentials").stat().st_mode & 0o777 == 0o700
    tokens = (tmp_path / "etc/oidc-mirror/tokens").stat()
    group = next(line for line in (tmp_path / "etc/group").read_text().splitlines() if line.startswith("oidc-mirror:"))
    assert (tokens.st_mode & 0o7777, str(tokens.st_gid)) == (0o2750, group.split(":")[2])
    assert (tmp_path / "var/lib/oidc-mirror").stat().st_mode & 0o777 == 0o750
