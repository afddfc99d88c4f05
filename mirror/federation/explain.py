"""What an error text of a cloud's token exchange means (facts 27, 28). Pure."""

import re
from dataclasses import dataclass
from html import unescape

from mirror.federation import causes as why
from mirror.federation.causes import Cause
from mirror.federation.error_catalog import AWS_TEXTS, BARE_CODES, ENTRA_TEXTS, GOOGLE_TEXTS, Row

MAX_CHARACTERS = 40_000
"""How much of a text is looked at: an error text has a few hundred, a debug log more."""


def explain(text: str) -> tuple[Cause, ...]:
    """The causes of an error text of AWS STS, Google or Entra, the likeliest first; none for a text that is not known.

    Args:
        text: The error as somebody copied it: the text, the code alone, an answer in JSON or XML, or a whole log. Case,
            line breaks, entities, escapes and what stands around it do not matter.
    """
    text = plain(text)
    found = _causes(text, AWS_TEXTS + GOOGLE_TEXTS + ENTRA_TEXTS)
    return found or _by_meaning(text) or _causes(text, BARE_CODES)


def plain(text: str) -> str:
    """The text in lower case with single spaces and plain quotes; entities, escapes and markup are taken away."""
    text = text[:MAX_CHARACTERS]
    for _ in range(2):  # an answer in XML inside a log in HTML
        text = unescape(text)
    text = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    text = re.sub(r"\\+[nrt]", " ", text)
    text = re.sub(r"\\+", "", text)
    text = re.sub(r"[\u2018\u2019\u201b\u02bc\u00b4`]", "'", re.sub(r"[\u201c\u201d]", '"', text))
    text = re.sub(r"</?[A-Za-z][^<>]{0,200}>", " ", text)
    return " ".join(text.split()).lower()


def _causes(text: str, rows: tuple[Row, ...]) -> tuple[Cause, ...]:
    return tuple(dict.fromkeys(cause for row in rows if row.pattern.search(text) for cause in row.causes))


# ------------------------------------------------------------------------------------------------ by meaning

_ABOUT_LOGINS = re.compile(r"token|jwt|oidc|openid|identity|\bsts\b|federat|aadsts|assertion|credential|invalid_grant")
_REFUSES = re.compile(
    r"invalid|incorrect|mismatch|wrong|unknown|unexpected|unsupported|missing|not |n't |no |cannot|denied|reject|refus"
    r"|fail"
    r"|unable|error|expired|too old|too long|must "
)
_ENTRA = re.compile(r"aadsts|entra\b|federated identity credential|login\.microsoftonline|azure")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a text may speak of: its words, the causes, and the causes where the text is Entra's."""

    words: re.Pattern[str]
    causes: tuple[Cause, ...]
    of_entra: tuple[Cause, ...]


_MEANINGS = (
    Meaning(re.compile(r"expired|too old|no longer valid"), (why.EXPIRED, why.CLOCK), (why.EXPIRED, why.CLOCK)),
    Meaning(re.compile(r"clock|skew|in the future|time range"), (why.CLOCK, why.EXPIRED), (why.CLOCK, why.EXPIRED)),
    Meaning(re.compile(r"audience|\baud\b"), (why.AUDIENCE_UNKNOWN,), (why.ENTRA_AUDIENCE,)),
    Meaning(re.compile(r"issuer|\biss\b"), (why.ISSUER_DIFFERS, why.NO_PROVIDER), (why.ENTRA_ISSUER,)),
    Meaning(re.compile(r"subject\b|\bsub\b"), (why.TRUST_POLICY, why.GCP_CONDITION), (why.ENTRA_SUBJECT,)),
    Meaning(
        re.compile(r"signing key|verification key|public key|\bkid\b|\bjwks?\b|key set"),
        (why.KEY_NOT_PUBLIC, why.NOT_PUBLIC),
        (why.ENTRA_KEY_NOT_PUBLIC, why.ENTRA_KEY_TYPE),
    ),
    Meaning(re.compile(r"signature"), (why.BAD_SIGNATURE, why.KEY_NOT_PUBLIC), (why.ENTRA_SIGNATURE,)),
    Meaning(
        re.compile(
            r"discovery|well-known|openid-configuration|metadata|identity provider.{0,60}(?:timed? ?out|unreachable)"
        ),
        (why.NOT_PUBLIC, why.TOO_SLOW),
        (why.ENTRA_FETCH,),
    ),
    Meaning(re.compile(r"\bpool\b"), (why.GCP_POOL,), (why.GCP_POOL,)),
    Meaning(re.compile(r"\bclaims?\b"), (why.CLAIM_MISSING, why.REJECTED_CLAIM), (why.CLAIM_MISSING,)),
    Meaning(
        re.compile(r"(?:oidc|openid ?connect|identity) provider"),
        (why.NO_PROVIDER, why.ISSUER_DIFFERS),
        (why.ENTRA_ISSUER,),
    ),
)
"""What a text that no row knows is about, the likeliest first."""


def _by_meaning(text: str) -> tuple[Cause, ...]:
    """The causes of a refusal in words that no row has, by what it speaks of; none where that is something else."""
    if not (_ABOUT_LOGINS.search(text) and _REFUSES.search(text)):
        return ()
    is_entra = _ENTRA.search(text) is not None
    found = (each.of_entra if is_entra else each.causes for each in _MEANINGS if each.words.search(text))
    return tuple(dict.fromkeys(cause for causes in found for cause in causes))
