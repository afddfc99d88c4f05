"""Randomly damaged inputs for every parser: no parser raises, and none accepts what the strict parser rejects.

The suite tries 5000 inputs; `make torture ARGS="--only input --inputs 1000000"` tries that many. An input depends only
on the seed, its parser and its number, so a failure can be repeated.
"""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torture.readers import judge_discovery, judge_jwks, judge_ledger, readers
from torture.scale import scale, tally

SHARES = {
    "JWKS": 0.4,
    "discovery": 0.3,
    "ledger": 0.02,
    "EndpointSlices": 0.1,
    "kubeconfig": 0.02,
    "our own token": 0.08,
    "a shown token": 0.08,
}
"""The share of each parser in all inputs. A ledger or a YAML file takes a hundred times as long as a token."""


@pytest.mark.parametrize("name", SHARES)
def test_no_input_is_accepted_that_a_strict_reader_refuses(tmp_path: Path, name: str) -> None:
    """Each input is accepted or rejected without an exception, as by the strict parser; some are accepted."""
    reader = readers(tmp_path)[name]
    count, believed = int(scale().inputs * SHARES[name]), 0
    for number in range(count):
        body = reader.make(Random(f"{scale().seed}/{name}/{number}"))  # noqa: S311  a seed, not a secret
        try:
            believed += reader.judge(body)
        except Exception as error:
            error.add_note(f"{name}, seed {scale().seed}, input {number}: {body!r}")
            raise
    assert 0 < believed < count
    tally("input", name, inputs=count, believed=believed)


@given(
    st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | st.sampled_from([b"", b"{}", b"[]", b'{"keys":[]}'])
)
def test_bytes_without_a_pattern_are_refused(body: bytes) -> None:
    """Bytes that were never a document are rejected by every parser."""
    assert not judge_jwks(body)
    assert not judge_discovery(body)
    assert not judge_ledger(body)
