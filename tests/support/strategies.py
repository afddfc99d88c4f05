"""Hypothesis strategies for the nouns of the core: every value they give is valid."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from hypothesis import strategies as st

from mirror.model import IssuerUrl, Key, KeyName, KeyRecord, Ledger, Revocation, Status, key_id, trimmed
from mirror.trust.merge import joined
from support.keys import KEYS, with_kid

ISSUER = IssuerUrl("https://oidc.example.com/cluster/one")


def printable(max_size: int) -> st.SearchStrategy[str]:
    """Texts that `str.isprintable` calls printable, never empty."""
    characters = st.characters(exclude_categories=["C", "Z"]) | st.just(" ")
    return st.text(characters.filter(str.isprintable), min_size=1, max_size=max_size)


def moments() -> st.SearchStrategy[datetime]:
    """Aware UTC moments of whole seconds within the years that a ledger allows."""
    whole = st.datetimes(datetime(2000, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC))
    return whole.map(partial(datetime.replace, microsecond=0))


def issuers() -> st.SearchStrategy[IssuerUrl]:
    """Issuer texts as the configuration allows them, some with a trailing slash."""
    path = st.from_regex(r"(/[A-Za-z0-9_-]{1,12}){0,3}/?", fullmatch=True)
    return st.builds(lambda text: IssuerUrl("https://oidc.example.com" + text), path)


def keys(*, kubernetes: bool = False) -> st.SearchStrategy[Key]:
    """Keys of the pool, under their Kubernetes kid or (unless `kubernetes`) under any."""
    pool = st.sampled_from(KEYS)
    return pool if kubernetes else pool | st.builds(with_kid, pool, printable(12))


def key_sets(*, kubernetes: bool = False, max_size: int = 6) -> st.SearchStrategy[tuple[Key, ...]]:
    """At least one key, sorted as in an accepted set, no kid twice."""
    chosen = st.lists(keys(kubernetes=kubernetes), min_size=1, max_size=max_size, unique_by=lambda key: key.kid)
    return chosen.map(lambda found: tuple(sorted(found, key=key_id)))


@st.composite
def records(draw: st.DrawFn, key: st.SearchStrategy[Key] | None = None) -> KeyRecord:
    """A record of any status, with exactly the fields that belong to it, and the key's material where it is kept."""
    status = draw(st.sampled_from(Status))
    record = KeyRecord(
        draw(key or keys()),
        status,
        draw(st.integers(1, 2**53) | st.integers(1, 4)),
        draw(moments()),
        missing_since=draw(moments()) if status is Status.RETIRING else None,
        returned_at=draw(st.none() | moments()) if status in (Status.PUBLISHED, Status.HELD) else None,
        held_because=draw(st.from_regex(r"[a-z][a-z0-9_.]{0,20}", fullmatch=True)) if status is Status.HELD else None,
        revocation=draw(revocations()) if status is Status.REVOKED else None,
    )
    found = trimmed(record)
    if isinstance(found.key, KeyName) and draw(st.booleans()):
        return replace(found, key=replace(found.key, alg=""))
    return found


def revocations() -> st.SearchStrategy[Revocation]:
    statuses = st.none() | st.sampled_from([status for status in Status if status is not Status.REVOKED])
    return st.builds(Revocation, moments(), printable(40), st.booleans(), statuses, st.integers(0, 4))


@st.composite
def ledgers(draw: st.DrawFn, issuer: st.SearchStrategy[IssuerUrl] | None = None, max_size: int = 8) -> Ledger:
    """A ledger of any records as the program keeps it: a revocation has reached every record of its material."""
    found = draw(st.lists(records(), max_size=max_size, unique_by=lambda record: key_id(record.key)))
    return joined(draw(issuer or st.just(ISSUER)), found)
