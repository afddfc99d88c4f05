"""Passes of the daemon, with its kept connections and its garbage collection, against one curl for the same documents.

`python inside.py CONFIG CLUSTERS.tsv RUNS` prints one JSON line: seconds of each pass and of each curl.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mirror.cli.startup import share_one_heap, speed_up_imports
from mirror.cli.wiring import open_ports
from mirror.config.load import load
from mirror.daemon.config_watcher import Configuration
from mirror.daemon.runner import PassRunner
from mirror.log import configure

if TYPE_CHECKING:
    from mirror.report import Report

PARALLEL = 50


def main() -> None:
    """Time `RUNS` pairs after one that warms up."""
    speed_up_imports()  # it also says how often garbage is collected
    share_one_heap()
    config, logger = Path(sys.argv[1]), configure("error", "json")
    reports: list[Report] = []
    runner = PassRunner(
        Configuration(lambda: load(config), config, logger),
        lambda settings: open_ports(settings, dry_run=False, keep_connections=True),
        logger,
        on_report=reports.append,
    )
    passes, curls = [], []
    with tempfile.TemporaryDirectory() as folder:
        words = curl_words(Path(sys.argv[2]), Path(folder))
        for _ in range(int(sys.argv[3]) + 1):
            begun = time.monotonic()
            runner.run()
            passes.append(time.monotonic() - begun)
            if reports[-1].exit_status:
                raise SystemExit(f"the pass ended with {reports[-1].exit_status}")
            begun = time.monotonic()
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            curls.append(time.monotonic() - begun)
        runner.close()
    print(json.dumps({"pass": passes[1:], "curl": curls[1:]}))
    sys.stdout.flush()
    os._exit(0)


def curl_words(clusters: Path, folder: Path) -> list[str]:
    """One curl for all: the two documents of a cluster over one connection, with a handshake a cluster."""
    blocks = []
    for row in clusters.read_text().splitlines():
        name, url, ca_file, _ = row.split("\t")
        for path in (".well-known/openid-configuration", "openid/v1/jwks"):
            output = folder / name / path
            blocks.append(f'url = "{url}/{path}"\noutput = "{output}"\ncacert = "{ca_file}"\nfail\ncreate-dirs\n')
    config = folder / "curl"
    config.write_text("next\n".join(blocks))
    return [
        "curl",
        "--silent",
        "--no-progress-meter",
        "--parallel",
        "--parallel-max",
        str(PARALLEL),
        "--config",
        str(config),
    ]


if __name__ == "__main__":
    main()
