"""A configuration and a fake world around the captured answers of a real kube-apiserver, and the report of a pass."""

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from mirror.config.settings import FormerIssuerSettings, Issuer, RepositorySettings, Settings
from mirror.model import Answer, IssuerName, IssuerUrl, KeyPolicy, Reason, Status, Unusable
from mirror.reconcile.controller import dry_run, reconcile
from mirror.report import Report
from support.captures import capture
from support.fakes import MOMENT, FakeHistory, FakeRemote, FakeWorld

BASE_URL = "https://oidc-bucket.s3-ap-southeast-2.amazonaws.com"
ISSUER = IssuerUrl(f"{BASE_URL}/cluster/identifier")
NAME = IssuerName("syd-prod")
DISCOVERY_KEY = "cluster/identifier/.well-known/openid-configuration"
JWKS_KEY = "cluster/identifier/openid/v1/jwks"
PUBLIC = "public/oidc-bucket.s3-ap-southeast-2.amazonaws.com/cluster/identifier"
LEDGER = "ledger/oidc-bucket.s3-ap-southeast-2.amazonaws.com/cluster/identifier/keys.json"


def answer(case: str, apiserver: str = "https://10.0.0.11:6443") -> Answer:
    """What the apiserver answered in a captured case, such as `01-rsa1/anonymous-bound` or `02-rsa1-ec2-overlap/`."""
    name = case if case.endswith("/") else f"{case}-"
    return Answer(apiserver, capture(f"{name}discovery").body(), capture(f"{name}jwks").body())


def silent(apiserver: str = "https://10.0.0.12:6443", code: str = "timeout") -> Unusable:
    return Unusable(apiserver, (Reason(code, "It did not answer.", "Look at the network."),))


ONE = "01-rsa1/anonymous-bound"
BOTH = "02-rsa1-ec2-overlap/"
LAST = "04b-rotated-away-rsa3-only/"


@dataclass
class Situation:
    """One issuer in a fake world; `now` moves only when a test says so."""

    state_dir: Path
    world: FakeWorld = field(default_factory=lambda: FakeWorld(base_url=BASE_URL))
    now: datetime = MOMENT
    policy: KeyPolicy = field(default_factory=KeyPolicy)
    apiservers: tuple[str, ...] = ("https://10.0.0.11:6443", "https://10.0.0.12:6443")
    remote: str | None = None
    require_push: bool = False
    name: IssuerName = NAME
    issuer: IssuerUrl = ISSUER
    former: tuple[FormerIssuerSettings, ...] = ()
    discover: Literal["dns", "endpointslices"] | None = None
    expect_replicas: int | None = None
    suspend: bool = False

    def settings(self) -> Settings:
        issuer = Issuer(
            self.name,
            self.issuer,
            self.world.publish(),
            apiservers=self.apiservers,
            keys=self.policy,
            former_issuers=self.former,
            discover=self.discover,
            expect_replicas=self.expect_replicas,
            suspend=self.suspend,
        )
        repository = RepositorySettings(
            self.state_dir / "snapshots.git", remote=self.remote, require_push=self.require_push
        )
        return Settings(self.state_dir, repository, (issuer,))

    def show(self, *answers: Answer | Unusable | str) -> None:
        """What the apiservers answer from now on; a text is the case of a capture."""
        given = (answer(a) if isinstance(a, str) else a for a in answers)
        self.world.source.answers = {self.name: tuple(given)}

    def run(self, *answers: Answer | Unusable | str, after: timedelta = timedelta(0)) -> Report:
        """One pass, `after` the last one, with new answers if there are any."""
        self.now += after
        if answers:
            self.show(*answers)
        return reconcile(self.settings(), self.world.ports(), self.now)

    def plan(self, *answers: Answer | Unusable | str) -> Report:
        if answers:
            self.show(*answers)
        return dry_run(self.settings(), self.world.ports(), self.now)

    def public(self, key: str = JWKS_KEY) -> bytes | None:
        found = {str(name): stored.body for name, stored in self.world.bucket.objects.items()}
        return found.get(key)

    def beside(self, name: str = "other") -> "Situation":
        """Another mirror, with a history of its own, the same remote, bucket and apiservers."""
        history = replace(self.world.history, head=None, tracking=None)
        world = FakeWorld(self.world.source, history, self.world.bucket, self.world.base_url)
        other = self.state_dir.with_name(f"{self.state_dir.name}-{name}")
        other.mkdir()
        return replace(self, state_dir=other, world=world)


def with_remote(folder: Path) -> Situation:
    """A mirror that shares its history: an empty remote, no pass yet, and its state in a folder below `folder`."""
    state_dir = folder / "mirror"
    state_dir.mkdir()
    world = FakeWorld(history=FakeHistory(remote=FakeRemote()), base_url=BASE_URL)
    return Situation(state_dir, world=world, remote="git@git.example.com:oidc.git")


@pytest.fixture
def here(tmp_path: Path) -> Situation:
    """A mirror without a remote, before its first pass."""
    return Situation(tmp_path)


@pytest.fixture
def shared(tmp_path: Path) -> Situation:
    """A mirror that shares its history, before its first pass."""
    return with_remote(tmp_path)


def remote_of(here: Situation) -> FakeRemote:
    """The remote of a mirror that has one."""
    assert here.world.history.remote is not None
    return here.world.history.remote


def tamper(here: Situation, changes: dict[str, bytes | None]) -> None:
    """A commit that this mirror did not make, on top of its branch."""
    history = here.world.history
    assert history.head is not None
    history.commit(
        base=history.head, parents=(history.head,), changes=changes, message="x", when=here.now, expect=history.head
    )


def public_kids(here: Situation, key: str = JWKS_KEY) -> set[str]:
    """The kids that are public; fails where there is no JWKS."""
    body = here.public(key)
    assert body is not None
    return {each["kid"] for each in json.loads(body)["keys"]}


def event_names(report: Report) -> set[str]:
    """Every event of a pass, those of issuers too."""
    return {event.name for event in (*report.events, *(e for issuer in report.issuers for e in issuer.events))}


def reason_codes(report: Report) -> set[str]:
    """Every failure of a pass, those of issuers too."""
    return {r.code for r in (*report.failures, *(r for issuer in report.issuers for r in issuer.failures))}


def statuses_of(report: Report) -> list[Status]:
    """The statuses of the first issuer's keys, sorted."""
    return sorted(record.status for record in report.issuers[0].records)
