"""What was looked at and how it went, as a value that can be told in words."""

from dataclasses import dataclass
from enum import StrEnum

from mirror.model import Reason


class Finding(StrEnum):
    """How a check went. `NOTED` is worth telling and stops nobody."""

    PASSED = "passed"
    NOTED = "noted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: `subject` names it; `code` is stable, and empty when it passed."""

    subject: str
    finding: Finding
    sentence: str
    code: str = ""
    remedy: str = ""


def passed(subject: str, sentence: str) -> Check:
    """All is well."""
    return Check(subject, Finding.PASSED, sentence)


def noted(subject: str, code: str, sentence: str, remedy: str = "") -> Check:
    """Worth telling, and no failure."""
    return Check(subject, Finding.NOTED, sentence, code, remedy)


def failed(subject: str, reason: Reason) -> Check:
    """It is wrong, and why."""
    return Check(subject, Finding.FAILED, reason.sentence, reason.code, reason.remedy)
