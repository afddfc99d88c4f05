"""`provision` against moto: the IAM OIDC provider, and a bucket as AWS itself has it."""

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3.session
import pytest

from mirror.cli.main import main
from mirror.config.settings import PublishSettings
from mirror.errors import BucketError
from mirror.federation.provision.aws_admin import IamProviderAdmin, S3Admin
from mirror.federation.provision.bucket import MEANT_BLOCK, DesiredBucket, plan_bucket
from mirror.federation.provision.iam_provider import plan_provider
from mirror.model import IssuerUrl, ObjectKey
from support.aws_sessions import new_session
from support.moto import ACCOUNT, Moto
from support.provisioning import recorded
from support.s3 import REGION, Store

BASE = f"https://oidc-bucket.s3.{REGION}.amazonaws.com"
ISSUER = IssuerUrl(f"{BASE}/cluster/identifier")
ARN = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER.removeprefix('https://')}"


@dataclass(frozen=True, slots=True)
class Account:
    """An empty account, and the command line with a configuration of one issuer."""

    folder: Path

    @property
    def iam(self) -> Any:
        return new_session().client("iam")

    def command(self, *words: str, issuer: str = ISSUER, **more: Any) -> int:
        entry = {"name": "syd", "issuer": issuer, "apiservers": ["https://10.0.0.11:6443"], **more}
        publish = {"bucket": "oidc-bucket", "region": REGION}
        path = self.folder / "mirror.yaml"
        path.write_text(json.dumps({"state_dir": "state", "publish": publish, "issuers": [entry]}))
        return main(["--config", str(path), "provision", *words])

    def audiences(self, arn: str = ARN) -> list[str]:
        found = self.iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        assert found["ThumbprintList"] == []
        return sorted(found["ClientIDList"])


@pytest.fixture
def account(moto: Moto, tmp_path: Path) -> Account:
    return Account(tmp_path)


def test_provider_is_made_for_exactly_the_issuer(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """URL and audiences are those of the configuration, without a thumbprint; the second run has nothing to do."""
    assert account.command("provider", "syd", audiences=["sts.amazonaws.com", "other"]) == 0
    assert account.audiences() == ["other", "sts.amazonaws.com"]
    assert "done provider" in capsys.readouterr().out
    assert account.command("provider", "syd", audiences=["sts.amazonaws.com", "other"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_slash_at_the_end_of_the_issuer_stays(account: Account) -> None:
    """The provider's URL is the issuer's whole text (facts.md#30)."""
    assert account.command("provider", "syd", issuer=f"{ISSUER}/", audiences=["a"]) == 0
    assert account.audiences(f"{ARN}/") == ["a"]


def test_missing_audience_is_added_and_nothing_else(account: Account) -> None:
    """An existing provider is sent what it lacks alone (moto has no such call, so its answer is given here)."""
    account.iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["theirs"])
    session, sent = new_session(), []

    def answer(params: Any, **_: object) -> Any:
        sent.append((params["body"]["OpenIDConnectProviderArn"], params["body"]["ClientID"]))
        return SimpleNamespace(status_code=200), {}

    session.events.register("before-call.iam.AddClientIDToOpenIDConnectProvider", answer)
    registry = IamProviderAdmin(session, REGION)
    seen = registry.look(ISSUER)
    plan = plan_provider(seen, ISSUER, ("theirs", "ours"))
    registry.apply(plan.differences, ISSUER, ("theirs", "ours"), seen, lambda _: None)
    assert sent == [(ARN, "ours")]


def test_answer_that_is_not_of_aws_is_a_failure(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be read is reported as such: here moto's page of an internal error."""
    account.iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["theirs"])
    assert account.command("provider", "syd", audiences=["ours"]) == 1
    assert "What answered is not AWS" in capsys.readouterr().err


def test_dry_run_makes_no_provider(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """The difference is reported, and IAM has no provider afterwards."""
    assert account.command("provider", "syd", "--dry-run", audiences=["a"]) == 0
    assert "change provider: does not exist" in capsys.readouterr().out
    assert account.iam.list_open_id_connect_providers()["OpenIDConnectProviderList"] == []


def test_issuer_without_audience_takes_the_usual_one(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """The provider is for what the tools of AWS ask for, and the answer says so."""
    assert account.command("provider", "syd") == 0
    assert "with the audiences sts.amazonaws.com" in capsys.readouterr().out
    (found,) = account.iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
    made = account.iam.get_open_id_connect_provider(OpenIDConnectProviderArn=found["Arn"])
    assert made["ClientIDList"] == ["sts.amazonaws.com"]


@pytest.mark.parametrize("kind", ["bucket", "provider"])
def test_unknown_issuer_is_a_usage_error(account: Account, kind: str) -> None:
    """A name that is not configured makes nothing."""
    assert account.command(kind, "nobody", audiences=["a"]) == 2


def test_second_run_sends_no_write(account: Account) -> None:
    """What IAM shows is compared, so a provider that is right costs reads only."""
    session = new_session()
    with recorded(session) as calls:
        for _ in range(2):
            registry = IamProviderAdmin(session, REGION)
            seen = registry.look(ISSUER)
            plan = plan_provider(seen, ISSUER, ("a",))
            registry.apply(plan.differences, ISSUER, ("a",), seen, lambda _: None)
    assert calls.writes == ["iam.CreateOpenIDConnectProvider"]


def test_unknown_profile_is_reported_with_its_option(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in the credentials is one sentence and what to do, without a traceback."""
    assert account.command("provider", "syd", "--profile", "nobody", audiences=["a"]) == 1
    assert "--profile" in capsys.readouterr().err


def test_role_is_assumed_first(account: Account) -> None:
    """`--role-arn` makes the calls as that role, here in the account of the role."""
    role = "arn:aws:iam::999999999999:role/admin"
    assert account.command("provider", "syd", "--role-arn", role, audiences=["a"]) == 0
    assert account.iam.list_open_id_connect_providers()["OpenIDConnectProviderList"] == []


def test_text_that_is_no_role_is_a_usage_error(account: Account) -> None:
    """A role that cannot be assumed is reported before anything is sent."""
    assert account.command("provider", "syd", "--role-arn", "admin", audiences=["a"]) == 2


def test_iam_that_does_not_answer_is_a_failure(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """No network is exit status 1 with its remedy."""
    os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"  # nothing listens there; the fixture puts it back
    assert account.command("provider", "syd", audiences=["a"]) == 1
    assert "Check the network" in capsys.readouterr().err


def test_provider_that_vanishes_meanwhile_makes_no_plan(account: Account) -> None:
    """A provider that is listed and then not there is reported, and nothing is made on top of it."""
    account.iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["a"])
    session = new_session()
    session.events.register("before-call.iam.GetOpenIDConnectProvider", lambda **_: refusal("NoSuchEntity", 404))
    plan = plan_provider(IamProviderAdmin(session, REGION).look(ISSUER), ISSUER, ("a",))
    assert ([each.code for each in plan.problems], plan.differences) == (["provider_unreadable"], ())


def test_provider_that_may_not_be_read_is_a_failure(account: Account) -> None:
    """The right that is missing is named."""
    account.iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["a"])
    session = new_session()
    session.events.register("before-call.iam.GetOpenIDConnectProvider", lambda **_: refusal())
    with pytest.raises(BucketError) as caught:
        IamProviderAdmin(session, REGION).look(ISSUER)
    assert "iam:GetOpenIDConnectProvider" in caught.value.remedy


@pytest.mark.parametrize(("answer", "status", "made"), [("n", 0, 0), ("y", 0, 1)])
def test_on_a_terminal_nothing_is_done_without_a_yes(account: Account, answer: str, status: int, made: int) -> None:
    """Who runs it by hand sees the differences first, and decides."""
    account.command("provider", "syd", "--dry-run", audiences=["a"])  # writes the configuration
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "mirror", "provision", "provider", "syd"]
    with os.fdopen(ours, "w") as keyboard:
        keyboard.write(f"{answer}\n")
        keyboard.flush()
        done = subprocess.run(
            [*command, "--config", str(account.folder / "mirror.yaml")],
            stdin=theirs,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        os.close(theirs)
    assert (done.returncode, "Do this?" in done.stdout) == (status, True)
    assert len(account.iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]) == made


def refusal(code: str = "AccessDenied", status: int = 403) -> Any:
    """What a handler of botocore gives in place of sending a request."""
    error = {"Error": {"Code": code, "Message": "as AWS says"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return SimpleNamespace(status_code=status), error


# ------------------------------------------------------------------------------------------- a bucket of AWS


def bucket_admin(moto: Moto) -> tuple[S3Admin, DesiredBucket, boto3.session.Session]:
    publish = PublishSettings("oidc-bucket", REGION, BASE)
    keys = (ObjectKey("a/.well-known/openid-configuration"), ObjectKey("a/openid/v1/jwks"))
    session = new_session()
    return (
        S3Admin(publish, session, pause=lambda _: None),
        DesiredBucket("oidc-bucket", REGION, "aws", keys, (BASE,)),
        session,
    )


def test_bucket_of_aws_is_made_whole(moto: Moto) -> None:
    """In its region, without ACLs, versioned, open by policy alone; and a second look finds nothing to do."""
    admin, wanted, session = bucket_admin(moto)
    with recorded(session) as calls:
        seen = admin.look()
        admin.apply(plan_bucket(seen, wanted).differences, seen, lambda _: None)
        writes = list(calls.writes)
        again = admin.look()
        assert plan_bucket(again, wanted).differences == ()
    assert (
        calls.writes
        == writes
        == ["s3.CreateBucket", "s3.PutBucketVersioning", "s3.PutPublicAccessBlock", "s3.PutBucketPolicy"]
    )
    assert (again.region, again.ownership, again.block) == (REGION, "BucketOwnerEnforced", MEANT_BLOCK)


def test_bucket_in_another_region_is_refused(moto: Moto) -> None:
    """The region is part of the issuer's host, so a bucket elsewhere cannot serve it."""
    admin, wanted, session = bucket_admin(moto)
    where: Any = {"LocationConstraint": "eu-west-1"}
    session.client("s3", region_name="eu-west-1").create_bucket(Bucket="oidc-bucket", CreateBucketConfiguration=where)
    plan = plan_bucket(admin.look(), wanted)
    assert [each.code for each in plan.problems] == ["wrong_region"]
    assert "eu-west-1" in plan.problems[0].remedy


def test_step_that_is_refused_while_s3_settles_is_tried_again(moto: Moto) -> None:
    """S3 needs seconds after a change: the policy goes through in the end, and what stays refused is reported."""
    admin, wanted, session = bucket_admin(moto)
    refusals = iter([refusal()] * 3)

    def refuse(**_: object) -> Any:
        return next(refusals, None)

    session.events.register("before-call.s3.PutBucketPolicy", refuse)
    pauses: list[float] = []
    publish = PublishSettings("oidc-bucket", REGION, BASE)
    patient = S3Admin(publish, session, pause=pauses.append)
    seen = patient.look()
    patient.apply(plan_bucket(seen, wanted).differences, seen, lambda _: None)
    assert len(pauses) == 3
    assert plan_bucket(admin.look(), wanted).differences == ()
    session.events.register("before-call.s3.PutBucketVersioning", lambda **_: refusal())
    suspended, refused = replace(admin.look(), versioning=None), S3Admin(publish, session)
    with pytest.raises(BucketError) as caught:
        refused.apply(plan_bucket(suspended, wanted).differences, suspended, lambda _: None)
    assert (caught.value.code, len(pauses)) == ("AccessDenied", 3)
    assert "s3:PutBucketVersioning" in caught.value.remedy


EVERYTHING = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)


@pytest.mark.parametrize(
    ("answer", "block"),
    [
        pytest.param((SimpleNamespace(status_code=200), {"PublicAccessBlockConfiguration": EVERYTHING}), True, id="on"),
        pytest.param(refusal("NoSuchPublicAccessBlockConfiguration", 404), False, id="not-set"),
    ],
)
def test_block_of_the_account_is_seen(moto: Moto, answer: Any, block: bool) -> None:
    """What the account forbids wins, so it is asked for beside the bucket."""
    admin, wanted, session = bucket_admin(moto)
    session.events.register("before-call.s3-control.GetPublicAccessBlock", lambda **_: answer)
    seen = admin.look()
    assert seen.unknown == ()
    assert [each.code for each in plan_bucket(seen, wanted).problems] == ["account_block"] * block


def test_block_of_the_account_that_may_not_be_seen_is_a_note(moto: Moto) -> None:
    """An administrator of one bucket may do without that right."""
    admin, wanted, session = bucket_admin(moto)
    session.events.register("before-call.s3-control.GetPublicAccessBlock", lambda **_: refusal())
    plan = plan_bucket(admin.look(), wanted)
    assert ([each.code for each in plan.notes], plan.problems) == (["not_seen"], ())


@pytest.mark.parametrize(
    ("operation", "right"),
    [
        pytest.param("sts.GetCallerIdentity", "sts:GetCallerIdentity", id="account"),
        pytest.param("s3.GetBucketVersioning", "s3:GetBucketVersioning", id="versioning"),
        pytest.param("s3.GetBucketPolicy", "s3:GetBucketPolicy", id="policy"),
    ],
)
def test_what_decides_and_may_not_be_seen_is_a_failure(moto: Moto, operation: str, right: str) -> None:
    """Nothing is planned on a guess: the right that is missing is named."""
    admin, _, session = bucket_admin(moto)
    where: Any = {"LocationConstraint": REGION}
    session.client("s3", region_name=REGION).create_bucket(Bucket="oidc-bucket", CreateBucketConfiguration=where)
    session.events.register(f"before-call.{operation}", lambda **_: refusal())
    with pytest.raises(BucketError) as caught:
        admin.look()
    assert f"`{right}`" in caught.value.remedy


def test_bucket_that_cannot_be_looked_at_is_a_failure(moto: Moto) -> None:
    """An answer that says neither "yours", "nobody's" nor "not yours" plans nothing."""
    admin, _, session = bucket_admin(moto)
    session.events.register("before-call.s3.HeadBucket", lambda **_: refusal("SlowDown", 503))
    with pytest.raises(BucketError):
        admin.look()


def test_store_without_a_setting_gets_a_note(moto: Moto) -> None:
    """A store that speaks S3 without all of it is provisioned as far as it goes."""
    _, wanted, session = bucket_admin(moto)
    session.client("s3", region_name="us-east-1").create_bucket(Bucket="oidc-bucket")
    session.events.register("before-call.s3.GetBucketOwnershipControls", lambda **_: refusal("NotImplemented", 501))
    admin = S3Admin(PublishSettings("oidc-bucket", REGION, BASE, endpoint_url=moto.url), session)
    seen = admin.look()
    assert "The store knows no object ownership." in seen.unknown
    assert [each.code for each in plan_bucket(seen, wanted).differences] == ["enable_versioning", "put_policy"]


@pytest.mark.s3
def test_store_that_demands_the_location_gets_it(store: Store) -> None:
    """To a store that is not AWS the first request names no region. If the store refuses it, the second one does."""
    publish = store.server.publish(f"new-{uuid.uuid4().hex}")
    admin = S3Admin(publish, new_session())
    wanted = DesiredBucket(publish.bucket, REGION, "aws", (ObjectKey("jwks"),), (publish.base_url,))
    seen = admin.look()
    plan = plan_bucket(seen, wanted)
    assert (plan.differences[0].code, plan.differences[0].after) == ("create_bucket", f"exists in {REGION}")
    admin.apply(plan.differences, seen, lambda _: None)
    assert plan_bucket(admin.look(), wanted).differences == ()


def test_absent_bucket_of_another_owner_is_not_made_here(moto: Moto) -> None:
    """A bucket that the configuration gives to one account is never made in another."""
    _, wanted, session = bucket_admin(moto)
    admin = S3Admin(PublishSettings("oidc-bucket", REGION, BASE, expected_bucket_owner="999999999999"), session)
    plan = plan_bucket(admin.look(), wanted)
    assert ([each.code for each in plan.problems], plan.differences) == (["wrong_account"], ())
