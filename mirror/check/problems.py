"""What is wrong, out of all check results: each cause once with the issuers that share it, root causes first. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mirror.check.result import CheckLevel, CheckResult, Component
from mirror.model import IssuerName

_WRONG = (CheckLevel.WARNING, CheckLevel.FAILED)
_OF_A_BUCKET = frozenset({Component.BUCKET, Component.POLICY, Component.RIGHTS})
_ROOTS = (
    Component.CONFIGURATION,
    Component.STATE,
    Component.CREDENTIALS,
    Component.GIT,
    Component.BUCKET,
    Component.POLICY,
    Component.RIGHTS,
    Component.APISERVERS,
    Component.KEYS,
    Component.PUBLIC,
    Component.FLEET,
    Component.NOTIFY,
)
"""The order of causes: what stands later often follows from what stands earlier."""

_URL = re.compile(r"\b(?:https?|s3|ssh|arn):[^\s,;)`]+")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{20,}")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class SharedProblem:
    """One cause: the results that share its level, its code and, but for names and numbers, its words."""

    results: tuple[CheckResult, ...]

    @property
    def first(self) -> CheckResult:
        """The result whose words stand for all."""
        return self.results[0]

    @property
    def issuers(self) -> tuple[IssuerName, ...]:
        """The issuers that share it, in the order of the configuration; none where it concerns all of them."""
        return tuple(dict.fromkeys(each.issuer for each in self.results if each.issuer is not None))

    @property
    def subjects(self) -> tuple[str, ...]:
        """Where it was found."""
        return tuple(dict.fromkeys(each.subject for each in self.results))


@dataclass(frozen=True, slots=True)
class Unknown:
    """What could not be checked because something before it failed: the code of that, and the results that say so."""

    because: str
    results: tuple[CheckResult, ...]


@dataclass(frozen=True, slots=True)
class Problems:
    """Warnings, then failures, then what is unknown because of them."""

    warnings: tuple[SharedProblem, ...]
    failures: tuple[SharedProblem, ...]
    unknown: tuple[Unknown, ...]


def find_problems(results: Sequence[CheckResult]) -> Problems:
    """Sort out what is wrong: notes and what is in order are left out."""
    follows: dict[str, list[CheckResult]] = {}
    own: list[CheckResult] = []
    causes = _bucket_causes(results)
    for each in results:
        because = _because(each, causes)
        if because is not None:
            follows.setdefault(because, []).append(each)
        elif each.level in _WRONG:
            own.append(each)
    return Problems(
        warnings=_grouped(each for each in own if each.level is CheckLevel.WARNING),
        failures=_grouped(each for each in own if each.level is CheckLevel.FAILED),
        unknown=tuple(Unknown(because, tuple(found)) for because, found in follows.items()),
    )


def _bucket_causes(results: Iterable[CheckResult]) -> dict[str, str]:
    """For each bucket that could not be asked, the code that says why: its credentials before the bucket itself."""
    causes: dict[str, str] = {}
    for each in results:
        if each.level is CheckLevel.FAILED and each.component is Component.CREDENTIALS:
            causes[each.subject.removeprefix("credentials for bucket ")] = each.code
    for each in results:
        if each.code == "bucket.unreachable":
            causes.setdefault(each.subject.removeprefix("bucket "), each.code)
    return causes


def _because(result: CheckResult, causes: dict[str, str]) -> str | None:
    if result.level is not CheckLevel.FAILED or result.component not in _OF_A_BUCKET:
        return None
    name = result.subject.removeprefix("bucket ").removeprefix("s3://").partition("/")[0]
    because = causes.get(name)
    return None if because == result.code else because


def _grouped(results: Iterable[CheckResult]) -> tuple[SharedProblem, ...]:
    found: dict[tuple[str, ...], list[CheckResult]] = {}
    for each in results:
        found.setdefault(_likeness(each), []).append(each)
    problems = [SharedProblem(tuple(group)) for group in found.values()]
    return tuple(sorted(problems, key=lambda each: _ROOTS.index(each.first.component)))


def _likeness(result: CheckResult) -> tuple[str, ...]:
    """What results of one cause have in common: two clusters' URLs, names, keys and numbers differ."""
    return (result.component, result.code, _shape(result.sentence, result), _shape(result.remedy, result))


def _shape(text: str, result: CheckResult) -> str:
    for name in (result.subject, *((result.issuer,) if result.issuer is not None else ())):
        text = text.replace(name, "…")
    return _NUMBER.sub("…", _IDENTIFIER.sub("…", _URL.sub("…", text)))
