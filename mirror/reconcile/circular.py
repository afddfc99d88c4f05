"""Whether the mirror's own AWS credentials rest on an issuer that it publishes.

Then an unannounced rotation of that issuer locks the mirror out: STS no longer accepts the token that would let it
publish the new key.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mirror.config.settings import Issuer, Publish
from mirror.model import Event, IssuerName, IssuerUrl, Level
from mirror.ports import OwnToken

CODE = "credentials.circular"
REMEDY = (
    "Give the mirror credentials that do not depend on an issuer of its own: those of its machine or of another "
    "cluster, or a profile of its own in `publish.profile`."
)


@dataclass(frozen=True, slots=True)
class Circular:
    """`writers` are the entries that are published with a token of `issuer`, whose entry is `name`."""

    name: IssuerName
    issuer: IssuerUrl
    token_file: Path
    writers: tuple[IssuerName, ...]

    @property
    def sentence(self) -> str:
        """What is wrong, and what comes of it."""
        return (
            f"The mirror's own AWS credentials come from a token of {self.issuer} ({self.token_file}), which the "
            f"mirror itself publishes as `{self.name}`: a key that changes without notice would lock the mirror out."
        )

    @property
    def event(self) -> Event:
        """The warning of a pass."""
        fields = {"issuer": self.issuer, "entry": self.name, "token_file": str(self.token_file)}
        return Event(CODE, f"{self.sentence} {REMEDY}", Level.WARNING, fields)


def circular_credentials(
    issuers: Iterable[Issuer], own_token: Callable[[Publish], OwnToken | None], *, left_out: Iterable[Issuer] = ()
) -> tuple[Circular, ...]:
    """Every issuer (former ones included) of which a token gives the credentials for any entry.

    Args:
        issuers: The entries that are published here.
        own_token: `mirror.ports.Ports.own_token`.
        left_out: All other entries of the configuration: a token may be of one of theirs.
    """
    entries = tuple(issuers)
    ours = {url: entry.name for entry in (*entries, *left_out) for url in _texts(entry)}
    tokens = {each.publish.profile: own_token(each.publish) for each in entries}  # only the profile tells them apart
    found = dict.fromkeys(token for token in tokens.values() if token is not None and token.issuer in ours)
    return tuple(
        Circular(
            ours[IssuerUrl(token.issuer)],
            IssuerUrl(token.issuer),
            token.file,
            tuple(each.name for each in entries if tokens[each.publish.profile] == token),
        )
        for token in found
    )


def _texts(entry: Issuer) -> tuple[IssuerUrl, ...]:
    return (entry.issuer, *(former.issuer for former in entry.former_issuers))
