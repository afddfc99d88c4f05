"""SIGTERM in every phase of a pass, with whatever the pass waits for hung: 0 within 10 s, and nothing is broken."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.apiserver import never_answer
from support.daemons import Daemon, running_daemon
from support.fault_proxy import Fault, FaultProxy, running_fault_proxy
from support.gits import bare, fsck_strict
from support.s3 import S3Server
from support.worlds import World, running_world

pytestmark = pytest.mark.s3

ONE = "01-rsa1/anonymous-bound-"
MOST_SECONDS = 30.0
"""Half of what hangs: a stop that waits for it takes longer. Ten seconds are promised on a machine that is not busy."""
GIT = """#!/bin/sh
word=$(cat "{hang}" 2>/dev/null)
case " $* " in *" ${{word:-nothing}} "*) : >"{hang}.reached"; exec sleep 600 ;; esac
exec "{git}" "$@"
"""


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of a pass: how it is made to hang, and where it can be seen that it does."""

    name: str
    hang: Callable[["Stage"], None]
    reached: Callable[["Stage"], bool]


@dataclass
class Stage:
    """One world with its daemon; `git` hangs at the command that the file `hang` names."""

    world: World
    proxy: FaultProxy
    silent: socket.socket
    daemon: Daemon | None = None

    @property
    def file(self) -> Path:
        return self.world.folder / "hang"

    def hang_git(self, word: str) -> None:
        self.file.write_text(word)

    def git_hangs(self) -> bool:
        return Path(f"{self.file}.reached").exists()

    def hang_asking(self) -> None:
        self.world.config["limits"] = {"total": "60s", "source_deadline": "60s", "connect": "60s"}
        self.world.respond_with(never_answer)

    def hang_readback(self) -> None:
        self.world.config["publish"]["readback"] = {"connect_to": f"127.0.0.1:{self.silent.getsockname()[1]}"}

    def is_looked_at(self) -> bool:
        try:
            self.silent.accept()[0].close()
        except BlockingIOError:
            return False
        return True


def stalls(method: str) -> Fault:
    return Fault(method, stall_seconds=60.0, answer=b"")


PHASES = (
    Phase("asking", Stage.hang_asking, lambda stage: any(replica.requests for replica in stage.world.replicas)),
    Phase("fetch", lambda stage: stage.hang_git("fetch"), Stage.git_hangs),
    Phase("list", lambda stage: stage.proxy.faults.append(stalls("GET")), lambda stage: bool(stage.proxy.requests)),
    Phase("commit", lambda stage: stage.hang_git("fast-import"), Stage.git_hangs),
    Phase("push", lambda stage: stage.hang_git("push"), Stage.git_hangs),
    Phase("put", lambda stage: stage.proxy.faults.append(stalls("PUT")), lambda stage: "PUT" in stage.proxy.methods()),
    Phase("read-back", Stage.hang_readback, Stage.is_looked_at),
    Phase("idle", lambda _: None, lambda stage: bool(stage.daemon and stage.daemon.events("pass.finished"))),
)


def set_up(stack: ExitStack, server: S3Server, folder: Path, phase: Phase) -> Stage:
    (folder / "bin").mkdir(parents=True)
    world = stack.enter_context(running_world(server, folder))
    proxy = stack.enter_context(running_fault_proxy(server.certificates, server.port))
    silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    silent.setblocking(False)
    stage = Stage(world, proxy, silent)
    world.show(ONE, ONE)
    readback = {"enabled": False}
    world.config["publish"] |= {"bucket": server.new_bucket(), "endpoint_url": proxy.url, "readback": readback}
    world.config["repository"] = {"remote": str(bare(folder / "remote.git"))}
    script = folder / "bin" / "git"
    script.write_text(GIT.format(hang=stage.file, git=shutil.which("git")))
    script.chmod(0o755)
    phase.hang(stage)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    stage.daemon = stack.enter_context(running_daemon(world, interval="1h", PATH=path))
    return stage


def stop(stage: Stage, phase: Phase) -> None:
    """End the daemon in its phase: 0 within 10 s, not a word of a defect, and no git process is left."""
    daemon = stage.daemon
    assert daemon is not None
    daemon.wait_until(lambda: phase.reached(stage), phase.name)
    time.sleep(0.1)
    status, seconds = daemon.stop(signal.SIGTERM)
    assert status == 0, daemon.tail()
    assert seconds < MOST_SECONDS, daemon.tail()
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert [line for line in listed.splitlines() if str(stage.world.folder / "state") in line] == []
    assert "Traceback" not in daemon.tail()
    assert daemon.events("service.stopping", "service.stopped")[-1]["event"] == "service.stopped"
    assert not (stage.world.folder / "state" / "last_error").exists()


def go_on(stage: Stage) -> None:
    """The next pass finishes what was begun, with one commit in all, and the repository is whole."""
    world = stage.world
    stage.file.unlink(missing_ok=True)
    world.show(ONE, ONE)
    world.config["publish"] |= {"endpoint_url": world.server.url, "readback": {"enabled": False}}
    done = world.mirror("--once", "--output", "json")
    assert done.status == 0, done.out
    effects = {each["effect"] for each in done.report()["issuers"][0]["objects"]}
    assert effects <= {"put", "unchanged"}
    assert len(world.git("log", "--format=%h", "main").split()) == 1
    fsck_strict(world.folder / "state" / "snapshots.git")


def test_stop_in_any_phase_is_quick_and_leaves_nothing_broken(s3_server: S3Server, tmp_path: Path) -> None:
    """Every phase of the table, at the same time: most of each is waiting."""

    def play(stage: Stage, phase: Phase) -> str:
        try:
            stop(stage, phase)
            go_on(stage)
        except AssertionError as error:
            return f"{phase.name}: {error}"
        return ""

    with ExitStack() as stack:
        stages = [set_up(stack, s3_server, tmp_path / phase.name, phase) for phase in PHASES]
        with ThreadPoolExecutor(len(PHASES)) as pool:
            complaints = list(pool.map(play, stages, PHASES))
    assert [each for each in complaints if each] == []
