"""`local-state.json`, the state of a mirror outside git: it is read back unchanged, and damage never fails a pass.

When headers and public URLs are read: only remembered successes delay it.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from mirror.config.settings import PublishSettings
from mirror.errors import HistoryError
from mirror.history.ledger_reader import DecidedLedger
from mirror.model import IssuerUrl, KeyName, KeyPolicy, KeyRecord, Kid, Ledger, Revocation, Status, Thumbprint
from mirror.reconcile.local_state import (
    FORMER_FILE_NAME,
    LOCAL_STATE_FILE_NAME,
    VERIFIED_FILE_NAME,
    LocalIssuerState,
    LocalState,
    VerificationCache,
    VerifiedAt,
    digest_of,
    fingerprint,
    load_local_state,
    load_verified,
    record_adopted,
    save_verified,
    update,
    without_adopted,
)
from mirror.report import ExitStatus, Report
from support.fakes import MOMENT
from support.situations import BOTH, ISSUER, JWKS_KEY, ONE, Situation, with_remote

OTHER = IssuerUrl("https://oidc.example.com/other")
HOUR = timedelta(hours=1)
FULL = LocalState(
    {
        ISSUER: LocalIssuerState(
            apiservers="abc",
            adopted=frozenset({digest_of(b"theirs"), digest_of(b"others")}),
            decided=DecidedLedger("1" * 40, "2" * 40, "SHA256:mine"),
            held_missing_since={
                (Kid("kid"), Thumbprint("print")): MOMENT,
                (Kid("k\u00fc"), Thumbprint("p2")): MOMENT + HOUR,
            },
            tolerated_since=MOMENT,
        ),
        OTHER: LocalIssuerState(decided=DecidedLedger("3" * 40)),
    },
    has_pushed=True,
    repository="oidc-mirror",
    trusted_head="4" * 40,
)


def save(folder: Path, state: LocalState) -> None:
    update(folder, lambda _: state)


def written(folder: Path, **changes: object) -> None:
    """A file of this version with other members."""
    save(folder, FULL)
    path = folder / LOCAL_STATE_FILE_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# ------------------------------------------------------------------------------------------------ the file


@pytest.mark.parametrize("state", [LocalState(), FULL, LocalState(has_pushed=True)], ids=["empty", "full", "pushed"])
def test_state_comes_back(tmp_path: Path, state: LocalState) -> None:
    """The saved state loads unchanged."""
    save(tmp_path, state)
    assert load_local_state(tmp_path) == state


def test_issuer_of_which_nothing_is_remembered_is_not_written(tmp_path: Path) -> None:
    """An issuer without state has no entry, so the file does not grow with removed issuers."""
    save(tmp_path, LocalState({ISSUER: LocalIssuerState(), OTHER: LocalIssuerState(apiservers="x")}))
    assert load_local_state(tmp_path) == LocalState({OTHER: LocalIssuerState(apiservers="x")})


def test_same_state_does_not_touch_the_file(tmp_path: Path) -> None:
    """A steady pass writes nothing."""
    save(tmp_path, FULL)
    stamp = (tmp_path / LOCAL_STATE_FILE_NAME).stat().st_mtime_ns
    save(tmp_path, FULL)
    assert (tmp_path / LOCAL_STATE_FILE_NAME).stat().st_mtime_ns == stamp


def test_same_state_has_the_same_bytes(tmp_path: Path) -> None:
    """The bytes do not depend on the order of the updates."""
    save(tmp_path, FULL)
    first = (tmp_path / LOCAL_STATE_FILE_NAME).read_bytes()
    (tmp_path / LOCAL_STATE_FILE_NAME).unlink()
    save(tmp_path, replace(FULL, issuers=dict(reversed(tuple(FULL.issuers.items())))))
    assert (tmp_path / LOCAL_STATE_FILE_NAME).read_bytes() == first


def test_moments_of_other_time_zones_are_read_as_utc(tmp_path: Path) -> None:
    """A manually restored file may have any time zone."""
    zone = timezone(timedelta(hours=5))
    save(tmp_path, LocalState({ISSUER: LocalIssuerState(tolerated_since=MOMENT.astimezone(zone))}))
    found = load_local_state(tmp_path).of(ISSUER).tolerated_since
    assert (found, found.tzinfo if found else None) == (MOMENT, UTC)


def with_issuer(entry: object) -> str:
    """A file of this version with one issuer."""
    return json.dumps({"version": 1, "issuers": {"x": entry}, "has_pushed": True, "repository": "", "trusted_head": ""})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00",
        "[]",
        "{}",
        "null",
        '{"version": 1}',
        '{"version": 1, "issuers": [], "has_pushed": true, "repository": "", "trusted_head": ""}',
        with_issuer(1),
        with_issuer({"decided": {"ledger": "1"}}),
        with_issuer({"tolerated_since": "now"}),
        with_issuer({"held_missing": [{"kid": "x"}]}),
    ],
)
def test_damaged_file_counts_as_empty_and_is_reported(tmp_path: Path, text: str) -> None:
    """With a damaged file the mirror works like a pod with an empty disk."""
    (tmp_path / LOCAL_STATE_FILE_NAME).write_text(text)
    found = load_local_state(tmp_path)
    assert replace(found, warning="") == LocalState()
    assert "is damaged; it is ignored" in found.warning


@pytest.mark.parametrize("version", [0, 2, "1", None], ids=str)
def test_file_of_another_version_counts_as_empty_and_is_reported(tmp_path: Path, version: object) -> None:
    """The format of a newer program is not guessed."""
    written(tmp_path, version=version)
    found = load_local_state(tmp_path)
    assert replace(found, warning="") == LocalState()
    assert f"is of version {version!r}, not 1" in found.warning


def test_pass_reports_a_damaged_file_and_replaces_it(tmp_path: Path) -> None:
    """One warning, no failure; the next pass reports nothing."""
    here = Situation(tmp_path)
    here.run(ONE, ONE)
    (tmp_path / LOCAL_STATE_FILE_NAME).write_text("{}")
    report = here.run()
    assert ("state.unread" in names(report), report.exit_status) == (True, ExitStatus.CURRENT)
    assert names(here.run()) == set()
    assert load_local_state(tmp_path).of(ISSUER).apiservers != ""


def names(report: Report) -> set[str]:
    return {event.name for event in report.events}


def test_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """The next pass then knows less; this pass does not fail."""
    here = Situation(tmp_path)
    (tmp_path / LOCAL_STATE_FILE_NAME).mkdir()
    report = here.run(ONE, ONE)
    assert report.exit_status is ExitStatus.CURRENT
    assert "state.unsaved" in names(report)


def test_state_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """The caller gets the error; a pass reports it and continues."""
    with pytest.raises(HistoryError):
        save(tmp_path / "gone", FULL)


# ----------------------------------------------------------------------------------- the file of before 1.0


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("{}", LocalState()),
        ("[]", LocalState()),
        ("", LocalState()),
        ('{"sources": 1}', LocalState()),
        ('{"sources": {}}', LocalState(has_pushed=True, is_former=True)),
        ('{"sources": {}, "has_pushed": false}', LocalState(is_former=True)),
        (
            json.dumps({"sources": {ISSUER: "abc"}, "adopted": {ISSUER: ["d"], OTHER: ["e"]}, "vouched": {ISSUER: []}}),
            LocalState(
                {ISSUER: LocalIssuerState("abc", frozenset({"d"})), OTHER: LocalIssuerState("", frozenset({"e"}))},
                has_pushed=True,
                is_former=True,
            ),
        ),
    ],
    ids=["no-sources", "a-list", "empty", "no-mapping", "nothing-known", "never-pushed", "full"],
)
def test_file_of_earlier_programs_is_read(tmp_path: Path, text: str, state: LocalState) -> None:
    """Three things are still used: the apiservers, the adopted documents, and whether anything was pushed."""
    (tmp_path / FORMER_FILE_NAME).write_text(text)
    assert load_local_state(tmp_path) == state


def test_file_of_earlier_programs_is_read_once(tmp_path: Path) -> None:
    """The first update replaces the old file even without a change; then only the new file counts."""
    (tmp_path / FORMER_FILE_NAME).write_text(json.dumps({"sources": {ISSUER: "abc"}}))
    update(tmp_path, lambda state: state)
    assert not (tmp_path / FORMER_FILE_NAME).exists()
    assert load_local_state(tmp_path) == LocalState({ISSUER: LocalIssuerState("abc")}, has_pushed=True)


def test_both_files_stand_after_a_kill(tmp_path: Path) -> None:
    """After a kill between writing the new file and removing the old one, the new file counts."""
    save(tmp_path, FULL)
    (tmp_path / FORMER_FILE_NAME).write_text(json.dumps({"sources": {OTHER: "old"}}))
    assert load_local_state(tmp_path) == FULL


def test_pass_after_an_upgrade_changes_no_apiservers(tmp_path: Path) -> None:
    """The earlier program stored the same digest as `sources`, so an upgrade restarts no retirement."""
    here = Situation(tmp_path)
    here.run(BOTH, BOTH)
    known = load_local_state(tmp_path).of(ISSUER).apiservers
    (tmp_path / LOCAL_STATE_FILE_NAME).unlink()
    (tmp_path / FORMER_FILE_NAME).write_text(json.dumps({"sources": {ISSUER: known}}))
    report = here.run()
    assert [each.events for each in report.issuers] == [()]
    here.apiservers = here.apiservers[:1]
    (tmp_path / LOCAL_STATE_FILE_NAME).unlink()
    (tmp_path / FORMER_FILE_NAME).write_text(json.dumps({"sources": {ISSUER: known}}))
    assert "sources.changed" in {event.name for event in here.run().issuers[0].events}


# ------------------------------------------------------------------------------------- what is remembered


def test_unknown_issuer_has_nothing(tmp_path: Path) -> None:
    """An unknown issuer has an empty state, and its apiservers do not count as changed."""
    assert LocalState().of(ISSUER) == LocalIssuerState()
    assert not LocalState().apiservers_changed(ISSUER, "abc")
    assert not FULL.apiservers_changed(ISSUER, "abc")
    assert FULL.apiservers_changed(ISSUER, "def")


def test_adopted_documents_are_known_by_their_bytes(tmp_path: Path) -> None:
    """Another adoption replaces the adopted documents; the rest of the issuer's state stays."""
    save(tmp_path, FULL)
    record_adopted(tmp_path, {ISSUER: [b"new"], OTHER: [b"x", b"y"]})
    found = load_local_state(tmp_path)
    assert [found.is_adopted(ISSUER, body) for body in (b"new", b"theirs")] == [True, False]
    assert [found.is_adopted(OTHER, body) for body in (b"x", b"y", b"new")] == [True, True, False]
    assert found.of(ISSUER) == replace(FULL.of(ISSUER), adopted=frozenset({digest_of(b"new")}))
    assert without_adopted(found, [ISSUER]).of(ISSUER).adopted == frozenset()
    assert without_adopted(found, [ISSUER]).of(OTHER) == found.of(OTHER)


def test_update_changes_what_is_there_by_then(tmp_path: Path) -> None:
    """A command and a pass update the file at the same time: neither undoes the other."""
    save(tmp_path, FULL)
    update(tmp_path, lambda state: replace(state, trusted_head="5" * 40))
    record_adopted(tmp_path, {OTHER: [b"x"]})
    found = load_local_state(tmp_path)
    assert (found.trusted_head, found.is_adopted(OTHER, b"x")) == ("5" * 40, True)


# ------------------------------------------------------------------ what passes keep: held keys that are missing


def test_held_key_that_is_missing_is_dropped_after_its_time(tmp_path: Path) -> None:
    """The time runs from the first pass in which every apiserver answered without the key."""
    here = Situation(tmp_path)
    here.run(ONE, ONE)
    here.policy = KeyPolicy(new_keys="hold")
    here.run(BOTH, BOTH)
    here.run(ONE, ONE)
    since = here.now
    assert list(load_local_state(tmp_path).of(ISSUER).held_missing_since.values()) == [since]
    here.run(after=23 * HOUR)
    assert list(load_local_state(tmp_path).of(ISSUER).held_missing_since.values()) == [since]
    assert "held" in statuses(here.run())
    assert "held" not in statuses(here.run(after=HOUR))
    assert load_local_state(tmp_path).of(ISSUER).held_missing_since == {}


def statuses(report: Report) -> set[str]:
    return {str(record.status) for record in report.issuers[0].records}


def test_held_key_that_comes_back_is_missing_no_more(tmp_path: Path) -> None:
    """The time of absence is reset."""
    here = Situation(tmp_path)
    here.run(ONE, ONE)
    here.policy = KeyPolicy(new_keys="hold")
    here.run(BOTH, BOTH)
    here.run(ONE, ONE)
    here.run(BOTH, BOTH, after=HOUR)
    assert load_local_state(tmp_path).of(ISSUER).held_missing_since == {}


def test_empty_disk_drops_no_held_key(tmp_path: Path) -> None:
    """A pod with an empty disk has seen no earlier pass, so it drops no held key, however old the record is."""
    here = Situation(tmp_path)
    here.run(ONE, ONE)
    here.policy = KeyPolicy(new_keys="hold")
    here.run(BOTH, BOTH)
    for _ in range(3):
        (tmp_path / LOCAL_STATE_FILE_NAME).unlink()
        assert "held" in statuses(here.run(ONE, ONE, after=30 * HOUR))


# ----------------------------------------------------------- what passes keep: since when others' writes stand


def left_alone(tmp_path: Path) -> Situation:
    """The remote is unreachable and the JWKS names an unknown snapshot: it may be another mirror's document."""
    here = with_remote(tmp_path)
    here.run(BOTH, BOTH)
    assert here.world.history.remote is not None
    here.world.history.remote.down = True
    here.world.bucket.write(JWKS_KEY, b"theirs", snapshot="ab" * 20)
    return here


def tolerated(here: Situation) -> datetime | None:
    return load_local_state(here.state_dir).of(ISSUER).tolerated_since


def test_other_writers_document_stands_at_most_an_audit_interval(tmp_path: Path) -> None:
    """After an audit interval the mirror puts the documents of its ledger, at most once an interval."""
    here = left_alone(tmp_path)
    here.run(after=timedelta(minutes=1))
    begun = here.now
    assert (here.public(), tolerated(here)) == (b"theirs", begun)
    here.run(after=timedelta(minutes=58))
    assert (here.public(), tolerated(here)) == (b"theirs", begun)
    here.run(after=timedelta(minutes=2))
    assert here.public() != b"theirs"
    here.world.bucket.write(JWKS_KEY, b"theirs", snapshot="ab" * 20)
    here.run(after=timedelta(minutes=10))
    assert here.public() == b"theirs"
    here.run(after=HOUR)
    assert here.public() != b"theirs"


def test_remote_that_is_back_ends_the_wait(tmp_path: Path) -> None:
    """The remote lacks that snapshot: the ledger's documents are put at once, and the stored date is removed."""
    here = left_alone(tmp_path)
    here.run(after=timedelta(minutes=1))
    assert here.world.history.remote is not None
    here.world.history.remote.down = False
    here.run(after=timedelta(minutes=1))
    assert here.public() != b"theirs"
    here.run(after=HOUR)
    assert tolerated(here) is None


AUDITED_ISSUER = IssuerUrl("https://issuer.example.com")
PUBLISH = PublishSettings(bucket="b", region="r", base_url="https://issuer.example.com")
BODIES = (b"jwks", b"discovery")
LEDGER = Ledger(AUDITED_ISSUER)
STAMPED = VerificationCache({AUDITED_ISSUER: VerifiedAt(MOMENT, fingerprint(PUBLISH, BODIES, LEDGER))})


@pytest.mark.parametrize(
    ("audits", "publish", "age", "due"),
    [
        (VerificationCache(), PUBLISH, 0, True),
        (STAMPED, PUBLISH, 0, False),
        (STAMPED, PUBLISH, 3599, False),
        (STAMPED, PUBLISH, 3600, True),
        (STAMPED, PUBLISH, -1, True),
        (STAMPED, replace(PUBLISH, cache_control="public, max-age=60"), 1, True),
        (STAMPED, replace(PUBLISH, audit_interval_seconds=0.0), 0, True),
    ],
    ids=["never", "just_now", "before_the_interval", "at_the_interval", "from_the_future", "other_settings", "always"],
)
def test_due(audits: VerificationCache, publish: PublishSettings, age: int, *, due: bool) -> None:
    """A read is due if it never happened, is too old, is dated in the future, or was made with other settings."""
    assert audits.is_due(AUDITED_ISSUER, publish, BODIES, LEDGER, MOMENT + timedelta(seconds=age)) is due


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """Every timestamp is saved, and no temporary file remains."""
    save_verified(tmp_path, STAMPED)
    assert load_verified(tmp_path) == STAMPED
    assert [path.name for path in tmp_path.iterdir()] == [VERIFIED_FILE_NAME]


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
        '{"issuers": {"x": {"at": "0001-01-01T00:00:00+01:00", "what": ""}}}',
        "[" * 100_000,
    ],
    ids=range(11),
)
def test_damaged_file_means_audit_now(tmp_path: Path, text: str) -> None:
    """A damaged file fails nothing, and the next audit is not skipped."""
    (tmp_path / VERIFIED_FILE_NAME).write_text(text)
    assert load_verified(tmp_path) == VerificationCache()


def test_missing_file_means_audit_now(tmp_path: Path) -> None:
    """Without the file, everything is audited."""
    assert load_verified(tmp_path) == VerificationCache()


def test_unwritable_directory_is_reported(tmp_path: Path) -> None:
    """A full or missing directory gives a message with a remedy."""
    with pytest.raises(HistoryError, match="cannot be written"):
        save_verified(tmp_path / "missing", STAMPED)


def test_other_bodies_are_due() -> None:
    """If a pass was killed between put and read-back, the next pass reads the objects."""
    assert STAMPED.is_due(AUDITED_ISSUER, PUBLISH, (b"jwks", b"new"), LEDGER, MOMENT)


def test_new_revocation_is_due() -> None:
    """After a revocation the bytes may be the same, but the object must name a commit that has the revocation."""
    revoked = KeyRecord(
        KeyName(Kid("gone"), "RS256", Thumbprint("a" * 43)),
        Status.REVOKED,
        2,
        MOMENT,
        revocation=Revocation(MOMENT, "x"),
    )
    assert STAMPED.is_due(AUDITED_ISSUER, PUBLISH, BODIES, Ledger(AUDITED_ISSUER, (revoked,)), MOMENT)


def test_stamp_without_a_time_zone_is_taken_as_one(tmp_path: Path) -> None:
    """A manually edited file never makes a pass fail."""
    text = '{"issuers": {"https://issuer.example.com": {"at": "2026-11-23T08:00:00", "what": "x"}}}'
    (tmp_path / VERIFIED_FILE_NAME).write_text(text)
    assert load_verified(tmp_path).stamps[AUDITED_ISSUER].at.tzinfo is not None
