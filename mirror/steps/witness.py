"""Git alone never makes a key public: what a branch says must be vouched for by somebody else.

Who may push to the remote is not who may be any pod. A key that git calls public counts only when this mirror vouched
for it before (`notebook`), an apiserver shows it in this pass, or the public object has it; and revocations that
leave an issuer without any key count only when the public object is there and has none either. Until then the issuer is
set aside:
nothing of it is put. Normally another mirror is just about to put it. `repository.allowed_signers` replaces all this by
signatures.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mirror.addresses import object_keys
from mirror.config.settings import Issuer
from mirror.errors import BucketError, HistoryError
from mirror.history.merging import Joined
from mirror.history.record import Doubts
from mirror.model import (
    Event,
    IssuerUrl,
    Key,
    KeyId,
    KeyPolicy,
    Ledger,
    Level,
    Observation,
    Observed,
    Reason,
    Thumbprint,
    key_id,
)
from mirror.ports import Ports
from mirror.steps import notebook
from mirror.steps.at_once import for_each
from mirror.steps.notebook import EMPTIED, Notebook, PublicId, public_id
from mirror.steps.plan import Publication, World, publications
from mirror.trust.adoption import read_public
from mirror.trust.emptiness import is_emptied
from mirror.trust.lifecycle import revoked_thumbprints
from mirror.trust.words import as_argument

NO_ALG = "~"
"""Comes after every `alg` in the alphabet."""
PATIENCE = timedelta(minutes=15)
"""How long another mirror may take to put what it pushed, before an operator is asked."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """What git alone says: the event, since when it waits, and what an operator must decide (nothing at first)."""

    event: Event
    since: datetime
    held: tuple[Reason, ...] = ()


def unwitnessed(
    publication: Publication, world: World, ports: Ports, observations: tuple[Observation, ...]
) -> Stranger | None:
    """The public keys of git that nobody else vouches for; None when all of them may be believed.

    Raises:
        BucketError: The public object was needed as a witness and could not be read.
        HistoryError: The history of the ledger could not be read.
    """
    ledger = world.memory.issuers[publication.url].ledger
    if not world.needs_witness or ledger is None:
        return None
    # An `alg` that comes after the shown one in the alphabet will be corrected, see `mirror.trust.lifecycle`.
    shown = _shown(observations, revoked_of(publication.issuer, world))
    suspects = frozenset(public_id(key) for key in ledger.public_keys() if key.alg < shown.get(key_id(key), NO_ALG))
    suspects -= world.notebook.vouched.get(publication.url, frozenset())
    if suspects:
        suspects -= _public(publication, ports)
    return _stranger(publication, suspects, world, ports) if suspects else None


def doubts_about(merged: Mapping[IssuerUrl, Joined], world: World, ports: Ports) -> Doubts:
    """Judge ledgers that merging brought about while the pass records, by the same witnesses.

    From now on this mirror vouches for all keys of those that it believes: it is about to push them. Of issuers that
    the configuration does not have nothing can be said, and nothing of them is put.
    """
    if not world.needs_witness or not merged:
        return Doubts()
    settings, notes = world.settings, notebook.load(world.settings.state_dir)
    known = (*publications(settings), *publications(replace(settings, issuers=settings.left_out)))
    asked = [each for each in known if each.url in merged]

    def doubt(publication: Publication, ports: Ports) -> Doubts:
        observations = world.beliefs.observations.get(publication.issuer.name, ())
        shown = frozenset(map(public_id, _believed(observations, revoked_of(publication.issuer, world))))
        return _doubt(publication, merged[publication.url], notes, shown, ports)

    found = for_each(doubt, asked, ports, workers=settings.limits.puts)
    strange, unshareable = (
        frozenset[IssuerUrl]().union(*sets)
        for sets in zip(*((each.strange, each.unshareable) for each in (Doubts(), *found)), strict=True)
    )
    ours = {each.url: frozenset(map(public_id, merged[each.url].ledger.public_keys())) for each in asked}
    with suppress(HistoryError):  # a disk that takes no note keeps nobody from publishing
        notebook.vouch(settings.state_dir, {url: ids for url, ids in ours.items() if url not in strange})
    return Doubts(strange, unshareable)


def _doubt(
    publication: Publication, merged: Joined, notes: Notebook, shown: frozenset[PublicId], ports: Ports
) -> Doubts:
    """The doubts about one issuer's ledger.

    Unlike at the beginning of a pass nothing corrects an `alg` any more: only the very one that is shown is witnessed.
    """
    vouched = notes.vouched.get(publication.url, frozenset())
    suspects = frozenset(map(public_id, merged.ledger.public_keys())) - vouched - shown
    if not suspects:
        return Doubts()
    try:
        public = _public(publication, ports)
    except BucketError:
        public = frozenset()
    if suspects <= public:
        return Doubts()
    strange = frozenset({publication.url})
    # A ring takes both: a key that the remote names already, and one of ours that nobody else can see. What is public
    # others can witness; for what came from the remote once, and is given back, nobody here vouches.
    foreign = _identities(suspects - public) - merged.gained
    hidden = (_identities(vouched) - _identities(public)) & merged.gained
    return Doubts(strange, strange if foreign and hidden else frozenset())


def _identities(ids: Iterable[PublicId]) -> frozenset[KeyId]:
    return frozenset((kid, thumbprint) for kid, thumbprint, _ in ids)


def revoked_of(issuer: Issuer, world: World) -> frozenset[Thumbprint]:
    """The key material that is revoked for an entry: by the configuration, or under any of its issuer texts.

    So is what this machine knew as revoked once: a ledger that was broken in between may have lost it.
    """
    urls = (issuer.issuer, *(former.issuer for former in issuer.former_issuers))
    known = (world.memory.issuers[url].ledger for url in urls if url in world.memory.issuers)
    revoked = (revoked_thumbprints(ledger) for ledger in known if ledger is not None)
    remembered = (world.notebook.revoked.get(url, frozenset()) for url in urls)
    return issuer.keys.revoked.union(*revoked, *remembered)


def unwitnessed_emptiness(publication: Publication, world: World, ports: Ports, after: Ledger) -> Stranger | None:
    """That git's revocations leave no key public in this pass, where nobody else vouches for it.

    `after` is the ledger as the pass would leave it: it may have found new keys.

    Raises:
        BucketError: The public object was needed as a witness and could not be read.
        HistoryError: The history of the ledger could not be read.
    """
    before = world.memory.issuers[publication.url].ledger
    if not world.needs_witness or before is None or not (is_emptied(before) and is_emptied(after)):
        return None
    if EMPTIED in world.notebook.vouched.get(publication.url, frozenset()) or EMPTIED in _public(publication, ports):
        return None
    return _stranger(publication, frozenset({EMPTIED}), world, ports)


def public_ids(ledger: Ledger) -> frozenset[PublicId]:
    """The keys that the ledger makes public; EMPTIED alone when revocations left none."""
    return frozenset({EMPTIED}) if is_emptied(ledger) else frozenset(map(public_id, ledger.public_keys()))


def _believed(observations: Iterable[Observation], revoked: Container[Thumbprint]) -> Iterator[Key]:
    """The keys for which apiservers vouch: those that they show, but for what is revoked."""
    return (key for o in observations if isinstance(o, Observed) for key in o.keys if key.thumbprint not in revoked)


def _shown(observations: Iterable[Observation], revoked: Container[Thumbprint]) -> Mapping[KeyId, str]:
    """The keys for which apiservers vouch, each with the first `alg` of the alphabet that one of them shows."""
    shown: dict[KeyId, str] = {}
    for key in _believed(observations, revoked):
        shown[key_id(key)] = min(key.alg, shown.get(key_id(key), NO_ALG))
    return shown


def _public(publication: Publication, ports: Ports) -> frozenset[PublicId]:
    """The believed keys of the public object, EMPTIED when it has none at all; nothing when it is not there."""
    publish = publication.issuer.publish
    _, jwks_key = object_keys(publication.url, publish.base_url, publish.prefix)
    stored = ports.bucket(publish).get(jwks_key)
    if stored is None:
        return frozenset()
    keys, left_out = read_public(stored.body, KeyPolicy(kid="opaque"))
    return frozenset(map(public_id, keys.values())) if keys or left_out else frozenset({EMPTIED})


def _since(publication: Publication, world: World, ports: Ports) -> datetime:
    """Since when it waits: as this machine remembers, else when the fetched branch last changed the issuer's ledger."""
    known = world.notebook.waiting_since.get(publication.url)
    head = world.memory.heads.remote
    if known is not None or head is None:
        return known or world.now
    path = world.memory.issuers[publication.url].paths.ledger
    return ports.history.changed_at(path, at=head) or ports.history.committed_at(head)


def _stranger(publication: Publication, keys: frozenset[PublicId], world: World, ports: Ports) -> Stranger:
    what = "revocations that would empty the issuer" if EMPTIED in keys else f"{len(keys)} key(s) as public"
    sentence = (
        f"Git names {what} for {publication.url}, and neither this mirror, nor the bucket, nor an apiserver vouches "
        "for it: nothing of this issuer is committed or put."
    )
    thumbprints = sorted(thumbprint for _, thumbprint, _ in keys)
    event = Event("remote.unwitnessed", sentence, Level.WARNING, {"thumbprints": " ".join(thumbprints)})
    since = _since(publication, world, ports)
    # Who commits may write any date: one far in the future buys no time.
    if abs(world.now - since) < PATIENCE:
        return Stranger(event, min(since, world.now))
    name = publication.issuer.name
    commands = [f"oidc-mirror approve {name} {as_argument(thumbprint)}" for thumbprint in thumbprints if thumbprint]
    remedy = ", ".join(commands) or f"oidc-mirror revoke {name} --all --last --reason ..."
    reason = Reason(event.name, sentence, f"Find out who pushed it; if it is right: {remedy}")
    return Stranger(event, min(since, world.now), (reason,))
