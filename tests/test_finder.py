"""The range test against a loop written by hand and against fastai; the grid against a sweep."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsched.finder import METHODS, FinderResult, Suggestion, find_lr, suggest
from jaxsched.sweep import Task
from tests.cases import x64
from tests.peers import record_finder as peer

RECORD = json.loads((Path(__file__).parent / "peers" / "finder.json").read_text())
STEPS, LOW, HIGH = 60, 1e-2, 1e3
X = np.linspace(-1, 1, 40, dtype=np.float32)


def loss(slope, batch, key):
    x, y = batch
    if key is not None:  # noise of a kind, in training only, that compiles quickly: the keys must be right too
        x = x * (0.8 + (jax.random.key_data(key)[1] % 1000).astype(x.dtype) / 2000)
    return jnp.mean((slope * x - y) ** 2), {}


def init(key):
    return (jax.random.key_data(key)[1] % 1000).astype(float) / 1e4


TASK = Task(init, loss, (X, 2 * X), (X, 2 * X), 8, lambda schedule: optax.sgd(schedule))


def line(optimizer=optax.sgd, start=0.0, x=X):
    """One weight and one batch; above a rate of about 6 it diverges."""
    return Task(
        init=lambda key: start + init(key),
        loss=lambda slope, batch, key: loss(slope, batch, None),
        train=[(x, 2 * x)],
        valid=(x, 2 * x),
        batch_size=None,
        optimizer=optimizer,
    )


def network_loss(params, batch, key):
    images, labels = batch
    logits = jax.nn.relu(images @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), {}


@pytest.fixture(scope="module")
def steps_seen():
    return []


@pytest.fixture(scope="module")
def result(steps_seen):
    def counted(params, batch, key):
        # Once, for all seeds, in each step that is really computed.
        jax.debug.callback(lambda: steps_seen.append(1))
        return loss(params, batch, key)

    task = dataclasses.replace(TASK, loss=counted)
    steps_seen.clear()
    found = find_lr(task, LOW, HIGH, STEPS, seeds=3)
    jax.effects_barrier()
    return found


# --- what the curves suggest -----------------------------------------------------------------------------------------


def looked_at(number):
    """What is left of a curve behind fastai's trimming."""
    lrs, losses, _ = peer.curve(number)
    kept = losses[len(lrs) // 10 : -5]
    whole = int(np.argmax(np.isnan(kept))) if np.isnan(kept).any() else len(kept)
    return lrs[: len(losses)][len(lrs) // 10 : -5][:whole], kept[:whole]


@pytest.mark.parametrize("method", peer.METHODS)
def test_suggestions_are_those_of_fastai(method):
    column, same, none = RECORD["methods"].index(method), 0, 0
    for number, row in enumerate(RECORD["suggestions"]):
        lrs, losses, _ = peer.curve(number)
        ours, theirs = suggest(lrs.astype(np.float32), losses, method), row[column]
        kept_lrs, kept = looked_at(number)
        if not ours.found:  # fastai raises IndexError or ValueError, or returns a number that means nothing
            few = len(kept) < {"valley": 3, "steep": 2, "minimum": 1, "slide": 16}[method]
            assert few or (np.diff(kept) >= 0).all() or (method == "minimum" and np.argmin(kept) == 0), number
            none += 1
        elif method == "steep" and not math.isclose(ours.lr, theirs, rel_tol=1e-6):
            # Slopes of exactly one size: the rounding of a logarithm chooses.
            slopes = np.diff(kept.astype(float)) / np.diff(np.log(kept_lrs))
            at = [int(np.argmin(np.abs(kept_lrs - lr))) for lr in (ours.lr, theirs)]
            assert slopes[at[0]] == pytest.approx(slopes[at[1]], rel=1e-9), number
        else:
            assert ours.lr == pytest.approx(theirs, rel=1e-6), number
            same += 1
    assert len(RECORD["suggestions"]) == peer.CURVES
    assert same > 240
    assert none > 58


def test_the_curves_are_those_that_were_recorded_of_every_kind():
    kinds = [peer.curve(number)[2] for number in range(peer.CURVES)]
    assert set(kinds) == set(peer.KINDS)
    assert RECORD["fastai"] == "2.8.12"
    # And fastai does fail on some: otherwise our words for it would be tested by nothing.
    assert any(isinstance(x, str) for row in RECORD["suggestions"] for x in row)


def test_all_of_lr_find_is_that_of_fastai():
    """The same network, batches and rates: the smoothed losses, where it stops, and what it suggests."""
    images, labels = peer.digits()
    task = Task(
        init=lambda key: {name: jnp.asarray(x) for name, x in peer.first_weights().items()},
        loss=network_loss,
        train=list(zip(images, labels, strict=True)),
        valid=(images[0], labels[0]),
        batch_size=None,
        optimizer=optax.sgd,
    )
    low, high, n = peer.RANGE["start_lr"], peer.RANGE["end_lr"], peer.RANGE["num_it"]
    # fastai's last rate is one step short of its end.
    ours, theirs = find_lr(task, low, low * (high / low) ** ((n - 1) / n), n, seeds=1), RECORD["training"]
    done = len(theirs["smoothed"])
    assert ours.stopped_at is not None
    assert ours.smoothed is not None
    assert done < n
    assert ours.stopped_at.tolist() == [done - 1]
    assert ours.steps_done == done
    np.testing.assert_allclose(ours.lrs[:done], theirs["lrs"], rtol=2e-6)
    np.testing.assert_allclose(ours.smoothed[0, :done], theirs["smoothed"], rtol=1e-4)
    assert np.isnan(ours.smoothed[0, done:]).all()
    for name, lr in theirs["suggestions"].items():
        assert ours.suggestions[name].lr == pytest.approx(lr, rel=1e-5), name


@pytest.mark.parametrize("method", ["valley", "steep", "minimum"])
@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
def test_the_unit_of_the_loss_does_not_matter(method, factor):
    for number in range(44):
        lrs, losses, _ = peer.curve(number)
        ours, scaled = suggest(lrs, losses, method), suggest(lrs, losses * np.float32(factor), method)
        np.testing.assert_array_equal(ours.seeds, scaled.seeds)


def test_a_slide_does_depend_on_it():
    """Below the threshold there is nothing to slide down from, and the window rests at the end of the curve."""
    lrs = np.geomspace(1e-4, 1, 60)
    losses = np.r_[np.zeros(50), np.cumsum(np.arange(10.0))] * 0.01 - np.arange(60) * 1e-3
    assert (
        suggest(lrs, losses, "slide", trim=False).lr < suggest(lrs, losses * 1e-3, "slide", trim=False).lr == lrs[-16]
    )


@pytest.mark.parametrize("method", ["valley", "steep", "minimum", "slide"])
def test_larger_rates_are_suggested_larger(method):
    for number in range(11):
        lrs, losses, _ = peer.curve(number)
        ours, moved = suggest(lrs, losses, method), suggest(1024 * lrs, losses, method)
        np.testing.assert_allclose(moved.seeds, 1024 * ours.seeds, rtol=1e-12)


def test_the_spread_over_curves():
    lrs = np.geomspace(1e-4, 1.0, 81)  # 20 in a power of ten
    lows = [30, 40, 50, 70]
    curves = [np.abs(np.arange(81.0) - low)[:81] for low in lows]
    found = suggest(lrs, curves, "minimum")
    np.testing.assert_allclose(found.seeds, lrs[lows] / 10)
    assert (found.low, found.high) == (found.seeds[0], found.seeds[3])
    assert found.lr == pytest.approx(math.sqrt(lrs[40] * lrs[50]) / 10)
    assert found.why == ""
    odd = suggest(lrs, [*curves[:3], np.ones(81), curves[0][:4]], "minimum")
    assert odd.lr == found.seeds[1] == float(odd)
    assert np.isnan(odd.seeds).tolist() == [False, False, False, True, True]
    assert odd.why == "2 of 5 seeds have none: the loss never falls and too few points"
    assert str(odd) == "0.001 (0.000316 to 0.00316 over 5 seeds); " + odd.why


@pytest.mark.parametrize(
    ("losses", "why"),
    [
        (np.ones(50), "never falls"),
        (np.arange(50.0), "never falls"),
        (np.full(50, np.nan), "not finite from the start"),
        (np.r_[np.inf, np.ones(49)], "not finite from the start"),
        (np.r_[np.ones(3), np.full(47, np.nan)], "too few points"),
        (np.array([]), "too few points"),
        (np.array([3.0]), "too few points"),
        (np.arange(10.0)[::-1], "too few points"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_curves_that_suggest_nothing_say_why(losses, why, method):
    found = suggest(np.geomspace(1e-4, 1, 50), losses, method)
    assert not found.found
    assert np.isnan([found.lr, found.low, found.high, *found.seeds]).all()
    assert why in found.why
    assert str(found) == f"none: {found.why}"
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("method", METHODS)
def test_curves_of_every_length(method):
    """No error of an index, whatever is left."""
    rng = np.random.default_rng(0)
    for n in range(40):
        for losses in (rng.normal(size=n), np.arange(n)[::-1], np.r_[rng.normal(size=n), np.inf, np.nan]):
            for trim in (True, False):
                found = suggest(np.geomspace(1e-4, 1, 60), losses, method, trim=trim)
                assert found.found or found.why


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([1e-3, 1e-2], [1.0, 2.0], "vally"), "did you mean 'valley'"),
        (([1e-2, 1e-3], [1.0, 2.0]), "rising rates"),
        (([0.0, 1e-3], [1.0, 2.0]), "above 0"),
        (([1e-3], [1.0, 2.0]), "2 losses and 1 lrs"),
        (([1e-3, 1e-2], [[[1.0]]]), "list of numbers"),
    ],
)
def test_suggest_refuses(arguments, text):
    with pytest.raises(ValueError, match=text):
        suggest(*arguments)


# --- the range test --------------------------------------------------------------------------------------------------


def by_hand(seed, steps):
    """The range test of one seed as a loop in Python: batches, rates, gradient and smoothing in numpy."""
    init_key, order_key, loss_key = jax.random.split(jax.random.fold_in(jax.random.key(0), seed), 3)
    slope, average, losses, smoothed = float(init(init_key)), 0.0, [], []
    orders = jax.jit(jax.vmap(lambda epoch: jax.random.permutation(jax.random.fold_in(order_key, epoch), 40)))
    order = np.asarray(orders(np.arange(-(-steps // 5)))).reshape(-1, 8)
    numbers = jax.jit(jax.vmap(lambda t: jax.random.key_data(jax.random.fold_in(loss_key, t))[1] % 1000))
    noises = 0.8 + np.asarray(numbers(np.arange(steps))) / 2000
    for t, (rows, noise) in enumerate(zip(order[:steps], noises, strict=True)):
        x, y = X[rows].astype(float) * noise, 2 * X[rows].astype(float)
        losses.append(np.mean((slope * x - y) ** 2))
        slope -= LOW * (HIGH / LOW) ** (t / (STEPS - 1)) * np.mean(2 * x * (slope * x - y))
        average = 0.98 * average + 0.02 * losses[-1]
        smoothed.append(average / (1 - 0.98 ** (t + 1)))
    return losses, smoothed


def test_a_range_test_is_a_plain_training(result):
    losses, smoothed = by_hand(seed=2, steps=22)
    np.testing.assert_allclose(result.losses[2, :22], losses, rtol=1e-4)
    np.testing.assert_allclose(result.smoothed[2, :22], smoothed, rtol=1e-4)


def test_the_rates_are_exact_at_both_ends(result):
    np.testing.assert_allclose(result.lrs, np.geomspace(LOW, HIGH, STEPS), rtol=1e-5)
    assert result.lrs[0] == np.float32(LOW)
    assert result.lrs[-1] == np.float32(HIGH)


def test_a_seed_stops_where_its_loss_explodes(result):
    assert result.losses.shape == result.smoothed.shape == (3, STEPS)
    for losses, smoothed, stop in zip(result.losses, result.smoothed, result.stopped_at.tolist(), strict=True):
        assert 0 < stop < STEPS - 1
        assert np.isfinite(losses[: stop + 1]).all()
        assert np.isnan(losses[stop + 1 :]).all()
        assert np.isnan(smoothed[stop + 1 :]).all()
        assert smoothed[stop] > 4 * smoothed[:stop].min()
        best = np.minimum.accumulate(smoothed[:stop])
        assert (smoothed[:stop] <= 4 * best).all()


def test_the_program_ends_when_all_have_stopped(result, steps_seen):
    assert result.steps_done == result.stopped_at.max() + 1 < STEPS
    assert len(steps_seen) == result.steps_done


def test_a_seed_alone_gives_the_same_curve(result, monkeypatch, caplog):
    """And by a clock that counts the compilations, all of them are in `compile_seconds`."""
    compiled = "Finished XLA compilation"
    count = lambda: sum(record.getMessage().startswith(compiled) for record in caplog.records)  # noqa: E731
    monkeypatch.setattr("jaxsched.finder.range_test.time.perf_counter", lambda: float(count()))
    with jax.log_compiles(), caplog.at_level("WARNING"):
        alone = find_lr(TASK, LOW, HIGH, STEPS, seeds=[1])
    assert len({row[0] for row in result.losses.tolist()}) == 3
    assert alone.stopped_at.tolist() == [result.stopped_at[1]] != [-1]
    np.testing.assert_allclose(alone.losses[0], result.losses[1], rtol=1e-5, atol=1e-12)
    np.testing.assert_array_equal(alone.suggestions["steep"].lr, result.suggestions["steep"].seeds[1])
    assert alone.seeds == (1,)
    assert alone.seconds == 0
    assert alone.compile_seconds >= 3  # the start, a segment, the orders


def test_the_suggestions_are_those_of_the_curves(result):
    assert list(result.suggestions) == ["valley", "steep", "minimum", "slide"]
    for name, found in result.suggestions.items():
        curves = [row[: stop + 1] for row, stop in zip(result.smoothed, result.stopped_at, strict=True)]
        for i, curve in enumerate(curves):
            np.testing.assert_array_equal(suggest(result.lrs, curve, name).seeds, found.seeds[i])
        assert found.low <= found.lr <= found.high


def test_a_loss_below_zero_is_no_explosion_in_64_bits_and_without_promotion():
    """Four times a best of -1 is -4: by that rule a training would stop at its first step."""
    below = lambda w, batch, key: (loss(w, batch, None)[0] - 5, {})  # noqa: E731
    with x64(), jax.numpy_dtype_promotion("strict"):
        x = X.astype(np.float64)
        task = dataclasses.replace(line(x=x), loss=below, train=(x, 2 * x), batch_size=40)
        found = find_lr(task, 1e-3, 1.0, 30, seeds=2)
    assert found.losses.dtype == np.float64
    np.testing.assert_allclose(found.lrs, np.geomspace(1e-3, 1.0, 30), rtol=1e-14)
    np.testing.assert_allclose(found.smoothed[0, 0], found.losses[0, 0], rtol=1e-14)
    assert found.stopped_at.tolist() == [-1, -1]
    assert "No seed stopped" in str(found)
    assert "still falls at the end: write a max_lr above 1." in str(found)


def test_it_can_go_to_the_end():
    seen, traces, traced = [], [], []

    def counted(schedule):
        traces.append(1)
        return optax.sgd(schedule)

    def progress(status):
        seen.append(status)
        traced.append(len(traces))

    found = find_lr(line(counted), 3.0, 7.0, 130, seeds=2, stop_factor=None, beta=0.0, progress=progress)
    assert len(seen) == 2
    assert len(set(traced)) == 1  # one compilation, whatever the length
    # It diverges from the start, and at last a float32 does not hold it any more.
    assert ((found.stopped_at > 20) & (found.stopped_at < 120)).all()
    assert not np.isfinite([found.smoothed[i, t] for i, t in enumerate(found.stopped_at)]).any()
    assert "not finite" in str(found)
    recorded = np.isfinite(found.smoothed)
    np.testing.assert_array_equal(found.losses[recorded], found.smoothed[recorded])  # beta=0 smooths nothing
    assert [status.steps for status in seen] == sorted(status.steps for status in seen)
    assert (seen[-1].done, seen[-1].trainings, seen[-1].seconds_left) == (2, 2, 0)


def test_what_is_wrong_is_said_in_words():
    broken = dataclasses.replace(line(), loss=lambda w, batch, key: (w * jnp.nan, {}))
    found = find_lr(broken, 1e-3, 1.0, 20, seeds=2)
    assert (found.steps_done, found.stopped_at.tolist()) == (1, [0, 0])
    assert "All seeds stopped at step 0" in str(found)
    assert "not finite at the very first step" in str(found)
    assert "none: the loss is not finite from the start" in str(found)
    assert "no valley, no steep" in repr(found)
    found.plot()


def test_batches_from_python_code_are_taken_once():
    """As many as there are steps, and no more: a generator may have just as many."""
    x = np.linspace(-1, 1, 8, dtype=np.float32)
    taken = []

    def batches():
        for i in range(60):
            taken.append(i)
            yield x, 2 * x

    task = dataclasses.replace(line(), train=batches(), batch_size=None, valid=(x, 2 * x))
    found = find_lr(task, 1e-3, 1e-1, 60, seeds=2)
    assert (found.steps_done, len(taken)) == (60, 60)
    assert np.isfinite(found.losses).all()
    fixed = dataclasses.replace(
        line(), init=lambda key: jnp.zeros(()), train=lambda: iter([(x, 2 * x)]), batch_size=None
    )
    with pytest.raises(ValueError, match=r"find_lr: seeds=2, .* write seeds=1"):
        find_lr(fixed, seeds=2)


def test_a_setting_of_several_parts():
    def optimizer(setting):
        return optax.chain(optax.add_decayed_weights(setting["decay"]), optax.sgd(setting["rate"]))

    found = find_lr(line(optimizer, 1.0), 0.1, 1.0, 10, seeds=1, wrap=lambda schedule: {"rate": schedule, "decay": 0.5})
    square, errors = np.mean(X.astype(float) ** 2), np.sqrt(found.losses[0] / np.mean(X.astype(float) ** 2))
    slopes, rates = 2 - errors, np.geomspace(0.1, 1.0, 10)
    moved = slopes - rates * (0.5 * slopes - 2 * square * errors)
    np.testing.assert_allclose(slopes[1:], moved[:-1], rtol=1e-4)
    with pytest.raises(ZeroDivisionError) as caught:
        find_lr(line(), wrap=lambda schedule: 1 / 0)
    assert "find_lr: this came from wrap(Exponential" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"task": 3}, r"task=3; task must be a Task"),
        ({"min_lr": 0.0}, r"min_lr=0.0; min_lr must be a finite number above 0"),
        ({"min_lr": -1e-3}, r"min_lr=-0.001; min_lr must be"),
        ({"min_lr": 1e-45}, r"min_lr=1e-45; .* for float32"),
        ({"max_lr": math.inf}, r"max_lr=inf; max_lr must be a finite number"),
        ({"max_lr": math.nan}, r"max_lr=nan; max_lr must be"),
        ({"min_lr": "1e-3"}, r"min_lr='1e-3'; min_lr must be a number"),
        ({"min_lr": 1.0, "max_lr": 1.0}, r"min_lr=1.0 and max_lr=1.0; max_lr must be above min_lr"),
        ({"steps": 7}, r"steps=7; steps must be 8 or more.*last 5"),
        ({"steps": 20.0}, r"steps=20.0; steps must be an integer"),
        ({"seeds": 0}, r"seeds=0; seeds must be 1 or more"),
        ({"seeds": [1, 1]}, r"seeds=\[1, 1\]; .* different integers"),
        ({"seeds": 1.5}, r"seeds=1.5; seeds must be an integer"),
        ({"mode": "rang"}, r"mode='rang'; did you mean 'range'"),
        ({"key": "a"}, r"key='a'; key must be an integer"),
        ({"beta": 1.0}, r"beta=1.0; beta must be 0 or more and below 1"),
        ({"stop_factor": 1}, r"stop_factor=1; stop_factor must be above 1"),
        ({"rates": 5}, r"rates=5 in mode='range'.*mode='grid'"),
        ({"chunk": 4}, r"chunk=4 in mode='range'.*mode='grid'"),
        ({"devices": []}, r"devices=\[\] in mode='range'.*mode='grid'"),
        ({"mode": "grid", "beta": 0.9}, r"beta=0.9 in mode='grid'.*mode='range'"),
        ({"mode": "grid", "rates": [1e-2, 0.1], "min_lr": 1e-3}, r"min_lr=0.001, and rates is a list"),
        ({"mode": "grid", "rates": [1e-2, 0.1], "max_lr": 1.0}, r"max_lr=1.0, and rates is a list"),
        ({"wrap": 3}, r"wrap=3; wrap must be a function of a schedule"),
        ({"progress": 3}, r"progress=3; progress must be a function of a Status"),
        ({"mode": "grid", "rates": 1}, r"rates=1; rates must be 2 or more"),
        ({"mode": "grid", "rates": [1e-2, 1e-3]}, r".*write different rates, the smallest first"),
        ({"mode": "grid", "rates": [0.0, 1e-3]}, r"rates\[0\]=0.0; rates\[0\] must be a finite number above 0"),
        ({"mode": "grid", "rates": "many"}, r"rates='many'; write how many"),
        ({"mode": "grid", "rates": []}, r"rates=\[\]; write how many"),
        ({"mode": "grid", "steps": 0}, r"steps=0; steps must be 1 or more"),
        ({"mode": "grid", "min_lr": 0}, r"min_lr=0.0; min_lr must be"),
    ],
)
def test_find_lr_refuses(arguments, text):
    with pytest.raises((TypeError, ValueError), match=rf"find_lr: {text}"):
        find_lr(**{"task": TASK, **arguments})


# --- the grid --------------------------------------------------------------------------------------------------------

RATES = [1e-2, 0.1, 1.0, 3.0, 100.0, 1000.0]


@pytest.fixture(scope="module")
def grid():
    return find_lr(line(), steps=20, seeds=2, mode="grid", rates=RATES, chunk=12)


def test_a_grid_is_a_sweep_of_constants(grid):
    assert [repr(setting) for setting in grid.sweep.settings][1] == "Constant(constant_value=0.1)"
    np.testing.assert_array_equal(grid.valid_losses, grid.sweep.final["valid_loss"].T)
    np.testing.assert_array_equal(grid.losses, grid.sweep.final["train_loss"].T)
    assert grid.sweep.log_every == 2
    assert grid.steps_done == grid.sweep.run["steps_done"]


def test_a_grid_by_arithmetic(grid):
    """Each step takes the error of the weight times 1 - 2 rate mean(x^2)."""
    x = np.linspace(-1, 1, 40)
    square, rates = np.mean(x**2), np.array(RATES)
    start = 2 - np.sqrt(grid.untrained.astype(float) / square)
    assert len(set(start.tolist())) == 2
    assert ((start >= 0) & (start < 0.1)).all()
    for row, weight in zip(grid.valid_losses, start, strict=True):
        expected = ((2 - weight) * (1 - 2 * rates * square) ** 20) ** 2 * square
        np.testing.assert_allclose(row[:4], expected[:4], rtol=1e-3, atol=1e-12)
    # A rate of 3 turns the error over and lets it grow; the last two leave the numbers, or very nearly.
    assert grid.diverged.tolist() == [[False, False, False, True, True, True]] * 2
    best, largest = grid.suggestions["best"], grid.suggestions["largest"]
    assert (best.lr, best.low, best.high, best.seeds.tolist()) == (1.0, 1.0, 1.0, [1.0, 1.0])
    assert (largest.lr, largest.seeds.tolist()) == (1.0, [1.0, 1.0])
    assert grid.within == (1.0, 1.0)
    assert "3 of 6 rates diverged with some seed.\nNo other rate is within a standard deviation" in str(grid)


def told(table, untrained=2.0):
    """The grid of a task whose validation losses are told, with the seeds down and rates of 1, 10, ... across: a step
    notes its rate, and the loss looks it up."""
    table = jnp.array(table)
    firsts = [jax.random.split(jax.random.fold_in(jax.random.key(0), seed), 3)[0] for seed in range(len(table))]
    known = jnp.stack([jax.random.key_data(key) for key in firsts])

    def note(rate):
        update = lambda grads, state, params: ({"seed": 0 * grads["seed"], "rate": rate(0) - params["rate"]}, state)  # noqa: E731
        return optax.GradientTransformation(lambda params: optax.EmptyState(), update)

    def look_up(params, batch, key):
        place = jnp.round(jnp.log10(jnp.maximum(params["rate"], 1))).astype(int)
        value = table[params["seed"].astype(int), place]
        return (jnp.where(params["rate"] > 0, value, untrained) if key is None else 0 * params["rate"]), {}

    task = Task(
        init=lambda key: {"seed": jnp.argmax((jax.random.key_data(key) == known).all(1)) * 1.0, "rate": jnp.zeros(())},
        loss=look_up,
        train=[(X,)],
        valid=(X,),
        batch_size=None,
        optimizer=note,
    )
    n = table.shape[1]
    return find_lr(task, 1.0, 10.0 ** (n - 1), steps=1, seeds=len(table), mode="grid", rates=n)


def test_a_grid_in_numbers():
    nan = math.nan
    found = told([[2, 1.0, 0.50, 0.1, nan], [2, 1.2, 0.52, 9.0, 0.1], [2, 1, 0.54, 0.53, 2]])
    best, largest = found.suggestions.values()
    assert found.diverged.tolist() == [[False] * 4 + [True], [False] * 3 + [True, False], [False] * 5]  # 9 > 4 x 2
    # The rate of 1000 is best for two of the seeds, and the second has diverged there.
    assert [best.lr, *best.seeds] == pytest.approx([100.0, 1000.0, 10000.0, 1000.0])
    assert [largest.lr, *largest.seeds] == pytest.approx([100.0, 1000.0, 100.0, 10000.0])
    assert found.within == pytest.approx((100.0, 100.0))
    assert found.valid_losses[1].tolist() == np.float32([2, 1.2, 0.52, 9.0, 0.1]).tolist()


def test_a_grid_in_which_several_are_as_good():
    found = told([[2, 1.0, 0.7, 0.5], [2, 1.0, 0.9, 0.9]])  # the last has mean .7, std .28
    best, largest = found.suggestions.values()
    assert (best.lr, largest.lr) == pytest.approx((1000.0, 1000.0))
    assert found.within == pytest.approx((100.0, 1000.0))
    np.testing.assert_allclose(found.lrs, [1, 10, 100, 1000])
    assert "Rates from 100 to 1e+03 are within a standard deviation of the best." in str(found)
    assert "The best is the largest rate: write a max_lr above 1000." in str(found)
    assert not found.diverged.any()


def test_a_grid_in_which_every_rate_is_lost():
    found = told([[math.nan, 9.0], [math.nan, 1.0]])
    best, largest = found.suggestions.values()
    assert (best.found, largest.found, found.within) == (False, False, None)
    assert best.why == "at every rate some seed diverged: write a smaller min_lr"
    assert best.seeds[1] == pytest.approx(10.0)


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_to_dict_is_json(result, grid):
    for found in (result, grid):
        data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert data["mode"] == found.mode
        assert data["lrs"] == found.lrs.tolist()
        assert data["seeds"] == list(range(len(found.losses)))
        assert set(data["suggestions"]) == set(found.suggestions)
        for name, suggestion in found.suggestions.items():
            assert data["suggestions"][name]["lr"] == suggestion.lr
        assert "sweep" not in data
        assert data["remarks"] == found.remarks()
    assert None in result.to_dict()["losses"][0]


def test_the_words(result, grid):
    assert repr(result).startswith("<FinderResult: range test of 60 rates from 0.01 to 1000 with 3 seeds, ")
    lines = str(result).splitlines()
    assert lines[0] == "Range test of 60 rates from 0.01 to 1000 with 3 seeds"
    assert lines[1].startswith("  valley   ")
    assert lines[5].startswith("All seeds stopped at steps ")
    assert str(grid).startswith("Grid of 20 steps of 6 rates from 0.01 to 1000 with 2 seeds\n  best     ")


def test_the_figures(result, grid, tmp_path):
    for found, others in ((result, 0), (grid, 1)):
        figure = found.plot(tmp_path / "new" / f"{found.mode}.png")
        assert (tmp_path / "new" / f"{found.mode}.png").stat().st_size > 10_000
        ax = figure.axes[0]
        assert ax.get_xscale() == "log"
        named = [text.get_text() for text in ax.get_legend().get_texts()]
        assert named[:2] == [f"each of {len(found.seeds)} seeds", "median"]
        assert len(named) == 2 + len(found.suggestions) + others
        upright = [
            line.get_xdata()[0]
            for line in ax.lines
            if isinstance(line.get_xdata(), list) and line.get_linewidth() == 1.8
        ]
        assert upright == [suggestion.lr for suggestion in found.suggestions.values()]
        assert ax.get_ylim()[1] < 20  # of an explosion to thousands only the beginning is shown


def test_a_figure_of_one_seed_and_of_nothing():
    lrs = np.geomspace(1e-3, 1, 20)
    nothing = Suggestion(math.nan, math.nan, math.nan, np.array([math.nan]), "the loss never falls")
    for row in (np.full(20, np.nan), np.ones(20), np.geomspace(1, 1e-6, 20), np.r_[np.inf, np.ones(19)]):
        smoothed = row[None]
        found = FinderResult(
            "range", lrs, smoothed, {"valley": nothing}, (0,), 20, 20, 0.0, 0.0, smoothed, np.array([-1])
        )
        ax = found.plot().axes[0]
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["each of 1 seeds", "no valley"]
