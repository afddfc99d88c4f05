"""The image, built for real by buildah on a Debian of its own, and run as an engine would: a user by number, read-only.

The base is made with debootstrap. It trusts the certificates that this machine trusts, so that packages can be had
wherever this machine gets them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.machine import demand
from support.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from support.situations import JWKS_KEY
from support.worlds import PROJECT, running_world

pytestmark = [pytest.mark.s3, pytest.mark.timeout(600)]

PACKAGES = "python3,python3-venv,ca-certificates"
UID = 65532
ENVIRON = dict(os.environ) | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
# As `docker run --read-only --tmpfs /tmp -v STATE:/var/lib/oidc-mirror -v CONFIG:/etc/oidc-mirror:ro` would.
RUN = """
set -e
root=$1 state=$2 config=$3
shift 3
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount -t tmpfs tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
mount --bind "$state" "$root/var/lib/oidc-mirror"
mount --bind "$config" "$root/etc/oidc-mirror"
mount --bind /etc/hosts "$root/etc/hosts"
exec chroot --userspec=65532:65532 "$root" env -i PATH=/opt/oidc-mirror/bin:/usr/bin:/bin HOME=/var/lib/oidc-mirror \
    AWS_ACCESS_KEY_ID="$AWS_ACCESS_KEY_ID" AWS_SECRET_ACCESS_KEY="$AWS_SECRET_ACCESS_KEY" \
    AWS_CA_BUNDLE="$AWS_CA_BUNDLE" AWS_EC2_METADATA_DISABLED=true "$@"
"""


def buildah(*words: str | Path) -> str:
    done = subprocess.run(["buildah", *map(str, words)], env=ENVIRON, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file system of a container of the image."""
    for program in ("buildah", "debootstrap"):
        demand(program, variable="OIDC_MIRROR_REQUIRE_BUILDAH", package=program)
    if os.geteuid() != 0:
        pytest.skip("debootstrap and chroot need root")
    folder = tmp_path_factory.mktemp("image")
    base, image = f"localhost/oidc-mirror-base-{os.getpid()}", f"localhost/oidc-mirror-{os.getpid()}"
    container = ""
    try:
        make_base(folder, base)
        buildah("build", "--quiet", "--format", "docker", "--build-arg", f"BASE={base}", "--tag", image, PROJECT)
        container = buildah("from", image)
        yield Path(buildah("mount", container))
    finally:
        for words in (("rm", container), ("rmi", "--force", image, base)):
            subprocess.run(["buildah", *words], env=ENVIRON, capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def make_base(folder: Path, name: str) -> None:
    rootfs = folder / "rootfs"
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(rootfs)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout[-2000:]
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    shutil.copy(bundle, rootfs / bundle.relative_to("/"))
    (rootfs / "etc/pip.conf").write_text(f"[global]\ncert = {bundle}\n")
    (folder / "Dockerfile").write_text("FROM scratch\nADD rootfs /\n")
    buildah("build", "--quiet", "--tag", name, folder)


def inside(root: Path, state: Path, config: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the image, as its user, with a root that cannot be written."""
    aws = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_CA_BUNDLE": ""} | environ
    command = ["unshare", "--mount", "sh", "-c", RUN, "sh", str(root), str(state), str(config), *words]
    return subprocess.run(command, env=dict(os.environ) | aws, capture_output=True, text=True, check=False)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    made = tmp_path / "image-state"
    made.mkdir()
    os.chown(made, UID, UID)
    return made


def judge_surroundings(root: Path, state: Path, tmp_path: Path) -> None:
    """A uid that is not root's, nothing to write but state and /tmp, no pip, and the version is told."""
    done = inside(
        root, state, tmp_path, "sh", "-c", "id -u; oidc-mirror --version | head -1; touch /opt/x; touch ~/x && echo ok"
    )
    uid, version, written = done.stdout.splitlines()
    assert int(uid) == UID
    assert re.fullmatch(r"oidc-mirror, version \d+\.\d+\.\d+", version)
    assert written == "ok"
    assert "Read-only file system" in done.stderr
    assert inside(root, state, tmp_path, "python", "-c", "import pip").returncode == 1


def judge_passes(root: Path, state: Path, s3_server: S3Server, tmp_path: Path) -> None:
    """`run --once`, against TLS apiservers and an S3 server: published, committed, and quiet again."""
    config = tmp_path / "etc"
    config.mkdir()
    with running_world(s3_server, tmp_path) as world:
        shutil.copy(tmp_path / "cluster-ca.crt", config)
        shutil.copy(s3_server.certificates.ca_file, config / "s3-ca.crt")
        publish = world.config["publish"]
        readback = publish["readback"] | {"ca_file": "s3-ca.crt"}
        settings = world.config | {"state_dir": "/var/lib/oidc-mirror", "publish": publish | {"readback": readback}}
        (config / "mirror.yaml").write_text(json.dumps(settings))
        aws = {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_CA_BUNDLE": "/etc/oidc-mirror/s3-ca.crt",
        }
        reports = []
        for _ in range(2):
            done = inside(root, state, config, "oidc-mirror", "--once", "--output", "json", **aws)
            assert done.returncode == 0, done.stdout + done.stderr
            reports.append(json.loads(done.stdout))
        assert world.public(JWKS_KEY).status == 200
    assert [report["committed"] for report in reports] == [True, False]
    assert {each["effect"] for each in reports[1]["issuers"][0]["objects"]} == {"unchanged"}
    assert (state / "snapshots.git").stat().st_uid == UID


def test_image_works_as_nobody_on_a_read_only_root(
    root: Path, state: Path, s3_server: S3Server, tmp_path: Path
) -> None:
    """The built image does its work with no right but to write its state. One test, because it is built once."""
    judge_surroundings(root, state, tmp_path)
    judge_passes(root, state, s3_server, tmp_path)


def test_image_says_how_it_is_meant() -> None:
    """The user, the health check and the labels stand in the Dockerfile that was built; a linter finds nothing."""
    text = (PROJECT / "Dockerfile").read_text()
    assert re.search(r"^USER 65532:65532$", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", text, re.MULTILINE)
    assert "org.opencontainers.image.licenses" in text
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([str(hadolint), str(PROJECT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")
