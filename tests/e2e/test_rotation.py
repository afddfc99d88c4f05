"""The captured rotation of a real cluster, replayed pass by pass: no token that a replica accepts is ever refused.

The apiserver minted each token in the very step whose documents are replayed; PyJWT plays the relying party.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import jwt
import pytest

from mirror.model import PublicObject
from mirror.report import ExitStatus
from support.captures import FOLDER, capture
from support.fakes import FakeBucket
from support.situations import DISCOVERY_KEY, ISSUER, JWKS_KEY, Situation

HOUR = timedelta(hours=1)
OURS = "cluster.identifier.kubernetes.domain"
DEFAULT = "https://kubernetes.default.svc"
ALGORITHMS = ["RS256", "ES256"]


@dataclass(frozen=True)
class Token:
    """A captured token, the audience it was minted for, and the case that shows what its apiserver served."""

    name: str
    case: str
    audience: str = OURS

    def verifies(self, jwks: bytes) -> bool:
        """Whether a relying party that has these public keys takes it: kid, signature, issuer, audience.

        The captures are of one day, so time is left out.
        """
        text = (FOLDER / f"{self.name}.jwt").read_text().strip()
        wanted = jwt.get_unverified_header(text)["kid"]
        keys = [key for key in jwt.PyJWKSet.from_json(jwks.decode()).keys if key.key_id == wanted]
        if not keys:
            return False
        try:
            jwt.decode(
                text,
                keys[0],
                ALGORITHMS,
                {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["iss", "aud", "sub"]},
                audience=self.audience,
                issuer=ISSUER,
            )
        except jwt.InvalidTokenError:
            return False
        return True


ONE, OVERLAP, SIGNS, THREE, LAST = (
    "01-rsa1/anonymous-bound",
    "02-rsa1-ec2-overlap/",
    "03-ec2-signs-rsa1-kept/",
    "04-rsa1-ec2-rsa3/",
    "04b-rotated-away-rsa3-only/",
)
TOKENS = {
    ONE: Token("01-rsa1/sa-token-cluster-aud", ONE),
    OVERLAP: Token("02-rsa1-ec2-overlap/token-cluster-aud", OVERLAP),
    SIGNS: Token("03-ec2-signs-rsa1-kept/token-cluster-aud", SIGNS),
    THREE: Token("04-rsa1-ec2-rsa3/token-cluster-aud", THREE),
    LAST: Token("04b-rotated-away-rsa3-only/token-cluster-aud", LAST),
}
ROTATION = tuple(TOKENS)
REPLICA_1, REPLICA_2 = "09-ha-mid-rotation/replica1", "09-ha-mid-rotation/replica2"
REPLICA_TOKENS = (
    Token("09-ha-mid-rotation/token-from-replica1", REPLICA_1, DEFAULT),
    Token("09-ha-mid-rotation/token-from-replica2", REPLICA_2, DEFAULT),
)
EVERY_TOKEN = (*TOKENS.values(), *REPLICA_TOKENS)


def shown(case: str) -> bytes:
    """The JWKS of a captured case."""
    return capture(f"{case}jwks" if case.endswith("/") else f"{case}-jwks").body()


@dataclass
class Watch:
    """Looks at every JWKS that is put: it must take every token that a replica of that moment takes."""

    here: Situation
    cases: tuple[str, ...] = ()
    refusals: list[str] = field(default_factory=list)
    puts: int = 0

    def __call__(self, _: FakeBucket, wanted: PublicObject) -> None:
        if wanted.key != JWKS_KEY:
            return
        self.puts += 1
        accepted = [t for t in EVERY_TOKEN if any(t.verifies(shown(case)) for case in self.cases)]
        self.refusals += [token.name for token in accepted if not token.verifies(wanted.body)]

    def run(self, *cases: str, after: timedelta = HOUR) -> bytes:
        """One pass in which the replicas show `cases`, and the public JWKS then."""
        self.cases = cases
        assert self.here.run(*cases, after=after).exit_status is ExitStatus.CURRENT
        public = self.here.public()
        assert public is not None
        accepted = [t for t in EVERY_TOKEN if any(t.verifies(shown(case)) for case in cases)]
        self.refusals += [token.name for token in accepted if not token.verifies(public)]
        return public


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    here = Situation(tmp_path)
    made = Watch(here)
    here.world.bucket.before_put = made
    return made


def names(tokens: tuple[Token, ...], jwks: bytes) -> list[str]:
    """The tokens that these keys verify."""
    return [token.name for token in tokens if token.verifies(jwks)]


def everyone(tokens: tuple[Token, ...]) -> list[str]:
    return [token.name for token in tokens]


@pytest.mark.parametrize("case", ROTATION)
def test_captured_token_verifies_against_its_own_apiserver(case: str) -> None:
    """The replay proves something only if each token is good, and is refused by keys that are not its own."""
    assert TOKENS[case].verifies(shown(case))
    foreign = LAST if case in (ONE, OVERLAP, SIGNS) else ONE
    assert not TOKENS[case].verifies(shown(foreign))
    assert not Token(TOKENS[case].name, case, audience="sts.amazonaws.com").verifies(shown(case))


def test_rotation_in_step_keeps_every_earlier_token(watch: Watch) -> None:
    """Both replicas change together: after each step its token and all earlier ones verify."""
    for count, case in enumerate(ROTATION, start=1):
        public = watch.run(case, case)
        so_far = tuple(TOKENS[each] for each in ROTATION[:count])
        assert names(so_far, public) == everyone(so_far)
    assert watch.refusals == []


def test_rolling_rotation_keeps_every_token_of_either_replica(watch: Watch) -> None:
    """One replica restarts before the other in each step: at no moment is a token refused that either accepts."""
    watch.run(ONE, ONE)
    for before, after in pairwise(ROTATION):
        public = watch.run(after, before)
        both = (TOKENS[before], TOKENS[after])
        assert names(both, public) == everyone(both)
        public = watch.run(after, after)
        assert names(both, public) == everyone(both)
    assert watch.refusals == []
    assert watch.puts == 3  # RSA; RSA + EC; the third key. Nothing has left yet.


def test_old_tokens_verify_until_their_time_is_over(watch: Watch) -> None:
    """24 h after both replicas lost the old keys, and not a pass earlier, only the newest key is left."""
    for case in ROTATION:
        watch.run(case, case)
    tokens = tuple(TOKENS.values())
    for _ in range(23):
        assert names(tokens, watch.run(LAST, LAST)) == everyone(tokens)
    public = watch.run(LAST, LAST)
    assert names(tokens, public) == [TOKENS[THREE].name, TOKENS[LAST].name]
    assert public == shown(LAST)
    assert watch.here.public(DISCOVERY_KEY) == capture(f"{LAST}discovery").body()
    assert watch.refusals == []


def test_lagging_replica_keeps_old_tokens_for_as_long_as_it_lags(watch: Watch) -> None:
    """A replica forgotten in the rotation keeps its keys public for days; their time begins when it changes."""
    for case in ROTATION:
        watch.run(case, case)
    tokens = tuple(TOKENS.values())
    for _ in range(5):
        assert names(tokens, watch.run(LAST, SIGNS, after=24 * HOUR)) == everyone(tokens)
    watch.run(LAST, LAST)
    assert names(tokens, watch.run(LAST, LAST, after=23 * HOUR)) == everyone(tokens)
    assert watch.run(LAST, LAST) == shown(LAST)
    assert watch.refusals == []


def test_replicas_in_mid_rotation_are_both_accepted(watch: Watch) -> None:
    """Case 09: each replica refuses the other's newest token; the public set takes both, from the first pass on."""
    first, second = REPLICA_TOKENS
    assert not second.verifies(shown(REPLICA_1))
    assert names(REPLICA_TOKENS, watch.run(REPLICA_1, REPLICA_2)) == everyone(REPLICA_TOKENS)
    public = watch.run(REPLICA_2, REPLICA_1)
    assert names(REPLICA_TOKENS, public) == everyone(REPLICA_TOKENS)
    assert first.verifies(public)
    assert watch.puts == 1
    assert watch.refusals == []


def test_rotation_rolled_back_keeps_the_tokens_of_its_short_life(watch: Watch) -> None:
    """The second replica is restarted with the old keys: what it signed meanwhile verifies for another 24 h."""
    watch.run(REPLICA_1, REPLICA_2)
    watch.run(REPLICA_1, REPLICA_1)
    assert names(REPLICA_TOKENS, watch.run(REPLICA_1, REPLICA_1, after=23 * HOUR)) == everyone(REPLICA_TOKENS)
    assert names(REPLICA_TOKENS, watch.run(REPLICA_1, REPLICA_1)) == [REPLICA_TOKENS[0].name]
    assert watch.refusals == []
