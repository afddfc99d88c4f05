"""One pass against fake adapters: what it publishes, keeps, plans and reports while git and the bucket are healthy."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from mirror.model import (
    Answer,
    IssuerName,
    IssuerUrl,
    KeyPolicy,
    Observed,
    Unusable,
)
from mirror.reconcile.controller import reconcile
from mirror.report import Effect, ExitStatus, State
from support.captures import capture
from support.situations import (
    BOTH,
    DISCOVERY_KEY,
    ISSUER,
    JWKS_KEY,
    LAST,
    LEDGER,
    ONE,
    PUBLIC,
    Situation,
    answer,
    public_kids,
    silent,
)

HOUR = timedelta(hours=1)


def test_first_pass_publishes_the_apiservers_own_bytes(here: Situation) -> None:
    """For a captured cluster with one key, both objects and both files in git equal the apiserver's bodies."""
    report = here.run(ONE, ONE)
    discovery, jwks = capture(f"{ONE}-discovery").body(), capture(f"{ONE}-jwks").body()
    assert here.public(DISCOVERY_KEY) == discovery
    assert here.public(JWKS_KEY) == jwks
    files = here.world.history.files()
    assert files[f"{PUBLIC}/.well-known/openid-configuration"] == discovery
    assert files[f"{PUBLIC}/openid/v1/jwks"] == jwks
    assert LEDGER in files
    assert "README.md" in files
    assert report.exit_status is ExitStatus.CURRENT
    assert report.committed


def test_objects_carry_their_types_cache_and_snapshot(here: Situation) -> None:
    """Both objects have the specified content types and cache control; their metadata names the commit."""
    report = here.run(ONE, ONE)
    by_key = {str(key): stored for key, stored in here.world.bucket.objects.items()}
    assert by_key[DISCOVERY_KEY].content_type == "application/json"
    assert by_key[JWKS_KEY].content_type == "application/jwk-set+json"
    assert {stored.cache_control for stored in by_key.values()} == {"public, max-age=300"}
    assert {stored.snapshot for stored in by_key.values()} == {report.commit}


def test_jwks_is_put_before_discovery(here: Situation) -> None:
    """A discovery document never lists an algorithm without a published key."""
    here.run(ONE, ONE)
    puts = [request for request in here.world.bucket.requests if request.startswith("put ")]
    assert puts == [f"put {JWKS_KEY}", f"put {DISCOVERY_KEY}"]


def test_second_pass_does_nothing(here: Situation) -> None:
    """An unchanged pass makes no commit, no put and no read-back. It lists the bucket once."""
    here.run(ONE, ONE)
    head = here.world.history.head
    here.world.bucket.requests.clear()
    here.world.web.looks.clear()
    report = here.run()
    assert here.world.history.head == head
    assert here.world.bucket.requests == ["list cluster/identifier/"]
    assert here.world.web.looks == []
    assert report.issuers[0].state is State.CURRENT
    assert not report.committed


def test_dry_run_writes_nothing(here: Situation) -> None:
    """The plan lists the commit and the puts, and nothing outside changes."""
    report = here.plan(ONE, ONE)
    assert here.world.history.head is None
    assert here.world.bucket.objects == {}
    assert list(here.state_dir.iterdir()) == []
    assert report.dry_run
    assert report.message.startswith("syd-prod: publish key")
    assert {o.effect for o in report.issuers[0].objects} == {Effect.PLANNED}
    assert report.exit_status is ExitStatus.CURRENT


def test_new_key_on_one_replica_is_public_at_once(here: Situation) -> None:
    """The union of the replicas is published; a replica that does not answer does not delay it."""
    here.run(ONE, ONE)
    report = here.run(BOTH, silent())
    shown = {key["kid"] for key in json.loads(capture(f"{BOTH}jwks").body())["keys"]}
    assert public_kids(here) == shown
    assert report.issuers[0].state is State.DEGRADED
    assert report.exit_status is ExitStatus.CURRENT


def test_removed_key_leaves_after_its_time_alone(here: Situation) -> None:
    """A key that is missing everywhere is retiring; if it is still missing after 24 h, it is dropped."""
    here.run(BOTH, BOTH)
    both = here.public()
    here.run(LAST, LAST)
    kept = here.public()
    assert both is not None
    assert kept is not None
    assert kept.count(b'"kid"') == 3
    here.run(after=23 * HOUR)
    assert here.public() == kept
    report = here.run(after=HOUR)
    assert here.public() == capture(f"{LAST}jwks").body()
    assert [str(change.status) for change in report.issuers[0].changes] == ["dropped", "dropped"]


@pytest.mark.parametrize(
    "bad",
    [
        Answer("https://10.0.0.11:6443", b"{}", b"{}"),
        Answer("https://10.0.0.11:6443", capture(f"{ONE}-discovery").body(), b'{"keys":[]}'),
        answer("06-issuer-https-default/anonymous"),
        silent("https://10.0.0.11:6443", "unauthorized"),
    ],
    ids=["empty_objects", "no_keys", "wrong_issuer", "unauthorized"],
)
@pytest.mark.parametrize("beside", [(), (ONE,)], ids=["alone", "beside_a_good_one"])
def test_refused_answer_leaves_everything_untouched(
    here: Situation, bad: Answer | Unusable, beside: tuple[str, ...]
) -> None:
    """A rejected answer changes neither git nor bucket; the pass fails and reports the reason and the remedy."""
    here.run(ONE, ONE)
    head, objects = here.world.history.head, dict(here.world.bucket.objects)
    report = here.run(bad, *beside)
    assert here.world.history.head == head
    assert here.world.bucket.objects == objects
    assert report.exit_status is ExitStatus.FAILED
    unusable = [o for o in report.issuers[0].observations if isinstance(o, Unusable)]
    assert unusable
    assert all(reason.sentence and reason.remedy for o in unusable for reason in o.reasons)


def test_foreign_jwks_uri_is_a_note(here: Situation) -> None:
    """An apiserver's own private `jwks_uri` (facts.md#12) is reported, and ours is published."""
    report = here.run("07-no-jwks-uri/")
    assert report.exit_status is ExitStatus.CURRENT
    assert f'"jwks_uri":"{ISSUER}/openid/v1/jwks"'.encode() in (here.public(DISCOVERY_KEY) or b"")
    assert next(o.notes for o in report.issuers[0].observations if isinstance(o, Observed))


def test_no_usable_apiserver_fails_and_keeps_the_keys(here: Situation) -> None:
    """An unreachable apiserver never removes a key: the last good state stays public."""
    here.run(ONE, ONE)
    report = here.run(silent("https://10.0.0.11:6443"), silent(), after=100 * HOUR)
    assert here.public() == capture(f"{ONE}-jwks").body()
    assert report.exit_status is ExitStatus.FAILED


def test_one_issuers_defect_does_not_stop_the_others(here: Situation) -> None:
    """An exception while one issuer is processed makes that issuer broken; the other one is published."""
    here.show(ONE, ONE)
    settings = here.settings()
    bad = replace(
        settings.issuers[0], name=IssuerName("bad"), issuer=IssuerUrl(ISSUER + "2"), apiservers=("https://x",)
    )
    here.world.source.answers["bad"] = ("not an answer",)  # type: ignore[assignment]  # an adapter's defect
    report = reconcile(replace(settings, issuers=(bad, *settings.issuers)), here.world.ports(), here.now)
    assert [issuer.state for issuer in report.issuers] == [State.FAILED, State.CHANGED]
    assert here.public() == capture(f"{ONE}-jwks").body()


def test_held_key_is_never_public(here: Situation) -> None:
    """Under `new_keys: hold` a new key is recorded, not published, and exit 3 names the command to approve it."""
    here.run(ONE, ONE)
    here.policy = KeyPolicy(new_keys="hold")
    report = here.run(BOTH, BOTH)
    assert here.public() == capture(f"{ONE}-jwks").body()
    assert report.exit_status is ExitStatus.HELD
    assert "approve syd-prod" in report.issuers[0].held[0].remedy
    assert report.committed


def test_first_pass_under_hold_publishes_nothing(here: Situation) -> None:
    """Held keys alone create no public document, and the empty bucket is not read."""
    here.policy = KeyPolicy(new_keys="hold")
    report = here.run(ONE, ONE)
    assert report.exit_status is ExitStatus.HELD
    assert here.world.bucket.objects == {}
    assert here.world.web.looks == []


def test_no_answer_at_all_is_a_failure(here: Situation) -> None:
    """A pass without any observation fails: preconditions fail closed."""
    here.run(ONE, ONE)
    assert here.run(after=HOUR).exit_status is ExitStatus.CURRENT
    here.world.source.answers = {}
    assert reconcile(here.settings(), here.world.ports(), here.now).exit_status is ExitStatus.FAILED
