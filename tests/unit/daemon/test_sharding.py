"""Each issuer belongs to exactly one shard, and a new shard moves as few issuers as possible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.daemon.sharding import MOST_SHARDS, Shard, read_shard, shard_of, sharded
from mirror.errors import UsageError
from mirror.model import IssuerUrl
from support.pass_histories import settings
from support.strategies import issuers

counts = st.integers(1, 24)


@given(issuers(), counts)
def test_every_issuer_is_in_exactly_one_shard(issuer: IssuerUrl, count: int) -> None:
    """No issuer is left out, and none is in two shards."""
    assert [index for index in range(count) if Shard(index, count).holds(issuer)] == [shard_of(issuer, count)]


@given(issuers(), counts)
def test_one_more_shard_takes_only_for_itself(issuer: IssuerUrl, count: int) -> None:
    """An issuer stays in its shard or moves to the new one. The old shards exchange none."""
    assert shard_of(issuer, count + 1) in (shard_of(issuer, count), count)


def test_shards_are_of_like_size() -> None:
    """With a thousand issuers in four shards, none has less than three quarters of its share."""
    found = [shard_of(IssuerUrl(f"https://oidc.example.com/cluster/{number}"), 4) for number in range(1000)]
    assert min(found.count(index) for index in range(4)) > 187


def test_placement_is_the_same_everywhere_and_for_ever() -> None:
    """Pods of different versions must agree, or an issuer has no shard. These answers are part of the contract."""
    found = [shard_of(IssuerUrl(f"https://oidc.example.com/cluster/{number}"), 5) for number in range(8)]
    assert found == [0, 1, 4, 2, 0, 2, 0, 3]


@pytest.mark.parametrize("text", ["0/1", "3/4", f"9999/{MOST_SHARDS}"])
def test_words_of_a_shard_are_read(text: str) -> None:
    """The index counts from 0, like JOB_COMPLETION_INDEX."""
    shard = read_shard(text)
    assert f"{shard.index}/{shard.count}" == text


@pytest.mark.parametrize(
    "text", ["", "1", "/", "4/4", "-1/4", "0/0", "1/2/3", "01/4", "a/b", " 0/1", "0/1 ", "0/10001", "٣/4", "0/4\n"]
)
def test_other_words_are_refused(text: str) -> None:
    """The message gives the right form."""
    with pytest.raises(UsageError, match="is not a shard") as caught:
        read_shard(text)
    assert "JOB_COMPLETION_INDEX" in caught.value.remedy


def test_settings_keep_the_issuers_of_the_shard() -> None:
    """All shards together give all issuers, in configured order. Without a shard nothing changes."""
    whole = settings(*(f"c{number}" for number in range(20)))
    parts = [sharded(whole, Shard(index, 3)) for index in range(3)]
    found = [issuer for part in parts for issuer in part.issuers]
    assert sorted(found, key=whole.issuers.index) == list(whole.issuers)
    assert all(part.issuers for part in parts)
    assert all(set(map(id, part.issuers + part.left_out)) == set(map(id, whole.issuers)) for part in parts)
    assert sharded(whole, None) is whole
