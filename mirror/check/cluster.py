"""The keys that each apiserver shows, where replicas differ, and what of them is public. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from mirror.check.result import Finding, Place, Station
from mirror.check.words import counted, named
from mirror.config.settings import Issuer
from mirror.model import Key, Observation, Observed, Thumbprint
from mirror.trust.relying_parties import compatibility


def keys(issuer: Issuer, observations: Sequence[Observation], public: Sequence[Key] | None) -> Iterator[Finding]:
    """Findings about the keys of one issuer.

    Args:
        issuer: The configured entry.
        observations: What its apiservers showed.
        public: The keys of the public JWKS; None where it could not be read.
    """
    heard = [each for each in observations if isinstance(each, Observed)]
    if not heard:
        return
    shown = {key.thumbprint: key for each in heard for key in each.keys}
    place = Place(Station.KEYS, "apiservers", issuer.name)
    yield from _each(issuer, heard)
    if any({key.thumbprint for key in each.keys} != set(shown) for each in heard):
        yield from (_partial(issuer, key, heard) for key in shown.values() if not _everywhere(key, heard))
    elif len(heard) > 1:
        yield place.ok("keys.same", f"All {len(heard)} answers show the same: {counted(len(shown), 'key')}.")
    yield from (place.note(each.code, each.sentence) for each in compatibility(issuer.issuer, tuple(shown.values())))
    if public is not None:
        yield from _against_public(issuer, shown, {key.thumbprint: key for key in public})


def _each(issuer: Issuer, heard: Sequence[Observed]) -> Iterator[Finding]:
    told: set[tuple[str, tuple[Key, ...]]] = set()
    for each in heard:
        if (each.apiserver, each.keys) not in told:
            told.add((each.apiserver, each.keys))
            sentence = f"It shows {', '.join(named(key) for key in each.keys)}."
            yield Place(Station.KEYS, each.apiserver, issuer.name).ok("keys.shown", sentence)


def _everywhere(key: Key, heard: Sequence[Observed]) -> bool:
    return all(key.thumbprint in {other.thumbprint for other in each.keys} for each in heard)


def _partial(issuer: Issuer, key: Key, heard: Sequence[Observed]) -> Finding:
    holders = [each.apiserver for each in heard if key.thumbprint in {other.thumbprint for other in each.keys}]
    others = [each.apiserver for each in heard if each.apiserver not in holders]
    without = f"not {', '.join(dict.fromkeys(others))}" if others else "but not in each of its answers"
    sentence = f"{', '.join(dict.fromkeys(holders))} shows {named(key)}, {without}."
    remedy = (
        "Normal while a rotation restarts the apiservers one by one (fact 10); otherwise give all of them the same "
        "--service-account-key-file flags: until then they refuse each other's tokens."
    )
    return Place(Station.KEYS, key.thumbprint, issuer.name).warning("keys.differ", sentence, remedy)


def _against_public(
    issuer: Issuer, shown: Mapping[Thumbprint, Key], public: Mapping[Thumbprint, Key]
) -> Iterator[Finding]:
    for thumbprint, key in shown.items():
        if thumbprint not in public:
            sentence = f"{named(key)} is not public: clouds refuse tokens that are signed with it."
            remedy = (
                f"Run `oidc-mirror --once --only {issuer.name}`; `oidc-mirror status {issuer.name}` tells whether it "
                "is held or revoked."
            )
            yield Place(Station.KEYS, thumbprint, issuer.name).warning("keys.not_public", sentence, remedy)
    for thumbprint, key in public.items():
        if thumbprint not in shown:
            sentence = f"{named(key)} is public, and no apiserver that answered shows it."
            remedy = f"It retires, or was put there by somebody else: `oidc-mirror status {issuer.name}` tells."
            yield Place(Station.KEYS, thumbprint, issuer.name).note("keys.only_public", sentence, remedy)
    if set(shown) == set(public):
        place = Place(Station.KEYS, "public", issuer.name)
        yield place.ok("keys.public", f"What the apiservers show is public, exactly: {counted(len(shown), 'key')}.")
