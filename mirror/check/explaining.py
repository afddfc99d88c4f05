"""`check --explain`: what an error of a cloud may come from, where that would show, and whom it is about. Pure."""

import re
from collections.abc import Mapping
from dataclasses import replace

from mirror.aws.iam_policy import provider_url
from mirror.check.result import Cause, Diagnosis, Finding, Station
from mirror.config.settings import Issuer, Settings
from mirror.federation.causes import Cause as Known
from mirror.federation.causes import Station as About
from mirror.federation.error_catalog import explain
from mirror.model import IssuerName, IssuerUrl

WHERE: Mapping[About, tuple[Station, ...]] = {
    About.DOCUMENTS: (Station.PUBLIC,),
    About.KEYS: (Station.KEYS, Station.PUBLIC),
    About.ISSUER: (Station.APISERVERS, Station.PUBLIC),
    About.TOKEN: (Station.APISERVERS,),
    About.AUDIENCE: (),
    About.SUBJECT: (),
    About.PROVIDER: (),
    About.ROLE: (),
    About.CLOUD: (),
}
"""Where each kind of cause shows here; nowhere when it lies in the account of the cloud."""

_UNREADABLE = frozenset({"documents_not_public", "gcp_documents_unreadable", "entra_documents_unreadable"})
"""Causes that show at the bucket too: it says why the world may not read."""

_UNKNOWN = Cause(
    "unknown_error",
    "This program does not know the error as one of AWS STS, Google or Entra. So it checks everything.",
    "Give the whole text, in quotes, as the cloud wrote it.",
    tuple(each for each in Station if each is not Station.FLEET),
)


def causes(text: str) -> tuple[Cause, ...]:
    """What an error text may come from, the likeliest first; never none."""
    found = explain(text)
    return tuple(Cause(each.code, each.sentence, each.remedy, _where(each)) for each in found) or (_UNKNOWN,)


def _where(cause: Known) -> tuple[Station, ...]:
    more = (Station.POLICY, Station.BUCKET) if cause.code in _UNREADABLE else ()
    return WHERE[cause.station] + more


def stations(found: tuple[Cause, ...]) -> tuple[Station, ...]:
    """Where the causes show, those of the likeliest cause first, none twice."""
    return tuple(dict.fromkeys(station for cause in found for station in cause.stations))


def named(text: str, settings: Settings) -> frozenset[IssuerName]:
    """The issuers that the error speaks of, one slash at the end more or less; all when it names none."""
    found = {each.name for each in settings.issuers if any(_occurs(url, text) for url in _texts(each))}
    return frozenset(found or {each.name for each in settings.issuers})


def arranged(diagnosis: Diagnosis, found: tuple[Cause, ...]) -> Diagnosis:
    """The diagnosis with the causes, and its findings in their order."""
    order = stations(found)

    def place(finding: Finding) -> int:
        return order.index(finding.station) if finding.station in order else len(order)

    return replace(diagnosis, findings=tuple(sorted(diagnosis.findings, key=place)), causes=found)


def _texts(issuer: Issuer) -> tuple[IssuerUrl, ...]:
    return (issuer.issuer, *(former.issuer for former in issuer.former_issuers))


def _occurs(url: IssuerUrl, text: str) -> bool:
    # Nothing may stand around it that would make it the text of another issuer.
    plain = provider_url(url).removesuffix("/")
    text = text.replace(":443/", "/")  # IAM drops the port; others may show it
    return re.search(rf"(?<![A-Za-z0-9.-]){re.escape(plain)}/?(?![A-Za-z0-9_~/-])", text) is not None
