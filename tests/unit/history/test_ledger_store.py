"""Whether a commit is needed: the optimised check agrees with the complete one."""

import json
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from mirror.addresses import repository_paths
from mirror.history.ledger_reader import HistoryState, IssuerHistory
from mirror.history.ledger_store import Committer, LedgerChange, is_pending
from mirror.model import CommitId, Heads, Ledger
from mirror.trust.discovery import render
from mirror.trust.ledger import read_ledger, write_ledger
from mirror.trust.merge import merge
from mirror.trust.parsing import Rejected
from support.fakes import FakeHistory
from support.strategies import ISSUER, ledgers

COMMIT = CommitId("a" * 40)
PATHS = repository_paths(ISSUER)


def _long_way(ledger: Ledger, files: Mapping[str, bytes]) -> bool:
    """The complete check: render everything and compare it with the current files."""
    if not ledger.records:
        return False
    wanted = {PATHS.ledger: write_ledger(ledger)}
    documents = render(ledger)
    if documents is not None:
        wanted |= {PATHS.discovery: documents.discovery, PATHS.jwks: documents.jwks}
    return any(files.get(path) != body for path, body in wanted.items())


def _files(ledger: Ledger, form: str) -> dict[str, bytes]:
    """The files of a ledger as we write them, or as another writer may leave them."""
    body, documents = write_ledger(ledger), render(ledger)
    if form == "other layout":
        body = json.dumps(json.loads(body)).encode()
    files = {PATHS.ledger: body}
    if documents is not None and form != "no documents":
        jwks = documents.jwks + b"\n" if form == "other document" else documents.jwks
        files |= {PATHS.discovery: documents.discovery, PATHS.jwks: jwks}
    return files


@given(ledgers(), st.sampled_from(["ours", "other layout", "other document", "no documents"]), st.booleans())
def test_short_way_decides_as_the_long_way(drawn: Ledger, form: str, is_shorter: bool) -> None:
    """For any content of the branch, both checks agree."""
    ledger = merge(drawn, drawn)  # as after every pass: a revocation applies to each kid of its material
    before = Ledger(ISSUER, ledger.records[:-1]) if is_shorter else ledger
    files = _files(before, form) if before.records else {}
    read = read_ledger(files[PATHS.ledger], issuer=ISSUER) if files else None
    assert not isinstance(read, Rejected)
    known = IssuerHistory(PATHS, read.ledger if read is not None else None, files)
    state = HistoryState(Heads(COMMIT, None), COMMIT, (COMMIT,), {ISSUER: known})
    committer = Committer(FakeHistory(), reread=lambda _: state)
    assert is_pending(committer, state, {ISSUER: LedgerChange(ledger)}) == _long_way(ledger, files)
