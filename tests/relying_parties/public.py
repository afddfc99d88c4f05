"""What the Python relying parties of the tests share: the questions, and how an issuer is reached, by urllib.

The environment leads them to the test's world: `https_proxy` to its proxy, `SSL_CERT_FILE` to its CA.
"""

import json
import ssl
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Question:
    """Is `token`, that `issuer` should have given for `audience`, good at the time `at` (seconds since 1970)?"""

    issuer: str
    audience: str
    at: int
    token: str


def answer(verify: Callable[[Question], str]) -> None:
    """Answer each line of stdin, `AUDIENCE AT TOKEN`, with `accepted SUB` or `refused`; the issuer is an argument."""
    issuer = sys.argv[1]
    for line in sys.stdin:
        audience, at, token = line.split()
        try:
            print("accepted", verify(Question(issuer, audience, int(at), token)))
        except Exception as error:  # noqa: BLE001  whatever a library refuses with
            print("refused", type(error).__name__)


def context() -> ssl.SSLContext:
    """TLS as Python verifies it."""
    return ssl.create_default_context()


def fetch(url: str) -> Any:
    """The JSON document at an https URL."""
    with urllib.request.urlopen(url, timeout=5, context=context()) as found:  # noqa: S310  the test's own issuer
        return json.load(found)


def discovery(issuer: str) -> Any:
    """The issuer's discovery document, which must be about this issuer (OpenID Connect Discovery 1.0, section 4.3)."""
    document = fetch(f"{issuer.removesuffix('/')}/.well-known/openid-configuration")
    if document["issuer"] != issuer:
        raise ValueError(f"The document is about {document['issuer']}.")
    return document
