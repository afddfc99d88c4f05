"""Subject, body and trailers of commits: what people read, and what is read back from them."""

import subprocess
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.history.commit_message import IssuerChanges, RecordedChanges, compose, read_trailers
from mirror.model import IssuerName, IssuerUrl, KeyName, Kid, RsaKey, Status, Thumbprint, kid_text

URL = IssuerUrl("https://oidc.example.com/syd")
_NUMBERS = count()


def key(kid: str = "8HqNbmUuKqgzABC") -> RsaKey:
    return RsaKey(Kid(kid), "RS256", "AQAB", "AQAB", Thumbprint(f"{next(_NUMBERS):043d}"))


def changes(*events: tuple[str, RsaKey], name: str = "syd-prod", sentences: tuple[str, ...] = ()) -> IssuerChanges:
    return IssuerChanges(
        IssuerName(name), URL, events=tuple((status, each, "") for status, each in events), sentences=sentences
    )


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
    """The first line says who and what, with the number of each kind of change."""
    assert compose(issuers).partition("\n")[0] == subject


def test_event_and_sentence_are_in_the_body() -> None:
    """Each event is one line with the whole kid and the reason, on lines that git takes for no trailer."""
    event = IssuerChanges(IssuerName("syd"), URL, (("published", key("k1"), "First seen."),), ("Two\nlines: here",))
    assert compose((event,)).split("\n\n")[1] == ("- syd: publish key k1 (RS256): First seen.\n- syd: Two lines: here")


def test_unknown_algorithm_is_a_hyphen() -> None:
    """A dropped key may be known by its name alone."""
    name = KeyName(Kid("k"), "", Thumbprint("t" * 43))
    message = compose((IssuerChanges(IssuerName("syd-prod"), IssuerUrl("https://a"), (("revoked", name, ""),)),))
    assert message.startswith("syd-prod: revoke key k (-)\n")


def test_unknown_status_is_refused() -> None:
    """A status that is none of ours never reaches a trailer."""
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
    """A machine reads back exactly the keys that were written, whatever their kids and the sentences beside them."""
    given_changes = tuple(
        changes(*((str(status), key(kid)) for status, kid in events), sentences=tuple(sentences))
        for events, sentences in issuers
    )
    wanted = tuple(
        RecordedChanges(URL, tuple((Status(s), (k.kid, k.thumbprint)) for s, k, _ in each.events))
        for each in given_changes
    )
    assert read_trailers(compose(given_changes)) == wanted


@pytest.mark.parametrize(
    "kid",
    ["plain", "a b", "é", "x: y", 'q"uote', "Issuer: https://evil.example", "Key-Revoked: x", "\u2028", "---", "#c"],
)
def test_git_reads_the_same_trailers(kid: str) -> None:
    """`git interpret-trailers` finds our trailers and no other, whatever the kid and the sentences say."""
    one = key(kid)
    message = compose((changes(("revoked", one), sentences=("Key-Published: forged x", "---", "\n\nIssuer: forged")),))
    assert parsed_by_git(message) == [f"Issuer: {URL}", f"Key-Revoked: {kid_text(one.kid)} {one.thumbprint}"]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("Key-Published: a b c " + "x" * 43, id="kid-of-several-words"),
        pytest.param('Key-Published: "open ' + "x" * 43, id="no-json"),
        pytest.param('Key-Published: "plain"x ' + "x" * 43, id="text-behind-json"),
        pytest.param("Key-Published: 12 34 " + "x" * 43, id="two-numbers"),
        pytest.param('Key-Published: {"a": 1} ' + "x" * 43, id="an-object"),
        pytest.param('Key-Published: "\u00e9" ' + "x" * 43, id="not-as-we-write-it"),
        pytest.param("Key-Stolen: a " + "x" * 43, id="unknown-kind"),
        pytest.param("Key-Published: a " + "x" * 42, id="short-thumbprint"),
        pytest.param("nonsense", id="no-trailer"),
    ],
)
def test_foreign_line_says_nothing(line: str) -> None:
    """A trailer that this program never writes is not read, so nobody is misled by a guess."""
    assert read_trailers(f"subject\n\nIssuer: {URL}\n{line}\n") == (RecordedChanges(URL),)


def test_key_without_issuer_says_nothing() -> None:
    """A key's trailer above the first issuer belongs to nobody."""
    assert read_trailers(f"subject\n\nKey-Published: a {'x' * 43}\n") == ()
