"""Checks the strength of many new keys in several processes: Python computes on one core at a time.

A new RSA key costs about 40 ms, or 6 ms with gmpy2, and a new fleet shows thousands of them. What these processes find
sound is not checked again (`already_checked` of `mirror.trust.jwks.read_jwks`). This process checks everything else and
gives the reasons.
"""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mirror.concurrency import available_cpus, worker_command
from mirror.model import Answer, IssuerName, Thumbprint, Unusable
from mirror.trust.jwks import new_rsa_keys
from mirror.trust.weak_keys import weaknesses

FEW_KEYS = 200
"""Up to so many new keys this process checks alone: a process needs half a second to start, as much as 20 keys."""
MOST_PROCESSES = 4
LIMIT_SECONDS = 600.0
"""After this time the processes are ended, and this process checks what is left."""

Numbers = tuple[int, int]
"""Modulus and exponent of an RSA key."""
AnswersAndCheckedKeys = tuple[Iterable[Answer | Unusable], frozenset[Thumbprint]]
"""What the apiservers of an issuer answered, and the keys of it whose strength was checked before."""


def sound_keys(
    answers_by_issuer: Mapping[IssuerName, AnswersAndCheckedKeys],
    *,
    few: int = FEW_KEYS,
    command: Sequence[str] | None = None,
    cores: int | None = None,
) -> Mapping[IssuerName, frozenset[Thumbprint]]:
    """Give the new keys that passed all checks of strength, by issuer; none where only a few keys are new.

    A process that cannot start, or is lost, costs time and nothing else: its keys are not among the result.

    Args:
        answers_by_issuer: the answers of every issuer.
        few: up to so many new keys, no worker is started.
        command: starts a process that does `main`.
        cores: how many processes may compute at the same time.
    """
    new = {name: _new_keys(*each) for name, each in answers_by_issuer.items()}
    # A key that several issuers show is checked once.
    numbers = tuple({numbers for keys in new.values() for numbers in keys.values()})
    if len(numbers) <= few:
        return {}
    size = min(available_cpus() if cores is None else cores, MOST_PROCESSES)
    words = worker_command(__name__) if command is None else command
    shares = [numbers[at::size] for at in range(size)]
    with ThreadPoolExecutor(max_workers=size) as pool:
        found = pool.map(lambda share: _by_process(share, words), shares)
        sound = frozenset(each for share in found for each in share)
    return {
        name: frozenset(thumbprint for thumbprint, each in keys.items() if each in sound) for name, keys in new.items()
    }


def fast_integer() -> Callable[[int], Any]:
    """`gmpy2.mpz` if it is installed (the extra `fleet`), else `int`: gmpy2 checks a key in a sixth of the time."""
    try:
        from gmpy2 import mpz  # noqa: PLC0415  optional
    except ImportError:
        return int
    number: Callable[[int], Any] = mpz
    return number


def _new_keys(
    answers: Iterable[Answer | Unusable], already_checked: frozenset[Thumbprint]
) -> Mapping[Thumbprint, Numbers]:
    bodies = {answer.jwks for answer in answers if isinstance(answer, Answer)}
    try:
        return {thumbprint: each for body in bodies for thumbprint, each in new_rsa_keys(body, already_checked).items()}
    except Exception:  # noqa: BLE001  the parser of the answers meets the defect again, and it stays with its issuer
        return {}


def _by_process(share: Sequence[Numbers], command: Sequence[str]) -> tuple[Numbers, ...]:
    text = "".join(f"{n:x} {e:x}\n" for n, e in share)
    try:
        done = subprocess.run(  # noqa: S603  our own program
            command, input=text.encode("ascii"), capture_output=True, timeout=LIMIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    verdicts = done.stdout.split()
    return tuple(each for each, verdict in zip(share, verdicts, strict=False) if verdict == b"sound")


# ------------------------------------------------------------------------------------- the other process


def main() -> None:
    """Read a modulus and an exponent a line, and write a verdict a line as soon as it is known.

    When the parent has closed its end, the next line ends this process.
    """
    # Ctrl-C and systemd's signals reach all processes of a unit: who started us decides.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    integer = fast_integer()
    for line in sys.stdin:
        n, e = (int(word, 16) for word in line.split())
        print("weak" if weaknesses(integer(n), e) else "sound", flush=True)  # noqa: T201  this is how it answers
