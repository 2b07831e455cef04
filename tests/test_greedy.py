"""GreedyLR against transformers (recorded), and where it goes beyond it."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js

RECORDED = json.loads((Path(__file__).parent / "peers" / "greedy.json").read_text())
TEXTS = ("mode", "threshold_mode", "smooth", "window_size")
ONES = jnp.ones(2)


def observed(metrics: Any, learning_rate: Any = 1.0, **arguments: Any) -> js.optim.GreedyState:
    transformation = js.greedy(learning_rate, **arguments)
    return jax.lax.scan(
        lambda state, m: (js.observe(state, value=m), None), transformation.init(None), jnp.asarray(metrics)
    )[0]


@functools.partial(jax.jit, static_argnames=TEXTS)
@functools.partial(jax.vmap, in_axes=(0, 0, *[None] * 4))
def traces(
    numbers: dict[str, Any], sequence: Any, mode: Any, threshold_mode: Any, smooth: bool, window_size: int
) -> Any:
    """The rate and the counters after each observation, for several settings in one program."""
    numbers = dict(numbers)
    transformation = js.greedy(
        numbers.pop("lr"),
        mode=mode,
        threshold_mode=threshold_mode,
        smooth=smooth,
        window_size=window_size,
        **numbers,
    )

    def one(state: Any, metric: Any) -> Any:
        s = js.observe(state, value=metric)
        left = s.settings.reset_start - s.floor_count
        counters = [s.good_count, s.bad_count, s.cooldown_count, s.warmup_count, left]
        return s, (s.learning_rate, jnp.stack(counters))

    return jax.lax.scan(one, transformation.init(None), sequence)[1]


def test_every_recorded_observation() -> None:
    """200 sequences of transformers' class: every rate, and every counter."""
    assert RECORDED["transformers"] == "5.23.0"
    assert len(RECORDED["traces"]) == 200
    groups: dict[Any, list[Any]] = {}
    for row in RECORDED["traces"]:
        groups.setdefault(tuple(row["arguments"][name] for name in TEXTS), []).append(row)
    raised = cut = resets = 0
    for texts, rows in groups.items():
        names = [name for name in rows[0]["arguments"] if name not in TEXTS]
        numbers = {name: np.array([row["arguments"][name] for row in rows]) for name in names}
        sequences = np.array([row["metrics"] for row in rows], np.float32)
        rates, counters = traces(numbers, sequences, *texts)
        for row, ours, counted in zip(rows, np.asarray(rates), np.asarray(counters), strict=True):
            theirs, moves = [row["arguments"]["lr"]], dict(row["moves"])
            for i in range(len(ours)):
                theirs.append(moves.get(i, theirs[-1]))
            np.testing.assert_allclose(ours, theirs[1:], rtol=2e-5, err_msg=str(row["arguments"]))
            np.testing.assert_array_equal(counted, row["counters"], err_msg=str(row["arguments"]))
            raised += (np.diff(theirs) > 0).sum()
            cut += (np.diff(theirs) < 0).sum()
            resets += (np.diff(counted[:, -1]) > 0).sum()
    assert min(raised, cut, resets) > 100


def test_transformers_floor_stops_a_small_rate() -> None:
    """Its default floor is 1e-3: a rate of 5e-5 never falls, however long the loss rises. Ours falls."""
    rising = np.arange(400.0)
    theirs = observed(rising, 5e-5, min_lr=1e-3, max_lr=1.0)
    assert theirs.learning_rate == np.float32(5e-5)
    ours = observed(rising, 5e-5)
    np.testing.assert_allclose(ours.learning_rate, 5e-5 * 0.95**36, rtol=1e-5)


def test_a_rate_that_can_fall_no_more_is_reset() -> None:
    """Without a floor the end is where a cut is `eps` or less; transformers' class stays there for ever."""
    arguments: dict[str, Any] = {"factor": 0.1, "patience": 0, "eps": 1e-4, "reset_start": 3}
    metrics = [1.0, *[2.0] * 6]  # a raise, four cuts, and two more that cannot be made
    before = observed(metrics[:-1], 0.1, **arguments)
    np.testing.assert_allclose(before.learning_rate, 1e-4, rtol=1e-5)
    assert before.floor_count == 2
    after = observed(metrics, 0.1, **arguments)
    assert (after.scale, after.floor_count, after.best) == (1, 0, np.inf)
    np.testing.assert_allclose(after.learning_rate, 0.1)


def test_it_goes_above_a_schedule_and_below_it() -> None:
    """Doubled once, then halved: the schedule times 2 up to `max_lr`; the tail of the schedule stays a tail."""
    schedule = js.WarmupCosine(peak_value=1.0, warmup_steps=10, total_steps=100)
    transformation = js.greedy(schedule, factor=0.5, patience=0, min_lr=0.05, max_lr=1.6)

    def one(state: Any, t: Any) -> Any:
        updates, state = transformation.update(ONES, state)
        state = jax.lax.cond(
            (t == 4) | (t == 70) | (t == 75) | (t == 78) | (t == 80),
            lambda s: js.observe(s, value=jnp.where(t == 4, 1.0, 2.0)),
            lambda s: s,
            state,
        )
        return state, -updates[0]

    _, got = jax.jit(lambda: jax.lax.scan(one, transformation.init(ONES), jnp.arange(100)))()
    t = np.arange(100)
    base = np.where(t < 10, t / 10, 0.5 * (1 + np.cos(np.pi * (t - 10) / 90)))
    scale = np.where(t <= 4, 1.0, 2.0) * np.where(t > 70, 0.5, 1.0) * np.where(t > 75, 0.5, 1.0)
    scale[t > 78] = 0.05 / base[78]  # the third cut is to the floor, which is then a share of the schedule
    want = np.clip(base * scale, np.minimum(base, 0.05), np.maximum(base, 1.6))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    assert got.max() == np.float32(1.6)
    assert got[82] == np.float32(0.05)
    np.testing.assert_array_less(got[-5:], 0.01)


def test_where_the_schedule_is_0_nothing_moves() -> None:
    state = observed([3.0, 2.0, 1.0], js.Linear(0.0, 1.0, 10), factor=0.5, patience=0)
    assert (state.scale, state.best, state.learning_rate) == (1, 1.0, 0)


def test_a_mean_that_slides_keeps_out_what_is_not_finite() -> None:
    """transformers' running sum is NaN for ever after one NaN. Here NaN is one judgement, and not a better one."""
    nan = float("nan")
    metrics = [4.0, 2.0, nan, 1.0, 2.0]  # means of two: 4, 3, -, 1.5, 1.5
    state = observed(metrics, smooth=True, window_size=2, patience=9, threshold=0.0)
    assert (state.best, state.good_count, state.bad_count, state.window_count) == (1.5, 0, 1, 4)
    assert sorted(state.window.tolist()) == [1.0, 2.0]
    plain = observed(metrics, patience=9, threshold=0.0)
    assert (plain.best, plain.bad_count, plain.window.shape) == (1.0, 1, (1,))


def test_a_metric_on_an_update_moves_it() -> None:
    transformation = optax.chain(optax.identity(), js.greedy(0.1, factor=0.5, patience=0))
    state = transformation.init(ONES.astype(jnp.bfloat16))
    got = []
    for metric in [1.0, None, 2.0, 0.5]:
        updates, state = jax.jit(transformation.update)(ONES.astype(jnp.bfloat16), state, None, value=metric)
        got.append(-updates[0].item())
    assert updates.dtype == jnp.bfloat16
    np.testing.assert_allclose(got, [0.2, 0.2, 0.1, 0.2], rtol=1e-2)


def test_a_negative_metric_by_its_size() -> None:
    """A rise from -1 to -0.95 is better by transformers' relative threshold, and worse by a share of the size."""
    rates = {}
    for sign_safe in (False, True):
        optimizer = js.greedy(1.0, factor=0.5, patience=0, threshold=0.1, threshold_mode="rel", sign_safe=sign_safe)
        state = optimizer.init(jnp.ones(2))
        for metric in (-1.0, -0.95):
            state = js.observe(state, value=metric)
        rates[sign_safe] = float(state.learning_rate)
    assert rates == {False: 4.0, True: 1.0}
