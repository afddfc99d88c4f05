"""What the doctor finds, as values: findings, and the diagnosis that holds all of them. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mirror.model import IssuerName, Reason
from mirror.report import ExitStatus


class Level(StrEnum):
    """How a finding weighs, the worst first. Only `failed` makes the exit status 1."""

    FAILED = "failed"
    WARNING = "warning"
    NOTE = "note"
    OK = "ok"


class Station(StrEnum):
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


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and how it is.

    `subject` names it: a URL, a file, a bucket. `code` is stable, the sentence for people, `remedy` says what to do
    (empty where nothing is to be done). `issuer` is None for what all issuers share. Never holds a secret; text from
    outside is escaped where it is printed.
    """

    station: Station
    subject: str
    level: Level
    code: str
    sentence: str
    remedy: str = ""
    issuer: IssuerName | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where findings of one look belong."""

    station: Station
    subject: str
    issuer: IssuerName | None = None

    def ok(self, code: str, sentence: str) -> Finding:
        """It is as it should be."""
        return self._found(Level.OK, code, sentence, "")

    def note(self, code: str, sentence: str, remedy: str = "") -> Finding:
        """Worth knowing; nothing is wrong."""
        return self._found(Level.NOTE, code, sentence, remedy)

    def warning(self, code: str, sentence: str, remedy: str) -> Finding:
        """It works, and will not for ever or not safely."""
        return self._found(Level.WARNING, code, sentence, remedy)

    def failed(self, code: str, sentence: str, remedy: str) -> Finding:
        """It does not work."""
        return self._found(Level.FAILED, code, sentence, remedy)

    def of_reason(self, level: Level, reason: Reason) -> Finding:
        """A reason of another part of the program, `where` included."""
        where = f"[{reason.where}] " if reason.where else ""
        return self._found(level, reason.code, where + reason.sentence, reason.remedy)

    def _found(self, level: Level, code: str, sentence: str, remedy: str) -> Finding:
        return Finding(self.station, self.subject, level, code, sentence, remedy, self.issuer)


@dataclass(frozen=True, slots=True)
class Cause:
    """One possible cause of an error that was asked about: its code, a sentence, the remedy, and where it shows."""

    code: str
    sentence: str
    remedy: str
    stations: tuple[Station, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was found at `now` (aware, UTC). `causes` are those of an error that was asked about."""

    now: datetime
    findings: tuple[Finding, ...]
    causes: tuple[Cause, ...] = ()

    @property
    def exit_status(self) -> ExitStatus:
        """1 when a finding failed; a change that waits for an operator is not the doctor's business."""
        return ExitStatus.FAILED if self.counts[Level.FAILED] else ExitStatus.CURRENT

    @property
    def counts(self) -> Mapping[Level, int]:
        """How many findings there are of each level, zeros included."""
        found = Counter(each.level for each in self.findings)
        return {level: found[level] for level in Level}


def to_json(diagnosis: Diagnosis) -> dict[str, object]:
    """The diagnosis as plain data; its JSON Schema is `docs/reference/check.schema.json`."""
    return {
        "version": 1,
        "time": diagnosis.now.replace(microsecond=0).isoformat(),
        "exit_status": int(diagnosis.exit_status),
        "counts": {str(level): number for level, number in diagnosis.counts.items()},
        "causes": [
            {
                "code": each.code,
                "sentence": each.sentence,
                "remedy": each.remedy,
                "stations": [str(station) for station in each.stations],
            }
            for each in diagnosis.causes
        ],
        "findings": [
            {
                "issuer": each.issuer,
                "station": str(each.station),
                "subject": each.subject,
                "level": str(each.level),
                "code": each.code,
                "sentence": each.sentence,
                "remedy": each.remedy or None,
            }
            for each in diagnosis.findings
        ],
    }
