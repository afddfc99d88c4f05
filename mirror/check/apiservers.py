"""Each apiserver of an issuer: DNS, TCP, TLS, login, rights, issuer and clock. Pure: the answers are arguments."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from mirror.check.local import SOON
from mirror.check.result import Finding, Level, Place, Station
from mirror.check.words import counted, moment, span
from mirror.config.settings import Issuer
from mirror.model import Observation, Observed
from mirror.trust.lifecycle import MOST_CLOCK_SKEW


def apiservers(issuer: Issuer, observations: Sequence[Observation], now: datetime) -> Iterator[Finding]:
    """What each apiserver showed, or every reason why it is of no use; its certificate and its clock.

    Args:
        issuer: The configured entry.
        observations: What was heard and judged; behind a load balancer several of one URL.
        now: The moment of the look, aware, UTC.
    """
    if not observations:
        place = Place(Station.APISERVERS, "apiservers", issuer.name)
        yield place.failed("apiservers.none", "No apiserver was found to ask.", "Correct `apiservers` of this issuer.")
    expected = issuer.expect_replicas
    if expected is not None and len(observations) < expected:
        place = Place(Station.APISERVERS, "apiservers", issuer.name)
        sentence = f"{counted(len(observations), 'replica')} answered or failed, {expected} are expected."
        remedy = "Until all are found no key is retired: correct `expect_replicas`, or find the missing ones."
        yield place.warning("apiservers.missing", sentence, remedy)
    seen: list[Finding] = []
    for observation in observations:
        found = tuple(_one(issuer, observation, now))
        yield from (each for each in found if each not in seen)
        seen += found


def _one(issuer: Issuer, observation: Observation, now: datetime) -> Iterator[Finding]:
    place = Place(Station.APISERVERS, observation.apiserver, issuer.name)
    if isinstance(observation, Observed):
        yield place.ok("apiserver.believed", f"It shows this issuer and {counted(len(observation.keys), 'key')}.")
        yield from (place.note(each.code, each.sentence) for each in observation.notes)
    else:
        yield from (place.of_reason(Level.FAILED, reason) for reason in observation.reasons)
    if observation.certificate_expires_at is not None:
        yield _certificate(place, observation.certificate_expires_at, now)
    if observation.date is not None:
        yield from _clock(place, observation.date, now)


def _certificate(place: Place, ends: datetime, now: datetime) -> Finding:
    sentence = f"Its certificate ends in {span(ends - now)}, {moment(ends)}."
    if ends - now < SOON:
        remedy = "Renew it (kubeadm: `kubeadm certs renew apiserver`) and restart the apiserver."
        return place.warning("tls.expires_soon", sentence, remedy)
    return place.ok("tls.valid", sentence)


def _clock(place: Place, date: datetime, now: datetime) -> Iterator[Finding]:
    if abs(date - now) > MOST_CLOCK_SKEW:
        sentence = f"Its clock and this machine's differ by {span(date - now)}: no key begins or ends retiring."
        yield place.warning("clock.skewed", sentence, "Let both follow NTP; the token checks of clouds need it too.")
