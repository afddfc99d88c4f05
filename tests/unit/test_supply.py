"""The supply chain checks: an unchecked package never counts as clean."""

import json
from email.message import Message

import pytest

from supply.licences import WITH_REASON, judge_licences, locked_names
from supply.verdict import Verdict
from supply.vulnerabilities import Asked, judge_audit

LOCK = "pkg==1.0 \\\n    --hash=sha256:00\n"
BAD = {"name": "pkg", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
GOOD = {"name": "other", "version": "2.0", "vulns": []}
SKIPPED = {"name": "third", "skip_reason": "Dependency not found on PyPI"}


def audited(*packages: object, status: int = 0) -> Asked:
    return Asked(status, json.dumps({"dependencies": packages, "fixes": []}), "")


@pytest.mark.parametrize(
    ("asked", "fails", "said"),
    [
        (audited(GOOD), False, "1 packages of a.lock; 0 with known vulnerabilities."),
        (audited(GOOD, BAD, status=1), True, "pkg 1.0: PYSEC-1, repaired in 1.1"),
        (audited(SKIPPED, BAD, status=1), True, "1 of them could not be looked up"),
        (audited(GOOD, SKIPPED), False, "1 of them could not be looked up, so nothing is known of these"),
        (audited(), True, "0 packages"),
        (Asked(1, "", "ERROR: Could not connect to PyPI's vulnerability feed\n"), False, "nothing was looked up"),
        (Asked(None, "", "it did not end within 60 s"), False, "nothing was looked up: it did not end"),
        (Asked(1, "", "ERROR: requirements.lock: unexpected line"), True, "pip-audit failed: ERROR: requirements.lock"),
        (Asked(0, "[]", ""), True, "pip-audit failed: it said nothing"),
    ],
    ids=["clean", "vulnerable", "vulnerable beside skipped", "skipped", "empty", "unreachable", "slow", "wrong", "odd"],
)
def test_audit_lists_known_and_unknown_vulnerabilities(asked: Asked, fails: bool, said: str) -> None:
    """A known vulnerability fails; an unreachable service does not, and is not reported as a clean result."""
    verdict = judge_audit(asked, ["a.lock"])
    assert verdict.fails is fails
    assert said in "\n".join(verdict.lines)


def licensed(**fields: str) -> Verdict:
    """The verdict on one package that says this of itself."""

    def metadata(_: str) -> Message:
        found = Message()
        for name, value in fields.items():
            found[name.replace("_", "-")] = value
        return found

    return judge_licences(LOCK, metadata)


@pytest.mark.parametrize(
    ("fields", "fails"),
    [
        ({"License_Expression": "MIT"}, False),
        ({"License_Expression": "Apache-2.0 OR GPL-3.0-only"}, False),
        ({"License_Expression": "Apache-2.0 AND GPL-3.0-only"}, True),
        ({"License_Expression": "(MIT)"}, True),
        ({"License": "Apache License 2.0"}, False),
        ({"License": "Dual License", "Classifier": "License :: OSI Approved :: BSD License"}, False),
        ({"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"}, True),
        ({"License": "see LICENSE"}, True),
        ({"License": "MPL-2.0"}, True),
        ({}, True),
    ],
)
def test_unaccepted_licence_fails(fields: dict[str, str], fails: bool) -> None:
    """Copyleft and unknown licences fail until a written reason accepts them."""
    verdict = licensed(**fields)
    assert verdict.fails is fails
    assert ("look at pkg" in verdict.lines[-1]) is fails


def test_accepted_licence_is_reported_with_its_reason() -> None:
    """The reason holds for the licence that was looked at, and for no other that the package takes later."""
    (name, (licence, reason)), *_ = WITH_REASON.items()
    for said, fails in ((licence, False), ("AGPL-3.0-only", True)):
        found = Message()
        found["License-Expression"] = said
        verdict = judge_licences(LOCK.replace("pkg", name), lambda _, found=found: found)  # type: ignore[misc]  # bound now
        assert verdict.fails is fails
        assert (reason in verdict.lines[0]) is not fails


def test_lock_file_without_packages_fails() -> None:
    """A list that cannot be read is no list of permissive licences."""
    assert judge_licences("", lambda _: Message()).fails


def test_package_for_another_system_is_left_out() -> None:
    """What is never installed here has no metadata to look at."""
    assert locked_names("a==1 \\\nb[c]==2 ; sys_platform == 'win32' \\\nd==3 ; sys_platform == 'linux' \\\n") == (
        "a",
        "d",
    )
