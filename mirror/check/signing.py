"""Who signed the ledgers of the newest head, and whether this mirror can sign: looked at as a pass does."""

from collections.abc import Iterable, Iterator, Mapping

from mirror.addresses import repository_paths
from mirror.check.ports import LedgerVerdict, SigningState
from mirror.config.settings import Repository as Settings
from mirror.errors import UsageError
from mirror.history.ledger_keys import load_verification_keys, readable_signing_key, signing_key_warning
from mirror.history.repository import Repository
from mirror.model import CommitId, IssuerUrl, Reason
from mirror.trust.ledger import stated_issuer
from mirror.trust.ledger_signature import LedgerTrust, LedgerVerifier, SignatureHeader, Unbelieved

_LEDGERS = "ledger"
_FILE = "/keys.json"
_AT_ONCE = 200
"""So many ledgers are read together: somebody may have pushed files of megabytes."""
_SAMPLE = b"a ledger that nobody keeps\n"
_SAMPLE_ISSUER = IssuerUrl("https://oidc-mirror.invalid")


def signing_state(
    settings: Settings, repository: Repository, head: CommitId | None, issuers: Iterable[IssuerUrl]
) -> SigningState:
    """Read the keys, sign and verify a sample, and judge every ledger of `head`.

    Args:
        settings: The real repository's settings.
        repository: The repository that has `head`.
        head: The newest commit; None where there is none.
        issuers: What the configuration publishes.

    Raises:
        HistoryError: The repository cannot be read.
    """
    try:
        keys = load_verification_keys(settings)
        sample = _sample(settings, keys)
    except UsageError as error:
        return SigningState(refused=_reason(error))
    if keys is None:
        keys = LedgerVerifier(settings.name, {})  # nobody is believed by a signature, and each can still be read
    configured = {repository_paths(issuer).ledger: issuer for issuer in issuers}
    found = () if head is None else tuple(_judged(repository, head, keys, configured))
    return SigningState(sample, warning=signing_key_warning(settings), ledgers=found)


def _sample(settings: Settings, keys: LedgerVerifier | None) -> SignatureHeader | Unbelieved | None:
    """What becomes of a signature that the mirror's key makes; None when this user cannot read the key."""
    own = readable_signing_key(settings)
    if own is None or keys is None:
        return None
    trust = LedgerTrust(settings.name, own, "mirror", keys.keys)
    return trust.verify(_SAMPLE, trust.sign(_SAMPLE, _SAMPLE_ISSUER), _SAMPLE_ISSUER)


def _judged(
    repository: Repository, head: CommitId, keys: LedgerVerifier, configured: Mapping[str, IssuerUrl]
) -> Iterator[LedgerVerdict]:
    paths = [path for path in repository.list_paths(head, _LEDGERS) if path.endswith(_FILE)]
    for begin in range(0, len(paths), _AT_ONCE):
        some = paths[begin : begin + _AT_ONCE]
        files = repository.read(head, [each for path in some for each in (path, _signature_path(path))])
        yield from (_verdict(path, files, keys, configured.get(path)) for path in some)


def _verdict(
    path: str, files: Mapping[str, bytes], keys: LedgerVerifier, configured: IssuerUrl | None
) -> LedgerVerdict:
    body, signature = files.get(path, b""), files.get(_signature_path(path))
    issuer = configured or _stated(path, body)
    verdict = None if signature is None else keys.verify(body, signature, issuer)
    return LedgerVerdict(path, issuer, configured is not None, verdict)


def _stated(path: str, body: bytes) -> IssuerUrl:
    """The issuer that a ledger of another configuration says it is of, where it lies in that issuer's place."""
    issuer = stated_issuer(body)
    return issuer if issuer is not None and repository_paths(issuer).ledger == path else IssuerUrl("")


def _signature_path(path: str) -> str:
    return f"{path}.jws"


def _reason(error: UsageError) -> Reason:
    cause = f" ({error.cause})" if error.cause else ""
    return Reason("repository.signing_key", " ".join((f"{error.sentence}{cause}", *error.problems)), error.remedy)
