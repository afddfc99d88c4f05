"""What a daemon may remember: situations for metrics and the status page, in memory."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from mirror.config.settings import FormerIssuerSettings, Issuer, PublishSettings, RepositorySettings, Settings
from mirror.daemon.pass_history import PassHistory
from mirror.model import (
    CommitId,
    Event,
    IssuerName,
    IssuerUrl,
    Key,
    KeyRecord,
    Level,
    Observed,
    Reason,
    Revocation,
    Status,
    Unusable,
    Version,
    key_id,
)
from mirror.reconcile.state import publications
from mirror.report import Effect, IssuerReport, ObjectReport, PublicReadback, Report
from support.fakes import MOMENT
from support.keys import EC_KEYS, RSA_KEYS, with_kid

BASE_URL = "https://oidc-bucket.s3-ap-southeast-2.amazonaws.com"
HOSTILE = with_kid(EC_KEYS[0], "<script>document.title='owned'</script>" + "k" * 300)
OLD, NEW = RSA_KEYS[0], RSA_KEYS[1]
DAY = timedelta(days=1)
NAMES = ("syd-prod", "syd-stage", "fra-prod", "lab")


def url_of(name: str) -> IssuerUrl:
    return IssuerUrl(f"{BASE_URL}/cluster/{name}")


def settings(*names: str, former: tuple[FormerIssuerSettings, ...] = ()) -> Settings:
    publish = PublishSettings(bucket="oidc-bucket", region="ap-southeast-2", base_url=BASE_URL)
    issuers = tuple(
        Issuer(IssuerName(name), url_of(name), publish, apiservers=("https://10.0.0.11:6443",), former_issuers=former)
        for name in names
    )
    return Settings(Path("/state"), RepositorySettings(Path("/state/snapshots.git")), issuers)


def record(key: Key, status: Status, *, age: timedelta = DAY, missing: timedelta | None = None) -> KeyRecord:
    """A record as of MOMENT."""
    return KeyRecord(
        key,
        status,
        1,
        MOMENT - age,
        missing_since=None if missing is None else MOMENT - missing,
        held_because="policy" if status is Status.HELD else None,
        revocation=Revocation(MOMENT - DAY, "the laptop was stolen") if status is Status.REVOKED else None,
    )


def issuer(name: str, **changes: object) -> IssuerReport:
    """What a pass reports of an issuer that is current; `changes` are fields of IssuerReport."""
    url = url_of(name)
    plain = IssuerReport(
        IssuerName(name),
        url,
        observations=(shows("https://10.0.0.11:6443", NEW), shows("https://10.0.0.12:6443", NEW)),
        records=(record(NEW, Status.PUBLISHED, age=12 * DAY),),
        retain_removed=DAY,
        objects=documents(name, Effect.UNCHANGED),
        safe_to_sign_at=MOMENT - 11 * DAY,
        look=PublicReadback(ok=True, seconds=0.21),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields by name


def shows(apiserver: str, *keys: Key) -> Observed:
    return Observed(apiserver, tuple(sorted(keys, key=key_id)), certificate_expires_at=MOMENT + 200 * DAY)


def documents(name: str, effect: Effect, action: str = "") -> tuple[ObjectReport, ...]:
    return tuple(
        ObjectReport(f"{url_of(name)}/{end}", f"cluster/{name}/{end}", effect, action)
        for end in ("openid/v1/jwks", ".well-known/openid-configuration")
    )


def report(*issuers: IssuerReport, **changes: object) -> Report:
    plain = Report(MOMENT, dry_run=False, issuers=issuers, commit=CommitId("a" * 40))
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields by name


def after(*reports: Report, begin: PassHistory | None = None, of: Settings | None = None) -> PassHistory:
    """The history after these passes, whose settings have the issuers of the last one unless they are given."""
    names = dict.fromkeys(each.name for each in reports[-1].issuers) if reports else ()
    pass_history = (begin or PassHistory()).configured(publications(of or settings(*names)))
    for each in reports:
        pass_history = pass_history.after(each, ended_at=each.now, seconds=0.5, commits=COMMITS)
    return pass_history


COMMITS = (
    Version(CommitId("a" * 40), (), MOMENT - DAY / 24, "oidc-mirror", "syd-prod: key 8Hq… retiring"),
    Version(CommitId("b" * 40), (), MOMENT - DAY, "<b>an operator</b>", "<script>alert(1)</script> & more"),
)


def everything() -> PassHistory:
    """An issuer in every state, with hostile text in whatever comes from outside."""
    retiring = issuer(
        "syd-prod",
        observations=(
            shows("https://10.0.0.11:6443", NEW, EC_KEYS[1]),
            replace(shows("https://10.0.0.12:6443", NEW), certificate_expires_at=MOMENT + 6 * DAY),
        ),
        records=(
            record(OLD, Status.RETIRING, age=90 * DAY, missing=DAY / 3),
            record(NEW, Status.PUBLISHED, age=9 * DAY),
            record(EC_KEYS[1], Status.PUBLISHED, age=DAY / 48),
        ),
        safe_to_sign_at=MOMENT + DAY / 100,
    )
    held = issuer(
        "syd-stage",
        records=(record(NEW, Status.PUBLISHED, age=20 * DAY), record(HOSTILE, Status.HELD, age=DAY)),
        observations=(shows("https://10.1.0.11:6443", NEW, HOSTILE),),
        held=(
            Reason(
                "key.held",
                f"Key {HOSTILE.thumbprint} is held (policy) and not public.",
                f"Check it, then: oidc-mirror approve syd-stage {HOSTILE.thumbprint}",
            ),
        ),
    )
    reason = Reason(
        "forbidden",
        'The apiserver answered 403: <img src="https://evil.example/x.png">.',
        "Let the mirror read the documents, with: kubectl create clusterrolebinding oidc-mirror "
        "--clusterrole=system:service-account-issuer-discovery --group=system:unauthenticated",
    )
    failed = issuer(
        "fra-prod",
        observations=(
            Unusable("https://10.2.0.11:6443", (reason,)),
            Unusable("https://10.2.0.12:6443", (Reason("timeout", "It did not answer within 15 s.", "Look at it."),)),
        ),
        records=(record(OLD, Status.REVOKED, age=25 * DAY), record(NEW, Status.PUBLISHED, age=26 * DAY)),
        objects=documents("fra-prod", Effect.PUT, "repair"),
        events=(
            Event(
                "bucket.drift", "Another writer changed <i>openid/v1/jwks</i>; it is as committed again.", Level.ERROR
            ),
        ),
        look=PublicReadback(ok=False, seconds=None),
        safe_to_sign_at=None,
    )
    return after(report(retiring, held, failed, issuer("lab"), unpushed_commits=2, repository_mode="trusted"))
