"""A hundred thousand broken expressions: each is a schedule or the one documented error, and none hangs."""

from __future__ import annotations

import pytest

from .. import mutations


@pytest.mark.parametrize("seed", range(10))
def test_parse_survives(seed: int) -> None:
    made, refused = mutations.survive(10_000, seed=100 + seed)
    assert made + refused == 10_000
    assert made > 100


def test_nothing_of_the_peers_hangs() -> None:
    made, refused = mutations.parse_all(mutations.extremes())
    assert made > 500
    assert refused > 1_000
