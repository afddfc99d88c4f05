"""The diagnosis as data."""

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema

from mirror.check.result import Cause, Diagnosis, Place, Station, to_json
from mirror.model import IssuerName
from mirror.report import ExitStatus

NOW = datetime(2026, 11, 23, 8, 0, 0, 5, tzinfo=UTC)
SCHEMA = json.loads((Path(__file__).parents[3] / "docs/reference/check.schema.json").read_text())
PLACE = Place(Station.BUCKET, "bucket b", IssuerName("syd-prod"))
FAILED = PLACE.failed("x.y", "It is so.", "Do it.")


def test_diagnosis_obeys_its_schema() -> None:
    """Every field, with and without an issuer and a remedy; the schema knows every station and level."""
    causes = (Cause("c", "Because.", "Do.", (Station.KEYS,)),)
    document = to_json(Diagnosis(NOW, (FAILED, Place(Station.GIT, "x").ok("a.b", "Good.")), causes))
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["exit_status"] == 1
    assert document["counts"] == {"failed": 1, "warning": 0, "note": 0, "ok": 1}
    assert document["time"] == "2026-11-23T08:00:00+00:00"
    assert SCHEMA["$defs"]["station"]["enum"] == [str(each) for each in Station]


def test_warnings_leave_the_exit_status_0() -> None:
    """Only what failed makes it 1."""
    assert Diagnosis(NOW, (PLACE.warning("a", "b", "c"), PLACE.note("a", "b"))).exit_status is ExitStatus.CURRENT
    assert Diagnosis(NOW, (FAILED,)).exit_status is ExitStatus.FAILED
