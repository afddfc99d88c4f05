"""Looks at the packages that we ship or test with: `python tests/supply audit`, `python tests/supply licences`."""

import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from supply.licences import judge_licences
from supply.verdict import Verdict
from supply.vulnerabilities import LOCKS, MOST_SECONDS, Asked, judge_audit, pip_audit_command

ROOT = Path(__file__).parents[2]


def ask_pip_audit() -> Asked:
    """What pip-audit answers for all lock files; it asks the vulnerability service of the Python Package Index."""
    try:
        done = subprocess.run(
            pip_audit_command(sys.executable),
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=MOST_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Asked(None, "", f"it did not end within {MOST_SECONDS:.0f} s")
    return Asked(done.returncode, done.stdout, done.stderr)


def verdict_on(what: str) -> Verdict | None:
    if what == "audit":
        return judge_audit(ask_pip_audit(), LOCKS)
    if what == "licences":
        return judge_licences((ROOT / "requirements.lock").read_text(encoding="utf-8"), metadata)
    return None


def main(words: list[str]) -> int:
    """Exit 0: nothing is wrong, or no service answered; 1: a finding; 2: wrong arguments."""
    verdict = verdict_on(words[0]) if len(words) == 1 else None
    if verdict is None:
        print(__doc__, file=sys.stderr)
        return 2
    print(*verdict.lines, sep="\n")
    return int(verdict.fails)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
