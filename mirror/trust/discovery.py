"""An apiserver's discovery document: believed when it speaks for the configured issuer.

Nothing of it is copied: the public document is built from the ledger (`mirror.trust.documents`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from mirror.model import IssuerUrl, Note, Reason
from mirror.trust.parsing import read_object
from mirror.trust.refused import Refused
from mirror.trust.words import described, quoted

_DOCUMENT = "discovery"


@dataclass(frozen=True, slots=True)
class Discovery:
    """A believed discovery document; a foreign `jwks_uri` is a note (fact 12)."""

    issuer: IssuerUrl
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """What one member must be: `holds(value, issuer)`, the sentence and remedy otherwise, and the source."""

    member: str
    code: str
    holds: Callable[[object, IssuerUrl], bool]
    sentence: Callable[[object, IssuerUrl], str]
    remedy: str
    citation: str


def read_discovery(body: bytes, *, issuer: IssuerUrl, jwks_uri: str) -> Discovery | Refused:
    """Read a discovery document (OpenID Connect Discovery 1.0, section 3); unknown members are ignored.

    Args:
        body: the bytes that the apiserver sent.
        issuer: the configured issuer, compared code point by code point (fact 30).
        jwks_uri: where we publish the JWKS; another one in the document is a note.

    Returns:
        The believed document, or all reasons: the codes of `read_object`, `wrong_issuer`, `wrong_response_types`,
        `wrong_subject_types`.
    """
    document = read_object(body, _DOCUMENT)
    if isinstance(document, Reason):
        return Refused((document,))
    reasons = tuple(
        _reason(rule, document.get(rule.member), issuer)
        for rule in RULES
        if not rule.holds(document.get(rule.member), issuer)
    )
    return Refused(reasons) if reasons else Discovery(issuer, _notes(document.get("jwks_uri"), jwks_uri))


def _reason(rule: Rule, value: object, issuer: IssuerUrl) -> Reason:
    sentence = f"{rule.sentence(value, issuer)} ({rule.citation})."
    return Reason(rule.code, sentence, rule.remedy, f"{_DOCUMENT} {rule.member}")


def _notes(shown: object, jwks_uri: str) -> tuple[Note, ...]:
    if shown == jwks_uri:
        return ()
    sentence = f"The apiserver's jwks_uri is {described(shown)}; the mirror publishes {quoted(jwks_uri)} (fact 12)."
    return (Note("foreign_jwks_uri", sentence),)


def _is_issuer(value: object, issuer: IssuerUrl) -> bool:
    return isinstance(value, str) and value == issuer


def _other_issuer(value: object, issuer: IssuerUrl) -> str:
    sentence = f"The apiserver's issuer is {described(value)}, the configured one {quoted(issuer)}"
    if isinstance(value, str) and value.removesuffix("/") == issuer.removesuffix("/"):
        return f"{sentence}; they differ in the slash at the end alone, which counts"
    return sentence


def _contains(wanted: str) -> Callable[[object, IssuerUrl], bool]:
    return lambda value, _: isinstance(value, list) and wanted in value


def _lacks(member: str, wanted: str) -> Callable[[object, IssuerUrl], str]:
    return lambda _value, _issuer: f"The member {member} is no array that contains {wanted}"


_NOT_KUBERNETES = "Look at what answers under this address; kube-apiserver always sends it."

RULES = (
    Rule(
        "issuer",
        "wrong_issuer",
        _is_issuer,
        _other_issuer,
        "Configure the first --service-account-issuer of this apiserver, letter by letter.",
        "OpenID Connect Discovery 1.0, section 4.3; facts 11, 30",
    ),
    Rule(
        "response_types_supported",
        "wrong_response_types",
        _contains("id_token"),
        _lacks("response_types_supported", "id_token"),
        _NOT_KUBERNETES,
        "OpenID Connect Discovery 1.0, section 3; fact 2",
    ),
    Rule(
        "subject_types_supported",
        "wrong_subject_types",
        _contains("public"),
        _lacks("subject_types_supported", "public"),
        _NOT_KUBERNETES,
        "OpenID Connect Discovery 1.0, section 3; fact 2",
    ),
)
