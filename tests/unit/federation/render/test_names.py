"""Names of roles, stacks, pools and credentials: no two workloads share one, and each service takes them."""

import re
from collections.abc import Iterator
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.federation.render.base import (
    MAX_CREDENTIAL_CHARACTERS,
    MAX_ROLE_CHARACTERS,
    account_of,
    pool_id,
    stack_name,
    terraform_label,
    workload_name,
)

ISSUERS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,12}", fullmatch=True)
NAMESPACES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
ACCOUNTS = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?", fullmatch=True)
WORKLOADS = st.tuples(ISSUERS, NAMESPACES, ACCOUNTS)


def subject(namespace: str, account: str) -> str:
    return f"system:serviceaccount:{namespace}:{account}"


def name(issuer: str, namespace: str, account: str, limit: int = MAX_ROLE_CHARACTERS) -> str:
    return workload_name(issuer, (subject(namespace, account),), limit)


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        (("prod", "default", "web"), "prod-default-web"),
        (("prod", "shop", "web"), "prod-shop-web"),
        (("syd-prod", "shop", "web"), "syd-prod-shop-web"),
        (("prod", "kube-system", "web"), r"prod-kube-system-web-[0-9a-f]{8}"),
        (("prod", "shop", "web.v2"), r"prod-shop-web-v2-[0-9a-f]{8}"),
        (("p" * 63, "shop", "web"), r"p{55}-[0-9a-f]{8}"),
    ],
)
def test_name_carries_issuer_namespace_and_service_account(parts: tuple[str, str, str], found: str) -> None:
    """With a hash where it is cut, or where other parts could give the same text."""
    assert re.fullmatch(found, name(*parts))


COLLIDING = [
    (("prod", "default", "web"), ("prod", "shop", "web")),
    (("prod", "shop-web", "app"), ("prod", "shop", "web-app")),
    (("prod-shop", "web", "app"), ("prod", "shop-web", "app")),
    (("prod", "shop", "a.b"), ("prod", "shop", "a-b")),
    (("p" * 63, "a", "b"), ("p" * 63, "a", "c")),
    (("prod", "n" * 63, "a" * 253), ("prod", "n" * 63, "a" * 252)),
]


@pytest.mark.parametrize(("one", "other"), COLLIDING)
@pytest.mark.parametrize("limit", [MAX_ROLE_CHARACTERS, MAX_CREDENTIAL_CHARACTERS])
def test_parts_that_make_the_same_text_make_other_names(
    one: tuple[str, str, str], other: tuple[str, str, str], limit: int
) -> None:
    """The second deployment never replaces the first one's subject."""
    assert name(*one, limit) != name(*other, limit)
    assert max(len(name(*one, limit)), len(name(*other, limit))) <= limit


@given(st.lists(WORKLOADS, min_size=2, max_size=8, unique=True))
def test_no_two_workloads_share_a_name(workloads: list[tuple[str, str, str]]) -> None:
    """Whatever their parts are; and each is one that IAM, Terraform, CloudFormation and Entra take."""
    names = [name(*each) for each in workloads]
    assert len(set(names)) == len(names)
    for each in names:
        assert re.fullmatch(r"[A-Za-z0-9+=,.@_-]{1,64}", each)
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{2,119}", each)
    labels = [terraform_label(each) for each in names]
    assert len(set(labels)) == len(labels)
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", each) for each in labels)


def test_name_of_several_subjects_is_that_of_all() -> None:
    """In whatever order they are given; a subject more makes another role, and one of nobody's has a name too."""
    one, two, odd = subject("a", "b"), subject("c", "d"), "spiffe://a/b"
    assert workload_name("prod", (one, two), 64) != workload_name("prod", (one,), 64)
    assert workload_name("prod", (odd,), 64) != workload_name("prod", ("spiffe://a/c",), 64)
    assert re.fullmatch(r"prod-subjects-[0-9a-f]{8}", workload_name("prod", (odd,), 64))
    assert (
        workload_name("prod", (one, two), 64).rpartition("-")[2]
        == workload_name("prod", (two, one), 64).rpartition("-")[2]
    )
    assert account_of(odd) is None


def roles() -> Iterator[str]:
    yield from ("prod-default-web", "1prod-default-web", "a.b", "a-b", "a_b", "r@x=1", "x" * 64, "1" + "x" * 63)


def test_stack_begins_with_a_letter_and_is_one_of_its_role() -> None:
    """CloudFormation refuses other names; a role whose name a stack may have gives it its own."""
    names = [stack_name(each) for each in roles()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,127}", each) for each in names)
    assert stack_name("prod-default-web") == "prod-default-web"


POOLS = (
    "prod",
    "gcp-prod",
    "k8s-prod",
    "a",
    "k8s-a",
    "gcp-a",
    "x" * 33,
    "x" * 34,
    "x" * 32,
    "gcp-" + "x" * 32,
    "prod-",
)


def test_no_two_issuers_share_a_pool() -> None:
    """Google takes 4 to 32 characters, none beginning with gcp-; the pool of `gcp-prod` is not that of `prod`."""
    for one, other in combinations(POOLS, 2):
        assert pool_id(one) != pool_id(other)
    assert all(re.fullmatch(r"(?!gcp-)[a-z0-9-]{3,31}[a-z0-9]", pool_id(each)) for each in POOLS)
