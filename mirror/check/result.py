"""The results of `check` as values and as text, sorted by cause. Pure.

`find_problems`' gives what is wrong: each cause once with the issuers that share it, root causes first.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from mirror.aws.iam_policy import provider_url
from mirror.config.settings import Settings
from mirror.federation.causes import Cause as Known
from mirror.federation.causes import CauseArea as About
from mirror.federation.error_catalog import explain
from mirror.model import IssuerName, IssuerUrl, Reason
from mirror.report import ExitStatus
from mirror.text import iso_time


class CheckLevel(StrEnum):
    """How a finding weighs, the worst first. Only `failed` makes the exit status 1."""

    FAILED = "failed"
    WARNING = "warning"
    NOTE = "note"
    OK = "ok"


class Component(StrEnum):
    """Where something was looked at, in the order of the way that the documents take."""

    CONFIGURATION = "configuration"
    STATE = "state"
    APISERVERS = "apiservers"
    KEYS = "keys"
    GIT = "git"
    CREDENTIALS = "credentials"
    BUCKET = "bucket"
    POLICY = "policy"
    RIGHTS = "rights"
    PUBLIC = "public"
    FLEET = "fleet"
    NOTIFY = "notify"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was looked at, and how it is.

    `subject` names it: a URL, a file, a bucket. `code` is stable, the sentence for people, `remedy` says what to do
    (empty where nothing is to be done). `issuer` is None for what all issuers share. Never holds a secret; text from
    outside is escaped where it is printed.
    """

    component: Component
    subject: str
    level: CheckLevel
    code: str
    sentence: str
    remedy: str = ""
    issuer: IssuerName | None = None


@dataclass(frozen=True, slots=True)
class CheckTarget:
    """Where findings of one look belong."""

    component: Component
    subject: str
    issuer: IssuerName | None = None

    def ok(self, code: str, sentence: str) -> CheckResult:
        """It is as it should be."""
        return self._found(CheckLevel.OK, code, sentence, "")

    def note(self, code: str, sentence: str, remedy: str = "") -> CheckResult:
        """Worth knowing; nothing is wrong."""
        return self._found(CheckLevel.NOTE, code, sentence, remedy)

    def warning(self, code: str, sentence: str, remedy: str) -> CheckResult:
        """It works now, but will fail later or is not safe."""
        return self._found(CheckLevel.WARNING, code, sentence, remedy)

    def failed(self, code: str, sentence: str, remedy: str) -> CheckResult:
        """It does not work."""
        return self._found(CheckLevel.FAILED, code, sentence, remedy)

    def of_reason(self, reason: Reason) -> CheckResult:
        """It does not work, for a reason of another part of the program, `where` included."""
        where = f"[{reason.where}] " if reason.where else ""
        return self.failed(reason.code, where + reason.sentence, reason.remedy)

    def _found(self, level: CheckLevel, code: str, sentence: str, remedy: str) -> CheckResult:
        return CheckResult(self.component, self.subject, level, code, sentence, remedy, self.issuer)


@dataclass(frozen=True, slots=True)
class CheckCause:
    """One possible cause of an error that was asked about: its code, a sentence, the remedy, and where it shows."""

    code: str
    sentence: str
    remedy: str
    components: tuple[Component, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything that was found at `now` (aware, UTC). `causes` are those of an error that was asked about."""

    now: datetime
    findings: tuple[CheckResult, ...]
    causes: tuple[CheckCause, ...] = ()

    @property
    def exit_status(self) -> ExitStatus:
        """1 when a finding failed; a change that waits for an operator is not the business of the checks."""
        return ExitStatus.FAILED if self.counts[CheckLevel.FAILED] else ExitStatus.CURRENT

    @property
    def counts(self) -> Mapping[CheckLevel, int]:
        """How many findings there are of each level, zeros included."""
        found = Counter(each.level for each in self.findings)
        return {level: found[level] for level in CheckLevel}


def to_json(diagnosis: CheckReport) -> dict[str, object]:
    """The diagnosis as plain data; its JSON Schema is `docs/reference/check.schema.json`."""
    return {
        "version": 1,
        "time": iso_time(diagnosis.now),
        "exit_status": int(diagnosis.exit_status),
        "counts": {str(level): number for level, number in diagnosis.counts.items()},
        "causes": [
            {
                "code": each.code,
                "sentence": each.sentence,
                "remedy": each.remedy,
                "stations": [str(component) for component in each.components],
            }
            for each in diagnosis.causes
        ],
        "findings": [
            {
                "issuer": each.issuer,
                "station": str(each.component),
                "subject": each.subject,
                "level": str(each.level),
                "code": each.code,
                "sentence": each.sentence,
                "remedy": each.remedy or None,
            }
            for each in diagnosis.findings
        ],
    }


WHERE: Mapping[About, tuple[Component, ...]] = {
    About.DOCUMENTS: (Component.PUBLIC,),
    About.KEYS: (Component.KEYS, Component.PUBLIC),
    About.ISSUER: (Component.APISERVERS, Component.PUBLIC),
    About.TOKEN: (Component.APISERVERS,),
    About.AUDIENCE: (),
    About.SUBJECT: (),
    About.PROVIDER: (),
    About.ROLE: (),
    About.CLOUD: (),
}
"""Where each kind of cause is visible here; nowhere if it is in the account of the cloud."""

_UNREADABLE = frozenset({"documents_not_public", "gcp_documents_unreadable", "entra_documents_unreadable"})
"""Causes that show at the bucket too: it says why the public may not read."""

_UNKNOWN = CheckCause(
    "unknown_error",
    "This program does not know the error as one of AWS STS, Google or Entra. So it checks everything.",
    "Give the whole text, in quotes, as the cloud wrote it.",
    tuple(each for each in Component if each is not Component.FLEET),
)


def causes(text: str) -> tuple[CheckCause, ...]:
    """What an error text may come from, the likeliest first; never none."""
    found = explain(text)
    return tuple(CheckCause(each.code, each.sentence, each.remedy, _where(each)) for each in found) or (_UNKNOWN,)


def _where(cause: Known) -> tuple[Component, ...]:
    more = (Component.POLICY, Component.BUCKET) if cause.code in _UNREADABLE else ()
    return WHERE[cause.area] + more


def components_of(causes: tuple[CheckCause, ...]) -> tuple[Component, ...]:
    """Where the causes show, those of the likeliest cause first, none twice."""
    return tuple(dict.fromkeys(component for cause in causes for component in cause.components))


def named_issuers(text: str, settings: Settings) -> frozenset[IssuerName]:
    """The issuers that the error speaks of, one slash at the end more or less; all when it names none."""
    found = {each.name for each in settings.issuers if any(_occurs(url, text) for url in each.urls)}
    return frozenset(found or {each.name for each in settings.issuers})


def sort_by_cause(diagnosis: CheckReport, causes: tuple[CheckCause, ...]) -> CheckReport:
    """The diagnosis with the causes, and its findings in their order."""
    order = components_of(causes)

    def place(finding: CheckResult) -> int:
        return order.index(finding.component) if finding.component in order else len(order)

    return replace(diagnosis, findings=tuple(sorted(diagnosis.findings, key=place)), causes=causes)


def _occurs(url: IssuerUrl, text: str) -> bool:
    # Nothing may stand around it that would make it the text of another issuer.
    plain = provider_url(url).removesuffix("/")
    text = text.replace(":443/", "/")  # IAM drops the port; others may show it
    return re.search(rf"(?<![A-Za-z0-9.-]){re.escape(plain)}/?(?![A-Za-z0-9_~/-])", text) is not None


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
        # What results of one cause have in common: two clusters' URLs, names, keys and numbers differ.
        key = (each.component, each.code, _shape(each.sentence, each), _shape(each.remedy, each))
        found.setdefault(key, []).append(each)
    problems = [SharedProblem(tuple(group)) for group in found.values()]
    return tuple(sorted(problems, key=lambda each: _ROOTS.index(each.first.component)))


def _shape(text: str, result: CheckResult) -> str:
    for name in (result.subject, *((result.issuer,) if result.issuer is not None else ())):
        text = text.replace(name, "…")
    return _NUMBER.sub("…", _IDENTIFIER.sub("…", _URL.sub("…", text)))
