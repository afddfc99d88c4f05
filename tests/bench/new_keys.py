"""What the strength of new keys costs: each check, a whole key by its size, and many keys by one process and several.

python tests/bench/new_keys.py [--keys 1000]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from bench.keys import rsa_keys  # noqa: E402  found by the path above
from mirror.concurrency import available_cpus  # noqa: E402  as above
from mirror.model import Answer, IssuerName  # noqa: E402  as above
from mirror.new_keys import sound_keys  # noqa: E402  as above
from mirror.trust.parsing import decode_uint  # noqa: E402  as above
from mirror.trust.weak_keys import FACTORING_CHECKS, PRIMALITY_CHECKS, weaknesses  # noqa: E402  as above
from support.keys import RSA_KEYS, jwks_body  # noqa: E402  as above

KEYS = HERE.parent.parent / "build" / "bench-keys.json"
RUNS = 9


def milliseconds(work: Callable[[], object]) -> float:
    """The median of some runs."""
    taken = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1000


def of_one_key() -> Iterator[str]:
    """What each check of a key costs, by the size of its modulus."""
    first = time.perf_counter()
    weaknesses(decode_uint(RSA_KEYS[0].n) or 0, 65537)
    yield f"the first key of a process: {time.perf_counter() - first:.2f} s (tables of primes)"
    sizes = {(decode_uint(key.n) or 0).bit_length(): decode_uint(key.n) or 0 for key in RSA_KEYS}
    checks = FACTORING_CHECKS + PRIMALITY_CHECKS
    yield "bits  " + "  ".join(f"{check.name:>13}" for check in checks) + "       all ms"
    for bits, n in sorted(sizes.items()):
        costs = [milliseconds(lambda check=check, n=n: check.is_weak(n, 65537)) for check in checks]  # type: ignore[misc]  # defaults bind the loop's values
        yield f"{bits:4}  " + "  ".join(f"{cost:13.2f}" for cost in costs) + f"  {sum(costs):11.2f}"


def of_many_keys(count: int) -> Iterator[str]:
    """How long many new keys take, by the number of processes."""
    keys = rsa_keys(count, KEYS)
    shown = {
        IssuerName(f"cluster-{at}"): ((Answer("https://10.0.0.1", b"{}", jwks_body(key)),), frozenset[str]())
        for at, key in enumerate(keys)
    }
    for cores in range(1, available_cpus() + 1):
        begun = time.perf_counter()
        found = sound_keys(shown, few=0, cores=cores)  # type: ignore[arg-type]  # names are str, as asked
        seconds = time.perf_counter() - begun
        if sum(map(len, found.values())) != count:
            raise SystemExit("A sound key was taken for a weak one, or a process was lost.")
        yield f"{count} new keys of 2048 bits, {cores} process{'es' if cores > 1 else ''}: {seconds:.1f} s"


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1000, help="how many keys are new at once")
    words = parser.parse_args()
    for line in (*of_one_key(), *of_many_keys(words.keys)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
