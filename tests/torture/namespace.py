"""A network namespace for a test, with addresses that can be cut off, and with host names of the test."""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from support.machine import demand, refuse_or_skip

VARIABLE = "OIDC_MIRROR_REQUIRE_NETNS"
VARIABLE_OF_MOUNTS = "OIDC_MIRROR_REQUIRE_MOUNT"
_NEW_NETWORK, _NEW_MOUNTS = 0x40000000, 0x00020000
_LIBC = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Network:
    """The namespace. An address that was cut off is still routed but never answers, without an error."""

    program: str

    def ip(self, words: str) -> None:
        subprocess.run([self.program, *words.split()], check=True, capture_output=True)

    def add(self, *addresses: str) -> None:
        for address in addresses:
            self.plug(address)

    def unplug(self, address: str) -> None:
        """Remove the address: connections fail at once with "no route to host"."""
        self.ip(f"addr del {address}/32 dev lo")

    def plug(self, address: str) -> None:
        self.ip(f"addr add {address}/32 dev lo")

    def cut(self, address: str) -> None:
        self.unplug(address)
        self.ip(f"route add {address}/32 dev away")
        self.ip(f"neigh replace {address} lladdr 02:00:00:00:00:01 dev away nud permanent")

    def mend(self, address: str) -> None:
        self.ip(f"route del {address}/32 dev away")
        self.plug(address)

    def cut_loopback(self) -> None:
        self.ip("addr del 127.0.0.1/8 dev lo")

    def mend_loopback(self) -> None:
        self.ip("addr add 127.0.0.1/8 dev lo")


@contextlib.contextmanager
def own_network() -> Iterator[Network]:
    """Move this thread and its child processes into their own network until the block ends."""
    program = demand("ip", variable=VARIABLE, package="iproute2")
    before = os.open(Path("/proc/thread-self/ns/net"), os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.geteuid() != 0 or _LIBC.unshare(_NEW_NETWORK) != 0:
            refuse_or_skip("network namespaces cannot be made here", VARIABLE)
        network = Network(program)
        network.ip("link set lo up")
        # Packets that are sent into this pair of interfaces are lost.
        network.ip("link add away type veth peer name nobody")
        for name in ("away", "nobody"):
            network.ip(f"link set {name} up")
        network.ip("addr add 10.97.0.1/32 dev away")
        yield network
    finally:
        _LIBC.setns(before, _NEW_NETWORK)
        os.close(before)


def where_names_are(names: Mapping[str, str], folder: Path, work: Callable[[], T]) -> T:
    """Run `work` with exactly these host names and their addresses, and return its result.

    It runs in a thread with its own mounts, which end with it. The system's resolver then reads files in `folder`.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(partial(_among_own_files, names, folder, work)).result()


def _among_own_files(names: Mapping[str, str], folder: Path, work: Callable[[], T]) -> T:
    if os.geteuid() != 0 or _LIBC.unshare(_NEW_MOUNTS) != 0:
        refuse_or_skip("file systems cannot be mounted here", VARIABLE_OF_MOUNTS)
    _mount("--make-rprivate", "/")  # no other process sees the following mounts
    files = {
        "hosts": "".join(f"{address} {name}\n" for name, address in names.items()),
        "nsswitch.conf": "hosts: files\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
        _mount("--bind", str(folder / name), f"/etc/{name}")
    return work()


def _mount(*words: str) -> None:
    if subprocess.run(["mount", *words], capture_output=True, check=False).returncode != 0:
        refuse_or_skip("file systems cannot be mounted here", VARIABLE_OF_MOUNTS)
