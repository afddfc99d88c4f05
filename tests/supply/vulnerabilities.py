"""Known vulnerabilities of every locked package, as pip-audit reports them.

pip-audit ends with "No known vulnerabilities found" also when it could look up nothing. Here that is reported as it
is: no failure, because a build without a network must be possible, but no clean bill either.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from supply.verdict import Verdict

LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")
MOST_SECONDS = 60.0
_SOCKET_SECONDS = "5"
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Asked:
    """How pip-audit ended; `status` is None when it did not."""

    status: int | None
    out: str
    err: str


def pip_audit_command(python: str) -> list[str]:
    """pip-audit over the lock files, as they are: nothing is resolved or installed."""
    files = [word for lock in LOCKS for word in ("--requirement", lock)]
    options = ["--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off"]
    return [python, "-m", "pip_audit", *files, *options, "--timeout", _SOCKET_SECONDS]


def judge_audit(asked: Asked, locks: Sequence[str]) -> Verdict:
    """Fails on a known vulnerability, and where pip-audit itself is wrong; not for a service that cannot be reached."""
    packages = _packages(asked.out)
    if packages is None and (asked.status is None or _is_network(asked.err)):
        return Verdict((f"audit: nothing was looked up: {_end(asked.err)}",), fails=False)
    if packages is None:
        return Verdict((f"audit: pip-audit failed: {_end(asked.err)}",), fails=True)
    vulnerable = [package for package in packages if package.get("vulns")]
    known = [f"{each['name']} {each['version']}: {_named(each['vulns'])}" for each in vulnerable]
    skipped = [package for package in packages if "skip_reason" in package]
    summary = [f"audit: {len(packages)} packages of {', '.join(locks)}; {len(known)} with known vulnerabilities."]
    if skipped:
        summary.append(
            f"audit: {len(skipped)} of them could not be looked up, so nothing is known of these "
            f"(the first reason: {skipped[0]['skip_reason']})."
        )
    return Verdict((*known, *summary), fails=bool(known) or not packages)


def _packages(out: str) -> list[dict[str, Any]] | None:
    try:
        found = json.loads(out)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, list) else None


def _named(vulnerabilities: Sequence[dict[str, Any]]) -> str:
    return "; ".join(
        f"{each['id']}, repaired in {', '.join(each['fix_versions']) or 'no version'}" for each in vulnerabilities
    )


def _is_network(err: str) -> bool:
    words = ("connect", "connection", "timed out", "resolve", "unreachable", "proxy", "ssl", "503", "502")
    return any(word in err.lower() for word in words)


def _end(err: str) -> str:
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    return (lines[-1] if lines else "it said nothing")[-_SHOWN:]
