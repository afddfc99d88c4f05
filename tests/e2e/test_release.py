"""A release as `make dist` builds it, and installed as its users install it: each in an environment of its own."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest

from mirror import __version__
from support.s3 import S3Server
from support.situations import JWKS_KEY
from support.worlds import PROJECT, World, running_world

pytestmark = [pytest.mark.s3, pytest.mark.timeout(600)]

UV = str(Path(sys.executable).with_name("uv"))


def run(
    *command: str | Path, cwd: Path | None = None, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= environ or {}
    words = list(map(str, command))
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "dist"
    # The image is built and run in test_image.py; here its base is one that nobody has.
    done = run(PROJECT / "scripts/dist", environ={"DIST": str(folder), "OIDC_MIRROR_BASE": "localhost/no-such-base"})
    assert done.returncode == 0, done.stderr
    assert "No image: " in done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return dist / f"oidc_mirror-{__version__}-py3-none-any.whl"


def test_release_has_every_file_and_its_checksum(dist: Path) -> None:
    """Wheel, sdist, kustomize tree and bill of materials; SHA256SUMS names each with its own sum."""
    lines = (line.split("  ") for line in (dist / "SHA256SUMS").read_text().splitlines())
    sums = {name: digest for digest, name in lines}
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in dist.iterdir() if path.name != "SHA256SUMS"
    }
    assert set(sums) == {
        f"oidc_mirror-{__version__}-py3-none-any.whl",
        f"oidc_mirror-{__version__}.tar.gz",
        f"oidc-mirror-{__version__}-kubernetes.tar.gz",
        f"oidc-mirror-{__version__}.cdx.json",
    }


def test_bill_of_materials_lists_what_is_locked(dist: Path) -> None:
    """Every package of the runtime lock, by name and version."""
    listed = {
        f"{each['name']}=={each['version']}"
        for each in json.loads((dist / f"oidc-mirror-{__version__}.cdx.json").read_text())["components"]
    }
    locked = re.findall(r"^([a-z0-9.-]+==[^\s;]+)", (PROJECT / "requirements.lock").read_text(), re.MULTILINE)
    assert set(locked) <= listed


def test_kustomize_tree_is_whole(dist: Path) -> None:
    """The overlays, base and components, with the image of this version."""
    with tarfile.open(dist / f"oidc-mirror-{__version__}-kubernetes.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        assert {owner.uid for owner in archive.getmembers()} == {0}
    tree = PROJECT / "config/kubernetes"
    assert {str(path.relative_to(tree)) for path in tree.rglob("*")} <= names


def test_release_that_needs_an_image_fails_without(tmp_path: Path) -> None:
    """Where the image is demanded its absence is no message alone."""
    done = run(
        PROJECT / "scripts/dist",
        environ={
            "DIST": str(tmp_path / "dist"),
            "OIDC_MIRROR_BASE": "localhost/no-such-base",
            "OIDC_MIRROR_REQUIRE_IMAGE": "1",
        },
    )
    assert done.returncode == 1
    assert "No image: " in done.stderr


def says_its_version(text: str) -> bool:
    """Whether `--version` printed the release and the commit that it was built from."""
    head = run("git", "rev-parse", "HEAD", cwd=PROJECT).stdout.strip()
    return text.splitlines()[:2] == [f"oidc-mirror, version {__version__}", f"commit  {head}"]


def make_a_pass(program: Path, world: World) -> None:
    config = world.folder / "mirror.yaml"
    config.write_text(json.dumps(world.config))
    world.show("01-rsa1/anonymous-bound-", "01-rsa1/anonymous-bound-")
    for committed in (True, False):
        done = run(program, "--config", config, "--once", "--output", "json", environ=world.environ())
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["committed"] is committed
    assert world.public(JWKS_KEY).status == 200


def test_wheel_in_an_empty_environment_makes_a_pass(wheel: Path, s3_server: S3Server, tmp_path: Path) -> None:
    """uv with the lock file: the versions that were tested. test_sdist_installs_itself and test_image.py use pip."""
    environment = tmp_path / "empty"
    venv.create(environment)
    install = (UV, "pip", "install", "--quiet", "--python", environment / "bin/python", "--no-deps")
    locked = run(*install, "--require-hashes", "--only-binary", ":all:", "-r", PROJECT / "requirements.lock")
    assert locked.returncode == 0, locked.stderr
    installed = run(*install, wheel)
    assert installed.returncode == 0, installed.stderr
    program = environment / "bin/oidc-mirror"
    assert says_its_version(run(program, "--version", cwd=tmp_path).stdout)
    with running_world(s3_server, tmp_path) as world:
        make_a_pass(program, world)


def test_uvx_starts_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Without an installation, in an environment that uv makes and forgets."""
    done = run(UV, "tool", "run", "--python", sys.executable, "--from", wheel, "oidc-mirror", "--version", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert says_its_version(done.stdout)


def give_pip(shared: Path) -> None:
    """A pip that pipx finds there. Otherwise it makes one and upgrades it, in twice the time of the installation."""
    venv.create(shared)
    words = ("pip", "install", "--quiet", "--python", shared / "bin/python", "--require-hashes", "--no-deps")
    given = run(UV, *words, "-r", PROJECT / "requirements-build.lock")
    assert given.returncode == 0, given.stderr


@pytest.mark.skipif(shutil.which("pipx") is None, reason="pipx is not installed (Debian: apt-get install pipx)")
def test_pipx_installs_the_clone(tmp_path: Path) -> None:
    """As a user's own program, from the clone that the README begins with."""
    homes = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin"), "PIP_NO_COMPILE": "1"}
    give_pip(tmp_path / "pipx/shared")
    done = run("pipx", "install", "--python", sys.executable, PROJECT, environ=homes)
    assert done.returncode == 0, done.stdout + done.stderr
    program = tmp_path / "bin/oidc-mirror"
    assert says_its_version(run(program, "--version", cwd=tmp_path).stdout)
    assert run("pipx", "uninstall", "oidc-mirror", environ=homes).returncode == 0
    assert not program.exists()


def test_sdist_installs_itself(dist: Path, tmp_path: Path) -> None:
    """`make install` in the unpacked sdist, below another root."""
    # Not by tarfile: the Python 3.11 of Debian 12 has no filter yet, and later ones want one.
    unpacked = run("tar", "--extract", "--file", dist / f"oidc_mirror-{__version__}.tar.gz", cwd=tmp_path)
    assert unpacked.returncode == 0, unpacked.stderr
    source, root = tmp_path / f"oidc_mirror-{__version__}", tmp_path / "root"
    done = run("make", "--directory", source, "install", environ={"DESTDIR": str(root)})
    assert done.returncode == 0, done.stderr
    program = root / "opt/oidc-mirror/bin/oidc-mirror"
    assert (root / "usr/lib/systemd/system/oidc-mirror.service").exists()
    # Its first line names the place where it will lie, so the interpreter is named here.
    assert says_its_version(run(program.with_name("python"), program, "--version").stdout)
