"""What was read from, and written for, the ledgers of the pass before: the same input needs no second computation."""

from collections.abc import Mapping

from mirror.model import IssuerUrl, Ledger
from mirror.trust.discovery import Documents, render
from mirror.trust.ledger import ALL_THUMBPRINTS, LedgerRead, ledger_text, read_ledger
from mirror.trust.parsing import Rejected

MOST_BYTES = 64 * 1024
"""Larger files are read in each pass: whoever pushes them shall not fill the memory."""


class KnownLedgers:
    """The last result for each issuer of three functions that depend on nothing but their arguments; in memory alone.

    Whether a ledger is believed is not among them: signatures, their keys, heads and time are judged in each pass. One
    object serves the issuers of one configuration, of which each has one entry.
    """

    def __init__(self) -> None:
        self._read: dict[IssuerUrl, tuple[bytes, LedgerRead]] = {}
        self._text: dict[IssuerUrl, tuple[Ledger, bytes]] = {}
        self._documents: dict[IssuerUrl, tuple[Ledger, Mapping[str, object], Documents | None]] = {}

    def read(self, body: bytes, issuer: IssuerUrl) -> LedgerRead | Rejected:
        """Give what `read_ledger` gives, every thumbprint being checked already."""
        known = self._read.get(issuer)
        if known is not None and known[0] == body:
            return known[1]
        found = read_ledger(body, issuer=issuer, already_checked=ALL_THUMBPRINTS)
        if isinstance(found, LedgerRead) and len(body) <= MOST_BYTES:
            self._read[issuer] = (body, found)
        return found

    def text(self, ledger: Ledger) -> bytes:
        """Give what `ledger_text` gives.

        Raises:
            ValueError: as `ledger_text`.
        """
        known = self._text.get(ledger.issuer)
        if known is not None and known[0] == ledger:
            return known[1]
        text = ledger_text(ledger)
        if len(text) <= MOST_BYTES:
            self._text[ledger.issuer] = (ledger, text)
        return text

    def render(self, ledger: Ledger, extra: Mapping[str, object]) -> Documents | None:
        """Give what `render` gives. `extra` is the very object of the configuration: another one is looked at anew.

        Raises:
            UsageError, ValueError: as `render`.
        """
        known = self._documents.get(ledger.issuer)
        # Equal members can be written differently: {"a": 1} equals {"a": true}.
        if known is not None and known[1] is extra and known[0] == ledger:
            return known[2]
        found = render(ledger, extra)
        if found is None or len(found.jwks) <= MOST_BYTES:
            self._documents[ledger.issuer] = (ledger, extra, found)
        return found
