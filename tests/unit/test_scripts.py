"""Runs the scripts of set-up and tests, and .ci/run, with fake commands."""

import os
import shutil
import stat
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from support.checkouts import Checkout

# --------------------------------------------------------------------------------------------- debian-packages

APT_GET = """
echo "$*" >>"$CALLS"
case "$*" in
*" update") exit "${UPDATE:-0}" ;;
*)
    here=$(dirname "$0")
    for name in "$@" systemd-analyze promtool ip dropbear; do cp "$here/git" "$here/$name" 2>&1; done ;;
esac
"""
FOR_TESTS = (
    "radosgw",
    "ceph-mon",
    "ceph-osd",
    "chromium",
    "systemd-analyze",
    "buildah",
    "mmdebstrap",
    "runc",
    "dropbear",
    "nodejs",
    "npm",
    "promtool",
    "ip",
    "shellcheck",
    "pipx",
)


def test_present_packages_are_left_alone(checkout: Checkout) -> None:
    """If all packages are installed, the script installs and prints nothing."""
    for name in ("git", *FOR_TESTS):
        checkout.fake(name, "exit 0")
    checkout.fake("id", "echo 0")
    checkout.fake("apt-get", APT_GET)
    run = checkout.run("scripts/debian-packages", "run", "test")
    assert (run.returncode, run.stdout, run.stderr, checkout.calls()) == (0, "", "", [])


def test_root_gets_missing_packages_installed(checkout: Checkout) -> None:
    """As root on Debian, the script installs exactly the missing packages, after one update of the package lists."""
    for name in ("git", "ceph-mon"):
        checkout.fake(name, "exit 0")
    checkout.fake("id", "echo 0")
    checkout.fake("apt-get", APT_GET)
    run = checkout.run("scripts/debian-packages", "run", "test")
    update, install = checkout.calls()
    assert (run.returncode, run.stderr) == (0, "")
    assert update.endswith(" update")
    missing = "radosgw ceph-osd chromium systemd buildah mmdebstrap runc dropbear-bin "
    missing += "nodejs npm prometheus iproute2 shellcheck pipx"
    assert install.endswith(f" install -y --no-install-recommends {missing}")


@pytest.mark.parametrize(("user", "update"), [("1000", "0"), ("0", "100")], ids=["common user", "no package lists"])
def test_missing_optional_package_is_reported(checkout: Checkout, user: str, update: str) -> None:
    """If an optional package cannot be installed, the script reports it with the consequence and continues."""
    checkout.fake("git", "exit 0")
    checkout.fake("id", f"echo {user}")
    checkout.fake("apt-get", APT_GET)
    run = checkout.run("scripts/debian-packages", "run", "test", UPDATE=update)
    assert run.returncode == 0
    missing = "radosgw ceph-mon ceph-osd chromium systemd buildah mmdebstrap runc dropbear-bin "
    missing += "nodejs npm prometheus iproute2 shellcheck pipx"
    assert f"Missing: {missing}; the tests that need them" in run.stderr


def test_missing_git_is_fatal(checkout: Checkout) -> None:
    """Without git the setup fails, and the message says why."""
    checkout.fake("id", "echo 1000")
    run = checkout.run("scripts/debian-packages", "run")
    assert run.returncode == 1
    assert run.stderr.startswith("Missing: git; this project cannot be set up. On Debian, as root: apt-get install")


def test_unknown_group_is_refused(checkout: Checkout) -> None:
    """A misspelled group is an error, not an empty list of packages."""
    run = checkout.run("scripts/debian-packages", "tests")
    assert run.returncode == 2
    assert "no group is called tests" in run.stderr


# ------------------------------------------------------------------------------------------------ relying-parties

NPM = """
echo "$1" >>"$CALLS"
mkdir -p node_modules
exit "${NPM:-0}"
"""


@pytest.fixture
def parties(checkout: Checkout) -> Checkout:
    """A checkout in which the tests' JavaScript package is not installed yet."""
    folder = checkout.folder / "tests" / "relying_parties"
    folder.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        (folder / name).write_text("as it was\n", encoding="utf-8")
    checkout.fake("npm", NPM)
    return checkout


def test_package_is_installed_once_and_again_when_its_lock_changes(parties: Checkout) -> None:
    """The second call does nothing; after a change of the lock file the package is installed again."""
    assert [parties.run("scripts/relying-parties").returncode for _ in range(2)] == [0, 0]
    assert parties.calls() == ["ci"]
    lock = parties.folder / "tests" / "relying_parties" / "package-lock.json"
    lock.write_text("changed\n", encoding="utf-8")
    parties.run("scripts/relying-parties")
    assert parties.calls() == ["ci"]


def test_failing_npm_is_reported_and_retried(parties: Checkout) -> None:
    """The setup continues without the package, and the next setup tries again."""
    run = parties.run("scripts/relying-parties", NPM="1")
    assert (run.returncode, "npm could not install jose" in run.stderr) == (0, True)
    parties.run("scripts/relying-parties")
    assert parties.calls() == ["ci", "ci"]


def test_missing_npm_is_no_failure(parties: Checkout) -> None:
    """scripts/debian-packages has already reported a missing npm."""
    (parties.commands / "npm").unlink()
    run = parties.run("scripts/relying-parties")
    assert (run.returncode, run.stderr) == (0, "")


# -------------------------------------------------------------------------------------------------- test, .ci/run


@pytest.mark.parametrize(
    ("outcome", "status", "gates"),
    [
        ({}, 0, ["all", "trust"]),
        ({"PYTEST": "1"}, 1, []),
        ({"PYTEST": "5"}, 5, []),
        ({"ALL": "2"}, 1, ["all", "trust"]),
        ({"TRUST": "1"}, 1, ["all", "trust"]),
    ],
    ids=["all good", "a test fails", "no test ran", "overall gate shut", "trust gate cannot be computed"],
)
def test_tests_pass_only_with_both_gates(
    checkout: Checkout, outcome: dict[str, str], status: int, gates: list[str]
) -> None:
    """A failed test, a run without tests, or a missed coverage gate fails; a good run ends with pytest's last line."""
    checkout.run("scripts/setup")
    checkout.calls()
    run = checkout.run("scripts/test", TMPDIR=str(checkout.calls_file.parent), **outcome)
    assert run.returncode == status
    assert checkout.calls() == gates
    assert (run.stdout.splitlines()[-1] == "===== 7 passed in 0.10s =====") == (not gates or status == 0)


BUILDAH = """
case $1 in
inspect) [[ " $PRESENT " == *" $4 "* ]] ;;
images) printf '%s\\n' $PRESENT localhost/oidc-mirror-{base:2026-01,test:others-2026-01-9} localhost/another:1 ;;
from | mount) echo /root-of-the-container ;;
commit) echo "base $4" >>"$CALLS" ;;
build) echo "build $9 ${10}" >>"$CALLS" ;;
tag) echo "tag $3" >>"$CALLS" ;;
rmi) shift; echo "without $*" >>"$CALLS" ;;
esac
"""
GIT = """
case "$*" in
*rev-parse*) [ "$HEAD_IS" ] && echo "$HEAD_IS" ;;
*status*) echo "$CHANGES" ;;
esac
"""
BASE, OLD_BASE = "localhost/oidc-mirror-base:2026-49", "localhost/oidc-mirror-base:2026-01"
OTHERS = "localhost/oidc-mirror-test:others-2026-01-9"


@pytest.mark.parametrize(
    ("present", "changes", "head", "done"),
    [
        (
            *("", "", "1234"),
            ["base {base}", "without {others}", "without {old_base}", "build --tag {ours}-changed"],
        ),
        ("{base} {ours}-2026-48-11", "", "1234", ["without {ours}-2026-48-11", "build --tag {ours}-changed"]),
        ("{ours}-2026-49-1234", "", "1234", []),
        (
            "{base} {ours}-2026-49-1234",
            " M a.py",
            "1234",
            ["without {ours}-2026-49-1234", "build --tag {ours}-changed"],
        ),
        ("{base} {ours}-changed", "", "", ["without {ours}-changed", "build --tag {ours}-changed"]),
    ],
    ids=["nothing is there", "base", "image", "changed files", "no git"],
)
def test_image_of_a_commit_and_its_base_of_the_week_are_made_once(
    checkout: Checkout, present: str, changes: str, head: str, done: list[str]
) -> None:
    """What is missing is made, and what it replaces is removed; others stay. Changed files are built each time."""
    ours = "localhost/oidc-mirror-test:" + sha256(f"{checkout.folder.resolve()}\n".encode()).hexdigest()[:12]
    names = {"base": BASE, "old_base": OLD_BASE, "others": OTHERS, "ours": ours}
    checkout.fake("date", "echo 2026-49")
    checkout.fake("git", GIT)
    checkout.fake("buildah", BUILDAH)
    checkout.fake("mmdebstrap", "exit 0")
    environ = {"PRESENT": present.format(**names), "CHANGES": changes, "HEAD_IS": head}
    run = checkout.run("scripts/test-image", XDG_RUNTIME_DIR=str(checkout.calls_file.parent), **environ)
    image = f"{ours}-2026-49-{head}" if head and not changes else f"{ours}-changed"
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{image}\n", "")
    kept = [f"tag {image}", f"without {ours}-changed"] if done and head and not changes else []
    assert checkout.calls() == [each.format(**names) for each in done] + kept


def test_files_that_change_while_the_image_is_built_are_not_taken_for_the_commit(checkout: Checkout) -> None:
    """The image is named as one of changed files, so the next run builds it again."""
    checkout.fake("date", "echo 2026-49")
    checkout.fake("git", GIT.replace('echo "$CHANGES"', 'cat "$CALLS" 2>/dev/null || :'))
    checkout.fake("buildah", BUILDAH)
    folder = str(checkout.calls_file.parent)
    run = checkout.run("scripts/test-image", XDG_RUNTIME_DIR=folder, PRESENT=BASE, HEAD_IS="1234")
    assert (run.returncode, run.stdout.endswith("-changed\n"), run.stderr) == (0, True, "")


def test_images_of_tests_are_removed(checkout: Checkout) -> None:
    """All of both kinds, as `make clean` wants it; other images stay."""
    checkout.fake("buildah", BUILDAH)
    assert checkout.run("scripts/test-image", "remove", PRESENT=BASE).returncode == 0
    assert checkout.calls() == [f"without {OTHERS}", f"without {BASE} {OLD_BASE}"]


@pytest.mark.parametrize(
    ("fakes", "printed"),
    [
        ({}, True),
        ({"stat": "echo ext2/ext3"}, False),
        ({"awk": "echo 5"}, False),
        ({"df": "echo Avail; echo 1G"}, False),
        ({"true": "exit 126"}, False),
    ],
    ids=["enough", "no tmpfs", "little memory", "small", "no programs"],
)
def test_files_of_tests_lie_in_memory_where_it_suffices(
    checkout: Checkout, fakes: dict[str, str], printed: bool
) -> None:
    """Its folder is printed, and writable for any user, only if it is large enough and programs start from it."""
    usual = {"stat": "echo tmpfs", "awk": "echo 6", "df": "echo Avail; echo '   2G'", "true": "exit 0"}
    for name, body in {**usual, **fakes}.items():
        checkout.fake(name, body)
    folder = Path(f"/dev/shm/oidc-t.{os.getpid()}")
    try:
        run = checkout.run("scripts/test-folder", str(os.getpid()))
        assert (run.returncode, run.stdout, run.stderr) == (0, f"{folder}\n" if printed else "", "")
        assert folder.exists() == printed
        assert not printed or stat.S_IMODE(folder.stat().st_mode) == 0o1777
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_folder_of_a_killed_run_is_removed(checkout: Checkout) -> None:
    """Nobody else would give that memory back; the folder of a process that runs stays."""
    for name, body in {"stat": "echo tmpfs", "awk": "echo 6", "df": "echo 2G", "true": "exit 126"}.items():
        checkout.fake(name, body)
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    left, used = (Path(f"/dev/shm/oidc-t.{pid}") for pid in (gone.pid, os.getppid()))
    try:
        for folder in (left, used):
            folder.mkdir()
        checkout.run("scripts/test-folder", str(os.getpid()))
        assert (left.exists(), used.exists()) == (False, True)
    finally:
        for folder in (left, used):
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("failing", "done"),
    [
        ("none", ["setup ", "audit ", "licences ", "lint ", "test 1"]),
        ("setup", ["setup "]),
        ("lint", ["setup ", "audit ", "licences ", "lint "]),
        ("audit", ["setup ", "audit ", "lint "]),
        ("licences", ["setup ", "audit ", "licences ", "lint "]),
        ("test", ["setup ", "audit ", "licences ", "lint ", "test 1"]),
    ],
)
def test_ci_fails_with_the_failing_step(checkout: Checkout, failing: str, done: list[str]) -> None:
    """Lint, audit and licences run in parallel. After a failure no test runs. Only the tests require radosgw."""
    checkout.fake("git", "exit 0")
    checkout.fake("buildah", 'echo "buildah $1" >>"$CALLS"; exit 1')
    (checkout.folder / "tests/relying_parties").mkdir(parents=True)
    checkout.fake("make", f'echo "$1 ${{OIDC_MIRROR_REQUIRE_RADOSGW:-}}" >>"$CALLS"; [ "$1" != {failing} ]')
    run = checkout.run(".ci/run", XDG_RUNTIME_DIR=str(checkout.calls_file.parent))
    assert run.returncode == (failing != "none")
    everything = checkout.calls()
    calls = [call for call in everything if not call.startswith("buildah ")]
    assert len(calls) < len(everything), "no image is built, which may fail"
    at_once = sorted(calls[1:4] if "test 1" in calls else calls[1:])
    assert [*calls[:1], *at_once, *calls[1 + len(at_once) :]] == done
