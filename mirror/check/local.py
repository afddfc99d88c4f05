"""The configuration beyond its mistakes: what is unwise, and whether the files that it names can be used."""

import os
import stat
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from mirror.check.result import Finding, Place, Station
from mirror.check.words import counted, moment, span
from mirror.config.settings import Issuer, Settings
from mirror.model import IssuerName

SOON = timedelta(days=30)
_MAX_BYTES = 1024 * 1024
# Kubernetes writes projected tokens readable for all; only the pod's own processes see the folder.
_OF_A_POD = ("/var/run/secrets/", "/run/secrets/")


def configuration(settings: Settings) -> Iterator[Finding]:
    """What is allowed but unwise, and who may read the key that all issuers share; git uses it and tells the rest."""
    if settings.repository.signing_key is not None:
        yield from privacy("repository.signing_key", settings.repository.signing_key, None)
    yield from as_text(settings)


def as_text(settings: Settings) -> Iterator[Finding]:
    """What is allowed but unwise. Looks at nothing outside: a pull request is judged where no file of it exists."""
    place = Place(Station.CONFIGURATION, "configuration")
    for sentence in settings.warnings:
        yield place.warning("configuration.unwise", sentence, "Change it, or leave it knowingly.")
    yield place.ok("configuration.valid", f"It is valid: {counted(len(settings.issuers), 'issuer')}.")


def issuer_files(issuer: Issuer, now: datetime) -> Iterator[Finding]:
    """The files of one issuer but its token: readable, private where they should be, certificates in their time."""
    certificates = {"tls.ca_file": issuer.tls.ca_file, "tls.client_cert_file": issuer.tls.client_cert_file}
    certificates["publish.readback.ca_file"] = issuer.publish.readback.ca_file
    private = {"tls.client_key_file": issuer.tls.client_key_file, "auth.kubeconfig": issuer.auth.kubeconfig}
    for key, path in certificates.items():
        if path is not None:
            yield from _file(key, path, issuer.name)
            yield from _certificates(key, path, issuer.name, now)
    for key, path in private.items():
        if path is not None:
            yield from _file(key, path, issuer.name)
            yield from privacy(key, path, issuer.name)


def privacy(key: str, path: Path, issuer: IssuerName | None) -> Iterator[Finding]:
    """A warning when everybody on this machine may read a private file; nothing when it cannot be looked at."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & stat.S_IROTH and not str(path).startswith(_OF_A_POD):
        sentence = f"{key}: every user of this machine may read {path}."
        yield Place(Station.CONFIGURATION, str(path), issuer).warning(
            "file.not_private", sentence, f"Run `chmod o= {path}`."
        )


def _file(key: str, path: Path, issuer: IssuerName | None) -> Iterator[Finding]:
    place = Place(Station.CONFIGURATION, str(path), issuer)
    try:
        problem = "" if stat.S_ISREG(path.stat().st_mode) else "it is no regular file"
    except OSError as error:
        problem = error.strerror or "it cannot be looked at"
    if not problem and not os.access(path, os.R_OK):
        problem = "this user may not read it"
    if problem:
        remedy = f"Correct `{key}`, or the rights on the file and its folders."
        yield place.failed("file.unreadable", f"{key}: {path} cannot be read: {problem}.", remedy)


def _certificates(key: str, path: Path, issuer: IssuerName, now: datetime) -> Iterator[Finding]:
    """Findings about the times of the certificates of a PEM file; nothing where there are none to be read."""
    place = Place(Station.CONFIGURATION, str(path), issuer)
    ends = sorted(_ends(path))
    if not ends:
        return
    if ends[-1] <= now:
        remedy = f"Put a valid certificate into the file that `{key}` names."
        yield place.failed("file.certificate_expired", f"{key}: its certificate ended {moment(ends[-1])}.", remedy)
    elif ends[-1] - now < SOON:
        sentence = f"{key}: its certificate ends in {span(ends[-1] - now)}, {moment(ends[-1])}."
        yield place.warning("file.certificate_expires", sentence, "Renew it before then.")
    else:
        yield place.ok("file.certificate", f"{key}: valid until {moment(ends[-1])}.")


def _ends(path: Path) -> Iterable[datetime]:
    from cryptography import x509  # noqa: PLC0415  heavy, and only for issuers with files

    try:
        with path.open("rb") as file:
            return [each.not_valid_after_utc for each in x509.load_pem_x509_certificates(file.read(_MAX_BYTES))]
    except (OSError, ValueError):
        return []  # unreadable files are told already, and a bad CA by who verifies with it
