"""When headers and public URLs are looked at: remembered successes, and nothing else, put it off."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirror.config.settings import Publish
from mirror.errors import HistoryError
from mirror.model import IssuerUrl, KeyName, KeyRecord, Kid, Ledger, Revocation, Status, Thumbprint
from mirror.publish.audit import FILE_NAME, Audits, Stamp, fingerprint, load, save
from support.fakes import MOMENT

ISSUER = IssuerUrl("https://issuer.example.com")
PUBLISH = Publish(bucket="b", region="r", base_url="https://issuer.example.com")
BODIES = (b"jwks", b"discovery")
LEDGER = Ledger(ISSUER)
STAMPED = Audits({ISSUER: Stamp(MOMENT, fingerprint(PUBLISH, BODIES, LEDGER))})


@pytest.mark.parametrize(
    ("audits", "publish", "age", "due"),
    [
        (Audits(), PUBLISH, 0, True),
        (STAMPED, PUBLISH, 0, False),
        (STAMPED, PUBLISH, 3599, False),
        (STAMPED, PUBLISH, 3600, True),
        (STAMPED, PUBLISH, -1, True),
        (STAMPED, replace(PUBLISH, cache_control="public, max-age=60"), 1, True),
        (STAMPED, replace(PUBLISH, audit_interval_seconds=0.0), 0, True),
    ],
    ids=["never", "just_now", "before_the_interval", "at_the_interval", "from_the_future", "other_settings", "always"],
)
def test_due(audits: Audits, publish: Publish, age: int, *, due: bool) -> None:
    """Due when never, too long ago, in the future, or under other settings."""
    assert audits.due(ISSUER, publish, BODIES, LEDGER, MOMENT + timedelta(seconds=age)) is due


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """The file carries every stamp, and no draft stays behind."""
    save(tmp_path, STAMPED)
    assert load(tmp_path) == STAMPED
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"issuers": 1}',
        '{"issuers": {"x": {}}}',
        '{"issuers": {"x": {"at": "no", "what": ""}}}',
        '{"issuers": {"x": {"at": 7, "what": ""}}}',
        '{"issuers": {"x": {"at": "2026-11-23T08:00:00"}}}',
    ],
)
def test_damaged_file_means_audit_now(tmp_path: Path, text: str) -> None:
    """A cache that cannot be read is no reason to fail, and no reason to skip a look."""
    (tmp_path / FILE_NAME).write_text(text)
    assert load(tmp_path) == Audits()


def test_missing_file_means_audit_now(tmp_path: Path) -> None:
    """The first pass looks at everything."""
    assert load(tmp_path) == Audits()


def test_unwritable_directory_is_told(tmp_path: Path) -> None:
    """A full or missing directory gives a sentence with a remedy."""
    with pytest.raises(HistoryError, match="cannot be written"):
        save(tmp_path / "missing", STAMPED)


def test_other_bodies_are_due() -> None:
    """What was put by a pass that was killed before its look is looked at by the next one."""
    assert STAMPED.due(ISSUER, PUBLISH, (b"jwks", b"new"), LEDGER, MOMENT)


def test_new_revocation_is_due() -> None:
    """The bytes may be the same: the object must name a commit that knows the revocation."""
    revoked = KeyRecord(
        KeyName(Kid("gone"), "RS256", Thumbprint("a" * 43)),
        Status.REVOKED,
        2,
        MOMENT,
        revocation=Revocation(MOMENT, "x"),
    )
    assert STAMPED.due(ISSUER, PUBLISH, BODIES, Ledger(ISSUER, (revoked,)), MOMENT)


def test_stamp_without_a_time_zone_is_taken_as_one(tmp_path: Path) -> None:
    """A file that somebody edited never makes a pass fail."""
    text = '{"issuers": {"https://issuer.example.com": {"at": "2026-11-23T08:00:00", "what": "x"}}}'
    (tmp_path / FILE_NAME).write_text(text)
    assert load(tmp_path).stamps[ISSUER].at.tzinfo is not None
