"""Lengths with units, in steps."""

from __future__ import annotations

import numpy as np

import jaxsched as js


def test_timeline() -> None:
    timeline = js.Timeline(total_steps=10_000, steps_per_epoch=333.5, tokens_per_step=500_000)
    assert [timeline(x) for x in ("3ep", "5%", "2e9tok", 1000, "1_000", "7st", ".5ep", "0ep", 2.0)] == [
        1000, 500, 4000, 1000, 1000, 7, 167, 0, 2,
    ]  # fmt: skip
    assert all(type(timeline(x)) is int for x in ("3ep", 5))
    assert js.Timeline("1e12tok", tokens_per_step=3_000_000).total_steps == 333_333
    assert js.WarmupCosine(0.1, timeline("2%"), timeline.total_steps)(200) == np.float32(0.1)
