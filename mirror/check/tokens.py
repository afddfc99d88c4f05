"""The token files of an issuer: readable, private, in their time, for the right audience. No token is ever told."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from mirror.apiserver.credentials import claims_of, read_token
from mirror.check.local import privacy
from mirror.check.result import Finding, Level, Place, Station
from mirror.check.words import moment, span
from mirror.config.settings import Issuer
from mirror.model import Reason

SHORT = timedelta(minutes=10)  # the shortest life that Kubernetes gives (fact 21)
LONG = timedelta(days=2)


def tokens(issuer: Issuer, now: datetime) -> Iterator[Finding]:
    """The apiserver token of an issuer, and the probe token where it has one."""
    if issuer.auth.token_file is not None:
        path = issuer.auth.token_file
        place = Place(Station.CONFIGURATION, str(path), issuer.name)
        yield from privacy("auth.token_file", path, issuer.name)
        token = read_token(path, issuer.audiences)
        yield from _judged(place, "auth.token_file", token, now)
    if issuer.probe_token_file is not None:
        path = issuer.probe_token_file
        place = Place(Station.CONFIGURATION, str(path), issuer.name)
        yield from privacy("probe_token_file", path, issuer.name)
        # A probe is a token for a cloud: here no audience is a wrong one.
        yield from _judged(place, "probe_token_file", read_token(path, (), clouds=()), now)


def _judged(place: Place, key: str, token: str | Reason, now: datetime) -> Iterator[Finding]:
    if isinstance(token, Reason):
        yield place.of_reason(Level.FAILED, token)
        return
    claims = claims_of(token.encode())
    issued, expires = _time(claims.get("iat")), _time(claims.get("exp"))
    if expires is None:
        yield place.note("token.endless", f"{key} is readable; it says no end of its life.")
    elif expires <= now:
        remedy = "Let kubelet project it, or renew it with `kubectl create token`; the file is read in every pass."
        yield place.failed("token.expired", f"{key} expired {span(now - expires)} ago, {moment(expires)}.", remedy)
    else:
        yield from _living(place, key, issued, expires, now)


def _living(place: Place, key: str, issued: datetime | None, expires: datetime, now: datetime) -> Iterator[Finding]:
    age = "" if issued is None or issued > now else f", issued {span(now - issued)} ago"
    sentence = f"{key} is valid for {span(expires - now)} more{age}."
    if expires - now < SHORT:
        remedy = "See that it is renewed on disk: kubelet does so at 80 % of a projected token's life."
        yield place.warning("token.expires", sentence, remedy)
    elif issued is not None and expires - issued > LONG:
        remedy = "Prefer a projected token of an hour: a stolen one is then of no use soon."
        yield place.note("token.long", f"{sentence} It lives for {span(expires - issued)} in all.", remedy)
    else:
        yield place.ok("token.valid", sentence)


def _time(claim: object) -> datetime | None:
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        return None
    try:
        return datetime.fromtimestamp(claim, UTC)
    except (OverflowError, ValueError, OSError):
        return None
