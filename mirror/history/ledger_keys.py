"""The keys that ledgers are signed and verified with, read from the files that `repository` names."""

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from mirror.config.settings import RepositorySettings
from mirror.errors import UsageError
from mirror.model import Reason
from mirror.redaction import describe
from mirror.trust.ledger_signature import (
    LedgerTrust,
    LedgerVerifier,
    PrivateKey,
    PublicKey,
    Role,
    read_allowed_signers,
    read_private_key,
)

MAX_KEY_BYTES = 64 * 1024
MAX_SIGNERS_BYTES = 1024 * 1024

_CORRECT_KEY = "Correct `repository.signing_key` (or $OIDC_MIRROR_SIGNING_KEY), or make a key: "
_MOUNTED = ("/run/credentials/", "/run/secrets/", "/var/run/secrets/")
"""Where systemd and Kubernetes show secrets: nobody can make a key there."""
_PUT_KEY = (
    "Make a key, and put it where the unit's LoadCredential= or the pod's Secret takes it from: "
    "ssh-keygen -t ed25519 -N '' -f signing_key"
)
_NEW_KEY = "ssh-keygen -t ed25519 -N '' -f FILE"


def load_ledger_trust(
    repository: RepositorySettings, *, signing_key: Path | None = None, role: Role = "mirror"
) -> LedgerTrust | None:
    """Read who is believed and who signs; None in trusted mode, where no signing key is configured.

    Args:
        repository: The settings.
        signing_key: The file of another key that signs, of an operator's command. With the role `operator` its public
            half must stand in `allowed_signers`; where it is the mirror's own key the role is `mirror` all the same.
        role: Who signs.

    Raises:
        UsageError: A file is missing, unreadable or empty, is no key, or has a line that is none; or the key is not one
            that the mirrors believe; or `allowed_signers` is set without a signing key.
    """
    path = signing_key or repository.signing_key
    if path is None:
        if repository.allowed_signers is None:
            return None
        raise UsageError(
            "`repository.allowed_signers` is set and `repository.signing_key` is not: nothing could be signed.",
            remedy="Make a key, and set `repository.signing_key` to its file: "
            + _NEW_KEY.replace("FILE", "signing_key"),
        )
    key = _signing_key(path)
    listed = _allowed_signers(repository)
    if role == "operator":
        own = readable_signing_key(repository)
        if own is not None:
            listed = {own.kid: own.public(), **listed}
            role = "mirror" if own.kid == key.kid else role
        if key.kid not in listed:
            _refuse_unlisted(key, path, repository)
    return LedgerTrust(repository.name, {key.kid: key.public(), **listed}, key, role)


def load_verification_keys(repository: RepositorySettings) -> LedgerVerifier | None:
    """Read who is believed, for commands that only read; None in trusted mode, where neither file is configured.

    A signing key that this user cannot read is left out where `allowed_signers` is set: operators read the history on
    machines that have no private key.

    Raises:
        UsageError: As `load_ledger_trust`.
    """
    if repository.signing_key is None and repository.allowed_signers is None:
        return None
    listed = _allowed_signers(repository)
    own = (
        readable_signing_key(repository)
        if listed or repository.signing_key is None
        else _signing_key(repository.signing_key)
    )
    return LedgerVerifier(repository.name, listed if own is None else {own.kid: own.public(), **listed})


def readable_signing_key(repository: RepositorySettings) -> PrivateKey | None:
    """Read the mirror's own key where this user can read its file; None where not, or where none is configured.

    Raises:
        UsageError: The file can be read and is no key.
    """
    path = repository.signing_key
    return _signing_key(path) if path is not None and os.access(path, os.R_OK) else None


def signing_key_warning(repository: RepositorySettings) -> Reason | None:
    """Say that everybody on this machine may read the signing key; None where not, or where it cannot be looked at."""
    path = repository.signing_key
    try:
        if path is None or not path.stat().st_mode & stat.S_IROTH:
            return None
    except OSError:
        return None
    sentence = f"Every user of this machine can read the signing key {path}, and sign ledgers with it."
    return Reason("signing_key.not_private", sentence, f"Run `chmod o= {shlex.quote(str(path))}`.")


def _signing_key(path: Path) -> PrivateKey:
    is_mounted = str(path).startswith(_MOUNTED)
    remedy = _PUT_KEY if is_mounted else f"{_CORRECT_KEY}{_NEW_KEY}"
    key = read_private_key(_read(path, "signing key", MAX_KEY_BYTES, remedy=_with_path(remedy, path)))
    if isinstance(key, Reason):
        remedy = _PUT_KEY if is_mounted else key.remedy
        raise UsageError(key.sentence, cause=str(path), remedy=_with_path(remedy, path))
    return key


def _with_path(remedy: str, path: Path) -> str:
    """The remedy with the path in place of FILE, as one word of a shell."""
    return remedy.replace("FILE", shlex.quote(str(path)))


def _allowed_signers(repository: RepositorySettings) -> Mapping[str, PublicKey]:
    path = repository.allowed_signers
    if path is None:
        return {}
    remedy = "Correct `repository.allowed_signers`, or remove it where one key signs everything."
    body = _read(path, "file of allowed signers", MAX_SIGNERS_BYTES, remedy=remedy)
    found = read_allowed_signers(body)
    problems = tuple(
        f"{path}:{each.where.removeprefix('line ')}: {each.sentence} {each.remedy}"
        for each in found
        if isinstance(each, Reason)
    )
    if problems:
        raise UsageError("The allowed signers have mistakes.", problems=problems)
    return {each.kid: each for each in found if isinstance(each, PublicKey)}


def _refuse_unlisted(key: PrivateKey, path: Path, repository: RepositorySettings) -> NoReturn:
    signers = shlex.quote(str(repository.allowed_signers or "allowed_signers"))
    listing = "" if repository.allowed_signers else f", and set `repository.allowed_signers` to {signers}"
    raise UsageError(
        f"The mirrors would reject signatures of the key {path}: `repository.allowed_signers` does not list it.",
        cause=key.kid,
        remedy="If it is the mirrors' own key, name it in `repository.signing_key` instead. Else add it"
        f" everywhere{listing}: echo '{key.line}' >> {signers}",
    )


def _read(path: Path, what: str, max_bytes: int, *, remedy: str) -> bytes:
    """The bytes of a regular file, which may be the target of links.

    Raises:
        UsageError: It cannot be read, is no regular file, or is larger.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"The {what} {path} cannot be read.", cause="not a regular file", remedy=remedy)
        with path.open("rb") as file:
            body = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else None
        raise UsageError(f"The {what} {path} cannot be read.", cause=cause or describe(error), remedy=remedy) from error
    if len(body) > max_bytes:
        raise UsageError(f"The {what} {path} cannot be read.", cause=f"more than {max_bytes} bytes", remedy=remedy)
    return body
