"""The results of `check` as values and as text, sorted by cause. Pure."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from mirror.aws.iam_policy import provider_url
from mirror.config.settings import Issuer, Settings
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

    def of_reason(self, level: CheckLevel, reason: Reason) -> CheckResult:
        """A reason of another part of the program, `where` included."""
        where = f"[{reason.where}] " if reason.where else ""
        return self._found(level, reason.code, where + reason.sentence, reason.remedy)

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
"""Where each kind of cause shows here; nowhere when it lies in the account of the cloud."""

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
    found = {each.name for each in settings.issuers if any(_occurs(url, text) for url in _texts(each))}
    return frozenset(found or {each.name for each in settings.issuers})


def sort_by_cause(diagnosis: CheckReport, causes: tuple[CheckCause, ...]) -> CheckReport:
    """The diagnosis with the causes, and its findings in their order."""
    order = components_of(causes)

    def place(finding: CheckResult) -> int:
        return order.index(finding.component) if finding.component in order else len(order)

    return replace(diagnosis, findings=tuple(sorted(diagnosis.findings, key=place)), causes=causes)


def _texts(issuer: Issuer) -> tuple[IssuerUrl, ...]:
    return (issuer.issuer, *(former.issuer for former in issuer.former_issuers))


def _occurs(url: IssuerUrl, text: str) -> bool:
    # Nothing may stand around it that would make it the text of another issuer.
    plain = provider_url(url).removesuffix("/")
    text = text.replace(":443/", "/")  # IAM drops the port; others may show it
    return re.search(rf"(?<![A-Za-z0-9.-]){re.escape(plain)}/?(?![A-Za-z0-9_~/-])", text) is not None
