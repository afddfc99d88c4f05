"""Pure: from when on a new key may sign.

A relying party that fetched the JWKS a moment before the key came into it may keep that copy for `max-age` (upstream's
own contract, fact 23); the margin covers clocks that differ.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from mirror.ports import Seen

MARGIN = timedelta(minutes=5)
LONGEST_MAX_AGE_SECONDS = 3600
"""Without a readable max-age caches choose for themselves (RFC 9111, section 4.2.2): the longest that we allow."""
_MAX_AGE = re.compile(r'(?:^|,)\s*(?:max-age|s-maxage)\s*=\s*"?([0-9]{1,9})"?\s*(?=,|$)', re.IGNORECASE)


def safe_to_sign_at(last_modified: datetime, max_age_seconds: int) -> datetime:
    """When the last copy from before the key has turned over everywhere.

    Args:
        last_modified: Of the public JWKS that contains the key; aware, UTC.
        max_age_seconds: How long that JWKS may be kept, from its own Cache-Control.
    """
    return last_modified + timedelta(seconds=max_age_seconds) + MARGIN


def max_age_of(cache_control: str) -> int | None:
    """How long a copy may be kept, in seconds: the longest of max-age and s-maxage; None when neither is said."""
    return max((int(seconds) for seconds in _MAX_AGE.findall(cache_control)), default=None)


def max_age_seconds(seen: Seen) -> int:
    """How long caches may keep the JWKS that was seen, in seconds."""
    said = max_age_of(seen.cache_control)
    return LONGEST_MAX_AGE_SECONDS if said is None else said


@dataclass(frozen=True, slots=True)
class Window:
    """What a key's safety rests on: when the JWKS changed (aware, UTC), and how long the one before may be kept."""

    last_modified: datetime
    max_age_seconds: int

    @property
    def safe_to_sign_at(self) -> datetime:
        """See the function of that name."""
        return safe_to_sign_at(self.last_modified, self.max_age_seconds)


def window(seen: Seen) -> Window | None:
    """The window of a public JWKS as seen; None when it says no Last-Modified."""
    return None if seen.last_modified is None else Window(seen.last_modified, max_age_seconds(seen))
