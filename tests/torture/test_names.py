"""An apiserver's name that resolves differently in each pass: to other addresses, to none, or to another server.

One poller is used for all passes, as in a daemon.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mirror.apiserver.poller import ApiserverPoller
from mirror.config.settings import TlsSettings
from mirror.model import Key, KeyPolicy, Status, Unusable, key_id
from mirror.report import ExitStatus, Report
from support.apiserver import Apiserver, raw_answer
from support.askers import limits
from support.gits import fsck_strict
from support.keys import EC_KEYS, RSA_KEYS, jwks_body
from support.mirrors import branch
from support.replicas import HOST, FakeResolver
from support.situations import ISSUER
from support.stages import discovery_body
from support.tls import ca_file, server_context
from torture.on_disk import HOUR, OnDisk
from torture.scale import scale, tally

FIRST, SECOND, OTHER_KEY = RSA_KEYS[0], EC_KEYS[0], RSA_KEYS[1]
OLD, NEW, UNTRUSTED, OTHER_HOST, UNUSED, HANGS = (*(f"127.0.0.{number}" for number in (2, 3, 4, 5, 9)), "hangs")
_HOST = HOST.replace(".", "_")


@dataclass(frozen=True, slots=True)
class Place:
    """A result of the name's resolution: the key that the apiserver there shows, or the code of its rejection."""

    addresses: tuple[str, ...]
    shows: Key | None = None
    code: str = ""


PLACES = {
    "the old address": Place((OLD,), FIRST),
    "a new address": Place((NEW,), SECOND),
    "two addresses, one of them unused": Place((UNUSED, NEW), SECOND),
    "a server with an untrusted CA": Place((UNTRUSTED,), code="tls_untrusted"),
    "another host of the same CA": Place((OTHER_HOST,), code="tls_wrong_name"),
    "an unused address": Place((UNUSED,), code="unreachable"),
    "nothing": Place((), code="unreachable"),
    "a name server that does not answer": Place((HANGS,), code="timeout"),
}


class Names(FakeResolver):
    """The test's resolver: it knows only HOST, and hangs if that resolves to `HANGS`."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = threading.Event()

    def lead_to(self, *addresses: str) -> None:
        self.addresses = {_HOST: addresses} if addresses else {}

    def __call__(self, host: Any, port: Any, *rest: object) -> list[Any]:
        found = super().__call__(host, port, *rest)
        if found[0][4][0] == HANGS:
            self.ended.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return found


@dataclass
class Cluster:
    """A mirror, the resolver for its apiserver's name, and the servers by address."""

    mirror: OnDisk
    names: Names
    servers: dict[str, Apiserver] = field(default_factory=dict)

    def show(self, address: str, key: Key) -> None:
        self.servers[address].serve(
            discovery=raw_answer("200 OK", discovery_body(ISSUER, (key,)), content_type="application/json"),
            jwks=raw_answer("200 OK", jwks_body(key), content_type="application/jwk-set+json"),
        )

    def run(self, *addresses: str) -> Report:
        """Run a pass while the name resolves to these addresses."""
        self.names.lead_to(*addresses)
        return self.mirror.run_once()

    def public(self) -> set[Key]:
        body = self.mirror.situation.public() or b""
        return {key for key in (FIRST, SECOND, OTHER_KEY) if key.kid.encode() in body}

    def state(self) -> tuple[object, ...]:
        """Everything that a rejected answer must not change."""
        heads = (branch(self.mirror.repository), branch(self.mirror.tmp / "remote.git"))
        return *heads, dict(self.mirror.situation.world.bucket.objects)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    names = Names()
    made = Cluster(OnDisk(tmp_path), names)
    with ExitStack() as stack:
        stack.callback(names.ended.set)
        port = 0
        for address, name, authority in (
            (OLD, HOST, "cluster"),
            (NEW, HOST, "cluster"),
            (UNTRUSTED, HOST, "other"),
            (OTHER_HOST, "api.mel.example.com", "cluster"),
        ):
            context = server_context(name, by=authority)
            server = stack.enter_context(Apiserver(context, host=address, wanted_port=port))
            made.servers[address], port = server, server.port
        for address, key in ((OLD, FIRST), (NEW, SECOND), (UNTRUSTED, OTHER_KEY), (OTHER_HOST, OTHER_KEY)):
            made.show(address, key)
        within = limits(total_seconds=2.0)
        made.mirror.ports["source"] = ApiserverPoller(within, resolve=names)
        made.mirror.situation.apiservers = (f"https://{HOST}:{port}",)
        made.mirror.issuer["tls"] = TlsSettings(ca_file(tmp_path))
        yield made


def steps(chance: Random) -> list[str]:
    """All places in random order, repeated as the scale says; the old address is first and last."""
    rounds = 20 if scale().everything else 1
    between = [name for _ in range(rounds) for name in chance.sample(sorted(PLACES), len(PLACES))]
    return ["the old address", *between, "the old address"]


def test_name_that_leads_elsewhere_adds_what_is_trusted_and_removes_nothing(cluster: Cluster) -> None:
    """A server with the apiserver's certificate counts at any address; any other server changes nothing."""
    mirror = cluster.mirror
    mirror.situation.policy = KeyPolicy(retain_removed=timedelta(days=365))
    shown: set[Key] = set()
    walk = steps(Random(scale().seed))  # noqa: S311  not secrets
    for name in walk:
        place, before = PLACES[name], cluster.state()
        report = cluster.run(*place.addresses)
        (answer,) = report.issuers[0].observations
        codes = {reason.code for reason in answer.reasons} if isinstance(answer, Unusable) else {""}
        assert codes == {place.code}, name
        assert report.exit_status is (ExitStatus.FAILED if place.code else ExitStatus.CURRENT), name
        assert not place.code or cluster.state() == before, name
        shown |= set() if place.shows is None else {place.shows}
        assert cluster.public() == shown, name
    assert cluster.servers[UNTRUSTED].requests == cluster.servers[OTHER_HOST].requests == []
    assert branch(mirror.repository) == branch(mirror.tmp / "remote.git")
    fsck_strict(mirror.repository)
    tally("network", "an apiserver's name leads elsewhere", passes=len(walk), lost=0)


def test_name_with_fewer_addresses_begins_and_ends_no_retirement(cluster: Cluster) -> None:
    """A replica that is missing from the name, or whose address another server has, may still have the key."""
    mirror = cluster.mirror
    mirror.situation.policy = KeyPolicy(retain_removed=HOUR)
    mirror.issuer |= {"discover": "dns", "expect_replicas": 2}

    def first_key(*addresses: str) -> Status:
        (record,) = (each for each in cluster.run(*addresses).issuers[0].records if key_id(each.key) == key_id(FIRST))
        return record.status

    cluster.show(NEW, FIRST)
    assert first_key(OLD, NEW) is Status.PUBLISHED
    for address in (OLD, NEW):
        cluster.show(address, SECOND)
    too_few = ((OLD,), (OLD, UNTRUSTED), (OLD, UNUSED), ())
    for addresses in too_few:
        assert first_key(*addresses) is Status.PUBLISHED, addresses
    assert cluster.public() == {FIRST, SECOND}
    assert first_key(OLD, NEW) is Status.RETIRING
    for addresses in too_few:
        assert first_key(*addresses) is Status.RETIRING, addresses
    assert cluster.public() == {FIRST, SECOND}
    assert first_key(OLD, NEW) is Status.DROPPED
    assert cluster.public() == {SECOND}
    tally("network", "replicas leave a name", passes=3 + 2 * len(too_few), lost=0)
