"""Checks of this machine: configuration, AWS credentials, git history, who may change its ledgers, state directory."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from mirror.addresses import is_aws_endpoint
from mirror.check.ports import (
    Aws,
    HistoryFacts,
    HistoryView,
    Identity,
    LedgerVerdict,
    LockHolder,
    SigningState,
    Unavailable,
)
from mirror.check.result import CheckResult, CheckTarget, Component
from mirror.config.settings import Issuer, PublishSettings, RepositorySettings, Settings
from mirror.history.git_command import presentable
from mirror.model import IssuerName, Reason
from mirror.ports import WebIdentityToken
from mirror.reconcile.planner import CODE, REMEDY, find_self_dependent_credentials
from mirror.text import counted, in_words, moment
from mirror.trust.ledger_signature import Role, SignatureHeader, VerificationFailure

SOON = timedelta(days=30)
_MAX_BYTES = 1024 * 1024
# Kubernetes writes projected tokens readable for all; only the pod's own processes see the folder.
_OF_A_POD = ("/var/run/secrets/", "/run/secrets/")


def configuration(settings: Settings) -> Iterator[CheckResult]:
    """What is allowed but unwise, and who may read the key that all issuers share; git uses it and reports the rest."""
    if settings.repository.signing_key is not None:
        yield from privacy("repository.signing_key", settings.repository.signing_key, None)
    yield from notify_files(settings)
    yield from as_text(settings)


def as_text(settings: Settings) -> Iterator[CheckResult]:
    """What is allowed but unwise. Looks at nothing outside: a pull request is judged where no file of it exists."""
    place = CheckTarget(Component.CONFIGURATION, "configuration")
    for sentence in settings.warnings:
        yield place.warning("configuration.unwise", sentence, "Change it, or leave it knowingly.")
    yield place.ok("configuration.valid", f"It is valid: {counted(len(settings.issuers), 'issuer')}.")


def notify_files(settings: Settings) -> Iterator[CheckResult]:
    """The files of `notify`: readable, private, each with a URL. Nothing is sent."""
    notify = settings.notify
    if notify.ca_file is not None:
        yield from _file("notify.ca_file", notify.ca_file, None)
    for key, path in (
        ("notify.webhook_url_file", notify.webhook_url_file),
        ("notify.heartbeat_url_file", notify.heartbeat_url_file),
    ):
        if path is None:
            continue
        from mirror.notify.delivery import read_url  # noqa: PLC0415  it imports httpx

        place, url = CheckTarget(Component.NOTIFY, str(path)), read_url(key, path)
        if isinstance(url, Reason):
            yield place.of_reason(url)
        elif url.startswith("http:"):
            sentence = f"{key}: the URL is http, so anyone on the network path can read it and use it."
            yield place.warning("notify.unencrypted", sentence, "Use an https URL.")
        yield from privacy(key, path, None)


def issuer_files(issuer: Issuer, now: datetime) -> Iterator[CheckResult]:
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


def privacy(key: str, path: Path, issuer: IssuerName | None) -> Iterator[CheckResult]:
    """A warning if every user of this machine can read a private file; nothing if it cannot be checked."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & stat.S_IROTH and not str(path).startswith(_OF_A_POD):
        sentence = f"{key}: every user of this machine may read {path}."
        yield CheckTarget(Component.CONFIGURATION, str(path), issuer).warning(
            "file.not_private", sentence, f"Run `chmod o= {path}`."
        )


def _file(key: str, path: Path, issuer: IssuerName | None) -> Iterator[CheckResult]:
    place = CheckTarget(Component.CONFIGURATION, str(path), issuer)
    try:
        problem = "" if stat.S_ISREG(path.stat().st_mode) else "it is not a regular file"
    except OSError as error:
        problem = error.strerror or "it cannot be looked at"
    if not problem and not os.access(path, os.R_OK):
        problem = "this user may not read it"
    if problem:
        remedy = f"Correct `{key}`, or the rights on the file and its folders."
        yield place.failed("file.unreadable", f"{key}: {path} cannot be read: {problem}.", remedy)


def _certificates(key: str, path: Path, issuer: IssuerName, now: datetime) -> Iterator[CheckResult]:
    """Findings about the times of the certificates of a PEM file; nothing where there are none to be read."""
    place = CheckTarget(Component.CONFIGURATION, str(path), issuer)
    ends = sorted(_ends(path))
    if not ends:
        return
    if ends[-1] <= now:
        remedy = f"Put a valid certificate into the file that `{key}` names."
        yield place.failed("file.certificate_expired", f"{key}: its certificate ended {moment(ends[-1])}.", remedy)
    elif ends[-1] - now < SOON:
        sentence = f"{key}: its certificate ends in {in_words(ends[-1] - now)}, {moment(ends[-1])}."
        yield place.warning("file.certificate_expires", sentence, "Renew it before then.")
    else:
        yield place.ok("file.certificate", f"{key}: valid until {moment(ends[-1])}.")


def _ends(path: Path) -> Iterable[datetime]:
    from cryptography import x509  # noqa: PLC0415  heavy, and only for issuers with files

    try:
        with path.open("rb") as file:
            return [each.not_valid_after_utc for each in x509.load_pem_x509_certificates(file.read(_MAX_BYTES))]
    except (OSError, ValueError):
        return []  # unreadable files are reported already, and a bad CA by who verifies with it


_METHODS = {
    "env": "the environment (AWS_ACCESS_KEY_ID)",
    "shared-credentials-file": "the shared credentials file",
    "config-file": "the AWS configuration file",
    "assume-role": "a role that is assumed",
    "assume-role-with-web-identity": "a web identity token (AWS_WEB_IDENTITY_TOKEN_FILE)",
    "iam-role": "the instance's role (metadata service)",
    "container-role": "the container's role",
    "sso": "IAM Identity Center",
    "custom-process": "a credential_process of the AWS configuration",
}
_UNREACHED = frozenset(
    {
        "NoSuchHost",
        "Unreachable",
        "ConnectTimeout",
        "ReadTimeout",
        "ConnectionClosed",
        "Proxy",
        "SlowDown",
        "InternalError",
    }
)
"""STS did not answer, and the mirror may work without it: a network may have a route only to S3."""
_NO_CREDENTIALS = (
    "Give the mirror credentials where boto3 looks for them: environment, `publish.profile`, a web identity, or the "
    "role of the instance or pod."
)


def is_aws(publish: PublishSettings) -> bool:
    """Whether AWS itself keeps the bucket, not a store that only speaks its language."""
    return publish.endpoint_url is None or is_aws_endpoint(publish.endpoint_url)


def credentials(publish: PublishSettings, aws: Aws) -> Iterator[CheckResult]:
    """Findings about the credentials for one bucket."""
    place = CheckTarget(Component.CREDENTIALS, f"credentials for bucket {publish.bucket}")
    method = aws.credentials(publish)
    if method is None:
        yield place.failed("credentials.none", "There are no AWS credentials.", _NO_CREDENTIALS)
    elif isinstance(method, Unavailable):
        yield place.failed("credentials.unusable", f"The AWS credentials cannot be got: {method}.", method.remedy)
    else:
        yield place.ok("credentials.found", f"They come from {_METHODS.get(method, method)}.")
        yield _who(place, publish, aws.identity(publish))


def circular(
    issuers: Iterable[Issuer], own_token: Callable[[PublishSettings], WebIdentityToken | None]
) -> Iterator[CheckResult]:
    """Warnings of credentials that rest on an issuer that the mirror publishes itself."""
    for each in find_self_dependent_credentials(issuers, own_token):
        place = CheckTarget(Component.CREDENTIALS, str(each.token_file))
        yield place.warning(CODE, each.sentence, REMEDY)


def _who(place: CheckTarget, publish: PublishSettings, identity: Identity | Unavailable) -> CheckResult:
    if isinstance(identity, Identity):
        return place.ok("credentials.identity", f"They make the mirror {identity.arn} of account {identity.account}.")
    sentence = f"STS does not say who the mirror is: {identity}."
    if not is_aws(publish):
        return place.note("credentials.unknown", f"{sentence} Stores that are not AWS have no such service.")
    if identity.code in _UNREACHED:
        return place.warning("credentials.unknown", sentence, identity.remedy)
    code = "credentials.expired" if identity.code == "ExpiredToken" else "credentials.refused"
    return place.failed(code, sentence, identity.remedy)


def git(settings: RepositorySettings, view: HistoryView, *, issuers: int) -> Iterator[CheckResult]:
    """The local repository, the remote, whether the mirror may push, and who signed the ledgers.

    `issuers` is how many are configured.
    """
    state = view.look()
    local = CheckTarget(Component.GIT, str(settings.path))
    yield from _local(local, settings.path, state)
    yield from (local.of_reason(reason) for reason in state.broken)
    if settings.remote is None:
        sentence = "No git remote is configured: the history of the keys is only on this machine."
        yield local.note("git.no_remote", sentence, "Set `repository.remote`; several mirrors of one bucket need it.")
    elif state.unreadable is None:
        yield from _remote(CheckTarget(Component.GIT, presentable(settings.remote)), state)
    if state.unreadable is None:
        yield from ledgers(settings, state.signing, issuers=issuers)


def _local(place: CheckTarget, path: Path, state: HistoryFacts) -> Iterator[CheckResult]:
    broken = state.unreadable or state.damaged
    if broken is not None:
        yield place.of_reason(broken)
    elif not _exists(path):
        yield place.note("git.absent", "There is no local repository yet; the first pass creates it.")
    elif not os.access(path, os.W_OK | os.X_OK):
        remedy = f"Give this user the right to write below {path}."
        yield place.failed("git.unwritable", f"This user may not write to the repository {path}.", remedy)
    elif state.local is None:
        yield place.note("git.empty", "The local repository has no commit yet; the first pass makes one.")
    else:
        yield place.ok("git.whole", f"The local repository is whole and can be written; it is at {state.local[:12]}.")


def _exists(path: Path) -> bool:
    """Whether there is such a file; one that this user may not look at counts as there."""
    try:
        return path.exists()
    except PermissionError:
        return True


def _remote(place: CheckTarget, state: HistoryFacts) -> Iterator[CheckResult]:
    if state.fetch is not None:
        yield place.of_reason(state.fetch)
        return
    at = f"at {state.remote[:12]}" if state.remote is not None else "still without our branch"
    yield place.ok("git.fetched", f"The remote can be fetched from; it is {at}.")
    if state.push is not None:
        yield place.of_reason(state.push)
        return
    sentence = "The remote lets us begin a push (rehearsed; hooks and branch protection speak only at a real one)."
    yield place.ok("git.may_push", sentence)
    if state.unpushed:
        yield place.warning(
            "git.unpushed",
            f"{counted(state.unpushed, 'commit')} not pushed yet, although the remote can be reached.",
            "Run `oidc-mirror --once`; when it stays so, a hook or a branch protection refuses the mirror's pushes: "
            "allow its user to push to the branch.",
        )


_MOST_FILES = 100_000
_OF_THE_FILE_SYSTEM = "lost+found"
_AS_SERVICE = "Run it as the service does: `sudo oidc-mirror-admin check`."
_REMEDY = "Create it, give this user the right to write there, or set `state_dir` to another place."


def state(state_dir: Path, lock_holder: LockHolder) -> Iterator[CheckResult]:
    """The state directory is looked at, never written to."""
    place = CheckTarget(Component.STATE, str(state_dir))
    try:
        is_there = state_dir.exists()
    except PermissionError:  # a folder above it is closed to this user
        yield place.failed("state.unwritable", f"This user cannot read the state directory {state_dir}.", _AS_SERVICE)
        return
    if not is_there:
        yield _absent(place, state_dir)
        return
    if not state_dir.is_dir():
        yield place.failed("state.no_folder", f"The state directory {state_dir} is not a folder.", _REMEDY)
        return
    if not os.access(state_dir, os.R_OK | os.W_OK | os.X_OK):
        sentence = f"This user may not write to the state directory {state_dir}."
        yield place.failed("state.unwritable", sentence, f"{_REMEDY} {_AS_SERVICE}")
        return
    yield from _owners(place, state_dir)
    holder = lock_holder(state_dir / "lock")
    if holder is None:
        yield place.ok("state.writable", "The state directory can be written, and no pass runs in it now.")
    else:
        yield place.note("state.locked", f"The state directory can be written; {holder} works in it now.")


def _owners(place: CheckTarget, state_dir: Path) -> Iterator[CheckResult]:
    """Files that another user left: the service cannot read or replace them, and may fail for it much later.

    The service's user is the one that looks; root looks for the owner of the folder. A volume may belong to root while
    its files are the service's, and has a `lost+found` of the file system's own.
    """
    owner = os.geteuid() or state_dir.stat().st_uid
    found = 0
    first: Path | None = None
    for number, path in enumerate(state_dir.rglob("*")):
        if number >= _MOST_FILES:
            break
        try:
            is_foreign = path.lstat().st_uid != owner and path.name != _OF_THE_FILE_SYSTEM
        except OSError:
            continue  # a temporary file that was removed in between
        found += is_foreign
        first = path if is_foreign and first is None else first
    if first is not None:
        sentence = (
            f"{counted(found, 'file')} of the state directory {state_dir} belong to another user, such as {first}."
        )
        remedy = f"Run `sudo chown -R {owner} {state_dir}`; use `oidc-mirror-admin` instead of root."
        yield place.failed("state.foreign_owner", sentence, remedy)


def _absent(place: CheckTarget, state_dir: Path) -> CheckResult:
    above = next(folder for folder in state_dir.parents if folder.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        sentence = "The state directory does not exist yet; the first pass creates it."
        return place.note("state.absent", sentence)
    sentence = f"The state directory does not exist, and this user may not create it below {above}."
    return place.failed("state.unwritable", sentence, _REMEDY)


_SHOWN = 20
_MAKE_KEY = "ssh-keygen -t ed25519 -N '' -f signing_key"
_LIST_KEY = (
    "If the key is another mirror's or an operator's, add the line of its .pub file to the file that"
    " `repository.allowed_signers` names; else find out who pushed."
)


def ledgers(settings: RepositorySettings, signing: SigningState, *, issuers: int) -> Iterator[CheckResult]:
    """Whether the mirror can sign, and for each ledger of the newest head who signed it, or why it does not count."""
    place = CheckTarget(Component.GIT, presentable(settings.remote or str(settings.path)))
    if signing.refused is not None:
        yield place.failed(signing.refused.code, signing.refused.sentence, signing.refused.remedy)
    elif settings.signing_key is not None or settings.allowed_signers is not None:
        yield _own_key(settings, signing.sample)
        if signing.warning is not None:
            yield place.warning(signing.warning.code, signing.warning.sentence, signing.warning.remedy)
        yield from _signers(place, signing)
        yield from _unsigned(place, signing.ledgers)
        yield from _unbelieved(signing.ledgers)
    elif settings.remote is not None:
        yield _trusted(place, settings, signing.ledgers, issuers=issuers)


def _own_key(settings: RepositorySettings, sample: SignatureHeader | VerificationFailure | None) -> CheckResult:
    place = CheckTarget(Component.GIT, str(settings.signing_key or settings.allowed_signers))
    if settings.signing_key is None:
        sentence = "`repository.signing_key` is not set: with this configuration ledgers can only be read."
        return place.note("repository.read_only", sentence, "Set it where `oidc-mirror run` is used.")
    if sample is None:
        sentence = "This user cannot read the signing key; ledgers are judged by `repository.allowed_signers`."
        return place.note("repository.read_only", sentence, "Sign decisions with a key of your own: --signing-key FILE")
    if isinstance(sample, VerificationFailure):
        sentence = f"The signing key made a signature that does not count: {sample.sentence}"
        return place.failed("repository.signing_key", sentence, f"Make another key: {_MAKE_KEY}")
    sentence = f"A signature was made with {sample.kid} and verified."
    return place.ok("repository.signing_key", sentence)


def _signers(place: CheckTarget, signing: SigningState) -> Iterator[CheckResult]:
    """The accepted ledgers by key: the information needed before a line of `allowed_signers` is removed."""
    found: dict[tuple[str, Role], list[LedgerVerdict]] = {}
    for each in signing.ledgers:
        if isinstance(each.verdict, SignatureHeader):
            found.setdefault((each.verdict.kid, each.verdict.role), []).append(each)
    own = signing.sample.kid if isinstance(signing.sample, SignatureHeader) else ""
    for (kid, role), signed in sorted(found.items()):
        whose = "this mirror" if kid == own else role
        sentence = f"{kid} ({whose}) signed {counted(len(signed), 'ledger')}: {_listed(signed)}."
        if role == "operator" and any(each.is_configured for each in signed):
            yield place.note(
                "ledger.signed", sentence, "Keep the key's line in `repository.allowed_signers` until the next pass."
            )
        else:
            yield place.ok("ledger.signed", sentence)


def _unsigned(place: CheckTarget, verdicts: Iterable[LedgerVerdict]) -> Iterator[CheckResult]:
    """The ledgers without any signature, in one finding: before the first signed pass that is all of them."""
    bare = [each for each in verdicts if each.verdict is None]
    ours, others = [each for each in bare if each.is_configured], [each for each in bare if not each.is_configured]
    if ours:
        sentence = f"{counted(len(ours), 'ledger')} without a signature, so they do not count: {_listed(ours)}."
        remedy = "Run `oidc-mirror run --once`. When it reports `ledger.lost`: `oidc-mirror adopt --branch`."
        yield place.warning("ledger.unsigned", sentence, remedy)
    if others:
        sentence = f"{counted(len(others), 'ledger')} of other configurations without a signature: {_listed(others)}."
        yield place.note("ledger.unsigned", sentence)


def _unbelieved(verdicts: Iterable[LedgerVerdict]) -> Iterator[CheckResult]:
    for each in verdicts:
        if not isinstance(each.verdict, VerificationFailure):
            continue
        place = CheckTarget(Component.GIT, each.path)
        code = _CODES[each.verdict.code]
        sentence = f"The ledger does not count: {each.verdict.sentence}"
        if not each.is_configured:
            yield place.note(code, f"{sentence} It is not an issuer of this configuration, and stays as it is.")
        elif code == "ledger.unknown_signer":
            yield place.failed(code, sentence, _LIST_KEY)
        else:
            remedy = f"The next pass writes it again. To see who changed it: git log -- {each.path}"
            yield place.warning(code, sentence, remedy)


_CODES = {
    "damaged": "ledger.damaged",
    "foreign": "ledger.unsigned",
    "false": "ledger.unsigned",
    "unknown_signer": "ledger.unknown_signer",
}


def _trusted(
    place: CheckTarget, settings: RepositorySettings, verdicts: Iterable[LedgerVerdict], *, issuers: int
) -> CheckResult:
    signed = [each for each in verdicts if each.is_configured and _is_signed_for_us(each)]
    if signed:
        sentence = (
            f"Other mirrors sign the ledgers of this repository ({_listed(signed)}), and this one has no signing key."
            " It makes no pass."
        )
        remedy = (
            "Set `repository.signing_key`, and list the other mirrors' public keys in"
            f" `repository.allowed_signers`. To make a key: {_MAKE_KEY}"
        )
        return place.failed("repository.signed", sentence, remedy)
    sentence = (
        f"Anyone who can push to {settings.branch} of {presentable(settings.remote or '')}, its administrators"
        f" included, can publish a key, act as any pod of {counted(issuers, 'issuer')}, and undo a revocation."
    )
    return place.warning("repository.unsigned", sentence, "Set `repository.signing_key`, or protect the branch.")


def _is_signed_for_us(each: LedgerVerdict) -> bool:
    """Whether it has a signature for this repository and issuer; without any key it is by an unknown signer."""
    return isinstance(each.verdict, VerificationFailure) and each.verdict.code == "unknown_signer"


def _listed(verdicts: Sequence[LedgerVerdict]) -> str:
    shown = [each.issuer or each.path for each in verdicts[:_SHOWN]]
    more = [f"and {len(verdicts) - _SHOWN} more"] if len(verdicts) > _SHOWN else []
    return ", ".join([*shown, *more])
