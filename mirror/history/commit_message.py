"""Pure: the message of a commit. The first part is for people, the trailers are for machines.

```
syd-prod: publish key 8HqNbmUu… (RS256)

- syd-prod: publish key 8HqNbmUuKqgz… (RS256)

Issuer: https://oidc.example.com/syd
Key-Published: 8HqNbmUuKqgz… NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs
```

The last paragraph holds git trailers (git-interpret-trailers(1)); the keys below an `Issuer:` are that issuer's. The
value is kid, one space, RFC 7638 thumbprint. A kid is any text (facts.md#7). A kid of only
`A-Z a-z 0-9 . _ ~ + / = -` is written as it is, any other as a JSON string (RFC 8259) in ASCII. No plain kid begins
with a quote, so the two forms cannot be confused. No written kid contains a line break, so none can forge a line.
"""

from collections import Counter
from dataclasses import dataclass

from mirror.model import AnyKey, IssuerName, IssuerUrl, Kid, Status, kid_text
from mirror.text import counted

_VERBS = {
    Status.PUBLISHED: "publish",
    Status.RETIRING: "retire",
    Status.DROPPED: "drop",
    Status.HELD: "hold",
    Status.REVOKED: "revoke",
}
_SHOWN_KID = 8
_SHOWN_LINE = 500


@dataclass(frozen=True, slots=True)
class IssuerChanges:
    """What a commit changes for one issuer.

    `events` are its keys' transitions: the new status, the key, and a sentence with the reason (may be empty).
    `sentences` describe all other changes.
    """

    name: IssuerName
    issuer: IssuerUrl
    events: tuple[tuple[str, AnyKey, str], ...] = ()
    sentences: tuple[str, ...] = ()


def compose(issuers: tuple[IssuerChanges, ...]) -> str:
    """The whole message, ending with a line feed; empty when `issuers` is.

    Raises:
        ValueError: The status of an event is none of `mirror.model.Status`.
    """
    if not issuers:
        return ""
    body = [line for issuer in issuers for line in _lines(issuer)]
    trailers = [line for issuer in issuers for line in _trailers(issuer)]
    paragraphs = (_subject(issuers), "\n".join(body), "\n".join(trailers))
    return "\n\n".join(text for text in paragraphs if text) + "\n"


def _subject(issuers: tuple[IssuerChanges, ...]) -> str:
    who = issuers[0].name if len(issuers) == 1 else counted(len(issuers), "issuer")
    events = [(Status(status), key) for issuer in issuers for status, key, _ in issuer.events]
    others = sum(len(issuer.sentences) for issuer in issuers)
    if len(issuers) == 1 and len(events) == 1 and not others:
        ((status, key),) = events
        return f"{who}: {_VERBS[status]} key {_short(key.kid)} ({key.alg or '-'})"
    counts = Counter(status for status, _ in events)
    parts = [f"{counts[status]} {status}" for status in _VERBS if counts[status]]
    if parts:
        number, _, rest = parts[0].partition(" ")
        parts[0] = f"{counted(int(number), 'key')} {rest}"
    if others:
        parts.append(counted(others, "other change"))
    return f"{who}: {', '.join(parts) or 'no key changes'}"


def _lines(issuer: IssuerChanges) -> list[str]:
    """One line per event. Each begins with a dash, so git does not read it as a trailer or as its `---`."""
    return [
        f"- {issuer.name}: {_one_line(text)}"
        for text in (*(_event_text(*event) for event in issuer.events), *issuer.sentences)
    ]


def _event_text(status: str, key: AnyKey, sentence: str) -> str:
    text = f"{_VERBS[Status(status)]} key {kid_text(key.kid)} ({key.alg or '-'})"
    return f"{text}: {sentence}" if sentence else text


def _trailers(issuer: IssuerChanges) -> list[str]:
    keys = [
        f"Key-{Status(status).capitalize()}: {kid_text(key.kid)} {key.thumbprint}" for status, key, _ in issuer.events
    ]
    return [f"Issuer: {issuer.issuer}", *keys]


def _short(kid: Kid) -> str:
    """The beginning of a kid, long enough to recognise it."""
    if len(kid) <= _SHOWN_KID:
        return kid_text(kid)
    return f"{kid_text(Kid(kid[:_SHOWN_KID]))}…"


def _one_line(sentence: str) -> str:
    """A text without line breaks and control characters, shortened; kids are whole in the trailers."""
    printable = "".join(c if c.isprintable() else " " for c in sentence)
    return " ".join(printable.split())[:_SHOWN_LINE]
