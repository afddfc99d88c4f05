"""What the writer may do."""

import pytest

from mirror.check.ports import Missed, PutVerdict
from mirror.check.result import Finding
from mirror.check.rights import listing, objects
from mirror.errors import BucketError
from mirror.model import ObjectKey
from support.doctor import DENIED, FakeAws, told
from support.fakes import FakeWorld
from support.situations import DISCOVERY_KEY, JWKS_KEY, NAME

KEYS = (ObjectKey(DISCOVERY_KEY), ObjectKey(JWKS_KEY))


def looked(world: FakeWorld, aws: FakeAws, **publish: object) -> list[Finding]:
    return list(objects(NAME, world.publish(**publish), KEYS[:1], world.ports().bucket, aws))


def test_every_right_is_told() -> None:
    """List, read and write are looked at; what is there is asked with its own bytes."""
    world, aws = FakeWorld(), FakeAws()
    world.bucket.write(DISCOVERY_KEY, b"{}")
    assert told(listing(world.publish(), aws, KEYS)) == [("ok", "rights.list")]
    assert told(looked(world, aws)) == [("ok", "rights.get"), ("ok", "rights.put")]
    assert aws.puts == [DISCOVERY_KEY]


def test_listing_looks_below_the_folder_of_all_keys() -> None:
    """A writer policy grants ListBucket on the prefix alone."""
    (found,) = listing(FakeWorld().publish(), FakeAws(), KEYS)
    assert found.subject == "s3://oidc-bucket/cluster/identifier/"


def test_refused_list_names_the_action_and_the_bucket() -> None:
    """The remedy is what to put into the policy."""
    (found,) = listing(FakeWorld().publish(), FakeAws(list_refused=DENIED), KEYS)
    assert told([found]) == [("failed", "rights.list")]
    assert "`s3:ListBucket` on `arn:aws:s3:::oidc-bucket`" in found.remedy


@pytest.mark.parametrize(
    ("verdict", "code", "words"),
    [
        pytest.param(
            DENIED, "rights.put", f"`s3:PutObject` on `arn:aws:s3:::oidc-bucket/{DISCOVERY_KEY}`", id="denied"
        ),
        pytest.param(Missed("SlowDown", "", "Wait."), "rights.put", "Wait.", id="busy"),
        pytest.param(
            "wrote", "rights.put_unconditional", "publish.conditional_writes: false", id="store-ignores-conditions"
        ),
    ],
)
def test_write_that_fails_is_told(verdict: PutVerdict, code: str, words: str) -> None:
    """Denied, not to be tried, or a store that wrote although nothing should have let it."""
    found = looked(FakeWorld(), FakeAws(verdict=verdict))[-1]
    assert told([found]) == [("failed", code)]
    assert words in found.remedy


def test_refused_read_is_told_and_the_write_tried_all_the_same() -> None:
    """Rights are independent; with an expected owner the remedy names that cause too."""
    world, aws = FakeWorld(), FakeAws()
    world.bucket.fails["get"] = BucketError("No.", cause="AccessDenied", code="AccessDenied")
    world.bucket.write(DISCOVERY_KEY, b"{}")
    found = looked(world, aws, expected_bucket_owner="111122223333")
    assert told(found) == [("failed", "rights.get"), ("ok", "rights.put")]
    assert "another account" in found[0].remedy


def test_read_of_what_is_absent_says_nothing() -> None:
    """An absent object is told by a listing where reading is refused, so the right to read it shows later."""
    assert told(looked(FakeWorld(), FakeAws()))[0] == ("note", "rights.get_unknown")


def test_without_conditional_writes_nothing_is_tried() -> None:
    """A write could then take effect: it is said that the right is not known."""
    aws = FakeAws()
    assert told(looked(FakeWorld(), aws, conditional_writes=False))[-1] == ("note", "rights.put_untested")
    assert aws.puts == []
