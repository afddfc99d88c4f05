"""The status as text, JSON and exit status, from complete passes in memory. `status` changes nothing."""

import json
import re
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest
from click import unstyle

from mirror.cli.status import cut, lines, on_screen, overview
from mirror.config.settings import FormerIssuerSettings, Issuer, Settings
from mirror.errors import BucketError, HistoryError
from mirror.model import CommitId, IssuerName, IssuerUrl, KeyPolicy, Reason, Status, Thumbprint, Version
from mirror.reconcile.local_state import LastPass
from mirror.reconcile.state import publications
from mirror.report import ExitStatus, State
from mirror.status.collect import MOST, collect_status, issuers_without_configuration, orphaned
from mirror.status.result import IssuerStatus, ObjectState, ObjectStatus, PublicKeyStatus, StatusReport, to_json
from support.fakes import MOMENT, FakeHistory, FakeRemote
from support.keys import RSA_KEYS
from support.pass_histories import record
from support.signers import ledger_trust
from support.situations import (
    BASE_URL,
    BOTH,
    DISCOVERY_KEY,
    JWKS_KEY,
    LAST,
    LEDGER,
    NAME,
    ONE,
    PUBLIC,
    Situation,
    tamper,
)

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/reference/status.schema.json").read_text())
DENIED = BucketError("The bucket says no.", code="AccessDenied", remedy="Allow it.")
DENIED_REASON = Reason("bucket.AccessDenied", "The bucket says no.", "Allow it.")
OTHER = IssuerUrl(f"{BASE_URL}/other")


def look(here: Situation, settings: Settings | None = None, *names: str) -> StatusReport:
    before = (here.world.history.files(), dict(here.world.bucket.objects), here.world.source.asked.copy())
    chosen = frozenset(IssuerName(name) for name in names or (NAME,))
    found = collect_status(settings or here.settings(), here.world.ports(), here.now, names=chosen)
    assert before == (here.world.history.files(), here.world.bucket.objects, here.world.source.asked)
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(to_json(found))
    return found


def one(found: StatusReport) -> IssuerStatus:
    (issuer,) = found.issuers
    return issuer


def words(found: StatusReport) -> str:
    return unstyle("\n".join(lines(found)))


def states(found: StatusReport) -> list[ObjectState]:
    return [each.state for each in one(found).objects]


def test_before_the_first_pass_there_is_nothing(here: Situation) -> None:
    """There are no keys and no commit, and the result of the last pass is unknown. Exit 1."""
    found = look(here)
    assert (found.exit_status, found.last_commit, one(found).keys) == (ExitStatus.FAILED, None, ())
    assert "no keys yet" in words(found)
    assert "syd-prod: unpublished" in words(found)
    assert "How the last pass ended is not known" in words(found)
    assert "No commit yet." in words(found)


def test_published_key_is_shown_with_its_safe_time(here: Situation) -> None:
    """Last-Modified of the public JWKS + 300 s of caching + 5 min. Both objects are current."""
    here.run(ONE, ONE)
    found = look(here)
    (key,) = one(found).keys
    assert (key.record.status, key.in_public_jwks, key.leaves_at) == (Status.PUBLISHED, True, None)
    assert key.safe_to_sign_at == MOMENT + timedelta(minutes=10)
    assert states(found) == [ObjectState.CURRENT, ObjectState.CURRENT]
    assert found.exit_status is ExitStatus.CURRENT
    assert "safe to sign from 2026-11-23 08:10:00Z" in words(found)
    assert key.record.key.kid in words(found)
    here.now += timedelta(hours=1)
    assert "safe to sign since 2026-11-23 08:10:00Z" in words(look(here))


def test_retiring_key_is_shown_with_its_removal_time(here: Situation) -> None:
    """missing_since + retain_removed. After that time, the output says that the key may be removed since then."""
    here.run(BOTH, BOTH)
    here.run(LAST, LAST)
    found = look(here)
    (retiring, *_) = (key for key in one(found).keys if key.record.status is Status.RETIRING)
    assert retiring.leaves_at == MOMENT + timedelta(hours=24)
    assert "leaves at 2026-11-24 08:00:00Z" in words(found)
    here.now += timedelta(hours=25)
    assert "may leave since 2026-11-24 08:00:00Z" in words(look(here))


def test_held_key_comes_with_its_command(here: Situation) -> None:
    """Exit 3, and the command contains the thumbprint. A held key is never called safe."""
    here.run(ONE, ONE)
    here.policy = KeyPolicy(new_keys="hold")
    here.run(BOTH, BOTH)
    found = look(here)
    (held,) = (key for key in one(found).keys if key.record.status is Status.HELD)
    assert (held.safe_to_sign_at, held.in_public_jwks) == (None, False)
    assert found.exit_status is ExitStatus.HELD
    assert f"oidc-mirror approve syd-prod {held.record.key.thumbprint}" in words(found)


def test_revoked_key_is_shown_with_its_reason(here: Situation) -> None:
    """A revoked key stays in the list with date and reason, and is not public."""
    here.run(BOTH, BOTH)
    first = one(look(here)).keys[0].record.key.thumbprint
    here.policy = KeyPolicy(revoked=frozenset({Thumbprint(first)}))
    here.run(BOTH, BOTH)
    found = look(here)
    (revoked,) = (key for key in one(found).keys if key.record.status is Status.REVOKED)
    assert (revoked.in_public_jwks, revoked.safe_to_sign_at) == (False, None)
    assert "revoked 2026-11-23 08:00:00Z: named in keys.revoked of the configuration" in words(found)


def test_drift_is_reported_and_is_no_failure_of_status(here: Situation) -> None:
    """A write by another party is drift in the bucket. Whether a key is safe is then unknown."""
    here.run(ONE, ONE)
    here.world.bucket.write(JWKS_KEY, b"evil")
    found = look(here)
    assert states(found) == [ObjectState.DRIFT, ObjectState.CURRENT]
    assert [event.name for event in one(found).events] == ["bucket.drift", "readback.differs"]
    assert (one(found).keys[0].in_public_jwks, one(found).keys[0].safe_to_sign_at) == (None, None)
    assert found.exit_status is ExitStatus.CURRENT
    assert "syd-prod: degraded" in words(found)
    assert "safe to sign: unknown" in words(found)


def test_suspended_issuer_is_reported_in_both_views(here: Situation) -> None:
    """The issuer is `degraded` with the reason, as in the report. No line promises a repair by the next pass."""
    here.run(ONE, ONE)
    here.suspend = True
    here.world.bucket.write(JWKS_KEY, b"evil")
    found = look(here)
    assert (one(found).state, found.exit_status) == (State.DEGRADED, ExitStatus.CURRENT)
    said = unstyle("\n".join(overview(found)))
    assert re.search(r"^degraded +\S+ +1 published +suspended: remove `suspend` from the config", said, re.MULTILINE)
    assert "warning [issuer.suspended]: " in words(found)
    assert "not as git says, and not put while the issuer is suspended: " in words(found)
    assert "the next pass" not in words(found)


def test_missing_and_outdated_objects_are_reported(here: Situation) -> None:
    """A deleted object is missing. An earlier committed state is outdated, and lacks the new key."""
    here.run(ONE, ONE)
    earlier = here.world.bucket.objects.copy()
    here.run(BOTH, BOTH)
    for key, stored in earlier.items():
        if key == JWKS_KEY:
            here.world.bucket.objects[key] = stored
    del here.world.bucket.objects[next(key for key in earlier if key == DISCOVERY_KEY)]
    found = look(here)
    assert states(found) == [ObjectState.OUTDATED, ObjectState.MISSING]
    assert sorted(key.in_public_jwks is True for key in one(found).keys) == [False, True]
    assert "not safe to sign: the public JWKS does not contain it" in words(found)


def test_object_of_an_unknown_snapshot_is_drift(here: Situation) -> None:
    """Without a remote, no other mirror publishes here. The next pass overwrites the object, whatever its metadata."""
    here.run(ONE, ONE)
    here.world.bucket.write(JWKS_KEY, b"theirs", snapshot="ab" * 20)
    found = look(here)
    assert states(found)[0] is ObjectState.DRIFT
    assert [event.name for event in one(found).events] == ["bucket.drift", "readback.differs"]
    assert (one(found).held, found.exit_status) == ((), ExitStatus.CURRENT)


def test_drift_that_waits_for_the_remote_is_drift(here: Situation) -> None:
    """With an unreachable remote, the repair waits. `status` reports both and fails because of the remote."""
    here.remote = "/remote.git"
    here.world.history.remote = FakeRemote()
    here.run(ONE, ONE)
    here.world.bucket.write(JWKS_KEY, b"evil")
    here.world.history.remote.down = True
    found = look(here)
    assert states(found)[0] is ObjectState.DRIFT
    assert [reason.code for reason in found.failures] == ["remote.unreachable"]
    assert (found.exit_status, found.unpushed_commits) == (ExitStatus.FAILED, None)
    assert "failed remote.unreachable" in words(found)


def test_remote_that_sends_what_git_refuses_is_damaged(here: Situation) -> None:
    """The remote answered, so it is not unreachable. An operator must inspect the pushed objects."""
    here.remote = "/remote.git"
    here.world.history.remote = FakeRemote()
    here.run(ONE, ONE)
    here.world.history.remote.damaged = True
    found = look(here)
    assert [reason.code for reason in found.failures] == ["remote.damaged"]
    assert (len(one(found).keys), found.exit_status) == (1, ExitStatus.FAILED)


def test_unpushed_commits_are_counted(here: Situation) -> None:
    """Commits that the remote does not have are counted. After the push the count is 0."""
    here.remote = "/remote.git"
    here.world.history.remote = FakeRemote()
    here.run(ONE, ONE)
    assert look(here).unpushed_commits == 0
    here.world.history.remote.down = True
    here.run(BOTH, BOTH)
    here.world.history.remote.down = False
    found = look(here)
    assert found.unpushed_commits == 1
    assert "1 commit not pushed yet." in words(found)


def test_laptop_without_history_sees_the_remotes(here: Situation) -> None:
    """With an empty repository, `status` uses the fetched branch."""
    here.remote = "/remote.git"
    here.world.history.remote = FakeRemote()
    here.run(ONE, ONE)
    laptop = here.beside()
    found = collect_status(laptop.settings(), laptop.world.ports(), here.now, names=frozenset({NAME}))
    assert [key.record.status for key in one(found).keys] == [Status.PUBLISHED]
    assert found.last_commit is not None
    assert found.last_commit.commit == found.snapshot == here.world.history.head


def test_unreadable_bucket_is_a_failure(here: Situation) -> None:
    """Exit 1. The keys still come from git, and the objects are unknown."""
    here.run(ONE, ONE)
    here.world.bucket.fails["list"] = DENIED
    found = look(here)
    assert states(found) == [ObjectState.UNKNOWN, ObjectState.UNKNOWN]
    assert (len(one(found).keys), found.exit_status) == (1, ExitStatus.FAILED)
    assert "syd-prod: failed" in words(found)


def test_unreadable_bucket_of_a_new_issuer_is_a_failure(here: Situation) -> None:
    """The failure also occurs while git knows nothing of the issuer."""
    here.world.bucket.fails["list"] = DENIED
    assert look(here).exit_status is ExitStatus.FAILED


def test_unreadable_public_url_is_a_failure(here: Situation) -> None:
    """The failure has cause, remedy and URL. There is no statement about when keys are safe."""
    here.run(ONE, ONE)
    here.world.web.blocked = Reason("forbidden", "Every client gets 403.", "Allow s3:GetObject.")
    found = look(here)
    assert [(r.code, r.where) for r in one(found).failures] == [
        ("readback.forbidden", f"{BASE_URL}/cluster/identifier/openid/v1/jwks")
    ]
    assert (one(found).keys[0].in_public_jwks, found.exit_status) == (None, ExitStatus.FAILED)
    assert "remedy: Allow s3:GetObject." in words(found)


def test_disabled_readback_is_not_looked_at(here: Situation) -> None:
    """The public URL is not requested, there is no failure, and safety is unknown."""
    here.run(ONE, ONE)
    settings, looks = here.settings(), len(here.world.web.looks)
    issuer = settings.issuers[0]
    publish = replace(issuer.publish, readback=replace(issuer.publish.readback, enabled=False))
    found = look(here, replace(settings, issuers=(replace(issuer, publish=publish),)))
    assert len(here.world.web.looks) == looks
    assert (one(found).keys[0].in_public_jwks, found.exit_status) == (None, ExitStatus.CURRENT)


def test_missing_last_modified_leaves_safety_unknown(here: Situation) -> None:
    """Without Last-Modified and an earlier observation here, the key is public but its safe time is unknown."""
    here.run(ONE, ONE)
    (here.state_dir / "local-state.json").unlink()
    view = here.world.web.get_document

    class Undated:
        def get_document(self, url: str, *, readback: object) -> object:
            return replace(view(url, readback=readback), last_modified=None)  # type: ignore[arg-type]  # a PublicResponse

    ports = replace(here.world.ports(), view=Undated())  # type: ignore[arg-type]  # see above
    found = collect_status(here.settings(), ports, here.now, names=frozenset({NAME}))
    assert (one(found).keys[0].in_public_jwks, one(found).keys[0].safe_to_sign_at) == (True, None)
    assert "has no Last-Modified" in words(found)


def test_damaged_ledger_is_a_failure_and_its_past_is_reported(here: Situation) -> None:
    """An unreadable ledger is reported with its place. The keys come from the nearest readable ledger."""
    here.run(ONE, ONE)
    tamper(here, {LEDGER: b"{}"})
    found = look(here)
    assert [reason.code for reason in one(found).failures] == ["ledger.damaged"]
    assert one(found).failures[0].where.startswith(LEDGER)
    assert [key.record.status for key in one(found).keys] == [Status.PUBLISHED]
    assert found.exit_status is ExitStatus.FAILED


def test_ledger_of_which_nothing_can_be_read_is_broken(here: Situation) -> None:
    """Without any readable ledger, no key is reported and the failure names the remedy."""
    history = here.world.history
    history.commit(base=None, parents=(), changes={LEDGER: b"{}"}, message="x", when=here.now, expect=None)
    found = look(here)
    assert [reason.code for reason in one(found).failures] == ["ledger.damaged", "ledger.broken"]
    assert (one(found).keys, found.exit_status) == ((), ExitStatus.FAILED)


@pytest.mark.parametrize(
    ("remote", "signs", "mode"),
    [
        (None, False, "local"),
        ("/remote.git", False, "trusted"),
        ("/remote.git", True, "signed"),
        (None, True, "signed"),
    ],
    ids=["local", "trusted", "signed", "signed-local"],
)
def test_status_shows_the_mode_of_the_repository(here: Situation, remote: str | None, signs: bool, mode: str) -> None:
    """The mode is in JSON and in the text. An event explains a trusted remote."""
    here.remote = remote
    here.world.history.remote = FakeRemote() if remote is not None else None
    here.world.ledger_trust = ledger_trust() if signs else None
    here.run(ONE, ONE)
    found = look(here)
    assert found.mode == mode
    assert [event.name for event in found.events] == (["repository.unsigned"] if mode == "trusted" else [])
    assert ("can publish a key, act as any pod of 1 issuers" in words(found)) is (mode == "trusted")


def test_unreadable_repository_is_a_failure(here: Situation) -> None:
    """No issuer can be reported. The cause and the remedy are printed."""
    here.world.history.broken = True
    found = look(here)
    assert (found.issuers, found.exit_status) == ((), ExitStatus.FAILED)
    assert "disk on fire" in words(found)


def test_history_that_breaks_while_it_is_read_is_a_failure(here: Situation) -> None:
    """Issuers that were already read are reported with the failure. No documents are called abandoned."""
    here.run(ONE, ONE)

    class Breaking(FakeHistory):
        def versions(self, path: str | None, *, most: int, at: CommitId | None = None) -> tuple[Version, ...]:
            raise HistoryError("The disk is gone.")

    history = Breaking(**{each.name: getattr(here.world.history, each.name) for each in fields(FakeHistory)})
    ports = replace(here.world.ports(), history=history)
    found = collect_status(moved(here), ports, here.now, names=frozenset({NAME}))
    assert [reason.code for reason in found.failures] == ["history.failed"]
    assert (len(found.issuers), found.orphaned, found.exit_status) == (1, (), ExitStatus.FAILED)


def test_public_documents_that_git_lacks_are_reported(here: Situation) -> None:
    """Before the first pass, another tool's documents are public, and the remedy names `adopt`."""
    here.world.bucket.write(JWKS_KEY, b"theirs")
    found = look(here)
    assert [event.name for event in one(found).events] == ["takeover.possible"]
    assert "oidc-mirror adopt syd-prod" in words(found)


def test_defect_of_one_issuer_hides_no_other(here: Situation) -> None:
    """An unexpected exception is a failure of that issuer only."""
    here.run(ONE, ONE)

    class Defective:
        def get_document(self, url: str, *, readback: object) -> object:
            raise RuntimeError("unexpected")

    ports = replace(here.world.ports(), view=Defective())  # type: ignore[arg-type]  # never returns
    found = collect_status(here.settings(), ports, here.now, names=frozenset({NAME}))
    assert [reason.code for reason in one(found).failures] == ["broken"]


def test_only_the_named_issuer_is_reported(here: Situation) -> None:
    """The other issuers are read only to find abandoned documents."""
    settings = here.settings()
    other = replace(settings.issuers[0], name=IssuerName("mel-prod"), issuer=OTHER)
    both = replace(settings, issuers=(*settings.issuers, other))
    assert [issuer.name for issuer in look(here, both, "mel-prod").issuers] == ["mel-prod"]


# --------------------------------------------------------------------------------------------- abandoned


def moved(here: Situation, **changes: object) -> Settings:
    """The configuration after its only issuer was replaced by another."""
    settings = here.settings()
    issuer = replace(settings.issuers[0], issuer=OTHER, **changes)  # type: ignore[arg-type]  # fields by name
    return replace(settings, issuers=(issuer,))


def test_documents_of_an_issuer_no_longer_configured_are_abandoned(here: Situation) -> None:
    """Both documents are listed with S3 URL and delete command. Nothing is deleted."""
    here.run(ONE, ONE)
    found = look(here, moved(here))
    assert [each.s3_url for each in found.orphaned] == [
        f"s3://oidc-bucket/{DISCOVERY_KEY}",
        f"s3://oidc-bucket/{JWKS_KEY}",
    ]
    assert f"aws s3 rm s3://oidc-bucket/{JWKS_KEY} --region ap-southeast-2" in words(found)
    assert found.exit_status is ExitStatus.FAILED  # the moved issuer has no document yet


def test_deleted_documents_are_abandoned_no_more(here: Situation) -> None:
    """A document that the operator deleted is not listed again."""
    here.run(ONE, ONE)
    here.world.bucket.objects.clear()
    assert look(here, moved(here)).orphaned == ()


def test_other_host_style_of_a_live_issuer_is_not_abandoned(here: Situation) -> None:
    """The same objects under another host style belong to a live issuer. Deleting them would break it."""
    here.run(ONE, ONE)
    settings = here.settings()
    style = IssuerUrl("https://oidc-bucket.s3.ap-southeast-2.amazonaws.com/cluster/identifier")
    other = replace(settings, issuers=(replace(settings.issuers[0], issuer=style),))
    assert look(here, other).orphaned == ()


def test_unreadable_object_is_a_failure(here: Situation) -> None:
    """Whether the object still exists is unknown: exit 1."""
    here.run(ONE, ONE)
    here.world.bucket.fails["head"] = DENIED
    found = look(here, moved(here))
    assert (found.orphaned, found.exit_status) == ((), ExitStatus.FAILED)


def test_documents_outside_of_every_bucket_are_reported_without_command(here: Situation) -> None:
    """If their bucket also left the configuration, only the public URL is known."""
    here.run(ONE, ONE)
    new = here.world.publish(base_url="https://keys.example.com", endpoint_url="https://store.example.com", profile="p")
    settings = moved(here, publish=new)
    issuer = replace(settings.issuers[0], issuer=IssuerUrl("https://keys.example.com/other"))
    found = look(here, replace(settings, issuers=(issuer,)))
    assert [each.command for each in found.orphaned] == [(), ()]
    assert f"{BASE_URL}/{JWKS_KEY} (in no bucket of the configuration)" in words(found)


def test_endpoint_and_profile_are_part_of_the_command(here: Situation) -> None:
    """The command addresses the store that holds the object."""
    here.run(ONE, ONE)
    settings = moved(here, publish=here.world.publish(endpoint_url="https://store.example.com", profile="p"))
    found = look(here, settings)
    assert "--region ap-southeast-2 --profile p --endpoint-url https://store.example.com" in words(found)


@pytest.mark.parametrize(
    "path",
    [
        "public/host.example.com/$(reboot)/openid/v1/jwks",
        "public/host.example.com/a b/openid/v1/jwks",
        "public/host.example.com/\x1b[31m/openid/v1/jwks",
        "public/host.example.com/../x/openid/v1/jwks",
        "public/host.example.com/x/openid/v1/keys",
        "public/openid/v1/jwks",
        "ledger/host.example.com/openid/v1/jwks",
        f"{PUBLIC}/openid/v1/jwks",
        "public/host.example.com/-rf;x/openid/v1/jwks",
        "public//openid/v1/jwks",
    ],
)
def test_path_of_no_issuer_is_not_listed(here: Situation, path: str) -> None:
    """Anyone who can push to the remote cannot inject text into a command."""
    assert issuers_without_configuration([path], publications(here.settings())) == ()


def test_flood_of_strange_issuers_is_counted(here: Situation) -> None:
    """At most 500 issuers are checked. The rest is only counted."""
    paths = [f"public/host.example.com/{number}/openid/v1/jwks" for number in range(MOST + 3)]
    found, failures = orphaned(paths, publications(here.settings()), here.world.ports())
    assert len(found) == 2 * MOST
    assert [reason.sentence[:17] for reason in failures] == ["3 further issuers"]


def test_former_issuer_is_marked(here: Situation) -> None:
    """An entry's former issuers are listed with a mark, and are not abandoned."""
    settings = here.settings()
    issuer: Issuer = replace(
        settings.issuers[0], former_issuers=(FormerIssuerSettings(OTHER, (here.now + timedelta(days=9)).date()),)
    )
    found = look(here, replace(settings, issuers=(issuer,)))
    assert [(each.issuer, each.is_former) for each in found.issuers] == [(issuer.issuer, False), (OTHER, True)]
    assert "(former issuer)" in words(found)


# --------------------------------------------------------------------------------------------- one line an issuer


def fleet(number: int, **changes: object) -> StatusReport:
    """A status of that many issuers. `changes` apply to the last one."""
    key = PublicKeyStatus(record(RSA_KEYS[0], Status.PUBLISHED), in_public_jwks=True, safe_to_sign_at=MOMENT)
    stored = ObjectStatus("https://issuer.example.com/jwks", "jwks", ObjectState.CURRENT)
    healthy = IssuerStatus(NAME, OTHER, False, (key,), (stored,))
    issuers = [replace(healthy, name=IssuerName(f"c{at:02}"), issuer=IssuerUrl(f"{OTHER}{at}")) for at in range(number)]
    issuers[-1] = replace(issuers[-1], **changes)  # type: ignore[arg-type]  # fields by name
    last = LastPass(MOMENT - timedelta(seconds=40), ExitStatus.CURRENT)
    version = Version(CommitId("a" * 40), (), MOMENT - timedelta(hours=2), "oidc-mirror", "c00: publish a key")
    return StatusReport(MOMENT, CommitId("a" * 40), "signed", version, 0, tuple(issuers), last_pass=last)


def seen(found: StatusReport) -> list[str]:
    return unstyle("\n".join(overview(found))).splitlines()


def test_fifty_issuers_are_fifty_lines() -> None:
    """A heading, one line per issuer, git, and the summary last."""
    found = seen(fleet(50))
    assert len(found) == 53
    assert found[0].split() == ["STATE", "NAME", "KEYS", "NEXT"]
    assert found[1].split() == ["current", "c00", "1", "published"]
    assert found[-2] == "Repository mode: signed. Last commit aaaaaaaaaaaa, 2 h ago: c00: publish a key"
    assert found[-1] == "50 issuers: 50 current. Last pass 2026-11-23 07:59:20Z (40 s ago): exit status 0."


def test_worst_issuer_is_the_first_line() -> None:
    """The line says what is wrong. Columns are aligned."""
    found = seen(fleet(5, failures=(Reason("bucket.AccessDenied", "The bucket says no.", "Allow it."),)))
    assert found[1] == "failed   c04   1 published  bucket.AccessDenied: The bucket says no."
    assert [line.split()[1] for line in found[2:6]] == ["c00", "c01", "c02", "c03"]
    assert found[-1].startswith("5 issuers: 1 failed, 4 current.")


def test_line_marks_rotations_former_issuers_and_what_waits(here: Situation) -> None:
    """A held key that is public: the line shortens its kid, the details have the whole kid."""
    here.run(ONE, ONE)
    here.policy = KeyPolicy(new_keys="hold")
    here.run(ONE, BOTH)
    found = look(here)
    (held,) = (key.record.key for key in one(found).keys if key.record.status is Status.HELD)
    assert seen(found)[1].startswith("held (rotating)  syd-prod  1 published, 1 held  approve or revoke ")
    assert f"{held.kid[:10]}…" in seen(found)[1]
    assert held.kid not in "\n".join(seen(found))
    assert held.kid in words(found)
    former = replace(found, issuers=(replace(one(found), is_former=True),))
    assert "  syd-prod (former)  " in seen(former)[1]


def test_what_concerns_all_is_a_line_each(here: Situation) -> None:
    """Failures with remedy, those of the last pass, the newest event, orphaned objects, unpushed commits."""
    here.run(ONE, ONE)
    here.world.bucket.write(JWKS_KEY, b"evil")
    here.run(ONE, ONE, after=timedelta(minutes=1))
    found = look(here, moved(here))
    reported = "\n".join(seen(found))
    assert "3 events in 7 days, the newest" not in reported
    assert re.search(
        r"\d events? in 7 days, the newest \S+ of syd-prod, 0 s ago: oidc-mirror status --verbose", reported
    )
    assert "2 public objects of no configured issuer: oidc-mirror status --verbose" in reported
    assert "No commit yet." not in reported
    broken = replace(found.last_pass, failures=(Reason("history.failed", "Disk full.", "Free some."),))  # type: ignore[type-var]  # there is one
    ended = replace(found, last_pass=broken, unpushed_commits=2, failures=(Reason("x", "Nobody is there.", ""),))
    reported = "\n".join(seen(ended))
    assert seen(ended)[0] == "failed x: Nobody is there."
    assert "failed history.failed: Disk full.\n  remedy: Free some." in reported
    assert "2 commits not pushed yet." in reported


def test_text_from_outside_is_escaped_in_a_line() -> None:
    """The sentence of a failure may quote an apiserver."""
    found = seen(fleet(1, failures=(Reason("x", "It said \x1b[31mred.", ""),)))
    assert "\x1b" not in found[1]


def test_overview_before_the_first_pass(here: Situation) -> None:
    """The overview makes no claim before the first pass."""
    found = seen(look(here))
    assert found[1] == "unpublished  syd-prod  -     nothing was ever public: the first good pass publishes it"
    assert found[-2] == "Repository mode: local. No commit yet."
    assert "1 issuer: 1 unpublished. How the last pass ended is not known" in found[-1]


def test_details_of_several_issuers_end_with_the_summary() -> None:
    """`--verbose` prints all details of all issuers, the worst first."""
    found = words(fleet(3, failures=(DENIED_REASON,)))
    assert found.index("c02: failed") < found.index("c00: current")
    assert found.splitlines()[-1] == "3 issuers: 1 failed, 2 current."


def test_events_are_shown_with_their_times(here: Situation) -> None:
    """Each event has absolute and relative times, first and last occurrence, name and level."""
    here.run(ONE, ONE)
    here.world.bucket.write(JWKS_KEY, b"evil")
    here.run(ONE, ONE, after=timedelta(minutes=1))
    here.now += timedelta(hours=3)
    reported = words(look(here))
    assert "Events of the last 7 days:\n  2026-11-23 08:01:00Z (3 h ago) error [bucket.drift]: syd-prod: " in reported


# --------------------------------------------------------------------------------------------- on a terminal


@pytest.mark.parametrize(
    ("line", "width", "shown"),
    [
        ("held  a", 7, "held  a"),
        ("held  ab", 7, "held  …"),
        ("\x1b[31mheld\x1b[0m  a", 7, "\x1b[31mheld\x1b[0m  a"),
        ("\x1b[31mheld\x1b[0m  ab", 7, "\x1b[31mheld\x1b[0m  …"),
        ("\x1b[31mwaiting_for_push\x1b[0m  a", 7, "\x1b[31mwaitin\x1b[0m…"),
    ],
)
def test_line_is_cut_by_what_is_seen(line: str, width: int, shown: str) -> None:
    """Colour codes take no width, and they are reset at the cut."""
    assert cut(line, width) == shown


def test_screen_has_the_worst_and_the_summary() -> None:
    """Lines that do not fit are counted. The summary stays."""
    drawn = [f"line {number}" for number in range(50)]
    found = on_screen(drawn, MOMENT, 10).plain.splitlines()
    assert len(found) == 10
    assert found[0] == "oidc-mirror status, 2026-11-23 08:00:00Z, every 5 s; Ctrl-C ends it"
    assert found[1:4] == ["", "line 0", "line 1"]
    assert found[-2:] == ["… 43 lines more", "line 49"]
    assert sum(line.startswith("line") for line in found) + 43 == 50


def test_screen_with_room_has_everything() -> None:
    """If all lines fit, no count is shown."""
    found = on_screen(["line 1", "line 2"], MOMENT, 10).plain.splitlines()
    assert found[2:] == ["line 1", "line 2"]
