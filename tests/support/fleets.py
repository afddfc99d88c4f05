"""Mirrors with disks of their own, one real git remote and one bucket in memory: signed or trusted, kept or empty.

A pass is `reconcile` with the program's own ports, but for the apiservers, the bucket and the public URL. Commands of
operators are the real command line on the same disks; with `--no-pass` it needs git alone.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

from click.testing import CliRunner

from mirror.cli.main import main
from mirror.cli.wiring import open_ports
from mirror.config.settings import Issuer, PublishSettings, RepositorySettings, Settings
from mirror.errors import BucketError, MirrorError, UsageError
from mirror.history.repository import GitRepository as GitHistory
from mirror.model import (
    Answer,
    CommitId,
    ETag,
    Event,
    IssuerName,
    IssuerUrl,
    Key,
    KeyPolicy,
    ObjectKey,
    PublicObject,
    Reason,
    StoredObject,
    Unusable,
)
from mirror.ports import AccessSettings, Bucket, History, Ports, PutResult, PutStored
from mirror.reconcile.controller import reconcile
from mirror.report import Report
from mirror.trust.discovery import documents
from support.fakes import FakeBucket, FakeCdn, FakeSource, FakeWeb
from support.gits import bare, git
from support.keys import EC_KEYS, RSA_KEYS, with_kid
from support.ledger_signers import NAME as REPOSITORY
from support.ledger_signers import Signer, signer, signers_file
from support.pushers import Pusher, commits
from support.situations import BASE_URL, ISSUER, JWKS_KEY, NAME, silent
from support.worlds import BUCKET, PROJECT

A, B, R, V, K = (with_kid(key, kid) for key, kid in zip(RSA_KEYS[:5], "ABRVK", strict=True))
X, EVIL, OTHER = (with_kid(key, kid) for key, kid in zip(RSA_KEYS[5:8], ("X", "EVIL", "OTHER"), strict=True))
"""Keys of the attack tests: A and B are shown, R retires, V is revoked, X and EVIL are attackers'."""
EC = with_kid(EC_KEYS[0], "EC")

MIRROR, OPERATOR, UNLISTED_SIGNER = signer("mirror"), signer("operator"), signer("unlisted")
REPLICAS = ("https://10.0.0.11:6443", "https://10.0.0.12:6443")
SECOND = IssuerName("second")
SECOND_URL = IssuerUrl(f"{BASE_URL}/cluster/second")
SECOND_LEDGER = "ledger/oidc-bucket.s3-ap-southeast-2.amazonaws.com/cluster/second/keys.json"
SECOND_JWKS = "cluster/second/openid/v1/jwks"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
POLICY = KeyPolicy(kid="opaque")
_CHANGING = ("prepare", "fetch", "deepen", "commit", "advance", "push", "collect")


class Killed(BaseException):
    """The end of a mirror's process: no code catches it, and the process runs no further."""


def kill(*_: object) -> None:
    raise Killed


def once(act: Callable[[], object], at: str = "") -> Callable[..., None]:
    """Something to call at each step or put of a pass that acts at the first one whose name begins with `at`."""
    acts = [act]

    def step(*given: object) -> None:
        if acts and (not at or str(given[0]).startswith(at)):
            acts.pop()()

    return step


def clean_environ(folder: Path) -> dict[str, str]:
    """An environment without any git configuration, AWS credentials or settings of ours."""
    plain = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "GIT_", "OIDC_"))}
    return plain | {
        "HOME": str(folder),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Stepping:
    """A history that calls `before` and `after` with the name of each method that changes or reaches something."""

    def __init__(self, history: GitHistory, before: Callable[[str], object], after: Callable[[str], object]) -> None:
        self._history, self._before, self._after = history, before, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._history, name)
        return partial(self._step, name, found) if name.startswith(_CHANGING) else found

    def _step(self, name: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self._before(name)
        made = call(*given, **named)
        self._after(name)
        return made


@dataclass(frozen=True, slots=True)
class Ended:
    """How a pass ended: its exit status, and every name and code that it reported."""

    status: int
    names: frozenset[str]
    report: Report | None = None
    error: str = ""

    def of(self, name: IssuerName) -> frozenset[str]:
        """The reports about one issuer."""
        assert self.report is not None, self.error
        return _names(replace(self.report, events=(), failures=()), only=name)

    def text(self) -> str:
        """The reports as text: every event and every reason."""
        if self.report is None:
            return self.error
        found: list[Event | Reason] = [*self.report.events, *self.report.failures]
        for issuer in self.report.issuers:
            found += [*issuer.events, *issuer.all_failures(), *issuer.held]
        return f"exit {self.status}: " + " | ".join(f"{_name(each)}: {each}" for each in found)


def _name(reported: Event | Reason) -> str:
    return reported.name if isinstance(reported, Event) else reported.code


def _names(report: Report, only: IssuerName | None = None) -> frozenset[str]:
    issuers = [each for each in report.issuers if only in (None, each.name)]
    events = {event.name for issuer in issuers for event in issuer.events} | {event.name for event in report.events}
    reasons = {reason.code for issuer in issuers for reason in (*issuer.all_failures(), *issuer.held)}
    return frozenset(events | reasons | {reason.code for reason in report.failures})


@dataclass
class Fleet:
    """The environment of mirrors: a bare git remote, a bucket, apiservers, and the time.

    `signed` says how `mirror()` configures new mirrors. The time begins now, because commands read the real clock.
    `landed` is called after each put, with what stood there before.
    """

    folder: Path
    signed: bool = True
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    issuers: dict[IssuerName, IssuerUrl] = field(default_factory=lambda: {NAME: ISSUER})
    policy: KeyPolicy = POLICY
    bucket: FakeBucket = field(default_factory=FakeBucket)
    source: FakeSource = field(default_factory=FakeSource)
    remote: Path = field(init=False)
    landed: Callable[[StoredObject | None, PublicObject], object] = lambda *_: None
    disks: int = 0

    def __post_init__(self) -> None:
        self.remote = bare(self.folder / "remote.git")
        # As GitHub, GitLab and Gerrit do, the server gives commits by their id.
        git(self.remote, "config", "uploadpack.allowAnySHA1InWant", "true")

    def mirror(self, **changes: Any) -> "GitMirror":
        """Another mirror with an empty disk; `changes` are fields of GitMirror."""
        self.disks += 1
        disk = self.folder / f"disk-{self.disks}"
        disk.mkdir()
        plain = GitMirror(self, disk, signing_key=MIRROR if self.signed else None, source=self.source)
        return replace(plain, **changes)

    def pusher(self, name: str = "pusher") -> Pusher:
        return Pusher(self.folder / name, self.remote)

    def show(self, *shown: tuple[Key, ...] | None, name: IssuerName = NAME) -> None:
        """What each apiserver shows from now on; None: it does not answer."""
        show(self.source, self.issuers[name], name, shown)

    def commits(self) -> int:
        return commits(self.remote)

    def head(self) -> str:
        return git(self.remote, "rev-parse", "refs/heads/main")

    def puts(self, key: str = "") -> int:
        """How many puts were tried, of one object or of all."""
        return sum(request.startswith("put ") and key in request for request in self.bucket.requests)

    def away(self) -> None:
        """The git remote cannot be reached any more."""
        self.remote.rename(self.remote.with_suffix(".away"))

    def back(self) -> None:
        self.remote.with_suffix(".away").rename(self.remote)

    def forget(self, head: str) -> None:
        """The server loses every commit that `head` does not contain."""
        git(self.remote, "update-ref", "refs/heads/main", head)
        git(self.remote, "reflog", "expire", "--expire=now", "--all")
        git(self.remote, "gc", "--quiet", "--prune=now")


def show(source: FakeSource, url: IssuerUrl, name: IssuerName, shown: tuple[tuple[Key, ...] | None, ...]) -> None:
    """Make a source answer with these sets of keys, one an apiserver."""
    found: list[Answer | Unusable] = []
    for replica, keys in zip(REPLICAS, shown, strict=True):
        if keys is None:
            found.append(silent(replica))
        else:
            made = documents(url, tuple(sorted(keys, key=lambda key: key.kid)))
            found.append(Answer(replica, made.discovery, made.jwks))
    source.answers[name] = tuple(found)


@dataclass
class GitMirror:
    """One mirror: a disk with real git, and a configuration. `before` and `before_put` are called in its passes.

    `clock_ahead` is how far its clock is before that of the fleet.
    """

    fleet: Fleet
    disk: Path
    source: FakeSource
    signing_key: Signer | None = None
    allowed: tuple[Signer, ...] = ()
    repository_name: str = REPOSITORY
    policy: KeyPolicy | None = None
    require_push: bool = False
    bucket_down: bool = False
    clock_ahead: timedelta = timedelta(0)
    before: Callable[[str], object] = lambda _: None
    after: Callable[[str], object] = lambda _: None
    before_put: Callable[[FakeBucket, PublicObject], None] | None = None

    # ------------------------------------------------------------------------------------------- configuration

    def settings(self) -> Settings:
        publish = PublishSettings(bucket=BUCKET, region="ap-southeast-2", base_url=BASE_URL)
        policy = self.policy or self.fleet.policy
        issuers = tuple(
            Issuer(name, url, publish, apiservers=REPLICAS, keys=policy) for name, url in self.fleet.issuers.items()
        )
        return Settings(self.disk, self._repository(), issuers)

    def _repository(self) -> RepositorySettings:
        plain = RepositorySettings(
            self.disk / "snapshots.git", remote=str(self.fleet.remote), require_push=self.require_push
        )
        if self.signing_key is None:
            return plain
        key = self.signing_key.private_file(self.disk / "signing_key")
        allowed = signers_file(self.disk / "allowed_signers", *self.allowed) if self.allowed else None
        return replace(plain, signing_key=key, allowed_signers=allowed, name=self.repository_name)

    def config(self) -> dict[str, Any]:
        """The same configuration for the command line, with unreachable apiservers and an unreachable bucket."""
        policy = self.policy or self.fleet.policy
        keys = {"new_keys": policy.new_keys, "kid": policy.kid, "revoked": sorted(policy.revoked)}
        repository: dict[str, Any] = {"remote": str(self.fleet.remote), "require_push": self.require_push}
        if self.signing_key is not None:
            made = self._repository()
            repository |= {"signing_key": str(made.signing_key), "name": self.repository_name}
            repository |= {"allowed_signers": str(made.allowed_signers)} if self.allowed else {}
        nobody = "https://127.0.0.1:1"
        return {
            "state_dir": str(self.disk),
            "limits": {"connect": "1s", "total": "1s", "source_deadline": "2s"},
            "repository": repository,
            "publish": {"bucket": BUCKET, "region": "ap-southeast-2", "base_url": BASE_URL, "endpoint_url": nobody},
            "issuers": [
                {"name": name, "issuer": url, "apiservers": [nobody, "https://127.0.0.2:1"], "keys": keys}
                for name, url in self.fleet.issuers.items()
            ],
        }

    # ------------------------------------------------------------------------------------------------- passes

    def run(self, *, after: timedelta = MINUTE, only: IssuerName | None = None) -> Ended:
        """One pass, `after` the last event of the fleet; of one issuer alone with `only`.

        Raises:
            Killed: The test ended it.
        """
        self.fleet.now += after
        settings = self.settings().narrowed(lambda issuer: only in (None, issuer.name))
        environ = clean_environ(self.disk)
        try:
            with open_ports(settings, dry_run=False) as real, GitHistory(settings.repository, environ) as history:
                report = reconcile(settings, self._ports(real, history), self.fleet.now + self.clock_ahead)
        except UsageError as error:
            return Ended(2, frozenset(), error=f"{error} {error.problems}")
        except MirrorError as error:
            return Ended(1, frozenset(), error=str(error))
        return Ended(int(report.exit_status), _names(report), report)

    def _ports(self, real: Ports, history: GitHistory) -> Ports:
        bucket = SharedBucket(self.fleet.bucket.objects, requests=self.fleet.bucket.requests)
        bucket.before_put, bucket.down, bucket.landed = self.before_put, self.bucket_down, self.fleet.landed

        def shared(_: object) -> Bucket:
            return bucket

        return replace(
            real,
            source=self.source,
            history=cast("History", Stepping(history, self.before, self.after)),
            bucket=shared,
            view=FakeWeb(self.fleet.bucket, BASE_URL),
            cdn=FakeCdn(),
            own_token=lambda _: None,
        )

    def command(self, *words: str, config: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """A command of the real program with this mirror's disk and configuration."""
        path = self.disk / "mirror.yaml"
        path.write_text(json.dumps(config or self.config()))
        command = [sys.executable, "-m", "mirror", "--config", str(path), *words]
        environ = clean_environ(self.disk)
        return subprocess.run(command, env=environ, cwd=PROJECT, capture_output=True, text=True, check=False)

    def decide(self, *words: str, key: Signer | None = None) -> int:
        """An operator's command on this disk, in this process: its exit status.

        With `key` he is no reader of the mirror's own, and signs with his.
        """
        config = self.config()
        if key is not None:
            config["repository"]["signing_key"] = str(self.disk / "not-readable")
            config["repository"]["allowed_signers"] = str(signers_file(self.disk / "listed", MIRROR, *self.allowed))
            words = (*words, "--signing-key", str(key.private_file(self.disk / "operators_key")))
        path = self.disk / "mirror.yaml"
        path.write_text(json.dumps(config))
        with CliRunner().isolation(env=clean_environ(self.disk)):
            return main(["--config", str(path), *words])

    def head(self) -> str:
        """Where the branch on this disk is; empty while there is none."""
        repository = self.disk / "snapshots.git"
        if not (repository / "HEAD").exists():
            return ""
        return git(repository, "for-each-ref", "--format=%(objectname)", "refs/heads/main")

    def empty_disk(self) -> None:
        """What a pod begins with."""
        shutil.rmtree(self.disk)
        self.disk.mkdir()


@dataclass
class SharedBucket(FakeBucket):
    """The shared objects as one mirror reaches them."""

    down: bool = False
    landed: Callable[[StoredObject | None, PublicObject], object] = lambda *_: None

    def put(self, obj: PublicObject, *, snapshot: CommitId, expected_etag: ETag | None) -> PutResult:
        before = self.objects.get(obj.key)
        outcome = super().put(obj, snapshot=snapshot, expected_etag=expected_etag)
        if isinstance(outcome, PutStored):
            self.landed(before, obj)
        return outcome

    def _request(self, operation: str, what: str) -> None:
        if self.down:
            raise BucketError("The bucket cannot be reached.", code="EndpointConnectionError")
        super()._request(operation, what)

    def access_settings(self, key: ObjectKey) -> AccessSettings:
        return AccessSettings() if self.down else super().access_settings(key)


def public_kids(world: Fleet, key: str = JWKS_KEY) -> frozenset[str] | None:
    """The kids of the public JWKS; None where there is no object or no JWKS."""
    stored = world.bucket.objects.get(ObjectKey(key))
    try:
        return frozenset(each["kid"] for each in json.loads(stored.body)["keys"]) if stored is not None else None
    except (ValueError, KeyError, TypeError):
        return None


def public_bytes(*keys: Key, issuer: IssuerUrl = ISSUER) -> bytes:
    """The JWKS of these keys as the program would write it."""
    return documents(issuer, tuple(sorted(keys, key=lambda key: key.kid))).jwks


def kids(*keys: Key) -> frozenset[str]:
    return frozenset(key.kid for key in keys)
