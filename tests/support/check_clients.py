"""The clients of the checks in memory: AWS and git as values, with everything in order until a test says otherwise."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from mirror.aws.iam_policy import AccessBlock
from mirror.check.ports import BucketFacts, CheckClients, HistoryFacts, Identity, PutVerdict, Unavailable
from mirror.check.result import CheckLevel, CheckResult
from mirror.config.settings import PublishSettings
from mirror.model import CommitId, ObjectKey, StoredObject
from support.fakes import FakeWorld
from support.situations import DISCOVERY_KEY, JWKS_KEY

ACCOUNT = "111122223333"
HEAD = CommitId("c0ffee" + "0" * 34)
DENIED = Unavailable("AccessDenied", "AccessDenied: no", "Allow it.")
OPEN = AccessBlock(block_acls=True, ignore_acls=True, block_policy=False, restrict_buckets=False)


def allow(
    *resources: str, action: object = "s3:GetObject", principal: object = "*", **more: object
) -> dict[str, object]:
    """One statement that publicly allows `action` on keys of the bucket."""
    return {
        "Effect": "Allow",
        "Principal": principal,
        "Action": action,
        "Resource": [f"arn:aws:s3:::oidc-bucket/{each}" for each in resources],
        **more,
    }


def policy_of(*statements: object) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


FACTS = BucketFacts(
    region="ap-southeast-2",
    access_block=OPEN,
    policy=policy_of(allow(DISCOVERY_KEY, JWKS_KEY)),
    ownership="BucketOwnerEnforced",
    public_grants=(),
    versioning="Enabled",
    encryption="AES256",
)


@dataclass
class FakeAws:
    """AWS with a bucket in order. Each answer may be set; `puts` are the keys that were tried."""

    source: str | Unavailable | None = "env"
    who: Identity | Unavailable = field(
        default_factory=lambda: Identity(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/mirror")
    )
    block: AccessBlock | Unavailable | None = None
    facts: BucketFacts = FACTS
    ours: bool | Unavailable = True
    list_refused: Unavailable | None = None
    verdict: PutVerdict = "allowed"
    puts: list[str] = field(default_factory=list)
    raises: Exception | None = None

    def credentials(self, publish: PublishSettings) -> str | Unavailable | None:
        return self.source

    def identity(self, publish: PublishSettings) -> Identity | Unavailable:
        return self.who

    def account_block(self, publish: PublishSettings, account: str) -> AccessBlock | Unavailable | None:
        return self.block

    def bucket(self, publish: PublishSettings) -> BucketFacts:
        if self.raises is not None:
            raise self.raises
        return self.facts

    def belongs_to(self, publish: PublishSettings, account: str, prefix: str) -> bool | Unavailable:
        return self.ours

    def may_list(self, publish: PublishSettings, prefix: str) -> Unavailable | None:
        return self.list_refused

    def may_put(self, publish: PublishSettings, key: ObjectKey, there: StoredObject | None) -> PutVerdict:
        self.puts.append(key)
        return self.verdict

    def set(self, **changes: object) -> "FakeAws":
        """Change what the bucket says of itself, by the names of `BucketFacts`."""
        self.facts = replace(self.facts, **changes)  # type: ignore[arg-type]  # fields by name
        return self


@dataclass
class FakeHistoryView:
    """A repository that stands as `state` says; `before` runs first, so that a test can make the look hang."""

    state: HistoryFacts = field(default_factory=lambda: HistoryFacts(local=HEAD, remote=HEAD, unpushed=0))
    before: Callable[[], object] = lambda: None

    def look(self) -> HistoryFacts:
        self.before()
        return self.state


def clients_of(world: FakeWorld, aws: FakeAws | None = None, history: FakeHistoryView | None = None) -> CheckClients:
    """Clients of a fake world."""
    ports = world.ports()
    return CheckClients(
        source=ports.source,
        view=ports.view,
        bucket=ports.bucket,
        aws=aws or FakeAws(),
        own_token=ports.own_token,
        history=history or FakeHistoryView(),
        lock_holder=lambda _: None,
    )


def reported(findings: Iterable[CheckResult]) -> list[tuple[str, str]]:
    """Level and code of each finding."""
    return [(str(each.level), each.code) for each in findings]


def worst(findings: Iterable[CheckResult]) -> list[tuple[str, str]]:
    """Level and code of each finding that is not `ok`."""
    return [(str(each.level), each.code) for each in findings if each.level is not CheckLevel.OK]
