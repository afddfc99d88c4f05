"""Eight mirrors at an interval of a minute with one git remote and one bucket, while keys rotate.

Counted are the pushes that lost against another mirror, what the mirrors did about it, requests to the bucket, and
what went to and from the git server (bodies of HTTP). At the end every key that was shown has to be public.
"""

import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.clusters import Fleet, name_of
from bench.freshness import Plan, RunningDaemon, Watch, figures, rotate_keys, running_daemon
from bench.store import BUCKET_OF_MIRROR, Store
from mirror.model import RsaKey
from support.git_server import GitServer, running_git_server
from support.gits import bare
from support.tls import ca_file, server_context

CROWD = "crowd"
MIRRORS = 8
_TAIL_SECONDS = 180.0
_COUNTED_EVENTS = ("push.failed", "pass.failed", "issuer.failed", "removal.waits", "bucket.drift", "pass.still_running")
"""Events that say what a crowd does to a mirror."""
_COUNTING_GIT = """#!/bin/sh
case " $* " in
  *" push "*) {git} "$@"; status=$?; echo "push $status" >> {counted}; exit $status ;;
  *" fetch "* | *" ls-remote "*) echo "look 0" >> {counted} ;;
esac
exec {git} "$@"
"""


def crowd(fleet: Fleet, store: Store, plan: Plan, keys: tuple[RsaKey, ...]) -> dict[str, object]:
    """The figures as data."""
    counted = fleet.folder / "git-calls"
    counted.touch()
    tool = fleet.folder / "bin" / "git"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(_COUNTING_GIT.format(git=shutil.which("git"), counted=counted))
    tool.chmod(0o755)
    root = fleet.folder / "git"
    root.mkdir()
    bare(root / "remote.git")
    watch = Watch(store.url)
    looking = threading.Thread(target=watch.run)
    with ExitStack() as stack:
        server = stack.enter_context(running_git_server(root, server_context("127.0.0.1")))
        environ = {**os.environ, **server.environ(ca_file(fleet.folder))}
        environ = {name: value for name, value in environ.items() if name.startswith("GIT_")}
        mirrors = [_mirror(fleet, number, server, environ, stack) for number in range(1, MIRRORS + 1)]
        for each in mirrors:
            each.wait_for(1)
        before, bodies, calls = store.requests(), len(server.bodies), counted.stat().st_size
        passes = sum(each.passes() for each in mirrors)
        looking.start()
        begun = time.monotonic()
        try:
            shown = rotate_keys(fleet, watch, plan, (), keys)
            limit = time.monotonic() + _TAIL_SECONDS
            while watch.pending() and time.monotonic() < limit:
                time.sleep(1)
            ends = [each.passes() + 2 for each in mirrors]  # a whole pass of every mirror after the last change
            for each, end in zip(mirrors, ends, strict=True):
                each.wait_for(end)
        finally:
            watch.ended.set()
            looking.join()
        minutes = (time.monotonic() - begun) / 60
        passes = sum(each.passes() for each in mirrors) - passes
        requests, traffic = store.requests() - before, server.bodies[bodies:]
        lost = _lost(fleet, watch, keys[:shown])
    pushes = Counter(counted.read_bytes()[calls:].decode().splitlines())
    return {
        "clusters": fleet.size,
        "replicas": fleet.replicas,
        "situation": CROWD,
        "mirrors": MIRRORS,
        "minutes": minutes,
        "passes": passes,
        "rotations": shown,
        "lost": lost + watch.pending(),
        "seconds": figures(watch.took["mirror", True]),
        "s3_requests": requests,
        "git": {
            "requests": len(traffic),
            "to_server_bytes": sum(up for up, _ in traffic),
            "from_server_bytes": sum(down for _, down in traffic),
            "looks": pushes["look 0"],
            "pushes": pushes["push 0"],
            "refused": sum(count for what, count in pushes.items() if what.startswith("push")) - pushes["push 0"],
        },
        "events": dict(sum((_events(each.log) for each in mirrors), Counter[str]())),
    }


def reported(found: Mapping[str, object]) -> str:
    """The lines of the crowd."""
    git, seconds, events = found["git"], found["seconds"], found["events"]
    assert isinstance(git, dict)
    assert isinstance(seconds, dict)
    assert isinstance(events, dict)
    down = git["from_server_bytes"] / 1024
    said = ", ".join(f"{name} {count}" for name, count in sorted(events.items())) or "none"
    rows = (
        f"{found['clusters']:8}  {CROWD}       {found['mirrors']} mirrors, {found['minutes']:.0f} min",
        f"{found['passes']} passes, {found['rotations']} new keys, lost {found['lost']}",
        f"public after: median {seconds['median']:.1f} s  99 % {seconds['p99']:.1f} s  worst {seconds['worst']:.1f} s",
        f"S3 requests {found['s3_requests']}",
        f"git: {git['pushes']} pushes, {git['refused']} refused and so made again; {git['looks']} fetches and looks",
        f"git traffic: {git['requests']} requests, {git['to_server_bytes'] / 1024:.0f} KiB up, {down:.0f} down",
        f"events: {said}",
    )
    return f"\n{'':21}".join(rows)


def _mirror(
    fleet: Fleet, number: int, server: GitServer, environ: Mapping[str, str], stack: ExitStack
) -> RunningDaemon:
    settings = {"state_dir": f"state-{number}", "interval": "1m", "repository": {"remote": server.url()}}
    return stack.enter_context(running_daemon(fleet, f"mirror-{number}", settings, environ))


def _lost(fleet: Fleet, watch: Watch, keys: tuple[RsaKey, ...]) -> int:
    """How many keys that were shown are not public in the end; they all stay with their clusters."""
    public = {
        key["kid"]
        for number in range(1, fleet.size + 1)
        for key in json.loads(watch.get(f"/{BUCKET_OF_MIRROR}/{name_of(number)}/openid/v1/jwks"))["keys"]
    }
    return sum(key.kid not in public for key in keys)


def _events(log: Path) -> Counter[str]:
    text = log.read_text()
    return Counter({name: count for name in _COUNTED_EVENTS if (count := text.count(f'"{name}"'))})
