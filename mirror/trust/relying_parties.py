"""The limits of AWS, Google and Entra, and what each would answer to the public documents and a token.

Checks that apply to every relying party (signature, expiry) are made elsewhere; their results are arguments.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache

from mirror.addresses.issuer_urls import MAX_ISSUER_CHARACTERS
from mirror.model import (
    AWS_AUDIENCE_CHARACTERS,
    AWS_KEYS_OF_A_TYPE,
    GCP_AUDIENCES,
    NO_AUDIENCES,
    Cloud,
    IssuerUrl,
    Key,
    Note,
    Reason,
    TokenAudiences,
)
from mirror.trust.discovery import documents
from mirror.trust.tokens import Token


class Party(StrEnum):
    """A relying party: a cloud that accepts tokens by means of the public documents."""

    AWS = "AWS"
    GCP = "GCP"
    ENTRA = "Entra"


CLOUDS = {Party.AWS: Cloud.AWS, Party.GCP: Cloud.GCP, Party.ENTRA: Cloud.AZURE}
"""The name of each relying party in the configuration."""
ALGORITHMS: dict[Party, tuple[str, ...]] = {
    Party.GCP: ("RS256", "ES256"),
    Party.ENTRA: ("RS256",),
}
"""The accepted algorithms of relying parties that reject some keys. AWS accepts all keys of `mirror.trust.jwks`."""
GCP_AUDIENCE_CHARACTERS = 256
GCP_LIFETIME = timedelta(hours=48)
GCP_SUBJECT_BYTES = 127
ENTRA_ISSUER_CHARACTERS = 600
ENTRA_AUDIENCE_CHARACTERS = 600
ENTRA_LIFETIME = timedelta(hours=25)
"""The longest lifetime that Entra was observed to accept (AADSTS70023: at most 1.01:00:00)."""
NIMBUS_JWKS_BYTES = 51_200


@dataclass(frozen=True, slots=True)
class PartyInput:
    """What a relying party checks: the issuer, its public keys, the configured audiences and, if there is one, a token.

    If no audiences are configured, those of a token are not compared. `has_unknown_key`: the JWKS also has a key of an
    unknown type. `has_key_ops`: a key of the JWKS has the member key_ops.
    """

    issuer: IssuerUrl
    keys: tuple[Key, ...]
    audiences: TokenAudiences = NO_AUDIENCES
    token: Token | None = None
    has_unknown_key: bool = False
    has_key_ops: bool = False


@dataclass(frozen=True, slots=True)
class PartyRule:
    """One limit of a relying party; `holds` returns whether the input is within it.

    `party` is None for limits of token libraries, which many programs use. `is_note`: exceeding it is only a note.
    """

    party: Party | None
    code: str
    holds: Callable[[PartyInput], bool]
    sentence: str
    remedy: str = ""
    is_note: bool = False


def _can_use_a_key(party: Party) -> Callable[[PartyInput], bool]:
    return lambda shown: not shown.keys or any(key.alg in ALGORITHMS[party] for key in shown.keys)


def _can_use_every_key(party: Party) -> Callable[[PartyInput], bool]:
    """Whether the party accepts the algorithm of every key.

    It is also true if the party accepts none of them, because `_can_use_a_key` already reports that.
    """
    return lambda shown: not _can_use_a_key(party)(shown) or all(key.alg in ALGORITHMS[party] for key in shown.keys)


def _takes_the_algorithm(party: Party) -> Callable[[PartyInput], bool]:
    return lambda shown: shown.token is None or shown.token.alg in ALGORITHMS[party]


def _issuer_up_to(characters: int) -> Callable[[PartyInput], bool]:
    return lambda shown: len(shown.issuer) <= characters


def _audience_up_to(party: Party, characters: int) -> Callable[[PartyInput], bool]:
    def holds(party_input: PartyInput) -> bool:
        return party_input.token is None or any(
            len(each) <= characters for each in _meant(party, party_input, party_input.token)
        )

    return holds


def _compared(party: Party, token: Token) -> tuple[str, ...]:
    """The audiences of the token that the party compares.

    For AWS this is `azp` if the token has it, else `aud` (IAM user guide, "Available keys for AWS OIDC federation").
    ServiceAccount tokens never have `azp`.
    """
    if party is Party.AWS and (azp := _authorized_party(token)):
        return (azp,)
    return token.audiences


def _authorized_party(token: Token) -> str:
    azp = token.claims.get("azp")
    return azp if isinstance(azp, str) else ""


def _meant(party: Party, party_input: PartyInput, token: Token) -> tuple[str, ...]:
    """The audiences whose length is checked: those configured for the party, or all if the token has none of these."""
    compared = _compared(party, token)
    return tuple(each for each in compared if party_input.audiences.accepts(CLOUDS[party], each)) or compared or ("",)


def _knows_the_audience(party: Party) -> Callable[[PartyInput], bool]:
    """Whether the token is for this party, as far as that is known.

    It is true for a token without an audience, which is reported for all parties. For Google and Entra the audiences
    are known only if they are configured: a provider or credential may name any, and the usual one is only likely. In
    a plain list of audiences, those that belong to no other party are for AWS.
    """

    def holds(party_input: PartyInput) -> bool:
        is_known = party is Party.AWS or bool(party_input.audiences.of_cloud(CLOUDS[party]))
        return not is_known or _is_for(party, party_input)

    return holds


def _has_the_usual_audience(party: Party) -> Callable[[PartyInput], bool]:
    """Whether the token has the party's usual audience; true if audiences are configured for the party."""
    return lambda shown: bool(shown.audiences.of_cloud(CLOUDS[party])) or _is_for(party, shown)


def _is_for(party: Party, party_input: PartyInput) -> bool:
    token = party_input.token
    if token is None or not token.audiences or not party_input.audiences:
        return True
    return any(party_input.audiences.accepts(CLOUDS[party], each) for each in _compared(party, token))


def _has_one_audience_or_azp(party_input: PartyInput) -> bool:
    token = party_input.token
    return token is None or len(token.audiences) <= 1 or _authorized_party(token) != ""


def _few_keys_of_each_type(party_input: PartyInput) -> bool:
    return all(count <= AWS_KEYS_OF_A_TYPE for count in Counter(key.kty for key in party_input.keys).values())


def _fits_nimbus(party_input: PartyInput) -> bool:
    return len(documents(party_input.issuer, party_input.keys).jwks) <= NIMBUS_JWKS_BYTES


def _has_no_port(party_input: PartyInput) -> bool:
    return ":" not in party_input.issuer.removeprefix("https://").partition("/")[0]


def _lives_up_to(longest: timedelta) -> Callable[[PartyInput], bool]:
    def holds(party_input: PartyInput) -> bool:
        token = party_input.token
        if token is None or token.expires_at is None or token.issued_at is None:
            return True
        return token.expires_at - token.issued_at <= longest

    return holds


def _says_when_issued(party_input: PartyInput) -> bool:
    return party_input.token is None or party_input.token.issued_at is not None


def _has_short_subject(party_input: PartyInput) -> bool:
    return party_input.token is None or len(party_input.token.subject.encode()) <= GCP_SUBJECT_BYTES


def _has_one_audience(party_input: PartyInput) -> bool:
    return party_input.token is None or len(party_input.token.audiences) <= 1  # none is reported for all parties


_RSA = "Sign with an RSA key: RS256 works everywhere."
_SHORTER = "Choose a shorter audience."

ROWS = (
    PartyRule(
        Party.AWS,
        "aws_issuer_length",
        _issuer_up_to(MAX_ISSUER_CHARACTERS),
        "AWS accepts at most 255 characters of issuer.",
        "Give the cluster a shorter issuer.",
    ),
    PartyRule(
        Party.AWS,
        "aws_issuer_port",
        _has_no_port,
        "AWS discourages an issuer with a port; IAM drops :443 from ARNs and condition keys.",
        is_note=True,
    ),
    PartyRule(
        Party.AWS,
        "aws_key_count",
        _few_keys_of_each_type,
        "AWS accepts at most 100 RSA and 100 EC keys.",
        "Remove old key files from the apiservers.",
    ),
    PartyRule(
        Party.AWS,
        "aws_audience_length",
        _audience_up_to(Party.AWS, AWS_AUDIENCE_CHARACTERS),
        "AWS takes audiences of at most 255 characters.",
        _SHORTER,
    ),
    PartyRule(
        Party.AWS,
        "aws_authorized_party",
        _has_one_audience_or_azp,
        "STS refuses a token with several audiences and no azp: Token audience contains more than one audience while"
        " authorized party is not present.",
        "Project a token of its own for AWS, with one audience. Kubernetes never writes azp.",
    ),
    PartyRule(
        Party.AWS,
        "aws_audience",
        _knows_the_audience(Party.AWS),
        "The token is for none of the audiences that AWS is configured to accept: Incorrect token audience.",
        "Project a token with an audience of AWS, or add this one under `audiences` (aws).",
    ),
    PartyRule(
        Party.AWS,
        "aws_no_iat",
        _says_when_issued,
        "STS refuses a token without iat: Missing a required claim: iat.",
        "Take a projected token: kube-apiserver always writes iat.",
    ),
    PartyRule(
        Party.AWS,
        "aws_key_ops",
        lambda shown: not shown.has_key_ops,
        "STS refuses a JWKS in which a key has the member key_ops: Couldn't retrieve verification key.",
        "Run a pass: `oidc-mirror run --once`. The mirror publishes keys without key_ops.",
    ),
    PartyRule(
        Party.GCP,
        "gcp_keys",
        _can_use_a_key(Party.GCP),
        "Google accepts only RS256 and ES256, and no public key is for them.",
        _RSA,
    ),
    PartyRule(
        Party.GCP,
        "gcp_some_keys",
        _can_use_every_key(Party.GCP),
        "Google accepts only tokens of the keys for RS256 and ES256.",
        is_note=True,
    ),
    PartyRule(
        Party.GCP,
        "gcp_algorithm",
        _takes_the_algorithm(Party.GCP),
        "Google accepts only RS256 and ES256; the token is signed with another algorithm.",
        _RSA,
    ),
    PartyRule(
        Party.GCP,
        "gcp_audience_length",
        _audience_up_to(Party.GCP, GCP_AUDIENCE_CHARACTERS),
        "Google takes audiences of at most 256 characters.",
        _SHORTER,
    ),
    PartyRule(
        Party.GCP,
        "gcp_audiences",
        lambda shown: len(shown.audiences.gcp) <= GCP_AUDIENCES,
        "Google takes at most 10 audiences a provider, and more are configured.",
        is_note=True,
    ),
    PartyRule(
        Party.GCP,
        "gcp_audience",
        _knows_the_audience(Party.GCP),
        "The token is for none of the audiences that Google is configured to accept: "
        "The audience in ID Token does not match.",
        "Project a token with an audience of Google, or add this one under `audiences` (gcp).",
    ),
    PartyRule(
        Party.GCP,
        "gcp_usual_audience",
        _has_the_usual_audience(Party.GCP),
        "No audience of Google is configured (gcp under `audiences`), and the token is not for the usual one, the full"
        " name of the pool's provider: Google accepts it only where the provider names its audience.",
        is_note=True,
    ),
    PartyRule(
        Party.GCP,
        "gcp_lifetime",
        _lives_up_to(GCP_LIFETIME - timedelta(seconds=1)),
        "Google accepts only tokens that live less than 48 hours.",
        "Set expirationSeconds of the projected token below 172800.",
    ),
    PartyRule(
        Party.GCP,
        "gcp_no_iat",
        _says_when_issued,
        "Google wants to know when a token was issued, and this one has no iat.",
        "Take a projected token.",
    ),
    PartyRule(
        Party.GCP,
        "gcp_subject_length",
        _has_short_subject,
        "Google takes at most 127 bytes as google.subject; this sub has more, so map a shorter attribute.",
        is_note=True,
    ),
    PartyRule(
        Party.ENTRA,
        "entra_issuer_length",
        _issuer_up_to(ENTRA_ISSUER_CHARACTERS),
        "Entra accepts at most 600 characters of issuer.",
        "Give the cluster a shorter issuer.",
    ),
    PartyRule(
        Party.ENTRA,
        "entra_unknown_key",
        lambda shown: not shown.has_unknown_key,
        "Entra refuses a whole JWKS for one key of a type that it does not know.",
        "Run a pass: the mirror leaves such keys out.",
    ),
    PartyRule(
        Party.ENTRA,
        "entra_keys",
        _can_use_a_key(Party.ENTRA),
        "Entra accepts only RS256, and no public key is for it.",
        _RSA,
    ),
    PartyRule(
        Party.ENTRA,
        "entra_some_keys",
        _can_use_every_key(Party.ENTRA),
        "Entra accepts only tokens of the keys for RS256.",
        is_note=True,
    ),
    PartyRule(
        Party.ENTRA,
        "entra_algorithm",
        _takes_the_algorithm(Party.ENTRA),
        "Entra accepts only RS256; the token is signed with another algorithm.",
        _RSA,
    ),
    PartyRule(
        Party.ENTRA,
        "entra_one_audience",
        _has_one_audience,
        "Entra accepts only tokens with exactly one audience.",
        "Project a token of its own for Entra, with one audience.",
    ),
    PartyRule(
        Party.ENTRA,
        "entra_audience",
        _knows_the_audience(Party.ENTRA),
        "The token is for none of the audiences that Entra is configured to accept: AADSTS700212.",
        "Project a token with an audience of Azure, or add this one under `audiences` (azure).",
    ),
    PartyRule(
        Party.ENTRA,
        "entra_usual_audience",
        _has_the_usual_audience(Party.ENTRA),
        "No audience of Azure is configured (azure under `audiences`), and the token is not for the usual one,"
        " api://AzureADTokenExchange: Entra accepts it only where the federated credential names its audience.",
        is_note=True,
    ),
    PartyRule(
        Party.ENTRA,
        "entra_no_iat",
        _says_when_issued,
        "Entra counts a token's lifetime from iat, and this one has no iat: AADSTS70023.",
        "Take a projected token: kube-apiserver always writes iat.",
    ),
    PartyRule(
        Party.ENTRA,
        "entra_lifetime",
        _lives_up_to(ENTRA_LIFETIME),
        "Entra may refuse a token that lives longer than 25 hours (AADSTS70023).",
        is_note=True,
    ),
    PartyRule(
        Party.ENTRA,
        "entra_audience_length",
        _audience_up_to(Party.ENTRA, ENTRA_AUDIENCE_CHARACTERS),
        "Entra takes audiences of at most 600 characters.",
        _SHORTER,
    ),
    PartyRule(
        None,
        "nimbus_size",
        _fits_nimbus,
        "Relying parties built on Nimbus refuse a JWKS over 51 200 bytes (facts.md#33).",
        is_note=True,
    ),
)
"""All limits, from the table "Relying parties" in docs/reference/facts.md."""


@lru_cache(2**12)  # every pass asks it for every issuer, most often of the same keys
def compatibility(issuer: IssuerUrl, keys: tuple[Key, ...]) -> tuple[Note, ...]:
    """Return a note for each limit that `issuer` with the accepted `keys` exceeds."""
    shown = PartyInput(issuer, keys)
    return tuple(Note(row.code, row.sentence) for row in ROWS if not row.holds(shown))


@dataclass(frozen=True, slots=True)
class PartyVerdict:
    """The answer of one relying party. It accepts if there is no reason; `notes` are only information."""

    party: Party
    reasons: tuple[Reason, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def accepts(self) -> bool:
        """Whether it would accept the documents, and the token if there is one."""
        return not self.reasons


def answers(party_input: PartyInput, common: tuple[Reason, ...]) -> tuple[PartyVerdict, ...]:
    """Return what each relying party would answer.

    Args:
        party_input: the input, the same for each party.
        common: reasons that concern all parties: errors in the documents or the token.
    """
    return tuple(_answer(party, party_input, common) for party in Party)


def _answer(party: Party, party_input: PartyInput, common: tuple[Reason, ...]) -> PartyVerdict:
    broken = [row for row in ROWS if row.party is party and not row.holds(party_input)]
    reasons = tuple(Reason(row.code, row.sentence, row.remedy) for row in broken if not row.is_note)
    notes = tuple(Note(row.code, row.sentence) for row in broken if row.is_note)
    return PartyVerdict(party, common + reasons, notes)
