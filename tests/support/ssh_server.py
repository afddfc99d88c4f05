"""A git server over ssh: dropbear on loopback, which accepts one key, and a repository."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.daemons import free_port
from support.machine import demand

# The server looks for the keys of its user in that one's home: a folder in memory that only it sees.
_SERVE = """
set -e
home=$(getent passwd "$(id -u)" | cut -d: -f6)
mount -t tmpfs -o mode=0700 tmpfs "$home"
mkdir -m 0700 "$home/.ssh"
cat >"$home/.ssh/authorized_keys"
exec dropbear -F -E -s -p "$1" -r "$2" -P "$3"
"""


@dataclass(frozen=True)
class SshServer:
    """A running one: the URL of its repository, the key that is let in, and the line for known_hosts."""

    url: str
    repository: Path
    client_key: Path
    known_hosts: str

    def head(self) -> str:
        """The commit of the repository's branch."""
        return self.head_of(self.repository)

    def head_of(self, repository: Path) -> str:
        """The commit of the branch of any repository, with any owner of its files."""
        command = ["git", "-c", f"safe.directory={repository}", "--git-dir", str(repository), "rev-parse", "main"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def running_ssh(folder: Path) -> Iterator[SshServer]:
    """Serve `remote.git` in `folder` until the block ends; root alone can."""
    maker = demand("dropbearkey", variable="OIDC_MIRROR_REQUIRE_BUILDAH", package="dropbear-bin")
    host_key, client_key, repository = folder / "host-key", folder / "client-key", folder / "remote.git"
    subprocess.run([maker, "-t", "ed25519", "-f", str(host_key)], capture_output=True, check=True)
    reported = subprocess.run([maker, "-y", "-f", str(host_key)], capture_output=True, text=True, check=True)
    public = next(line for line in reported.stdout.splitlines() if line.startswith("ssh-ed25519 "))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(client_key)], check=True)
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(repository)], check=True)
    port = free_port()
    words = [f"127.0.0.1:{port}", str(host_key), str(folder / "dropbear.pid")]
    with (folder / "dropbear.log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _SERVE, "sh", *words], stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    try:
        assert process.stdin is not None
        process.stdin.write(client_key.with_suffix(".pub").read_bytes())
        process.stdin.close()
        while not _listens(port):
            assert process.poll() is None, (folder / "dropbear.log").read_text()
            time.sleep(0.02)
        known = f"[127.0.0.1]:{port} {' '.join(public.split()[:2])}\n"
        yield SshServer(f"ssh://root@127.0.0.1:{port}{repository}", repository, client_key, known)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0
