"""Commit messages: subject and body for people, and trailers for programs."""

import json
import subprocess
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.history.commit_message import IssuerChanges, compose
from mirror.model import IssuerName, IssuerUrl, KeyName, Kid, RsaKey, Status, Thumbprint, kid_text

URL = IssuerUrl("https://oidc.example.com/syd")
_NUMBERS = count()


def key(kid: str = "8HqNbmUuKqgzABC") -> RsaKey:
    return RsaKey(Kid(kid), "RS256", "AQAB", "AQAB", Thumbprint(f"{next(_NUMBERS):043d}"))


def changes(*events: tuple[str, RsaKey], name: str = "syd-prod", sentences: tuple[str, ...] = ()) -> IssuerChanges:
    return IssuerChanges(
        IssuerName(name), URL, events=tuple((status, each, "") for status, each in events), sentences=sentences
    )


def read_trailer(line: str) -> tuple[str, str | tuple[str, str]]:
    """Parse a trailer in the format that the docstring of `commit_message` describes."""
    name, _, value = line.partition(": ")
    if name == "Issuer":
        return name, value
    kid, _, thumbprint = value.rpartition(" ")
    return name, (json.loads(kid) if kid.startswith('"') else kid, thumbprint)


def parsed_by_git(message: str) -> list[str]:
    done = subprocess.run(
        ["git", "interpret-trailers", "--parse"], input=message.encode(), capture_output=True, check=True
    )
    return done.stdout.decode().splitlines()


@pytest.mark.parametrize(
    ("issuers", "subject"),
    [
        pytest.param((changes(("published", key())),), "syd-prod: publish key 8HqNbmUu… (RS256)", id="one-key"),
        pytest.param((changes(("retiring", key("short"))),), "syd-prod: retire key short (RS256)", id="short-kid"),
        pytest.param((changes(("held", key("a b"))),), 'syd-prod: hold key "a b" (RS256)', id="kid-with-space"),
        pytest.param(
            (changes(("published", key()), ("published", key()), ("retiring", key())),),
            "syd-prod: 2 keys published, 1 retiring",
            id="one-issuer",
        ),
        pytest.param(
            (changes(("published", key())), changes(), changes(("revoked", key()))),
            "3 issuers: 1 key published, 1 revoked",
            id="three-issuers",
        ),
        pytest.param((changes(sentences=("Adopted.",)),), "syd-prod: 1 other change", id="a-sentence"),
        pytest.param(
            (changes(("dropped", key()), sentences=("One.", "Two.")),),
            "syd-prod: 1 key dropped, 2 other changes",
            id="keys-and-sentences",
        ),
        pytest.param((changes(),), "syd-prod: no key changes", id="nothing"),
        pytest.param((), "", id="no-issuer"),
    ],
)
def test_changes_give_the_subject(issuers: tuple[IssuerChanges, ...], subject: str) -> None:
    """The first line has the issuer and the number of each kind of change."""
    assert compose(issuers).partition("\n")[0] == subject


def test_event_and_sentence_are_in_the_body() -> None:
    """Each event is one line with the complete kid and the reason; git takes none of them for a trailer."""
    event = IssuerChanges(IssuerName("syd"), URL, (("published", key("k1"), "First seen."),), ("Two\nlines: here",))
    assert compose((event,)).split("\n\n")[1] == ("- syd: publish key k1 (RS256): First seen.\n- syd: Two lines: here")


def test_unknown_algorithm_is_a_hyphen() -> None:
    """A dropped key without a known algorithm has a hyphen instead."""
    name = KeyName(Kid("k"), "", Thumbprint("t" * 43))
    message = compose((IssuerChanges(IssuerName("syd-prod"), IssuerUrl("https://a"), (("revoked", name, ""),)),))
    assert message.startswith("syd-prod: revoke key k (-)\n")


def test_unknown_status_is_refused() -> None:
    """An unknown status is never written into a trailer."""
    with pytest.raises(ValueError, match="lost"):
        compose((changes(("lost", key())),))


printable = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), min_size=1, max_size=40)
nasty = st.sampled_from(
    ["Issuer: https://evil", "a\u2028Key-Revoked: b", '"', '"x" y', "\\", "a:b", " ", "é", "\u0085", "---", "#", "k "]
)
kids = st.one_of(printable, nasty, nasty.flatmap(lambda a: printable.map(lambda b: a + b)))
statuses = st.sampled_from(sorted(Status))


@given(
    st.lists(st.tuples(st.lists(st.tuples(statuses, kids), max_size=4), st.lists(st.text(), max_size=2)), max_size=3)
)
def test_any_kid_is_read_back(issuers: list[tuple[list[tuple[Status, str]], list[str]]]) -> None:
    """The trailers name exactly the written keys, for any kid and any sentence in the message."""
    given_changes = tuple(
        changes(*((str(status), key(kid)) for status, kid in events), sentences=tuple(sentences))
        for events, sentences in issuers
    )
    wanted = [
        entry
        for each in given_changes
        for entry in (("Issuer", URL), *((f"Key-{s.capitalize()}", (k.kid, k.thumbprint)) for s, k, _ in each.events))
    ]
    lines = compose(given_changes).rstrip("\n").rpartition("\n\n")[2].split("\n")
    assert [read_trailer(line) for line in lines if line] == wanted


@pytest.mark.parametrize(
    "kid",
    ["plain", "a b", "é", "x: y", 'q"uote', "Issuer: https://evil.example", "Key-Revoked: x", "\u2028", "---", "#c"],
)
def test_git_reads_the_same_trailers(kid: str) -> None:
    """`git interpret-trailers` finds our trailers and no others, for any kid and any sentences."""
    one = key(kid)
    message = compose((changes(("revoked", one), sentences=("Key-Published: forged x", "---", "\n\nIssuer: forged")),))
    assert parsed_by_git(message) == [f"Issuer: {URL}", f"Key-Revoked: {kid_text(one.kid)} {one.thumbprint}"]
