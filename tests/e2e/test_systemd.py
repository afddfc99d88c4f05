"""The installed units under a real systemd as PID 1, with servers that the whole program talks to.

One test, because booting and the waits of systemd take most of its time.
"""

import json
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.booted import Booted, booted
from support.daemons import free_port
from support.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from support.situations import ISSUER
from support.tokens import claims, derived_signer, mint
from support.worlds import World, running_world

pytestmark = [pytest.mark.s3, pytest.mark.timeout(300)]

ONE = "01-rsa1/anonymous-bound-"
DAEMON, ONCE = "oidc-mirror.service", "oidc-mirror-once.service"
CONFIG = "/etc/oidc-mirror/mirror.yaml"
GUIDE = Path(__file__).parents[2] / "docs/guide.md"


def config_of(world: World, port: int) -> str:
    publish = world.config["publish"]
    readback = publish["readback"] | {"ca_file": "s3-ca.crt"}
    changes: dict[str, object] = {
        "state_dir": "/var/lib/oidc-mirror",
        "interval": "1s",
        "http": {"listen": f"127.0.0.1:{port}"},
    }
    # So that members of the group, who cannot read the key itself, know whose signatures count.
    changes["repository"] = {"allowed_signers": "signers"}
    return json.dumps(world.config | changes | {"publish": publish | {"readback": readback}})


def configure(machine: Booted, world: World, port: int) -> None:
    """What an administrator writes: the configuration, credentials, and a drop-in for this store's CA."""
    machine.write(CONFIG, config_of(world, port))
    machine.write("/etc/oidc-mirror/cluster-ca.crt", (world.folder / "cluster-ca.crt").read_text())
    machine.write("/etc/oidc-mirror/s3-ca.crt", world.server.certificates.ca_file.read_text())
    keys = f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    machine.write("/etc/oidc-mirror/credentials/aws", keys, 0o600)
    machine.sh("ssh-keygen -q -t ed25519 -N '' -f /etc/oidc-mirror/credentials/signing_key")
    machine.sh("cut -d' ' -f1,2 /etc/oidc-mirror/credentials/signing_key.pub >/etc/oidc-mirror/signers")
    environ = "AWS_CA_BUNDLE=/etc/oidc-mirror/s3-ca.crt AWS_EC2_METADATA_DISABLED=true"
    drop_in = f"[Service]\nRestartSec=200ms\nEnvironment={environ}\n"
    for unit in (DAEMON, ONCE):
        machine.write(f"/etc/systemd/system/{unit}.d/test.conf", drop_in)
    machine.run("systemctl", "daemon-reload")


def status_of(machine: Booted) -> str:
    return machine.show(DAEMON, "StatusText")


def page(machine: Booted, port: int, path: str) -> tuple[str, str]:
    """(status, body)"""
    ask = (
        "import sys, urllib.request, urllib.error\n"
        "try: a = urllib.request.urlopen(sys.argv[1], timeout=10)\n"
        "except urllib.error.HTTPError as e: a = e\n"
        "print(a.status); print(a.read().decode())"
    )
    status, _, body = machine.run("python3", "-c", ask, f"http://127.0.0.1:{port}{path}").stdout.partition("\n")
    return status, body


def judge_installation(machine: Booted) -> None:
    """Commands on PATH, units of the vendor, and a folder whose tokens the service can read."""
    assert "oidc-mirror, version" in machine.sh("oidc-mirror --version")
    assert machine.show(DAEMON, "FragmentPath").endswith("/lib/systemd/system/oidc-mirror.service")
    machine.sh("install -m 0640 /dev/null /etc/oidc-mirror/tokens/made-by-root")
    assert machine.sh("stat -c %a:%G /etc/oidc-mirror/tokens/made-by-root").strip() == "640:oidc-mirror"


def judge_guide(machine: Booted) -> None:
    """The guide's configuration as it stands: the service may read what it names; the state is the default."""
    found = re.search(r"next block is mirror\.yaml -->\n```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    assert "state_dir" not in found[1]
    machine.write("/etc/oidc-mirror/guide.yaml", found[1])
    machine.sh("cp /etc/oidc-mirror/cluster-ca.crt /etc/oidc-mirror/syd-prod-ca.crt")
    own = claims(time.time(), aud=[ISSUER], sub="system:serviceaccount:oidc-mirror:oidc-mirror")
    token = mint(derived_signer("mirror"), own)
    machine.write("/etc/oidc-mirror/tokens/syd-prod", token.decode(), 0o640)
    words = ("check", "--configuration", "--files", "--config", "/etc/oidc-mirror/guide.yaml")
    checked = machine.run("oidc-mirror-admin", *words, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    alone = machine.sh(f"setpriv --reuid=65534 --clear-groups oidc-mirror {' '.join(words)}", check=False)
    assert "tokens/syd-prod" in alone  # what nobody may read is reported


def judge_daemon(machine: Booted) -> None:
    """It is active, says how it is, and the journal has priorities."""
    machine.run("systemctl", "start", DAEMON)
    machine.wait_until(lambda: "current" in status_of(machine), "a good pass")
    entries = machine.journal()
    assert {each["PRIORITY"] for each in entries if "pass.finished" in each["MESSAGE"]} == {"6"}
    assert not any(each["MESSAGE"].startswith("<") for each in entries)


def judge_operators(machine: Booted) -> None:
    """Commands run as the service's user, with its credentials."""
    checked = machine.run("oidc-mirror-admin", "check", "--verbose", check=False)
    said = " ".join(checked.stdout.split())
    assert "They come from the shared credentials file." in said, said + checked.stderr
    assert "The mirror may write it (s3:PutObject" in said
    assert "file.unreadable" not in said
    assert "state.foreign_owner" not in said
    assert machine.run("oidc-mirror-admin", "status").returncode == 0


def judge_others(machine: Booted) -> None:
    """Root and other users get a remedy, members of the group can run `status`, and no file of others is left."""
    root = machine.run("oidc-mirror", "--once", check=False)
    assert root.returncode == 2
    assert "belongs to the user oidc-mirror" in root.stderr
    assert "sudo oidc-mirror-admin --once" in root.stderr
    nobody = machine.run("setpriv", "--reuid=65534", "--clear-groups", "oidc-mirror", "status", check=False)
    assert nobody.returncode == 1
    assert "This user cannot read" in nobody.stderr
    assert "defect" not in nobody.stderr
    member = machine.sh("setpriv --reuid=65534 --groups=$(id -g oidc-mirror) oidc-mirror status syd-prod", check=False)
    assert "RS256 published" in " ".join(member.split())
    assert machine.sh("find /var/lib/oidc-mirror -not -user oidc-mirror").strip() == ""


def judge_timer_with_daemon(machine: Booted) -> None:
    """The pass of the timer is skipped, without a failure, and the daemon goes on."""
    machine.run("systemctl", "start", ONCE)
    said = [each["MESSAGE"] for each in machine.journal(ONCE)]
    assert any("due to ExecCondition=" in each or "exec-condition" in each for each in said), said
    assert not any("pass.finished" in each for each in said)
    assert machine.run("systemctl", "is-failed", ONCE, check=False).stdout.strip() == "inactive"
    assert machine.run("systemctl", "is-active", DAEMON).stdout.strip() == "active"


def judge_broken_configuration(machine: Booted, world: World, port: int) -> None:
    """A reload fails and the refusal stays visible; a restart begins with the last good one, loudly."""
    machine.write(CONFIG, config_of(world, port).replace('"1s"', '"soon"'))
    assert machine.run("systemctl", "reload", DAEMON, check=False).returncode != 0
    machine.wait_until(lambda: "has mistakes; the one before goes on" in status_of(machine), "the refusal")
    assert page(machine, port, "/readyz")[0] == "200"
    machine.run("systemctl", "restart", DAEMON)
    machine.wait_until(lambda: "the copy of the last good one is used" in status_of(machine), "the copy")
    assert machine.sh("stat -c %a:%U /var/lib/oidc-mirror/last-good-config.json").strip() == "600:oidc-mirror"
    assert page(machine, port, "/readyz")[0] == "503"
    assert page(machine, port, "/healthz")[0] == "200"
    assert "oidc_mirror_config_refused 1.0" in page(machine, port, "/metrics")[1]
    assert "The configuration on disk is refused" in page(machine, port, "/")[1]
    assert "interval" in machine.sh("cat /var/lib/oidc-mirror/last_error")
    machine.write(CONFIG, config_of(world, port))
    machine.run("systemctl", "reload", DAEMON)
    machine.wait_until(lambda: page(machine, port, "/readyz")[0] == "200", "readiness")
    machine.wait_until(lambda: "mistakes" not in status_of(machine), "the end of the refusal")
    assert "oidc_mirror_config_refused 0.0" in page(machine, port, "/metrics")[1]


def judge_trouble_that_passes(machine: Booted) -> None:
    """Killed again and again, and without its credentials: it is back as soon as it can be."""
    assert (machine.show(DAEMON, "Restart"), machine.show(DAEMON, "StartLimitIntervalUSec")) == ("always", "0")
    for _ in range(2):
        killed = machine.show(DAEMON, "MainPID")
        machine.run("systemctl", "kill", "--signal=KILL", DAEMON)
        machine.wait_until(lambda killed=killed: is_another(machine, killed), "the daemon again")  # type: ignore[misc]  # a default binds the loop's value
    machine.sh("mv /etc/oidc-mirror/credentials /etc/oidc-mirror/away")
    machine.run("systemctl", "restart", DAEMON, check=False)
    restarts = int(machine.show(DAEMON, "NRestarts"))
    machine.wait_until(lambda: int(machine.show(DAEMON, "NRestarts")) >= restarts + 3, "further tries")
    machine.sh("mv /etc/oidc-mirror/away /etc/oidc-mirror/credentials")
    machine.wait_until(lambda: machine.show(DAEMON, "ActiveState") == "active", "the daemon with its credentials")


def is_another(machine: Booted, killed: str) -> bool:
    """Whether another process than the killed one is active: systemd takes a moment to see that one is gone."""
    return machine.show(DAEMON, "ActiveState") == "active" and machine.show(DAEMON, "MainPID") not in (killed, "0")


@contextmanager
def judged_lock(machine: Booted) -> Iterator[None]:
    """A pass of the timer that meets a lock ends with 75 and is tried again, until it can be made.

    It waits 10 s for the lock; what the block does costs no further time.
    """
    machine.run("systemctl", "stop", DAEMON)
    assert (
        "exit status 0" in machine.run("oidc-mirror-admin", "status").stdout
    )  # a pass that the stop broke off is none
    machine.run("systemctl", "reset-failed")
    hold = "exec 9>>/var/lib/oidc-mirror/lock; flock 9; touch /tmp/held; while [ ! -e /tmp/free ]; do sleep 0.1; done"
    machine.run("systemd-run", "--quiet", "--uid=oidc-mirror", "sh", "-c", hold)
    machine.sh("while [ ! -e /tmp/held ]; do sleep 0.1; done")
    machine.run("systemctl", "start", "--no-block", ONCE)
    yield
    machine.wait_until(lambda: int(machine.show(ONCE, "NRestarts")) >= 1, "another try")
    assert any("status=75" in each["MESSAGE"] for each in machine.journal(ONCE))
    machine.sh("touch /tmp/free")
    machine.wait_until(lambda: machine.show(ONCE, "Result") == "success" and not running(machine), "the pass")


def running(machine: Booted) -> bool:
    return machine.show(ONCE, "ActiveState") != "inactive"


def judge_removal(machine: Booted) -> None:
    """Everything that was installed is gone; configuration and state stay."""
    machine.run("systemctl", "enable", DAEMON)
    machine.sh("cd /srv/project && scripts/uninstall")
    assert machine.show(DAEMON, "LoadState") in ("not-found", "masked", "bad-setting")
    assert machine.run("which", "oidc-mirror", "oidc-mirror-admin", check=False).stdout == ""
    assert "snapshots.git" in machine.sh("ls /var/lib/oidc-mirror")
    assert "mirror.yaml" in machine.sh("ls /etc/oidc-mirror")


def test_units_do_their_work_for_years(s3_server: S3Server, tmp_path: Path) -> None:
    """Installed, started, reloaded, broken, killed, locked out and removed, on a booted machine."""
    port = free_port()
    with running_world(s3_server, tmp_path) as world, booted(tmp_path) as machine:
        world.show(ONE, ONE)
        configure(machine, world, port)
        judge_installation(machine)
        judge_guide(machine)
        judge_daemon(machine)
        judge_operators(machine)
        judge_timer_with_daemon(machine)
        judge_broken_configuration(machine, world, port)
        judge_trouble_that_passes(machine)
        with judged_lock(machine):
            judge_others(machine)
        judge_removal(machine)


def test_earlier_units_are_replaced(tmp_path: Path) -> None:
    """Those that a version before put among the administrator's own move aside; links and drop-ins hold."""
    admin = tmp_path / "etc/systemd/system"
    (admin / "multi-user.target.wants").mkdir(parents=True)
    (admin / "oidc-mirror.service.d").mkdir()
    (admin / "oidc-mirror.service.d/override.conf").write_text("[Service]\n")
    (admin / DAEMON).write_text("[Unit]\n")
    (admin / "multi-user.target.wants" / DAEMON).symlink_to(f"/etc/systemd/system/{DAEMON}")
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DESTDIR": str(tmp_path), "OIDC_MIRROR_PROGRAM": "installed"}
    install = shutil.which("bash") or "bash"
    project = Path(__file__).parents[2]
    done = subprocess.run(
        [install, "scripts/install"], env=environ, cwd=project, capture_output=True, text=True, check=True
    )
    assert f"{DAEMON}.replaced" in done.stdout
    assert not (admin / DAEMON).exists()
    assert (admin / "multi-user.target.wants" / DAEMON).readlink() == Path("/usr/lib/systemd/system") / DAEMON
    assert (admin / "oidc-mirror.service.d/override.conf").exists()
    assert (tmp_path / "usr/lib/systemd/system" / DAEMON).exists()
    assert stat.S_IMODE((tmp_path / "etc/oidc-mirror/tokens").stat().st_mode) == 0o2750
    subprocess.run([install, "scripts/uninstall"], env=environ, cwd=project, capture_output=True, check=True)
    left = sorted(
        str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if not each.is_dir() or each.is_symlink()
    )
    assert left == [
        "etc/oidc-mirror/mirror.example.yaml",
        "etc/systemd/system/oidc-mirror.service.d/override.conf",
        f"etc/systemd/system/{DAEMON}.replaced",
    ]
