"""N clusters on one nginx: each has a loopback address, a CA and a certificate of its own, as real ones have."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from mirror.model import IssuerUrl, Key
from mirror.trust.documents import documents
from support.keys import RSA_KEYS, with_kubernetes_kid

BASE_URL = "https://oidc.example.com"
PORT = 16443


@dataclass(frozen=True, slots=True)
class Fleet:
    """What runs: `list` for the pipeline, `config` for the mirror."""

    folder: Path
    size: int
    store_url: str
    list: Path
    config: Path

    def rotate_first(self) -> None:
        """Let the first cluster show the other one of its two key sets, at once and atomically."""
        served = self.folder / "data" / name_of(1) / "openid/v1/jwks"
        first, second = (jwks(1, variant) for variant in (0, 1))
        draft = served.with_name("draft")
        draft.write_bytes(second if served.read_bytes() == first else first)
        draft.replace(served)


def name_of(number: int) -> str:
    return f"c{number:05}"


def address_of(number: int) -> str:
    return f"127.78.{number >> 8}.{number & 255}"


def keys_of(number: int, variant: int) -> tuple[Key, ...]:
    """Two of the ready public keys; clusters share them, because making thousands takes longer than the benchmark."""
    pool = [with_kubernetes_kid(key) for key in RSA_KEYS]
    return tuple(pool[(number + variant + offset) % len(pool)] for offset in (0, 1))


def jwks(number: int, variant: int) -> bytes:
    return documents(IssuerUrl(f"{BASE_URL}/{name_of(number)}"), keys_of(number, variant)).jwks


@contextmanager
def running_fleet(folder: Path, size: int, store_url: str, bucket: str) -> Iterator[Fleet]:
    """Serve `size` clusters until the block ends."""
    servers = [make_cluster(folder, number) for number in range(1, size + 1)]
    nginx = folder / "nginx.conf"
    nginx.write_text(configuration(folder, servers))
    subprocess.run(["nginx", "-c", str(nginx), "-p", str(folder)], check=True)
    pid_file = folder / "nginx.pid"
    try:
        while not pid_file.exists():
            time.sleep(0.01)
        yield Fleet(folder, size, store_url, write_list(folder, size), write_config(folder, size, store_url, bucket))
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)


def make_cluster(folder: Path, number: int) -> str:
    """Write a cluster's documents, CA and certificate; gives its nginx server block."""
    name, address = name_of(number), address_of(number)
    data = folder / "data" / name
    built = documents(IssuerUrl(f"{BASE_URL}/{name}"), keys_of(number, 0))
    for path, body in ((".well-known/openid-configuration", built.discovery), ("openid/v1/jwks", built.jwks)):
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(body)
    ca = trustme.CA()
    leaf = ca.issue_cert(address)
    ca.cert_pem.write_to_path(str(folder / f"{name}.ca"))
    leaf.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
    pem = folder / f"{name}.pem"
    return (
        f"server {{ listen {address}:{PORT} ssl; ssl_certificate {pem}; ssl_certificate_key {pem}; root {data};"
        " location = /.well-known/openid-configuration { default_type application/json; }"
        " location = /openid/v1/jwks { default_type application/jwk-set+json; } }"
    )


def configuration(folder: Path, servers: list[str]) -> str:
    temporary = " ".join(
        f"{kind}_temp_path {folder}/tmp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.getuid() == 0 else ""
    return (
        f"{user} worker_processes 1; worker_rlimit_nofile 65536; pid {folder}/nginx.pid;"
        f" error_log {folder}/nginx.log warn; events {{ worker_connections 16384; }}"
        f" http {{ access_log off; ssl_session_cache off; ssl_session_tickets off; {temporary}\n"
        + "\n".join(servers)
        + "\n}\n"
    )


def write_list(folder: Path, size: int) -> Path:
    """name, URL, CA, prefix: what the pipeline reads."""
    path = folder / "clusters.tsv"
    names = [(name_of(number), address_of(number)) for number in range(1, size + 1)]
    path.write_text("".join(f"{n}\thttps://{a}:{PORT}\t{folder}/{n}.ca\t{n}\n" for n, a in names))
    return path


def write_config(folder: Path, size: int, store_url: str, bucket: str) -> Path:
    """The same fleet for the mirror (JSON is YAML). No host of the issuers resolves here: no read-back."""
    issuers = [
        {
            "name": name_of(number),
            "issuer": f"{BASE_URL}/{name_of(number)}",
            "apiservers": [f"https://{address_of(number)}:{PORT}"],
            "tls": {"ca_file": f"{name_of(number)}.ca"},
        }
        for number in range(1, size + 1)
    ]
    publish = {
        "bucket": bucket,
        "region": "ap-southeast-2",
        "endpoint_url": store_url,
        "base_url": BASE_URL,
        "readback": {"enabled": False},
    }
    path = folder / "mirror.yaml"
    path.write_text(json.dumps({"state_dir": "state", "publish": publish, "issuers": issuers}))
    return path
