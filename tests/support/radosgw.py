"""A one-node Ceph with radosgw on loopback: the real S3 server of the tests, with signatures and policies enforced.

Objects live in memory (memstore), everything else in a directory of its own; free ports are chosen at each start, and
the three daemons run in the foreground as our children, so that they are ended by their own ids.
"""

import http.client
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.config.settings import PublishSettings, ReadbackSettings
from support.processes import serving
from support.s3 import ACCESS_KEY, REGION, SECRET_KEY, Certificates, aws_environment, write_certificates

PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool")
PACKAGES = "Debian packages radosgw, ceph-mon and ceph-osd"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
DNS_NAME = f"s3.{REGION}.amazonaws.com"


def radosgw_available() -> bool:
    """Whether every program of Ceph that the server needs is installed."""
    return all(shutil.which(program) for program in PROGRAMS)


def require_radosgw() -> None:
    """Skip the test where Ceph is missing; with OIDC_MIRROR_REQUIRE_RADOSGW=1 let it fail instead."""
    if radosgw_available():
        return
    missing = f"radosgw is not installed: apt-get install --no-install-recommends ({PACKAGES})"
    if os.environ.get("OIDC_MIRROR_REQUIRE_RADOSGW") == "1":
        pytest.fail(missing)
    pytest.skip(missing)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr[-2000:]}"


@dataclass(frozen=True, slots=True)
class Radosgw:
    """A running gateway; signed requests go to `url`, anonymous ones to the bucket's host by `connect_to`."""

    tls_port: int
    certificates: Certificates
    conf: Path

    def new_user(self) -> tuple[str, str]:
        """Another user, without any right but to make buckets: access key and secret key."""
        name = f"user{uuid.uuid4().hex[:12]}"
        words = ("user", "create", f"--uid={name}", f"--display-name={name}", f"--access-key={name}")
        _run("radosgw-admin", "-c", str(self.conf), *words, f"--secret-key=secret-of-{name}")
        return name, f"secret-of-{name}"

    @property
    def url(self) -> str:
        # By address: radosgw reads another Host than its own as the name of a bucket (s3.md).
        return f"https://127.0.0.1:{self.tls_port}"

    def publish(self, bucket: str) -> PublishSettings:
        """Settings whose issuers look like AWS, and whose every connection goes to this gateway."""
        return PublishSettings(
            bucket=bucket,
            region=REGION,
            base_url=f"https://{bucket}.{DNS_NAME}",
            endpoint_url=self.url,
            readback=ReadbackSettings(ca_file=self.certificates.ca_file, connect_to=("127.0.0.1", self.tls_port)),
        )


@dataclass(frozen=True, slots=True)
class _Cluster:
    directory: Path
    monitor_port: int
    http_port: int
    tls_port: int
    certificates: Certificates

    @property
    def conf(self) -> Path:
        return self.directory / "ceph.conf"

    def run(self, *command: str) -> None:
        _run(*command)

    @contextmanager
    def daemon(self, *command: str) -> Iterator[None]:
        with (self.directory / "log" / f"{command[0]}.out").open("wb") as log:
            process = subprocess.Popen([*command, "-c", str(self.conf), "-f"], stdout=log, stderr=log)
        try:
            with serving(process.pid):
                yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)


@contextmanager
def running_radosgw(directory: Path) -> Iterator[Radosgw]:
    """Run the cluster until the block ends; the gateway ends before the store below it."""
    monitor_port, http_port, tls_port = _free_ports(3)
    cluster = _Cluster(directory, monitor_port, http_port, tls_port, write_certificates(directory))
    _configure(cluster)
    with ExitStack() as daemons:
        daemons.enter_context(cluster.daemon("ceph-mon", "-i", "a"))
        osd = str(uuid.uuid4())
        cluster.run("ceph", "-c", str(cluster.conf), "--connect-timeout", "30", "osd", "new", osd)
        cluster.run("ceph-osd", "-c", str(cluster.conf), "-i", "0", "--mkfs", "--osd-uuid", osd)
        daemons.enter_context(cluster.daemon("ceph-osd", "-i", "0"))
        user = ("--uid=test", "--display-name=test", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")
        cluster.run("radosgw-admin", "-c", str(cluster.conf), "user", "create", *user)
        daemons.enter_context(cluster.daemon("radosgw", "-n", "client.rgw.a"))
        _wait_until_ready(cluster.http_port)
        yield Radosgw(cluster.tls_port, cluster.certificates, cluster.conf)


def _free_ports(count: int) -> tuple[int, ...]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return tuple(sock.getsockname()[1] for sock in sockets)


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()
    raise AssertionError("radosgw did not answer")


def _configure(cluster: _Cluster) -> None:
    for folder in ("mon", "osd", "run", "log", "rgw"):
        (cluster.directory / folder).mkdir(parents=True, exist_ok=True)
    fsid = str(uuid.uuid4())
    cluster.conf.write_text(_conf(cluster, fsid))
    keyring = str(cluster.directory / "keyring")
    cluster.run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    for name in ("client.admin", "osd.0", "client.rgw.a"):
        caps = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
        cluster.run("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)
    monmap = str(cluster.directory / "monmap")
    address = f"[v2:127.0.0.1:{cluster.monitor_port}]"
    cluster.run("monmaptool", "--create", "--clobber", "--addv", "a", address, "--fsid", fsid, monmap)
    mkfs = ("-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
    cluster.run("ceph-mon", "-c", str(cluster.conf), *mkfs)


def _conf(cluster: _Cluster, fsid: str) -> str:
    here, files = cluster.directory, cluster.certificates
    tls = f"ssl_certificate={files.chain_file} ssl_private_key={files.key_file}"
    endpoints = f"endpoint=127.0.0.1:{cluster.http_port} ssl_endpoint=127.0.0.1:{cluster.tls_port}"
    return f"""[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{cluster.monitor_port}
mon_initial_members = a
auth_allow_insecure_global_id_reclaim = false
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
run_dir = {here}/run
admin_socket = {here}/run/$cluster-$name.asok
log_file = {here}/log/$name.log
mon_cluster_log_file = {here}/log/cluster.log
keyring = {here}/keyring
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_warn_on_pool_no_redundancy = false
[mon]
mon_data = {here}/mon
mon_data_avail_crit = 1
mon_data_avail_warn = 2
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
mon_tick_interval = 1
[osd]
osd_data = {here}/osd
osd_objectstore = memstore
memstore_device_bytes = 1073741824
osd_class_update_on_start = true
osd_fast_shutdown = false
[client]
rgw_dns_name = {DNS_NAME}
rgw_thread_pool_size = 32
rgw_enable_usage_log = false
rgw_enable_ops_log = false
rgw_override_bucket_index_max_shards = 1
rgw_frontends = beast tcp_nodelay=1 {endpoints} {tls}
[client.rgw.a]
rgw_data = {here}/rgw
"""


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Radosgw]:
    require_radosgw()
    with running_radosgw(tmp_path_factory.mktemp("radosgw")) as server:
        yield server


@pytest.fixture
def radosgw_environment(radosgw: Radosgw, tmp_path: Path) -> Iterator[Path]:
    """The environment that reaches the gateway as its one user; the value is a folder for AWS files."""
    with aws_environment(radosgw.certificates.ca_file, tmp_path):
        yield tmp_path
