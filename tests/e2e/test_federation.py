"""The whole federation without AWS: a real apiserver's token and documents, a real pass, the rendered pieces in IAM.

moto stands in for IAM. Its CloudFormation makes the role out of the rendered template but knows no
`AWS::IAM::OIDCProvider`, so the provider is made of that template's own properties by the call behind them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3.session
import pytest

from mirror.cli.main import main
from mirror.cli.verify import lines
from mirror.config.load import load
from mirror.federation.error_catalog import explain
from mirror.federation.verify import Verification, VerifiedIssuer, question, verify_issuer
from mirror.model import IssuerUrl
from mirror.publish.public_endpoint import PublicHttpClient
from mirror.report import ExitStatus
from mirror.trust.relying_parties import Party
from support.aws_sessions import new_session
from support.moto import ACCOUNT, Moto
from support.relying_account import refusals
from support.s3 import S3Server
from support.situations import DISCOVERY_KEY, ISSUER
from support.tokens import AUDIENCE, SUBJECT, captured
from support.worlds import World, running_world

CASE = "01-rsa1"
TOKEN = captured(f"{CASE}/sa-token-cluster-aud")
_, NAMESPACE, ACCOUNT_NAME = SUBJECT.rsplit(":", 2)

pytestmark = pytest.mark.s3


@dataclass(frozen=True, slots=True)
class Federation:
    """A world whose documents are public, and an account with the rendered pieces in it."""

    world: World
    account: boto3.session.Session
    folder: Path

    def render(self, capsys: pytest.CaptureFixture[str], kind: str, *words: str) -> str:
        config = self.world.folder / "mirror.yaml"
        config.write_text(json.dumps(self.world.config))
        capsys.readouterr()
        assert main(["--config", str(config), "render", kind, "syd-prod", *words]) == 0
        return capsys.readouterr().out

    def build(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Make provider and role as the templates have them."""
        template = json.loads(self.render(capsys, "iam-provider", "--format", "json"))
        (provider,) = template["Resources"].values()
        assert provider["Type"] == "AWS::IAM::OIDCProvider"
        self.iam.create_open_id_connect_provider(
            Url=provider["Properties"]["Url"], ClientIDList=provider["Properties"]["ClientIdList"]
        )
        self.make_role(capsys, "pod", "--namespace", NAMESPACE, "--service-account", ACCOUNT_NAME)

    def make_role(self, capsys: pytest.CaptureFixture[str], name: str, *words: str) -> None:
        template = self.render(capsys, "iam-role", "--role-name", name, *words)
        self.account.client("cloudformation").create_stack(StackName=name, TemplateBody=template)

    @property
    def iam(self) -> Any:
        return self.account.client("iam")

    def verified(self) -> Verification:
        """What `verify` finds, a minute after the token was minted: it is from the past."""
        (issuer,) = load(self.world.folder / "mirror.yaml").issuers
        asked = question(
            (VerifiedIssuer(issuer.name, issuer.issuer, issuer.publish, issuer.clouds),), TOKEN, named=True
        )
        now = datetime.fromtimestamp(claims()["iat"], UTC) + timedelta(minutes=1)
        with PublicHttpClient() as web:
            found = tuple(verify_issuer(each, asked.token, web, now) for each in asked.subjects)
        return Verification(now, found, asked.token)

    def reported(self) -> str:
        """Its words, which must be those of a refusal."""
        found = self.verified()
        assert found.exit_status is ExitStatus.FAILED
        assert not any(each.accepted_by(Party.AWS) for each in found.issuers)
        return "\n".join(lines(found))


def claims(**changes: Any) -> dict[str, Any]:
    path = Path(__file__).parents[1] / f"fixtures/kube-apiserver-1.36.2/{CASE}/sa-token-cluster-aud.json"
    found = json.loads(path.read_text())["claims"]
    return {**found, **changes}


@pytest.fixture
def federation(s3_server: S3Server, moto: Moto, tmp_path: Path) -> Iterator[Federation]:
    folder = tmp_path / "world"
    folder.mkdir()
    with running_world(s3_server, folder) as world:
        world.issuer["audiences"] = [AUDIENCE]
        world.show(f"{CASE}/anonymous-bound-", f"{CASE}/anonymous-bound-")
        yield Federation(world, new_session(), tmp_path)


def test_rendered_pieces_let_the_pod_in(federation: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    """A pass, the provider, the role: `verify` accepts the apiserver's own token, and so do IAM's conditions."""
    assert federation.world.mirror("--once").status == 0
    federation.build(capsys)
    found = federation.verified()
    assert found.exit_status is ExitStatus.CURRENT
    assert refusals(federation.iam, "pod", claims()) == []
    pod = federation.render(capsys, "pod", "--format", "json", "--namespace", NAMESPACE, "--account", ACCOUNT)
    (token,) = json.loads(pod)["spec"]["volumes"][0]["projected"]["sources"]
    assert token["serviceAccountToken"]["audience"] in claims()["aud"]


def test_provider_made_by_provision_serves_the_same_role(
    federation: Federation, capsys: pytest.CaptureFixture[str]
) -> None:
    """`provision provider` and `render iam-provider` make one thing: after the latter the former has nothing to do."""
    federation.build(capsys)
    assert main(["--config", str(federation.world.folder / "mirror.yaml"), "provision", "provider", "syd-prod"]) == 0
    assert "there is nothing to do" in capsys.readouterr().out
    assert refusals(federation.iam, "pod", claims()) == []


def test_other_audience_is_refused(federation: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    """Provider and role have one audience, the pod's token has another: both messages say which."""
    federation.world.issuer["audiences"] = ["sts.amazonaws.com"]
    assert federation.world.mirror("--once").status == 0
    federation.build(capsys)
    assert f'The token is for "{AUDIENCE}", and configured is "sts.amazonaws.com".' in federation.reported()
    first, second = refusals(federation.iam, "pod", claims())
    assert first == f"Incorrect token audience: ['{AUDIENCE}']"
    assert f"{ISSUER.removeprefix('https://')}:aud is ['sts.amazonaws.com']" in second


def test_other_subject_is_refused(federation: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    """The documents are valid for any pod; the role's condition rejects the others, and names the subject."""
    assert federation.world.mirror("--once").status == 0
    federation.build(capsys)
    roles = {
        "account": ("--namespace", NAMESPACE, "--service-account", "other"),
        "namespace": ("--namespace", "other", "--service-account", ACCOUNT_NAME),
        "pattern": ("--subject", "system:serviceaccount:other:*"),
    }
    for name, words in roles.items():
        federation.make_role(capsys, name, *words)
        (sentence,) = refusals(federation.iam, name, claims())
        assert f"{ISSUER.removeprefix('https://')}:sub is" in sentence
        assert f"the token has ['{SUBJECT}']" in sentence
    assert federation.verified().exit_status is ExitStatus.CURRENT
    (cause, *_) = explain("AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity")
    assert "sub" in cause.sentence + cause.remedy  # what `verify --role-arn` makes of STS's answer


def test_slash_at_the_end_of_the_issuer_is_refused(federation: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    """The configuration has a slash that the apiservers do not have: no pass publishes, no cloud finds a provider."""
    federation.world.issuer["issuer"] = f"{ISSUER}/"
    done = federation.world.mirror("--once")
    assert done.status == 1
    assert "slash" in done.out + done.err
    federation.build(capsys)
    reported = federation.reported()
    assert f'The token\'s iss is "{ISSUER}"' in reported
    assert "slash" in reported
    assert (
        refusals(federation.iam, "pod", claims())[0] == f"No OpenIDConnect provider found in your account for {ISSUER}"
    )


def test_other_path_of_the_issuer_is_refused(federation: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    """Another cluster's path: no documents are there, and neither issuer nor provider is the token's."""
    federation.world.issuer["issuer"] = f"{ISSUER}-2"
    assert federation.world.mirror("--once").status == 1
    federation.build(capsys)
    reported = federation.reported()
    assert f"{ISSUER}-2/.well-known/openid-configuration: " in reported
    assert f'The token\'s iss is "{ISSUER}", the issuer "{ISSUER}-2"' in reported
    assert (
        refusals(federation.iam, "pod", claims())[0] == f"No OpenIDConnect provider found in your account for {ISSUER}"
    )


def test_documents_at_another_path_are_refused(federation: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    """All texts agree, and the discovery document is not where the issuer says: named with its whole URL."""
    assert federation.world.mirror("--once").status == 0
    federation.build(capsys)
    federation.world.overwrite(
        DISCOVERY_KEY, federation.world.public(DISCOVERY_KEY).body.replace(b"/identifier", b"/other")
    )
    reported = federation.reported()
    assert f"{ISSUER.replace('identifier', 'other')}" in reported
    assert refusals(federation.iam, "pod", claims()) == []  # the account alone would not notice


def test_account_that_judges_can_say_no(federation: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    """The tests' own evaluator refuses a role that compares no audience, and one of another issuer."""
    federation.build(capsys)
    policy = federation.iam.get_role(RoleName="pod")["Role"]["AssumeRolePolicyDocument"]
    policy["Statement"][0]["Condition"]["StringEquals"].pop(f"{ISSUER.removeprefix('https://')}:aud")
    federation.iam.update_assume_role_policy(RoleName="pod", PolicyDocument=json.dumps(policy))
    assert refusals(federation.iam, "pod", claims()) == ["The role compares ['sub']: it is open to others"]
    assert len(refusals(federation.iam, "pod", claims(iss=IssuerUrl("https://other.example.com")))) == 4
