"""N clusters on one nginx: each has loopback addresses, a CA and a certificate of its own, as real ones have."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from bench.keys import rsa_keys
from mirror.model import IssuerUrl, Key
from mirror.trust.discovery import documents

BASE_URL = "https://oidc.example.com"
SLOW_BYTES_A_SECOND = 600
"""A JWKS of two keys takes about a second then."""
_MANY = 100_000
_ADDRESSES_A_SERVER = 5000
"""Each is an open file of nginx, and few systems let a process have more than 20 000."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What runs: `list` for the pipeline, `config` for the mirror; of each one more with dead apiservers."""

    folder: Path
    size: int
    replicas: int
    store_url: str
    bucket: str
    keys: tuple[Key, ...]
    black_hole: str
    port: int

    @property
    def config(self) -> Path:
        return self.folder / "mirror.yaml"

    @property
    def list(self) -> Path:
        return self.folder / "clusters.tsv"

    def rotate(self, count: int) -> None:
        """Let the first `count` clusters show the other one of their two key sets, each at once and atomically."""
        for number in range(1, count + 1):
            served = self.folder / "data" / name_of(number) / "openid/v1/jwks"
            first, second = (self.jwks(number, variant) for variant in (0, 1))
            draft = served.with_name("draft")
            draft.write_bytes(second if served.read_bytes() == first else first)
            draft.replace(served)

    def show(self, number: int, replica: int, jwks: bytes) -> None:
        """Let one replica of a cluster show `jwks` from now on, atomically; `rotate` changes those that never did."""
        address = addresses_of(number, self.replicas)[replica]
        served = self.folder / "data" / name_of(number) / "replica" / address
        served.parent.mkdir(exist_ok=True)
        draft = served.with_name("draft")
        draft.write_bytes(jwks)
        draft.replace(served)

    def slow_down(self, count: int) -> None:
        """Let the first `count` clusters answer slowly; 0 makes all quick again."""
        for number in range(1, self.size + 1):
            mark = self.folder / "data" / name_of(number) / "slow"
            if number <= count:
                mark.touch()
            else:
                mark.unlink(missing_ok=True)

    def write_lists(self, dead: int = 0) -> None:
        """Write what the jobs read. The last `dead` clusters lead to where no handshake is ever answered.

        See facts.md#18.
        """
        urls = {number: self.urls(number, is_dead=number > self.size - dead) for number in range(1, self.size + 1)}
        rows = (f"{name_of(n)}\t{each[0]}\t{self.folder}/{name_of(n)}.ca\t{name_of(n)}\n" for n, each in urls.items())
        self.list.write_text("".join(rows))
        self.config.write_text(json.dumps(self.settings(urls)))

    def urls(self, number: int, *, is_dead: bool) -> tuple[str, ...]:
        if is_dead:
            return (self.black_hole,)
        return tuple(f"https://{address}:{self.port}" for address in addresses_of(number, self.replicas))

    def settings(self, urls: dict[int, tuple[str, ...]]) -> dict[str, object]:
        """The mirror's configuration. No host of the issuers resolves here: no read-back."""
        issuers = [
            {
                "name": name_of(number),
                "issuer": f"{BASE_URL}/{name_of(number)}",
                "apiservers": list(each),
                "tls": {"ca_file": f"{name_of(number)}.ca"},
            }
            for number, each in urls.items()
        ]
        publish = {
            "bucket": self.bucket,
            "region": "ap-southeast-2",
            "endpoint_url": self.store_url,
            "base_url": BASE_URL,
            "readback": {"enabled": False},
        }
        return {"state_dir": "state", "publish": publish, "issuers": issuers}

    def jwks(self, number: int, variant: int) -> bytes:
        """Two keys; the other variant has one of them, and another one."""
        begin = 3 * (number - 1) + variant
        return documents(IssuerUrl(f"{BASE_URL}/{name_of(number)}"), self.keys[begin : begin + 2]).jwks

    def forget(self) -> None:
        """Take away what all jobs remember, so that the next pass is the first."""
        for path in (self.folder / "state", *self.folder.glob("repo-*")):
            shutil.rmtree(path, ignore_errors=True)

    def repository(self, leg: str) -> Path:
        """Where the pipeline of that leg has its files."""
        return self.folder / f"repo-{leg}"


def name_of(number: int) -> str:
    return f"c{number:05}"


def addresses_of(number: int, replicas: int) -> tuple[str, ...]:
    return tuple(f"127.{78 + replica}.{number >> 8}.{number & 255}" for replica in range(replicas))


@contextmanager
def running_fleet(folder: Path, size: int, replicas: int, *, store: tuple[str, str], cache: Path) -> Iterator[Fleet]:
    """Serve `size` clusters of `replicas` apiservers each until the block ends.

    `store` is the URL of the S3 server and the mirror's bucket there; keys are kept in `cache`.
    """
    keys = tuple(rsa_keys(3 * size, cache))
    store_url, bucket = store
    with black_hole() as nowhere:
        fleet = Fleet(folder, size, replicas, store_url, bucket, keys, nowhere, free_port())
        with ExitStack() as stack:
            many = max(1, _ADDRESSES_A_SERVER // replicas)
            for begin in range(1, size + 1, many):
                numbers = range(begin, min(begin + many, size + 1))
                servers = [make_cluster(fleet, number) for number in numbers]
                stack.enter_context(running_nginx(folder, f"nginx-{begin}", servers))
            fleet.write_lists()
            yield fleet


@contextmanager
def running_nginx(folder: Path, name: str, servers: Iterable[str]) -> Iterator[None]:
    """Serve those server blocks until the block ends."""
    conf, pid_file = folder / f"{name}.conf", folder / f"{name}.pid"
    conf.write_text(configuration(folder, pid_file, servers))
    subprocess.run(["nginx", "-c", str(conf), "-p", str(folder)], check=True)
    try:
        while not pid_file.exists() or not pid_file.read_text():
            time.sleep(0.01)
        yield
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)


def free_port() -> int:
    """A port that is free at this moment; the fleet has it at each of its addresses."""
    with socket.create_server((addresses_of(1, 1)[0], 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def black_hole() -> Iterator[str]:
    """A place where connections are taken and nothing is ever said: an apiserver whose etcd is down (facts.md#18)."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


def make_cluster(fleet: Fleet, number: int) -> str:
    """Write a cluster's documents, CA and certificate; gives its nginx server block."""
    folder, name, addresses = fleet.folder, name_of(number), addresses_of(number, fleet.replicas)
    data = folder / "data" / name
    built = documents(IssuerUrl(f"{BASE_URL}/{name}"), fleet.keys[:1])  # the discovery document names no key
    for path, body in (
        (".well-known/openid-configuration", built.discovery),
        ("openid/v1/jwks", fleet.jwks(number, 0)),
    ):
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(body)
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / f"{name}.ca"))
    pem = folder / f"{name}.pem"
    ca.issue_cert(*addresses).private_key_and_cert_chain_pem.write_to_path(str(pem))
    listen = " ".join(f"listen {address}:{fleet.port} ssl;" for address in addresses)
    return (
        f"server {{ {listen} ssl_certificate {pem}; ssl_certificate_key {pem}; root {data};"
        f" if (-f $document_root/slow) {{ set $limit_rate {SLOW_BYTES_A_SECOND}; }}"
        " location = /.well-known/openid-configuration { default_type application/json; }"
        " location = /openid/v1/jwks { default_type application/jwk-set+json;"
        " try_files /replica/$server_addr /openid/v1/jwks =404; } }"
    )


def configuration(folder: Path, pid_file: Path, servers: Iterable[str]) -> str:
    temporary = " ".join(
        f"{kind}_temp_path {folder}/tmp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.getuid() == 0 else ""
    return (
        f"{user} worker_processes 1; worker_rlimit_nofile {_MANY}; pid {pid_file};"
        f" error_log {folder}/nginx.log crit; events {{ worker_connections {_MANY}; multi_accept on; }}"
        f" http {{ access_log off; ssl_session_cache off; ssl_session_tickets off; {temporary}\n"
        + "\n".join(servers)
        + "\n}\n"
    )
