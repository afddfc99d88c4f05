"""The demo's world, put together: two replicas of one cluster, a bucket, a repository, and the configuration."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext

import trustme
import yaml

from mirror.demo.apiserver import Replica, running_replica
from mirror.demo.s3 import create_bucket, running_s3

BUCKET = "demo-bucket"
REGION = "ap-southeast-2"
ISSUER = f"https://{BUCKET}.s3.{REGION}.amazonaws.com/demo/cluster"
RETAIN_REMOVED_SECONDS = 3


@dataclass(frozen=True, slots=True)
class World:
    """Everything that runs. `environ` is what the mirror's process needs to reach it."""

    folder: Path
    replicas: tuple[Replica, Replica]
    s3_port: int
    ca_file: Path
    config_file: Path
    environ: Mapping[str, str]

    @property
    def mirror_command(self) -> tuple[str, ...]:
        """One pass, as in production."""
        return (sys.executable, "-m", "mirror", "--config", str(self.config_file), "--log-level", "error", "--once")

    @property
    def git_dir(self) -> Path:
        """The history."""
        return self.folder / "state" / "snapshots.git"


@contextmanager
def running_world(folder: Path) -> Iterator[World]:
    """Run the world in `folder` until the block ends."""
    ca = trustme.CA(organization_name="oidc-mirror demo")
    leaf = ca.issue_cert("127.0.0.1", "localhost", f"*.s3.{REGION}.amazonaws.com")
    ca_file, chain_file, key_file = folder / "ca.crt", folder / "server.crt", folder / "server.key"
    ca_file.write_bytes(ca.cert_pem.bytes())
    chain_file.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key_file.touch(mode=0o600)
    key_file.write_bytes(leaf.private_key_pem.bytes())
    tls = SSLContext(PROTOCOL_TLS_SERVER)
    leaf.configure_cert(tls)
    with ExitStack() as stack:
        first, second = (stack.enter_context(running_replica(ISSUER, tls)) for _ in range(2))
        port = stack.enter_context(running_s3(folder, REGION, ca_file, chain_file, key_file))
        create_bucket(port, ca_file, BUCKET)
        config_file = folder / "mirror.yaml"
        config_file.write_text(yaml.safe_dump(configuration((first, second), port), sort_keys=False))
        yield World(folder, (first, second), port, ca_file, config_file, _environment(ca_file))


def configuration(replicas: tuple[Replica, Replica], s3_port: int) -> dict[str, object]:
    """The configuration file of the demo; relative paths are in its folder."""
    return {
        "state_dir": "state",
        "publish": {
            "bucket": BUCKET,
            "region": REGION,
            "endpoint_url": f"https://localhost:{s3_port}",
            "base_url": f"https://{BUCKET}.s3.{REGION}.amazonaws.com",
            "readback": {"ca_file": "ca.crt", "connect_to": f"localhost:{s3_port}"},
        },
        "issuers": [
            {
                "name": "demo",
                "issuer": ISSUER,
                "apiservers": [replica.url for replica in replicas],
                "tls": {"ca_file": "ca.crt"},
                # Hours in production: the time until old tokens are gone.
                "keys": {"retain_removed": f"{RETAIN_REMOVED_SECONDS}s"},
            }
        ],
    }


def _environment(ca_file: Path) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return plain | {
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_CA_BUNDLE": str(ca_file),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
