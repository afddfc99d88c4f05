"""Telling in time that the certificate of an apiserver ends: after that day nothing it says can be heard."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from mirror.model import Event, Level, Observation

WARN_WITHIN = timedelta(days=14)


def expiring(observations: Iterable[Observation], now: datetime) -> tuple[Event, ...]:
    """One `apiserver.certificate_expiring` for each certificate that ends within 14 days of `now` (aware, UTC)."""
    return tuple(_events(observations, now))


def _events(observations: Iterable[Observation], now: datetime) -> Iterator[Event]:
    # Behind a load balancer one address shows the certificates of several replicas.
    shown = {(each.apiserver, each.certificate_expires_at) for each in observations if each.certificate_expires_at}
    for apiserver, ends in sorted(shown):
        if ends - now < WARN_WITHIN:
            days = max(0, (ends - now) // timedelta(days=1))
            sentence = (
                f"The certificate of {apiserver} ends on {ends:%Y-%m-%d %H:%M} UTC, in {days} day(s). Renew it"
                " (kubeadm: `kubeadm certs renew apiserver`): from then on no key of this apiserver is seen."
            )
            fields = {"apiserver": apiserver, "expires_at": ends.isoformat()}
            yield Event("apiserver.certificate_expiring", sentence, Level.WARNING, fields)
