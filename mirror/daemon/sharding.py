"""Pure: which of N processes works for which issuer, so that an Indexed Job splits a fleet without talking.

Rendezvous hashing (Thaler and Ravishankar 1998): every issuer has a rank in every shard, and the highest wins. When the
number of shards grows by one, only what the new shard wins moves; when it shrinks, only what the last one had.
"""

import hashlib
import re
from dataclasses import dataclass

from mirror.config.settings import Settings
from mirror.errors import UsageError
from mirror.model import IssuerUrl

MOST_SHARDS = 10_000
_WORDS = re.compile(r"(0|[1-9][0-9]{0,4})/([1-9][0-9]{0,4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of the fleet: `index` counts from 0, as `JOB_COMPLETION_INDEX` does, and is below `count`."""

    index: int
    count: int

    def holds(self, issuer: IssuerUrl) -> bool:
        """Whether this shard works for `issuer`."""
        return shard_of(issuer, self.count) == self.index


def shard_of(issuer: IssuerUrl, count: int) -> int:
    """The index, 0 to `count` - 1, of the one shard that works for `issuer`."""
    return max(range(count), key=lambda index: (hashlib.sha256(f"{index}/{issuer}".encode()).digest(), index))


def read_shard(text: str) -> Shard:
    """A shard from its words, `I/N`.

    Raises:
        UsageError: They are no such words, or I is not below N.
    """
    words = _WORDS.fullmatch(text)
    index, count = (int(words[1]), int(words[2])) if words is not None else (0, 0)
    if not index < count <= MOST_SHARDS:
        raise UsageError(
            f"`--shard {text}` is not a shard.",
            remedy="Write I/N with I from 0 to N - 1, such as `--shard $JOB_COMPLETION_INDEX/4`.",
        )
    return Shard(index, count)


def sharded(settings: Settings, shard: Shard | None) -> Settings:
    """The settings with the issuers of `shard` alone; all of them without one.

    A former issuer goes where its entry goes, because both share their keys.
    """
    if shard is None:
        return settings
    return settings.narrowed(lambda issuer: shard.holds(issuer.issuer))
