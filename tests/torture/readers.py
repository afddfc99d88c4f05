"""Every parser of untrusted bytes, each with a corpus and the rules for what it may accept."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import jwt
import yaml

from mirror.addresses import jwks_uri
from mirror.apiserver.credentials import check_token
from mirror.apiserver.endpoints import read_page
from mirror.apiserver.kubeconfig import Kubeconfig, read_kubeconfig
from mirror.model import IssuerUrl, KeyName, KeyPolicy, Reason
from mirror.trust.discovery import Discovery, read_discovery
from mirror.trust.jwks import KeySet, read_jwks
from mirror.trust.ledger import LedgerRead, read_ledger, write_ledger
from mirror.trust.tokens import Token, read_token
from support.captures import captures
from support.endpointslices import endpoint, endpointslice, slice_list
from support.keys import EC_KEYS, RSA_KEYS, jwks_body
from support.kubeconfigs import content
from support.situations import ISSUER
from support.tokens import captured, captured_names, text
from torture.mutations import document
from torture.samples import ledger_body
from torture.strict_json import NotBelievedError, strict_object
from torture.strict_reader import Believed, strict_discovery, strict_jwks

SHARED_LIST = frozenset({"known_test_key"})
"""Reasons that come from a list of thumbprints, which the strict parser does not have."""
CLOUDS = ("sts.amazonaws.com", "api://AzureADTokenExchange")


@dataclass(frozen=True, slots=True)
class Reader:
    """`make` creates one input; `judge` passes it to the parser and returns whether it was accepted.

    `judge` raises AssertionError if the parser accepted or rejected an input wrongly.
    """

    make: Callable[[Random], bytes]
    judge: Callable[[bytes], bool]


def bodies(name: str) -> tuple[bytes, ...]:
    """Every body that a real kube-apiserver sent for this document, including error responses."""
    return tuple({each.body(): None for each in captures() if name in each.name})


# -------------------------------------------------------------------------------------------------- documents

JWKS = (*bodies("jwks"), jwks_body(*RSA_KEYS[:2]), jwks_body(*EC_KEYS[:4]), jwks_body(RSA_KEYS[0], EC_KEYS[0]))
DISCOVERY = bodies("discovery")


def _second_opinion(ask: Callable[[], Believed | None]) -> tuple[Believed | None, str]:
    """The result of the strict parser, or the reason for its rejection; one of the two is empty."""
    try:
        return ask(), ""
    except NotBelievedError as error:
        return None, str(error)


def _judge_jwks(body: bytes, policy: KeyPolicy) -> bool:
    read = read_jwks(body, policy=policy)
    kubernetes = policy.kid == "kubernetes"
    strict, refusal = _second_opinion(lambda: strict_jwks(body, kubernetes_kids=kubernetes))
    if isinstance(read, KeySet):
        assert refusal == ""
        assert frozenset((str(key.kid), key.alg, str(key.thumbprint)) for key in read.keys) == strict
        return True
    assert refusal or {reason.code for reason in read.reasons} <= SHARED_LIST, f"refused without cause: {read.reasons}"
    return False


def judge_jwks(body: bytes) -> bool:
    """Check with Kubernetes' kids required and with any kid: what the first accepts, the second accepts too."""
    strictly, freely = (_judge_jwks(body, policy) for policy in (KeyPolicy(), KeyPolicy(kid="opaque")))
    assert freely or not strictly
    return freely


def judge_discovery(body: bytes) -> bool:
    read = read_discovery(body, issuer=IssuerUrl(ISSUER), jwks_uri=jwks_uri(IssuerUrl(ISSUER)))
    _, refusal = _second_opinion(lambda: strict_discovery(body, ISSUER))
    assert isinstance(read, Discovery) == (refusal == ""), (read, refusal)
    return isinstance(read, Discovery)


# ---------------------------------------------------------------------------------------------------- ledgers


def judge_ledger(body: bytes) -> bool:
    """Every key of an accepted ledger is valid for the strict parser, and the ledger can be written and read again."""
    read = read_ledger(body, issuer=IssuerUrl(ISSUER))
    if not isinstance(read, LedgerRead):
        return False
    strict_object(body)
    for record in read.ledger.records:
        if not isinstance(record.key, KeyName):
            strict_jwks(jwks_body(record.key), kubernetes_kids=False)
    assert read_ledger(write_ledger(read.ledger), issuer=IssuerUrl(ISSUER)) == LedgerRead(read.ledger)
    return not read.damaged


# ------------------------------------------------------------------------------------------- finding replicas

SLICES = (
    slice_list([endpointslice(endpoint("10.0.0.11"), endpoint("10.0.0.12", ready=False))]),
    slice_list([endpointslice(endpoint("fd00::11", ready=None), kind="IPv6"), endpointslice()], token="next"),
)


def judge_slices(body: bytes) -> bool:
    """Accepted replicas are valid addresses and ports of an EndpointSliceList."""
    read = read_page(body)
    if isinstance(read, Reason):
        return False
    assert strict_object(body)["kind"] == "EndpointSliceList"
    assert all(0 < port < 65536 and address.version in (4, 6) for address, port in read.replicas)
    return True


def make_kubeconfig(chance: Random) -> bytes:
    whole = (content("https://10.0.0.11:6443"), content("https://10.0.0.11", user={"token": "abc"}))
    body = document([json.dumps(each).encode() for each in whole], chance)
    try:  # JSON is also YAML; half of the inputs are in YAML notation
        return yaml.safe_dump(json.loads(body)).encode() if chance.random() < 0.5 else body
    except ValueError:
        return body


def judge_kubeconfig(folder: Path) -> Callable[[bytes], bool]:
    path = folder / "kubeconfig"

    def judge(body: bytes) -> bool:
        path.write_bytes(body)
        read = read_kubeconfig(path, None)
        if isinstance(read, Kubeconfig):
            assert read.server.startswith("https://")
            return True
        assert read
        return False

    return judge


# ----------------------------------------------------------------------------------------------------- tokens

TOKENS = tuple(captured(name).strip() for name in captured_names())


def make_token(chance: Random) -> bytes:
    """A captured token with changes in its header, its claims or its bytes."""
    parts = chance.choice(TOKENS).split(b".")
    at = chance.randrange(3)
    if at < 2:
        inner = urlsafe_b64decode(parts[at] + b"=" * (-len(parts[at]) % 4))
        for_clouds = json.dumps(json.loads(inner) | {"aud": [*CLOUDS, "x"]}).encode()
        parts[at] = text(document([inner, for_clouds], chance)).encode()
    else:
        parts[at] = document(parts[at:], chance)
    return b".".join(parts)


def judge_token_of_ours(body: bytes) -> bool:
    """An accepted token fits into an HTTP header, and PyJWT finds no audience of a cloud in it."""
    read = check_token(body, ["cluster.identifier.kubernetes.domain"], place="the file")
    if isinstance(read, Reason):
        return False
    assert read.encode("ascii") == body
    assert all(0x21 <= byte <= 0x7E for byte in body)
    assert not _audiences(read) & {*CLOUDS, "cluster.identifier.kubernetes.domain"}
    return True


def _audiences(token: str) -> frozenset[str]:
    try:
        found = jwt.decode(token, options={"verify_signature": False}).get("aud")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return frozenset()
    return frozenset(each for each in (found if isinstance(found, list) else [found]) if isinstance(each, str))


def judge_shown_token(body: bytes) -> bool:
    """An accepted token is one for PyJWT too, and its header and claims are unambiguous JSON."""
    read = read_token(body)
    if not isinstance(read, Token):
        return False
    header = jwt.get_unverified_header(body.strip())
    assert (header["alg"], header["kid"]) == (read.alg, read.kid)
    assert read.alg not in ("none", "HS256")
    for part in body.strip().split(b".")[:2]:
        strict_object(urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    return True


def readers(folder: Path) -> dict[str, Reader]:
    """All parsers; those that read files find them in `folder`."""
    return {
        "JWKS": Reader(lambda chance: document(JWKS, chance), judge_jwks),
        "discovery": Reader(lambda chance: document(DISCOVERY, chance), judge_discovery),
        "ledger": Reader(lambda chance: document((ledger_body(),), chance), judge_ledger),
        "EndpointSlices": Reader(lambda chance: document(SLICES, chance), judge_slices),
        "kubeconfig": Reader(make_kubeconfig, judge_kubeconfig(folder)),
        "our own token": Reader(make_token, judge_token_of_ours),
        "a shown token": Reader(make_token, judge_shown_token),
    }
