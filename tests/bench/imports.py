"""What imports cost `oidc-mirror --once` over one unchanged cluster, by package, by `python -X importtime`.

The least of several runs, because it counts wall time, and so what others do on the machine.

python tests/bench/imports.py [--runs 9]
"""

import argparse
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from bench.__main__ import running_world  # noqa: E402  found by the path above
from bench.clusters import Fleet  # noqa: E402  as above
from bench.jobs import MIRROR, environment  # noqa: E402  as above

SHOWN_MILLISECONDS = 1.0


def packages(fleet: Fleet) -> Mapping[str, float]:
    """Milliseconds by package in one pass: a module's own time, without what it imports in its turn.

    Raises:
        SystemExit: The pass failed.
    """
    words = [sys.executable, "-X", "importtime", "-m", "mirror", "--config", str(fleet.config), "--log-level", "error"]
    done = subprocess.run(
        [*words, "--once"], env=environment(fleet, MIRROR), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"the pass ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, float] = defaultdict(float)
    for line in done.stderr.splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if line.startswith("import time:") and own.strip().isdigit():
            top = rest.partition("|")[2].strip().partition(".")[0]
            found["the standard library" if top in sys.stdlib_module_names else top] += int(own) / 1000
    return found


def main() -> None:
    """Print the table, the dearest first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    words = parser.parse_args()
    with running_world(1, 1) as (fleet, _):
        (fleet.folder / "bin").mkdir()
        packages(fleet)
        runs = [packages(fleet) for _ in range(words.runs)]
    least = {name: min(run[name] for run in runs) for name in runs[0]}
    print(f"milliseconds  package    ({words.runs} runs)")
    for name, cost in sorted(least.items(), key=lambda each: -each[1]):
        if cost >= SHOWN_MILLISECONDS:
            print(f"{cost:12.1f}  {name}")
    print(f"{sum(least.values()):12.1f}  all")


if __name__ == "__main__":
    main()
