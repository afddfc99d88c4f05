"""From when on a key may sign: Last-Modified + max-age + 5 minutes, and what stands in for a missing max-age."""

from datetime import UTC, datetime

import pytest

from mirror.ports import Seen
from mirror.publish.safety import max_age_of, max_age_seconds, safe_to_sign_at, window

AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def test_key_is_safe_after_max_age_and_margin() -> None:
    """300 s of caching after 08:00 and five minutes of clocks give 08:10."""
    assert safe_to_sign_at(AT, 300) == datetime(2026, 11, 23, 8, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("public, max-age=300", 300),
        ("max-age=0", 0),
        ("MAX-AGE = 60 , public", 60),
        ('max-age="90"', 90),
        ("max-age=60, s-maxage=600", 600),
        ("s-maxage=60, max-age=600", 600),
        ("max-age=60, max-age=120", 120),
        ("", None),
        ("public", None),
        ("max-age", None),
        ("max-age=", None),
        ("max-age=-1", None),
        ("max-age=1e9", None),
        ("max-age=9999999999", None),
        ("x-max-age=5", None),
        ("no-max-age=5", None),
    ],
)
def test_longest_age_of_the_header_counts(text: str, seconds: int | None) -> None:
    """The longest of max-age and s-maxage is read; what is no whole number of seconds says nothing."""
    assert max_age_of(text) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("max-age=60", 60), ("max-age=0", 0), ("public", 3600)])
def test_unsaid_age_counts_as_the_longest(text: str, seconds: int) -> None:
    """Without a max-age caches choose for themselves, so the longest that we allow is assumed; 0 stays 0."""
    assert max_age_seconds(Seen(b"", "application/jwk-set+json", text, AT, 0.1)) == seconds


@pytest.mark.parametrize("last_modified", [AT, None], ids=["said", "unsaid"])
def test_window_needs_a_last_modified(last_modified: datetime | None) -> None:
    """The window of what was seen ends as computed from its headers; without Last-Modified there is none."""
    found = window(Seen(b"", "application/jwk-set+json", "max-age=300", last_modified, 0.1))
    expected = None if last_modified is None else safe_to_sign_at(AT, 300)
    assert (None if found is None else found.safe_to_sign_at) == expected
