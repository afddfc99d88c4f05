"""The plan of an IAM OIDC provider, over everything that it may meet."""

import pytest

from mirror.aws.iam_policy import provider_url
from mirror.federation.provision.bucket import BucketChange, ProvisionPlan
from mirror.federation.provision.iam_provider import Provider, ProviderState, audience_problems, plan_provider
from mirror.model import IssuerUrl

ISSUER = IssuerUrl("https://oidc.example.com/a")
URL = "oidc.example.com/a"
ARN = f"arn:aws:iam::111122223333:oidc-provider/{URL}"
ABSENT = ProviderState("111122223333")


def there(*audiences: str, urls: frozenset[str] = frozenset({URL})) -> ProviderState:
    return ProviderState("111122223333", Provider(ARN, URL, frozenset(audiences)), urls)


def test_absent_provider_is_made_with_its_audiences() -> None:
    """One call makes it; the words say issuer, audiences, and where the thumbprint comes from."""
    plan = plan_provider(ABSENT, ISSUER, ("b", "a"))
    (difference,) = plan.differences
    assert difference.code == "create_provider"
    assert difference.after == f"exists for {ISSUER} with the audiences a, b; IAM fills in the thumbprint"


def test_right_provider_needs_nothing() -> None:
    """Every audience is there: the plan is empty."""
    assert plan_provider(there("a", "b"), ISSUER, ("b", "a")) == ProvisionPlan(
        f"OIDC provider of {ISSUER} in account 111122223333"
    )


def test_thumbprints_are_shown_with_when_they_matter() -> None:
    """IAM wants at least one: nothing is to be removed, and most hosts do without it."""
    found = Provider(ARN, URL, frozenset({"a"}), ("9e99a48a9960b14926bb7f3b02e22da2b0ab7280", "0" * 40))
    plan = plan_provider(ProviderState("111122223333", found, frozenset({URL})), ISSUER, ("a",))
    (note,) = plan.notes
    assert (note.code, plan.differences, plan.problems) == ("thumbprints", (), ())
    assert f"9e99a48a9960b14926bb7f3b02e22da2b0ab7280, {'0' * 40}" in note.sentence
    assert "TLS 1.3" in note.sentence
    assert "remove" not in note.sentence


def test_port_443_is_no_part_of_the_provider() -> None:
    """IAM drops it: the provider of the issuer is found, and every other port stays."""
    ported = IssuerUrl("https://oidc.example.com:443/a")
    assert plan_provider(there("a"), ported, ("a",)).differences == ()
    assert provider_url(ported) == URL
    assert provider_url(IssuerUrl("https://oidc.example.com:443")) == "oidc.example.com"
    assert provider_url(IssuerUrl("https://oidc.example.com:4430/a")) == "oidc.example.com:4430/a"
    assert provider_url(IssuerUrl("https://oidc.example.com/a:443")) == "oidc.example.com/a:443"


def test_missing_audience_is_added_and_a_foreign_one_left() -> None:
    """Other pods may use an audience: it is reported, never removed."""
    plan = plan_provider(there("other"), ISSUER, ("a",))
    assert plan.differences == (BucketChange("add_audience", "audience a", "not accepted", "accepted", "a"),)
    assert [note.code for note in plan.notes] == ["extra_audiences"]
    assert "other" in plan.notes[0].sentence


@pytest.mark.parametrize(
    ("issuer", "other"),
    [(ISSUER, f"{URL}/"), (IssuerUrl(f"{ISSUER}/"), URL)],
    ids=["slash-there", "slash-here"],
)
def test_provider_with_another_slash_is_reported_and_not_used(issuer: IssuerUrl, other: str) -> None:
    """Relying parties compare the whole text (facts.md#30), so the other provider is of no use to this issuer."""
    plan = plan_provider(ProviderState("1", None, frozenset({other})), issuer, ("a",))
    assert [each.code for each in plan.differences] == ["create_provider"]
    assert [note.code for note in plan.notes] == ["almost_same"]


def test_former_issuers_are_reported() -> None:
    """Tokens of an issuer's past need their own provider, which this command neither makes nor removes."""
    former = (IssuerUrl("https://oidc.example.com/old"), IssuerUrl("https://oidc.example.com/older"))
    plan = plan_provider(there("a", urls=frozenset({URL, "oidc.example.com/old"})), ISSUER, ("a",), former)
    assert [note.sentence.partition(" has ")[2][:12] for note in plan.notes] == ["its provider", "no provider "]


def test_full_account_is_reported_first() -> None:
    """The quota of AWS is a hundred providers: an operator learns it before AWS refuses."""
    urls = frozenset(f"oidc.example.com/{number}" for number in range(100))
    assert [note.code for note in plan_provider(ProviderState("1", None, urls), ISSUER, ("a",)).notes] == [
        "many_providers"
    ]


def test_provider_that_vanishes_while_it_is_looked_at_is_a_problem() -> None:
    """A list that names it and a read that does not find it make no plan."""
    plan = plan_provider(ProviderState("1", None, frozenset({URL})), ISSUER, ("a",))
    assert ([each.code for each in plan.problems], plan.differences) == (["provider_unreadable"], ())


@pytest.mark.parametrize(
    ("audiences", "codes"),
    [
        pytest.param((), ["no_audience"], id="none"),
        pytest.param(tuple(map(str, range(101))), ["too_many_audiences"], id="101"),
        pytest.param(("x" * 256, ""), ["bad_audience", "bad_audience"], id="length"),
        pytest.param(("x" * 255, *map(str, range(99))), [], id="at-the-limits"),
    ],
)
def test_audiences_that_iam_does_not_take_are_refused(audiences: tuple[str, ...], codes: list[str]) -> None:
    """Every reason at once, before anything is asked or sent."""
    assert [each.code for each in audience_problems(audiences)] == codes


def test_provider_without_room_for_the_audiences_is_a_problem() -> None:
    """More than a hundred in all: nothing is begun."""
    plan = plan_provider(there(*map(str, range(100))), ISSUER, ("new",))
    assert ([each.code for each in plan.problems], plan.differences) == (["too_many_audiences"], ())
