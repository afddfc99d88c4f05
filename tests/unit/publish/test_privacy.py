import json
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.config.settings import Publish
from mirror.model import ObjectKey, PublicObject, Reason
from mirror.ports import Openness
from mirror.publish.privacy import is_served_by_bucket, opens, why_private
from mirror.publish.put import Freshness, read_back
from support.fakes import MOMENT, FakeBucket, FakeWeb
from support.situations import ONE, Situation

PUBLISH = Publish("bucket", "eu-west-1", "https://bucket.s3.eu-west-1.amazonaws.com")
KEY = ObjectKey("id/openid/v1/jwks")
SEEN = Reason("forbidden", "The public URL is not public: HTTP 403.", "All at once.")
ALLOW = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::bucket/{KEY}"}


def policy(*statements: object) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.mark.parametrize(
    ("openness", "code", "word"),
    [
        pytest.param(Openness(), "forbidden", "All at once.", id="nothing-learned"),
        pytest.param(Openness(exists=False, blocks=(), policy=""), "object_missing", "prefix", id="missing"),
        pytest.param(Openness(True, ("RestrictPublicBuckets",), ""), "block_public_access", "Restrict", id="blocked"),
        pytest.param(Openness(True, (), ""), "bucket_policy", "render bucket-policy", id="no-policy"),
        pytest.param(Openness(True, None, policy()), "bucket_policy", "s3:GetObject", id="empty-policy"),
        pytest.param(Openness(None, None, policy(ALLOW)), "forbidden", "of the account", id="something-above"),
        pytest.param(Openness(True, (), None), "forbidden", "All at once.", id="policy-not-readable"),
    ],
)
def test_forbidden_is_told_by_its_cause(openness: Openness, code: str, word: str) -> None:
    """Each cause has its code and its remedy; where nothing can be learned all remedies stand."""
    reason = why_private(SEEN, openness, PUBLISH, KEY)
    assert (reason.code, word in reason.remedy) == (code, True)
    assert reason.sentence.startswith(SEEN.sentence)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(policy(ALLOW), True, id="exact"),
        pytest.param(json.dumps({"Statement": ALLOW}), True, id="one-statement-without-a-list"),
        pytest.param(policy({**ALLOW, "Principal": {"AWS": ["*"]}}), True, id="principal-in-a-list"),
        pytest.param(policy({**ALLOW, "Resource": "arn:aws-cn:s3:::bucket/id/*"}), True, id="folder-in-china"),
        pytest.param(policy({**ALLOW, "Resource": "arn:aws:s3:::bucke?/*"}), True, id="one-character"),
        pytest.param(policy({**ALLOW, "Resource": "*"}), True, id="everything"),
        pytest.param(policy({**ALLOW, "Action": ["s3:PutObject", "S3:Get*"]}), True, id="actions"),
        pytest.param(policy({**ALLOW, "Resource": "arn:aws:s3:::bucket/other"}), False, id="other-key"),
        pytest.param(policy({**ALLOW, "Resource": "arn:aws:s3:::bucket"}), False, id="bucket-alone"),
        pytest.param(policy({**ALLOW, "Resource": f"arn:aws:sqs:::bucket/{KEY}"}), False, id="other-service"),
        pytest.param(policy({**ALLOW, "Principal": {"AWS": "arn:aws:iam::1:root"}}), False, id="one-account"),
        pytest.param(policy({**ALLOW, "Principal": {"Service": "x"}}), False, id="service"),
        pytest.param(policy({**ALLOW, "Action": "s3:GetObjectVersion"}), False, id="other-action"),
        pytest.param(policy({**ALLOW, "Condition": {"IpAddress": {}}}), False, id="condition"),
        pytest.param(policy(ALLOW, {**ALLOW, "Effect": "Deny"}), False, id="denied"),
        pytest.param(policy(ALLOW, {**ALLOW, "Effect": "Deny", "Condition": {"x": 1}}), True, id="deny-with-condition"),
        pytest.param(policy(ALLOW, "nonsense"), True, id="nonsense-beside"),
        pytest.param("{", False, id="no-json"),
        pytest.param("[]", False, id="list"),
        pytest.param("{}", False, id="no-statement"),
    ],
)
def test_policy_is_read(text: str, expected: bool) -> None:
    """What opens the object to everybody is told from what does not."""
    assert opens(text, "bucket", KEY) is expected


@pytest.mark.parametrize(
    ("publish", "expected"),
    [
        pytest.param(PUBLISH, True, id="s3"),
        pytest.param(replace(PUBLISH, base_url="https://s3.eu-west-1.amazonaws.com/bucket"), True, id="path-style"),
        pytest.param(replace(PUBLISH, base_url="https://oidc.example.com"), False, id="custom-domain"),
        pytest.param(
            replace(PUBLISH, base_url="https://s3.example.com/bucket", endpoint_url="https://s3.example.com"),
            True,
            id="other-store",
        ),
    ],
)
def test_host_of_the_store_is_told_from_a_cdn(publish: Publish, expected: bool) -> None:
    """Only where the store itself answers do the bucket's settings say why."""
    assert is_served_by_bucket(publish) is expected


def test_pass_tells_why_the_world_is_refused(tmp_path: Path) -> None:
    """The report and the event of a failed read-back name the cause in the bucket."""
    situation = Situation(tmp_path)
    situation.world.web.blocked = SEEN
    situation.world.bucket.open = Openness(True, ("BlockPublicPolicy",), "")
    report = situation.run(ONE, ONE)
    assert [reason.code for reason in report.issuers[0].failures] == ["readback.block_public_access"] * 2
    causes = [event.fields["cause"] for event in report.issuers[0].events if event.name == "readback.failed"]
    assert causes == ["block_public_access"] * 2


def test_bucket_behind_a_cdn_is_not_asked() -> None:
    """A bucket behind CloudFront is private on purpose: the remedy speaks of the CDN."""
    publish, bucket = replace(PUBLISH, base_url="https://oidc.example.com"), FakeBucket()
    wanted = PublicObject(KEY, f"{publish.base_url}/{KEY}", b"{}", "application/jwk-set+json", publish.cache_control)
    freshness = Freshness(MOMENT, lambda _: False, lambda _: None)
    looked = read_back(FakeWeb(bucket, publish.base_url, SEEN), bucket, [wanted], publish, freshness)
    (reason,) = looked.failures
    assert (reason.code, "origin access control" in reason.remedy) == ("readback.forbidden", True)
    assert bucket.requests == []
