"""Whether what the world sees is what we meant. Pure, and free of httpx."""

from mirror.model import PublicObject, Reason
from mirror.ports import Seen

OTHER_BYTES = "stale_or_foreign"
"""The code of a public URL whose bytes are not those that we published."""


def judge(seen: Seen, expected: PublicObject) -> tuple[Reason, ...]:
    """Every way in which what the world sees differs from what we meant; empty when all is right.

    Codes: `stale_or_foreign`, `wrong_content_type` (the media type is compared, not its parameters) and
    `wrong_cache_control`.
    """
    reasons = (_judge_body(seen, expected), _judge_type(seen, expected), _judge_cache(seen, expected))
    return tuple(reason for reason in reasons if reason is not None)


def _judge_body(seen: Seen, expected: PublicObject) -> Reason | None:
    if seen.body == expected.body:
        return None
    sentence = f"The public URL shows {len(seen.body)} other bytes than the {len(expected.body)} that we published."
    remedy = "Invalidate the CDN in front of the bucket; without one, find out what else serves this URL."
    return Reason(OTHER_BYTES, sentence, remedy, expected.url)


def _judge_type(seen: Seen, expected: PublicObject) -> Reason | None:
    if _media_type(seen.content_type) == _media_type(expected.content_type):
        return None
    sentence = f"The public URL says Content-Type `{seen.content_type}` instead of `{expected.content_type}`."
    remedy = "The next audit repairs the object; a proxy or CDN in front of it must not change the header."
    return Reason("wrong_content_type", sentence, remedy, expected.url)


def _judge_cache(seen: Seen, expected: PublicObject) -> Reason | None:
    if _directives(seen.cache_control) == _directives(expected.cache_control):
        return None
    sentence = f"The public URL says Cache-Control `{seen.cache_control}` instead of `{expected.cache_control}`."
    remedy = "The next audit repairs the object; a proxy or CDN in front of it must not change the header."
    return Reason("wrong_cache_control", sentence, remedy, expected.url)


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()


def _directives(text: str) -> frozenset[str]:
    return frozenset(part.strip().lower() for part in text.split(",") if part.strip())
