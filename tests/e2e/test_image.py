"""The image, built for real by buildah on a Debian of its own, and run by runc: a user by number, read-only, no rights.

scripts/test-image builds it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import botocore.credentials
import botocore.tokens
import pytest

import mirror
from support.aws_logins import LOGINS, Login, running_logins
from support.machine import demand
from support.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from support.situations import JWKS_KEY
from support.ssh_server import SshServer, running_ssh
from support.worlds import PROJECT, World, running_world

pytestmark = [pytest.mark.s3, pytest.mark.timeout(900)]

MOST_MEGABYTES = 300
ENVIRON = dict(os.environ) | {"BUILDAH_ISOLATION": "chroot"}
# The image's own user, and an unknown uid with group 0: what OpenShift gives a pod.
USERS = {"own-user": (65532, 65532), "any-uid": (1000650000, 0)}
KEY_OF = """
import sys
from mirror.aws.sessions import session
from mirror.config.settings import PublishSettings
settings = PublishSettings("bucket", "us-east-1", "https://bucket.example.com", profile=sys.argv[1] or None)
print(session(settings).get_credentials().get_frozen_credentials().access_key)
"""


def buildah(*words: str | Path) -> str:
    done = subprocess.run(["buildah", *map(str, words)], env=ENVIRON, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Image:
    """The built image: its files, and its configuration as an engine reads it."""

    name: str
    root: Path

    def settings(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(buildah("inspect", "--type", "image", self.name))["OCIv1"]["config"]
        return found

    def run(self, home: "Home", *words: str, user: tuple[int, int], **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it: a read-only root without /tmp, no capabilities, only the state can be written."""
        settings = self.settings()
        variables = [*settings["Env"], *(f"{name}={value}" for name, value in environ.items())]  # type: ignore[misc]  # a list of texts
        mounts = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            bind(home.state, "/var/lib/oidc-mirror", "rw"),
            bind(home.config, "/etc/oidc-mirror", "ro"),
            bind(Path("/etc/hosts"), "/etc/hosts", "ro"),
        ]
        process = {
            "user": {"uid": user[0], "gid": user[1], "umask": 0o022},
            "args": list(words),
            "env": variables,
            "cwd": settings["WorkingDir"],
            "capabilities": {},
            "noNewPrivileges": True,
        }
        spec = {
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": str(self.root), "readonly": True},
            "mounts": mounts,
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "mount")]},
        }
        (home.folder / "config.json").write_text(json.dumps(spec))
        command = ["runc", "--root", str(home.folder / "runc"), "run", f"oidc-mirror-{os.getpid()}"]
        return subprocess.run(
            command, cwd=home.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )


def bind(source: Path, destination: str, mode: str) -> dict[str, object]:
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", mode]}


@dataclass(frozen=True)
class Home:
    """What an engine mounts: the folder of the state, which is root's as a volume is, and that of the configuration."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def config(self) -> Path:
        return self.folder / "etc"


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The image that scripts/test-image names, and the file system of a container of it."""
    for program in ("buildah", "mmdebstrap", "runc"):
        demand(program, variable="OIDC_MIRROR_REQUIRE_BUILDAH", package=program)
    if os.geteuid() != 0:
        pytest.skip("mmdebstrap and runc need root")
    built = subprocess.run([PROJECT / "scripts/test-image"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    name = built.stdout.strip()
    container = buildah("from", name)
    try:
        yield Image(name, Path(buildah("mount", container)))
    finally:
        buildah("rm", container)


@pytest.fixture(params=list(USERS.values()), ids=list(USERS))
def user(request: pytest.FixtureRequest) -> tuple[int, int]:
    """uid and gid"""
    found: tuple[int, int] = request.param
    return found


@pytest.fixture
def home(user: tuple[int, int], tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.config.mkdir(parents=True)
    made.state.mkdir()
    os.chown(made.state, 0, user[1])
    made.state.chmod(0o770)
    return made


def configure(home: Home, world: World, server: SshServer, group: int) -> dict[str, str]:
    """Write what an operator mounts, and give the environment that goes with it."""
    shutil.copy(world.folder / "cluster-ca.crt", home.config)
    shutil.copy(world.server.certificates.ca_file, home.config / "s3-ca.crt")
    publish = world.config["publish"]
    settings = world.config | {
        "state_dir": "/var/lib/oidc-mirror",
        "limits": {},
        "publish": publish | {"readback": publish["readback"] | {"ca_file": "s3-ca.crt"}},
        "repository": {"remote": server.url},
    }
    (home.config / "mirror.yaml").write_text(json.dumps(settings))
    key = home.config / "ssh-key"
    shutil.copy(server.client_key, key)
    os.chown(key, 0, group)
    key.chmod(0o440)
    (home.config / "known_hosts").write_text(server.known_hosts)
    ssh = "ssh -i /etc/oidc-mirror/ssh-key -o IdentitiesOnly=yes -o UserKnownHostsFile=/etc/oidc-mirror/known_hosts"
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_CA_BUNDLE": "/etc/oidc-mirror/s3-ca.crt",
        "AWS_EC2_METADATA_DISABLED": "true",
        "GIT_SSH_COMMAND": ssh,
    }


def test_passes_with_an_ssh_remote(
    image: Image, home: Home, user: tuple[int, int], s3_server: S3Server, tmp_path: Path
) -> None:
    """With the image's own user and with any other: published, pushed, quiet again, and `check` finds nothing wrong."""
    reports = []
    with running_world(s3_server, tmp_path) as world, running_ssh(tmp_path) as server:
        environ = configure(home, world, server, user[1])
        for _ in range(2):
            done = image.run(home, "oidc-mirror", "--once", "--output", "json", user=user, **environ)
            assert done.returncode == 0, done.stdout + done.stderr
            reports.append(json.loads(done.stdout))
        assert world.public(JWKS_KEY).status == 200
        checked = image.run(home, "oidc-mirror", "check", "--output", "json", user=user, **environ)
        codes = {each["code"] for each in json.loads(checked.stdout)["findings"] if each["level"] == "failed"}
    assert [report["committed"] for report in reports] == [True, False]
    assert {each["effect"] for each in reports[1]["issuers"][0]["objects"]} == {"unchanged"}
    assert (home.state / "snapshots.git").stat().st_uid == user[0]
    assert server.head() == server.head_of(home.state / "snapshots.git")
    assert codes == set(), checked.stdout


def test_surroundings(image: Image, home: Home, user: tuple[int, int]) -> None:
    """Only the state directory is writable; every uid has a name and a home; no pip, no Perl; a version."""
    script = "id -u; id -un; getent passwd $(id -u) | cut -d: -f6; oidc-mirror --version | head -1"
    script += "; touch /opt/x /tmp/x; touch ~/x && echo ok"
    done = image.run(home, "sh", "-c", script, user=user)
    uid, name, folder, version, written = done.stdout.splitlines()
    assert (int(uid), folder, written) == (user[0], "/var/lib/oidc-mirror", "ok")
    assert name == ("oidc-mirror" if user[0] == 65532 else f"uid-{user[0]}")
    assert version == f"oidc-mirror, version {mirror.__version__}"
    assert done.stderr.count("Read-only file system") == 2
    unneeded = "for each in pip pip3 scp ssh-agent scalar; do command -v $each; done"
    unneeded += "; ls -d /usr/share/perl /usr/lib/git-core/git-daemon"
    assert image.run(home, "sh", "-c", unneeded, user=user).stdout == ""
    assert image.run(home, "python", "-c", "import pip", user=user).returncode == 1


@pytest.mark.parametrize("login", LOGINS.values(), ids=LOGINS.keys())
@pytest.mark.parametrize("user", [USERS["any-uid"]], ids=["any-uid"], indirect=True)
def test_every_provider_of_credentials_logs_in(image: Image, home: Home, user: tuple[int, int], login: Login) -> None:
    """The descriptions of services that the chain of credentials asks are there, though most others are not."""
    with running_logins() as url:
        environ = login.prepare(home.config, url, Path("/etc/oidc-mirror"), home.state)
        done = image.run(home, "python", "-c", KEY_OF, login.profile, user=user, **environ)
    assert login.expected in done.stdout + done.stderr


def test_image_is_small_and_says_what_it_is(image: Image) -> None:
    """What is pulled on every node, and what a scanner reads of it."""
    size, unit = buildah("images", "--format", "{{.Size}}", image.name).split()
    assert unit == "MB"
    assert float(size) <= MOST_MEGABYTES
    labels = image.settings()["Labels"]
    assert isinstance(labels, dict)
    assert labels["org.opencontainers.image.version"] == mirror.__version__
    assert labels["org.opencontainers.image.source"] == "https://git.example.com/oidc-mirror"


def test_descriptions_of_services_are_those_that_are_asked() -> None:
    """By the program, or by botocore's chain of credentials; the image has no others."""
    kept = re.search(r'^services="(.*)"$', (PROJECT / "scripts/image-trim").read_text(), re.MULTILINE)
    assert kept is not None
    ours = "\n".join(path.read_text() for path in (PROJECT / "mirror").rglob("*.py"))
    chain = "\n".join(Path(str(each.__file__)).read_text() for each in (botocore.credentials, botocore.tokens))
    asked = set(re.findall(r'\.client\(\s*"([a-z0-9-]+)"', ours))
    asked |= set(re.findall(r"""client(?:_creator)?\(\s*(?:self\._session, )?["']([a-z0-9-]+)["']""", chain))
    assert set(kept[1].split()) == asked


def test_image_says_how_it_is_meant() -> None:
    """The user, the health check and the labels stand in the Dockerfile that was built; a linter finds nothing."""
    text = (PROJECT / "Dockerfile").read_text()
    assert re.search(r"^USER 65532:65532$", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", text, re.MULTILINE)
    assert "org.opencontainers.image.licenses" in text
    assert f'org.opencontainers.image.version="{mirror.__version__}"' in text
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([str(hadolint), str(PROJECT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")
