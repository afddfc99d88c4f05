"""How long until a new key is public, what an idle daemon costs, and the same for a pipeline that cron runs.

The daemon runs with its defaults over clusters of two replicas. At random times one replica shows a new key; the other
one follows half a minute later, as in a rolling restart. The time runs from when the replica would answer with the key
until an anonymous GET of the bucket returns it. For a revocation, it runs from the start of the operator's command
until no GET returns the key. The pipeline polls the first replica of each cluster.
"""

import heapq
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType

from bench.clusters import BASE_URL, Fleet, free_port, name_of
from bench.jobs import Job, environment
from bench.store import BUCKET_OF_MIRROR, BUCKET_OF_PIPELINE, Store
from mirror.model import IssuerUrl, RsaKey
from mirror.trust.discovery import documents

FRESHNESS = "freshness"
LOOK_SECONDS = 0.25
"""How often the bucket is asked for each key that is awaited: no figure is better than that."""
FOLLOWS_SECONDS = 30.0
"""So long after the first replica the second one shows the key."""
MOST_KEYS_A_CLUSTER = 60
"""A JWKS of more than 100 RSA keys would be held."""
REPLICAS = 2
MIRROR = "mirror"
_TAIL_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long rotations begin, how many, over how many passes the idle daemon is watched, and how often cron runs."""

    minutes: float
    rotations: int
    revocations: int
    idle_passes: int
    cron_minutes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Idle:
    """What the daemon cost while nothing changed, over `seconds` of whole passes."""

    seconds: float
    cpu_seconds_an_hour: float
    resident_mib: float
    sent_bytes_a_pass: float


@dataclass
class Watch:
    """The keys that are awaited in the bucket, or awaited to leave it, and how long each took."""

    url: str
    awaited: dict[tuple[str, str], list[tuple[str, bool, float]]] = field(default_factory=dict)
    took: dict[tuple[str, bool], list[float]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def expect(self, who: str, path: str, kid: str, *, public: bool) -> None:
        """From now on look for `kid` in the JWKS at `path` until it is (or is no longer) there."""
        with self.lock:
            self.awaited.setdefault((who, path), []).append((kid, public, time.monotonic()))

    def pending(self) -> int:
        with self.lock:
            return sum(map(len, self.awaited.values()))

    def run(self) -> None:
        """Look until the end."""
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=30)
        while not self.ended.wait(LOOK_SECONDS):
            with self.lock:
                places = [place for place, awaited in self.awaited.items() if awaited]
            for who, path in places:
                connection.request("GET", path)
                body = connection.getresponse().read()
                self._note(who, path, body.decode(), time.monotonic())
            connection.close()  # the server closes it too, where nothing is awaited for some seconds

    def get(self, path: str) -> bytes:
        """What an anonymous GET returns now."""
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=30)
        connection.request("GET", path)
        body = connection.getresponse().read()
        connection.close()
        return body

    def _note(self, who: str, path: str, body: str, now: float) -> None:
        with self.lock:
            left = []
            for kid, public, since in self.awaited[who, path]:
                if (f'"{kid}"' in body) == public:
                    self.took.setdefault((who, public), []).append(now - since)
                else:
                    left.append((kid, public, since))
            self.awaited[who, path] = left


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    process: "subprocess.Popen[bytes]"
    log: Path

    def passes(self) -> int:
        return self.log.read_bytes().count(b'"pass.finished"')

    def wait_for(self, passes: int) -> None:
        """Until so many have ended."""
        while self.passes() < passes:
            if self.process.poll() is not None:
                raise SystemExit(f"The daemon ended:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.2)

    def cpu_seconds(self) -> float:
        """Of the daemon and of its children that have ended."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def sent_bytes(self) -> dict[str, int]:
        """By connection, as the system counts them: what TLS adds is in it, what TCP and IP add is not."""
        reported = subprocess.run(["ss", "-tinHOp"], capture_output=True, text=True, check=True).stdout
        found = {}
        for line in reported.splitlines():
            if f"pid={self.process.pid}," in line and "bytes_sent:" in line:
                found[" ".join(line.split()[3:5])] = int(line.split("bytes_sent:")[1].split()[0])
        return found


@contextmanager
def running_daemon(
    fleet: Fleet,
    name: str = "daemon",
    settings: Mapping[str, object] = MappingProxyType({}),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[RunningDaemon]:
    """The daemon at its defaults, but for the place of its pages and `settings`, until the block ends."""
    places = {"http": {"listen": f"127.0.0.1:{free_port()}"}}
    config, log = fleet.folder / f"{name}.yaml", fleet.folder / f"{name}.log"
    config.write_text(json.dumps(json.loads(fleet.config.read_text()) | places | dict(settings)))
    words = [sys.executable, "-m", "mirror", "--config", str(config), "run"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            words, env=environment(fleet, MIRROR) | dict(environ), stdout=subprocess.DEVNULL, stderr=file
        )
    try:
        yield RunningDaemon(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def idle(daemon: RunningDaemon, passes: int) -> Idle:
    """Watch whole passes in which nothing changes."""
    begin = daemon.passes()
    before, begun, sent_before = daemon.cpu_seconds(), time.monotonic(), daemon.sent_bytes()
    sent: dict[str, int] = {}
    while daemon.passes() < begin + passes:
        sent |= daemon.sent_bytes()  # a connection that ends within a second is not seen
        time.sleep(1)
    seconds = time.monotonic() - begun
    sent |= daemon.sent_bytes()
    bytes_sent = sum(count - sent_before.get(connection, 0) for connection, count in sent.items())
    cpu = daemon.cpu_seconds() - before
    return Idle(seconds, cpu / seconds * 3600, daemon.resident_mib(), bytes_sent / passes)


def freshness(
    fleet: Fleet, store: Store, plan: Plan, todo: Mapping[int, Job], keys: tuple[RsaKey, ...]
) -> dict[str, object]:
    """One size: the figures as data.

    Args:
        fleet: The clusters, each with two replicas.
        store: The buckets.
        plan: How long and how much.
        todo: The pipeline, by how many minutes lie between its runs.
        keys: New ones, enough for `plan.rotations`.
    """
    for job in todo.values():
        job.run(fleet, store)
    with running_daemon(fleet) as daemon:
        daemon.wait_for(2)
        waited = idle(daemon, plan.idle_passes) if plan.idle_passes else None
        watch = Watch(store.url)
        threads = [threading.Thread(target=watch.run)]
        threads += [
            threading.Thread(target=_cron, args=(watch, minutes, job, fleet, store)) for minutes, job in todo.items()
        ]
        for thread in threads:
            thread.start()
        try:
            shown = rotate_keys(fleet, watch, plan, tuple(todo.values()), keys)
            limit = time.monotonic() + _TAIL_SECONDS + 60 * max(todo, default=0)
            while watch.pending() and time.monotonic() < limit:
                time.sleep(LOOK_SECONDS)
            lost = watch.pending()
        finally:
            watch.ended.set()
            for thread in threads:
                thread.join()
    return {
        "clusters": fleet.size,
        "replicas": fleet.replicas,
        "situation": FRESHNESS,
        "rotations": shown,
        "never_seen": lost,
        "seconds": {
            f"{who} {'public' if public else 'gone'}": figures(took) for (who, public), took in watch.took.items()
        },
        "idle": None if waited is None else {each: getattr(waited, each) for each in Idle.__slots__},
    }


def figures(took: list[float]) -> dict[str, float]:
    """Median, 99th percentile and worst of some seconds."""
    ordered = sorted(took)
    rare = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {"count": len(ordered), "median": statistics.median(ordered), "p99": rare, "worst": ordered[-1]}


def reported(found: dict[str, object]) -> str:
    """The lines of one size."""
    rows = [f"{found['clusters']:8}  {FRESHNESS}   {found['rotations']} new keys, never seen {found['never_seen']}"]
    seconds = found["seconds"]
    assert isinstance(seconds, dict)
    for what, each in sorted(seconds.items()):
        rows.append(
            f"{'':20} {what:24} {each['count']:4.0f} times  median {each['median']:6.1f} s  99 % {each['p99']:6.1f} s  "
            f"worst {each['worst']:6.1f} s"
        )
    waited = found["idle"]
    if isinstance(waited, dict):
        rows.append(
            f"{'':20} idle daemon: {waited['cpu_seconds_an_hour']:.1f} CPU s/h, "
            f"resident {waited['resident_mib']:.0f} MiB, "
            f"sent {waited['sent_bytes_a_pass'] / 1024:.1f} KiB a pass; over {waited['seconds']:.0f} s"
        )
    return "\n".join(rows)


def _cron(watch: Watch, minutes: int, job: Job, fleet: Fleet, store: Store) -> None:
    """Run `job` every so many minutes, one after the other, until the end."""
    due = time.monotonic() + 60 * minutes
    while not watch.ended.wait(max(0.0, due - time.monotonic())):
        job.run(fleet, store)
        due += 60 * minutes


def rotate_keys(fleet: Fleet, watch: Watch, plan: Plan, pipelines: tuple[Job, ...], keys: tuple[RsaKey, ...]) -> int:
    """Show new keys and revoke some at random moments; gives how many keys were shown."""
    chance = random.Random(fleet.size)  # noqa: S311  no secret: the same moments in each run
    count = min(plan.rotations, MOST_KEYS_A_CLUSTER * fleet.size)
    shows: dict[tuple[int, int], list[RsaKey]] = {}
    begun = time.monotonic()
    events: list[tuple[float, int, Callable[[], object]]] = []

    def add(moment: float, what: Callable[[], object]) -> None:
        heapq.heappush(events, (moment, len(events) + id(what), what))

    def show(number: int, replica: int, key: RsaKey) -> None:
        held = shows.setdefault((number, replica), [])
        held.append(key)
        issuer = IssuerUrl(f"{BASE_URL}/{name_of(number)}")
        fleet.show(number, replica, documents(issuer, (*fleet.keys[3 * number - 3 : 3 * number - 1], *held)).jwks)

    def rotate(number: int, replica: int, key: RsaKey) -> None:
        show(number, replica, key)
        path = f"{name_of(number)}/openid/v1/jwks"
        watch.expect(MIRROR, f"/{BUCKET_OF_MIRROR}/{path}", key.kid, public=True)
        for job in pipelines:
            watch.expect(job.name, f"/{BUCKET_OF_PIPELINE}/{job.name}/{path}", key.kid, public=True)

    def revoke(number: int) -> None:
        """One of the keys that the cluster began with."""
        key = fleet.keys[3 * number - 3]
        path = f"/{BUCKET_OF_MIRROR}/{name_of(number)}/openid/v1/jwks"
        words = [
            sys.executable,
            "-m",
            "mirror",
            "--config",
            str(fleet.folder / "daemon.yaml"),
            "revoke",
            name_of(number),
        ]
        watch.expect(MIRROR, path, key.kid, public=False)
        done = subprocess.run(
            [*words, key.thumbprint, "--reason", "bench", "--yes"],
            env=environment(fleet, MIRROR),
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"revoke ended with {done.returncode}:\n{done.stderr.decode()}")

    for key in keys[:count]:
        number, replica = chance.randint(1, fleet.size), chance.randrange(REPLICAS)
        moment = chance.uniform(0, plan.minutes * 60)
        add(moment, lambda n=number, r=replica, k=key: rotate(n, r, k))  # type: ignore[misc]  # a default binds the loop's value
        add(moment + FOLLOWS_SECONDS, lambda n=number, r=1 - replica, k=key: show(n, r, k))  # type: ignore[misc]  # as above
    for number in chance.sample(range(1, fleet.size + 1), min(plan.revocations, fleet.size)):
        add(chance.uniform(0, plan.minutes * 60), lambda n=number: revoke(n))  # type: ignore[misc]  # as above
    while events:
        moment, _, what = heapq.heappop(events)
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        what()
    return count
