"""After its puts a pass invalidates caches, once. A failure there does not fail the pass."""

from dataclasses import replace
from pathlib import Path

import pytest

from mirror.config.settings import PublishSettings
from mirror.model import CommitId, Level, ObjectKey, Reason
from mirror.reconcile.executor import MOST_PATHS, ChangedPath, invalidations, never_failing, path_of, send_invalidations
from mirror.report import ExitStatus
from support.fakes import FakeWorld
from support.situations import BOTH, DISCOVERY_KEY, JWKS_KEY, LAST, ONE, Situation

COMMIT = CommitId("c" * 40)
DISTRIBUTION = "E2QWRUHAPOMQZL"
PUBLISH = PublishSettings("bucket", "eu-west-1", "https://oidc.example.com", cloudfront_distribution=DISTRIBUTION)
URL = "https://oidc.example.com/a/openid/v1/jwks"
DISTURBED = Reason("cdn.AccessDenied", "The invalidation was refused.", "Allow it.")


@pytest.fixture
def behind_cdn(tmp_path: Path) -> Situation:
    situation = Situation(tmp_path)
    plain = situation.world.publish
    situation.world.publish = lambda **more: plain(cloudfront_distribution=DISTRIBUTION, **more)  # type: ignore[method-assign]  # an override
    return situation


def reported(situation: Situation) -> list[tuple[str, ...]]:
    return [paths for _, paths, _ in situation.world.cdn.reported]


def test_changed_paths_are_invalidated_once(behind_cdn: Situation) -> None:
    """The distribution invalidates exactly the paths that were put, in one call; a second pass invalidates nothing."""
    report = behind_cdn.run(ONE, ONE)
    assert reported(behind_cdn) == [(f"/{DISCOVERY_KEY}", f"/{JWKS_KEY}")]
    assert behind_cdn.world.cdn.reported[0][0] == DISTRIBUTION
    assert [event.name for event in report.events] == ["cdn.invalidated"]
    behind_cdn.run()
    assert len(reported(behind_cdn)) == 1


def test_unchanged_document_is_not_invalidated(behind_cdn: Situation) -> None:
    """A key of a known algorithm changes only the JWKS, and only that path is invalidated."""
    behind_cdn.run(BOTH, BOTH)
    behind_cdn.run(LAST, BOTH)
    assert reported(behind_cdn)[1:] == [(f"/{JWKS_KEY}",)]


def test_failing_cdn_is_a_warning_with_remedy(behind_cdn: Situation) -> None:
    """The pass does not fail: cached documents expire by themselves."""
    behind_cdn.world.cdn.fails = DISTURBED
    report = behind_cdn.run(ONE, ONE)
    (event,) = report.events
    assert (event.name, event.level) == ("cdn.invalidation_failed", Level.WARNING)
    assert "Allow it." in event.sentence
    assert report.exit_status is ExitStatus.CURRENT


def test_defect_in_a_cdn_is_a_warning() -> None:
    """An unexpected exception of the CDN becomes a warning."""

    def work() -> tuple[()]:
        raise KeyError("x")

    (event,) = never_failing(work)
    assert (event.name, event.level) == ("cdn.invalidation_failed", Level.WARNING)


def test_repair_of_the_same_commit_is_another_invalidation(behind_cdn: Situation) -> None:
    """The CDN may have cached another writer's bytes: the repair invalidates again, although the commit is the same."""
    behind_cdn.run(ONE, ONE)
    behind_cdn.world.bucket.write(JWKS_KEY, b"tampered", snapshot=None)
    behind_cdn.run()
    references = [reference for *_, reference in behind_cdn.world.cdn.reported]
    assert reported(behind_cdn)[1] == (f"/{JWKS_KEY}",)
    assert len(set(references)) == 2


@pytest.mark.parametrize("foreign", [False, True], ids=["earlier-state", "foreign-bytes"])
def test_lost_invalidation_is_asked_for_again_until_the_cache_is_fresh(behind_cdn: Situation, foreign: bool) -> None:
    """After a kill between put and invalidation, the stale paths are invalidated, always with the same reference."""
    behind_cdn.run(ONE, ONE)
    old = behind_cdn.world.bucket.objects[ObjectKey(JWKS_KEY)]
    url = f"{behind_cdn.world.base_url}/{JWKS_KEY}"
    behind_cdn.world.web.cached[url] = replace(old, body=b"foreign") if foreign else old
    behind_cdn.world.cdn.fails = DISTURBED
    behind_cdn.run(BOTH, BOTH)
    behind_cdn.world.cdn.fails = None
    behind_cdn.world.cdn.reported.clear()
    behind_cdn.run()
    behind_cdn.run()
    (_, paths, first), (*_, second) = behind_cdn.world.cdn.reported
    assert (paths, first) == ((f"/{JWKS_KEY}",), second)
    behind_cdn.world.web.cached.clear()
    behind_cdn.run()
    assert len(reported(behind_cdn)) == 2


def test_bucket_without_distribution_sends_no_invalidation(tmp_path: Path) -> None:
    """Nothing is invalidated if no distribution is configured."""
    situation = Situation(tmp_path)
    report = situation.run(ONE, ONE)
    assert (reported(situation), report.events) == ([], ())


def test_dry_run_sends_no_invalidation(behind_cdn: Situation) -> None:
    """A plan changes nothing outside."""
    behind_cdn.plan(ONE, ONE)
    assert reported(behind_cdn) == []


def test_distributions_are_distinguished() -> None:
    """Each distribution and identity gets one invalidation for all buckets and issuers behind it."""
    changed = (
        ChangedPath(PUBLISH, URL, "1"),
        ChangedPath(replace(PUBLISH, bucket="other"), "https://oidc.example.com/b", "1"),
        ChangedPath(replace(PUBLISH, cloudfront_distribution="E1"), URL, "1"),
        ChangedPath(replace(PUBLISH, profile="p"), URL, "1"),
        ChangedPath(replace(PUBLISH, cloudfront_distribution=None), URL, "1"),
    )
    made = invalidations(changed, COMMIT)
    named = [(each.publish.cloudfront_distribution, each.publish.profile, each.paths) for each in made]
    assert named == [
        ("E1", None, ("/a/openid/v1/jwks",)),
        (DISTRIBUTION, None, ("/a/openid/v1/jwks", "/b")),
        (DISTRIBUTION, "p", ("/a/openid/v1/jwks",)),
    ]


def test_reference_follows_from_commit_and_changes() -> None:
    """The same commit and changes, in any order, give the same reference; any other commit or change gives another."""
    one, two = ChangedPath(PUBLISH, URL, "1"), ChangedPath(PUBLISH, f"{URL}2", "1")
    (first,), (again,) = invalidations((one, two), COMMIT), invalidations((two, one), COMMIT)
    assert first == again
    others = [
        invalidations((one, two), CommitId("d" * 40)),
        invalidations((one,), COMMIT),
        invalidations((replace(one, what="2"), two), COMMIT),
    ]
    assert len({first.reference, *(each.reference for (each,) in others)}) == 4
    assert len(first.reference) <= 128


def test_more_paths_than_cloudfront_takes_are_reported() -> None:
    """Paths over the limit are not invalidated and expire by themselves; a warning reports it."""
    world = FakeWorld()
    made = invalidations((ChangedPath(PUBLISH, f"{URL}{n}", "") for n in range(MOST_PATHS + 2)), COMMIT)
    events = send_invalidations(world.ports(), made, workers=2)
    assert len(world.cdn.reported[0][1]) == MOST_PATHS
    assert [event.name for event in events] == ["cdn.invalidated", "cdn.invalidation_partial"]
    assert events[1].sentence.startswith("2 further")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://oidc.example.com/a/b", "/a/b"),
        ("https://oidc.example.com:8443/a", "/a"),
        ("https://oidc.example.com/~team/a-b_c.d", "/%7Eteam/a-b_c.d"),
    ],
)
def test_path_is_that_of_the_public_url(url: str, path: str) -> None:
    """The invalidated path is that of the public URL, with the characters escaped that RFC 1738 calls unsafe."""
    assert path_of(url) == path
