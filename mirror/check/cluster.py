"""Checks of a cluster: its apiservers, the keys that each of them serves, and its token files."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mirror.apiserver.credentials import read_token
from mirror.check.local import SOON, privacy
from mirror.check.result import CheckResult, CheckTarget, Component
from mirror.config.settings import Issuer
from mirror.model import Key, Observation, Observed, Reason, Thumbprint, key_name
from mirror.text import counted, in_words, moment
from mirror.trust.lifecycle import MOST_CLOCK_SKEW
from mirror.trust.parsing import unverified_claims
from mirror.trust.relying_parties import compatibility


def keys(issuer: Issuer, observations: Sequence[Observation], public: Sequence[Key] | None) -> Iterator[CheckResult]:
    """Findings about the keys of one issuer.

    Args:
        issuer: The configured entry.
        observations: What its apiservers showed.
        public: The keys of the public JWKS; None where it could not be read.
    """
    observed = [each for each in observations if isinstance(each, Observed)]
    if not observed:
        return
    shown = {key.thumbprint: key for each in observed for key in each.keys}
    place = CheckTarget(Component.KEYS, "apiservers", issuer.name)
    yield from _each(issuer, observed)
    if any({key.thumbprint for key in each.keys} != set(shown) for each in observed):
        yield from (_partial(issuer, key, observed) for key in shown.values() if not _everywhere(key, observed))
    elif len(observed) > 1:
        yield place.ok("keys.same", f"All {len(observed)} answers show the same: {counted(len(shown), 'key')}.")
    yield from (place.note(each.code, each.sentence) for each in compatibility(issuer.issuer, tuple(shown.values())))
    if public is not None:
        yield from _against_public(issuer, shown, {key.thumbprint: key for key in public})


def _each(issuer: Issuer, observed: Sequence[Observed]) -> Iterator[CheckResult]:
    for apiserver, shown in dict.fromkeys((each.apiserver, each.keys) for each in observed):
        sentence = f"It shows {', '.join(map(key_name, shown))}."
        yield CheckTarget(Component.KEYS, apiserver, issuer.name).ok("keys.shown", sentence)


def _everywhere(key: Key, observed: Sequence[Observed]) -> bool:
    return all(key.thumbprint in {other.thumbprint for other in each.keys} for each in observed)


def _partial(issuer: Issuer, key: Key, observed: Sequence[Observed]) -> CheckResult:
    holders = [each.apiserver for each in observed if key.thumbprint in {other.thumbprint for other in each.keys}]
    others = [each.apiserver for each in observed if each.apiserver not in holders]
    without = f"not {', '.join(dict.fromkeys(others))}" if others else "but not in each of its answers"
    sentence = f"{', '.join(dict.fromkeys(holders))} shows {key_name(key)}, {without}."
    remedy = (
        "Normal while a rotation restarts the apiservers one by one; otherwise give all of them the same "
        "--service-account-key-file flags: until then they refuse each other's tokens."
    )
    return CheckTarget(Component.KEYS, key.kid, issuer.name).warning("keys.differ", sentence, remedy)


def _against_public(
    issuer: Issuer, keys: Mapping[Thumbprint, Key], public: Mapping[Thumbprint, Key]
) -> Iterator[CheckResult]:
    for thumbprint, key in keys.items():
        if thumbprint not in public:
            sentence = f"{key_name(key)} is not public: clouds refuse tokens that are signed with it."
            remedy = (
                f"Run `oidc-mirror --once --only {issuer.name}`; `oidc-mirror status {issuer.name}` says whether it "
                "is held or revoked."
            )
            yield CheckTarget(Component.KEYS, key.kid, issuer.name).warning("keys.not_public", sentence, remedy)
    for thumbprint, key in public.items():
        if thumbprint not in keys:
            sentence = f"{key_name(key)} is public, and no apiserver that answered shows it."
            remedy = f"It is retiring, or another writer put it there: `oidc-mirror status {issuer.name}` shows which."
            yield CheckTarget(Component.KEYS, key.kid, issuer.name).note("keys.only_public", sentence, remedy)
    if set(keys) == set(public):
        place = CheckTarget(Component.KEYS, "public", issuer.name)
        yield place.ok("keys.public", f"What the apiservers show is public, exactly: {counted(len(keys), 'key')}.")


def apiservers(issuer: Issuer, observations: Sequence[Observation], now: datetime) -> Iterator[CheckResult]:
    """What each apiserver showed, or every reason why it is of no use; its certificate and its clock.

    Args:
        issuer: The configured entry.
        observations: The validated answers; behind a load balancer several of one URL.
        now: The moment of the look, aware, UTC.
    """
    if not observations:
        place = CheckTarget(Component.APISERVERS, "apiservers", issuer.name)
        yield place.failed("apiservers.none", "No apiserver was found to ask.", "Correct `apiservers` of this issuer.")
    expected = issuer.expect_replicas
    if expected is not None and len(observations) < expected:
        place = CheckTarget(Component.APISERVERS, "apiservers", issuer.name)
        sentence = f"{counted(len(observations), 'replica')} answered or failed, {expected} are expected."
        remedy = "Until all are found no key is retired: correct `expect_replicas`, or find the missing ones."
        yield place.warning("apiservers.missing", sentence, remedy)
    seen: list[CheckResult] = []
    for observation in observations:
        found = tuple(_one(issuer, observation, now))
        yield from (each for each in found if each not in seen)
        seen += found


def _one(issuer: Issuer, observation: Observation, now: datetime) -> Iterator[CheckResult]:
    place = CheckTarget(Component.APISERVERS, observation.apiserver, issuer.name)
    if isinstance(observation, Observed):
        yield place.ok("apiserver.believed", f"It shows this issuer and {counted(len(observation.keys), 'key')}.")
        yield from (place.note(each.code, each.sentence) for each in observation.notes)
    else:
        yield from (place.of_reason(reason) for reason in observation.reasons)
    if observation.certificate_expires_at is not None:
        yield _certificate(place, observation.certificate_expires_at, now)
    if observation.date is not None:
        yield from _clock(place, observation.date, now)


def _certificate(place: CheckTarget, ends: datetime, now: datetime) -> CheckResult:
    sentence = f"Its certificate ends in {in_words(ends - now)}, {moment(ends)}."
    if ends - now < SOON:
        remedy = "Renew it (kubeadm: `kubeadm certs renew apiserver`) and restart the apiserver."
        return place.warning("tls.expires_soon", sentence, remedy)
    return place.ok("tls.valid", sentence)


def _clock(place: CheckTarget, date: datetime, now: datetime) -> Iterator[CheckResult]:
    if abs(date - now) > MOST_CLOCK_SKEW:
        sentence = f"Its clock and this machine's differ by {in_words(date - now)}: no key begins or ends retiring."
        yield place.warning("clock.skewed", sentence, "Let both follow NTP; the token checks of clouds need it too.")


SHORT = timedelta(minutes=10)  # the shortest life that Kubernetes gives (facts.md#21)
LONG = timedelta(days=2)


def tokens(issuer: Issuer, now: datetime) -> Iterator[CheckResult]:
    """The apiserver token of an issuer, and the probe token where it has one."""
    path = issuer.auth.token_file
    if path is not None:
        yield from _token(issuer, "auth.token_file", path, read_token(path, issuer.audiences), now)
    path = issuer.probe_token_file
    if path is not None:
        # A probe is a token for a cloud: here no audience is a wrong one.
        yield from _token(issuer, "probe_token_file", path, read_token(path, (), clouds=()), now)


def _token(issuer: Issuer, key: str, path: Path, token: str | Reason, now: datetime) -> Iterator[CheckResult]:
    yield from privacy(key, path, issuer.name)
    place = CheckTarget(Component.CONFIGURATION, str(path), issuer.name)
    if isinstance(token, Reason):
        yield place.of_reason(token)
        return
    claims = unverified_claims(token.encode())
    issued, expires = _time(claims.get("iat")), _time(claims.get("exp"))
    if expires is None:
        yield place.note("token.endless", f"{key} is readable; it says no end of its life.")
    elif expires <= now:
        remedy = "Let kubelet project it, or renew it with `kubectl create token`; the file is read in every pass."
        yield place.failed("token.expired", f"{key} expired {in_words(now - expires)} ago, {moment(expires)}.", remedy)
    else:
        yield from _living(place, key, issued, expires, now)


def _living(
    place: CheckTarget, key: str, issued: datetime | None, expires: datetime, now: datetime
) -> Iterator[CheckResult]:
    age = "" if issued is None or issued > now else f", issued {in_words(now - issued)} ago"
    sentence = f"{key} is valid for {in_words(expires - now)} more{age}."
    if expires - now < SHORT:
        remedy = "See that it is renewed on disk: kubelet does so at 80 % of a projected token's life."
        yield place.warning("token.expires", sentence, remedy)
    elif issued is not None and expires - issued > LONG:
        remedy = "Prefer a projected token of an hour: a stolen one is then of no use soon."
        yield place.note("token.long", f"{sentence} It lives for {in_words(expires - issued)} in all.", remedy)
    else:
        yield place.ok("token.valid", sentence)


def _time(claim: object) -> datetime | None:
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        return None
    try:
        return datetime.fromtimestamp(claim, UTC)
    except (OverflowError, ValueError, OSError):
        return None
