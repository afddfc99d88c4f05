"""Who may change the ledgers: whose signatures they have, or that the remote is trusted."""

from collections.abc import Iterable, Iterator, Sequence

from mirror.check.ports import LedgerVerdict, SigningState
from mirror.check.result import CheckResult, CheckTarget, Component
from mirror.config.settings import RepositorySettings
from mirror.history.git_command import presentable
from mirror.text import counted
from mirror.trust.ledger_signature import Role, SignatureHeader, VerificationFailure

_SHOWN = 20
_MAKE_KEY = "ssh-keygen -t ed25519 -N '' -f signing_key"
_LIST_KEY = (
    "If the key is another mirror's or an operator's, add the line of its .pub file to the file that"
    " `repository.allowed_signers` names; else find out who pushed."
)


def ledgers(settings: RepositorySettings, signing: SigningState, *, issuers: int) -> Iterator[CheckResult]:
    """Whether the mirror can sign, and each ledger of the newest head: by whom it is signed, or why not believed."""
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
    """The believed ledgers key by key: what one has to know before a line of `allowed_signers` goes."""
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
