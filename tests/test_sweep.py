"""Sweeps: the same trainings as plain loops, side by side."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.sweep import SweepResult, Task, sweep

pytestmark = pytest.mark.usefixtures("shared_programs")

STEPS, LOG_EVERY, SEEDS = 23, 5, [0, 7]
EXAMPLES, BATCH = 26, 8


def make_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES + 10, 5)).astype(np.float32)
    y = np.sin(x.sum(axis=1)).astype(np.float32)
    return (x[:EXAMPLES], y[:EXAMPLES]), (x[EXAMPLES:], y[EXAMPLES:])


def init(key):
    return {"w": jax.random.normal(key, (5,)), "b": jnp.zeros(())}


def loss(params, batch, key):
    x, y = batch
    if key is not None:  # noise on the inputs, in training only: the keys must be right too
        x = x + 0.1 * jax.random.normal(key, x.shape)
    error = jnp.tanh(x @ params["w"] + params["b"]) - y
    return jnp.mean(error**2), {"close": jnp.sum(jnp.abs(error) < 0.5)}


def polynomial_loss(params, batch, key):
    """Without a bound on the prediction, so that a large step diverges."""
    del key
    x, y = batch
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2), {}


TRAIN, VALID = make_data()
TASK = Task(init, loss, TRAIN, VALID, BATCH, lambda schedule: optax.adam(schedule))
# Without random numbers of its own it compiles in a third of the time.
LIGHT = dataclasses.replace(
    TASK, init=lambda key: {"w": jnp.ones(5), "b": jnp.zeros(())}, loss=lambda p, b, key: loss(p, b, None)
)
SETTINGS = js.grid(js.WarmupCosine, peak_value=[0.01, 0.1, 0.3], warmup_steps=[0, 5], total_steps=STEPS)


@functools.cache
def plain_step(loss, make):
    """A step of a plain training, compiled: for the settings of one structure one program."""

    @jax.jit
    def step(setting, params, state, batch, key):
        (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params, batch, key)
        updates, state = make(setting).update(grads, state, params)
        return optax.apply_updates(params, updates), state, value, metrics["close"]

    return step


def plain_loop(task, setting, seed, key=0, steps=STEPS):
    """The training that `sweep` documents, step by step in Python."""
    init_key, order_key, loss_key = jax.random.split(jax.random.fold_in(jax.random.key(key), seed), 3)
    params = task.init(init_key)
    state = task.optimizer(setting).init(params)
    step = plain_step(task.loss, task.optimizer)
    batches, losses, counts = EXAMPLES // BATCH, [], []
    for t in range(steps):
        epoch, place = divmod(t, batches)
        if not place:
            order = np.asarray(jax.random.permutation(jax.random.fold_in(order_key, epoch), EXAMPLES))
        rows = order[place * BATCH : (place + 1) * BATCH]
        batch = tuple(x[rows] for x in task.train)
        params, state, value, count = step(setting, params, state, batch, jax.random.fold_in(loss_key, t))
        losses.append(float(value))
        counts.append(float(count))
    value, metrics = task.loss(params, task.valid, None)
    return np.array(losses), np.array(counts), float(value), float(metrics["close"])


@pytest.fixture(scope="module")
def result():
    return sweep(TASK, SETTINGS, steps=STEPS, seeds=SEEDS, log_every=LOG_EVERY, chunk=5)


@pytest.mark.parametrize(("setting", "seed"), [(0, 0), (3, 1), (5, 1)])
def test_a_sweep_is_plain_training(result, setting, seed):
    losses, counts, valid_loss, valid_close = plain_loop(TASK, js.unstack(SETTINGS)[setting], SEEDS[seed])
    whole = STEPS - STEPS % LOG_EVERY
    for name, values in (("train_loss", losses), ("train_close", counts)):
        windows = values[:whole].reshape(-1, LOG_EVERY).mean(axis=1)
        np.testing.assert_allclose(result.metrics[name][setting, seed], windows, rtol=1e-5, atol=1e-6)
        # The steps that fill no window are the last that `final` tells of.
        np.testing.assert_allclose(result.final[name][setting, seed], values[whole:].mean(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.final["valid_loss"][setting, seed], valid_loss, rtol=1e-5)
    assert result.final["valid_close"][setting, seed] == valid_close


def test_validation_at_a_log_point_is_that_of_a_shorter_training(result):
    *_, valid_loss, _ = plain_loop(TASK, js.unstack(SETTINGS)[2], 7, steps=2 * LOG_EVERY)
    np.testing.assert_allclose(result.metrics["valid_loss"][2, 1, 1], valid_loss, rtol=1e-5)


def test_shapes_and_kinds(result):
    assert set(result.metrics) == set(result.final) == set(TASK.metrics)
    for values in result.metrics.values():
        assert type(values) is np.ndarray
        assert values.shape == (6, 2, STEPS // LOG_EVERY)
    for values in result.final.values():
        assert type(values) is np.ndarray
        assert values.shape == (6, 2)
    assert result.diverged_at.tolist() == [[-1, -1]] * 6
    assert result.diverged_at.dtype == np.int32
    assert (result.seeds, result.steps, result.log_every) == ((0, 7), STEPS, LOG_EVERY)
    assert result.seconds > 0
    assert result.compile_seconds > 0
    assert "6 settings x 2 seeds, 23 steps each, 0 diverged" in repr(result)


def test_the_chunk_does_not_matter(result):
    other = sweep(TASK, SETTINGS, steps=STEPS, seeds=SEEDS, log_every=LOG_EVERY, chunk=12)
    for name in TASK.metrics:
        np.testing.assert_allclose(other.metrics[name], result.metrics[name], rtol=2e-6, atol=1e-7)
        np.testing.assert_allclose(other.final[name], result.final[name], rtol=2e-6, atol=1e-7)


def test_a_training_alone_is_the_same(result):
    alone = sweep(TASK, [js.unstack(SETTINGS)[4]], steps=STEPS, seeds=[7], log_every=LOG_EVERY)
    assert alone.metrics["train_loss"].shape == (1, 1, STEPS // LOG_EVERY)
    for name in TASK.metrics:
        np.testing.assert_allclose(alone.metrics[name][0, 0], result.metrics[name][4, 1], rtol=2e-6, atol=1e-7)


def test_the_place_in_a_chunk_does_not_matter_to_the_last_bit(result):
    turned = jax.tree.map(lambda x: x[::-1], SETTINGS)
    other = sweep(TASK, turned, steps=STEPS, seeds=SEEDS, log_every=LOG_EVERY, chunk=5)
    for name in TASK.metrics:
        assert np.array_equal(other.metrics[name][::-1], result.metrics[name])


def test_other_keys_and_seeds_are_other_trainings(result):
    assert len(np.unique(result.final["train_loss"])) == 12
    one = [js.unstack(SETTINGS)[4]]
    number, same, other = (
        sweep(LIGHT, one, steps=4, seeds=1, key=key, log_every=2).final["train_loss"].item()
        for key in (1, jax.random.key(1), 2)
    )
    assert number == same != other


def test_an_epoch_takes_every_example_once():
    """With a learning rate of 0, the mean loss over one epoch is the mean over all the examples."""
    task = dataclasses.replace(TASK, loss=polynomial_loss, batch_size=13, optimizer=optax.sgd)
    init_key = jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 3)[0]
    frozen = sweep(task, [js.Constant(0.0)], steps=8, seeds=1, log_every=2)
    np.testing.assert_allclose(frozen.metrics["train_loss"], frozen.metrics["train_loss"][0, 0, 0], rtol=1e-6)
    whole, _ = polynomial_loss(init(init_key), TRAIN, None)
    np.testing.assert_allclose(frozen.metrics["train_loss"][0, 0, 0], whole, rtol=1e-5)


def test_all_chunks_share_one_compilation():
    traces = []

    def counted(params, batch, key):
        traces.append(key)
        return LIGHT.loss(params, batch, key)

    task = dataclasses.replace(LIGHT, loss=counted)
    counts = []
    for chunk in (12, 5):
        traces.clear()
        sweep(task, SETTINGS, steps=10, seeds=SEEDS, log_every=5, chunk=chunk)
        counts.append(len(traces))
    assert counts[0] == counts[1] <= 4


@pytest.fixture(scope="module")
def diverging():
    task = Task(init, polynomial_loss, TRAIN, VALID, BATCH, lambda schedule: optax.sgd(schedule, momentum=0.9))
    calm = js.grid(js.Linear, init_value=[0.01, 0.02, 0.03], end_value=0.0, steps=STEPS)
    wild = js.grid(js.Linear, init_value=[0.01, 1e12, 0.03], end_value=0.0, steps=STEPS)
    return [sweep(task, s, steps=20, seeds=2, log_every=5, chunk=6) for s in (calm, wild)]


def test_a_diverging_setting_is_marked(diverging):
    _, wild = diverging
    assert (wild.diverged_at[[0, 2]] == -1).all()
    assert ((wild.diverged_at[1] >= 2) & (wild.diverged_at[1] < 10)).all()
    for name in wild.final:
        assert np.isnan(wild.final[name][1]).all()
        for seed in (0, 1):
            first = wild.diverged_at[1, seed] // 5
            assert np.isnan(wild.metrics[name][1, seed, first:]).all()
            assert np.isfinite(wild.metrics["train_loss"][1, seed, :first]).all()


def test_a_diverging_setting_touches_no_other(diverging):
    calm, wild = diverging
    for name in wild.final:
        assert np.array_equal(calm.final[name][[0, 2]], wild.final[name][[0, 2]])
        assert np.array_equal(calm.metrics[name][[0, 2]], wild.metrics[name][[0, 2]])


def test_the_step_of_divergence_is_that_of_the_plain_loop(diverging):
    _, wild = diverging
    task = Task(init, lambda p, b, k: (polynomial_loss(p, b, k)[0], {"close": jnp.zeros(())}), TRAIN, VALID, BATCH,
                lambda schedule: optax.sgd(schedule, momentum=0.9))  # fmt: skip
    losses, *_ = plain_loop(task, js.Linear(1e12, 0.0, STEPS), 1, steps=10)
    assert wild.diverged_at[1, 1] == np.flatnonzero(~np.isfinite(losses))[0]


def test_a_diverged_setting_ranks_last_and_never_wins(diverging):
    _, wild = diverging
    rows = wild.ranking()
    assert rows[-1]["setting"] == 1
    assert rows[-1]["diverged"] == 2
    assert np.isnan(rows[-1]["mean"])
    assert wild.ranking(mode="max")[-1]["setting"] == 1
    assert wild.best().init_value in (0.01, 0.03)
    calm, _ = diverging
    best = calm.order()[0]
    once = np.full((3, 2), -1)
    once[best, 1] = 4
    assert dataclasses.replace(calm, diverged_at=once).order()[-1] == best
    lost = dataclasses.replace(wild, diverged_at=np.full((3, 2), 3))
    with pytest.raises(ValueError, match="every setting diverged"):
        lost.best()


def test_an_update_that_breaks_the_parameters_at_the_last_step_is_marked():
    def root(params, batch, key):  # a finite loss whose gradient is not
        del batch, key
        return jnp.sqrt(jnp.abs(params)), {}

    task = Task(lambda key: jnp.zeros(()), root, TRAIN, VALID, BATCH, optax.sgd)
    broken = sweep(task, [js.Constant(0.1)], steps=1, seeds=1, log_every=1)
    assert broken.diverged_at.item() == 0
    assert np.isnan(broken.final["train_loss"]).all()


def test_a_pytree_of_schedules():
    settings = {
        "learning_rate": js.stack(js.Linear(0.1, 0.0, STEPS), js.Linear(0.05, 0.0, STEPS)),
        "b1": js.stack(js.Constant(0.9), js.Constant(0.5)),
    }
    task = dataclasses.replace(LIGHT, optimizer=lambda setting: optax.inject_hyperparams(optax.adam)(**setting))
    both = sweep(task, settings, steps=10, seeds=1, log_every=5)
    listed = sweep(task, js.unstack(settings), steps=10, seeds=1, log_every=5)
    assert np.array_equal(both.final["valid_loss"], listed.final["valid_loss"])
    for i, setting in enumerate(js.unstack(settings)):
        *_, valid_loss, _ = plain_loop(task, setting, 0, steps=10)
        np.testing.assert_allclose(both.final["valid_loss"][i, 0], valid_loss, rtol=1e-5)
    rows = both.ranking()
    assert list(rows[0]) == [
        "b1.constant_value", "learning_rate.init_value", "learning_rate.end_value", "learning_rate.steps",
        "mean", "std", "seeds", "diverged", "pruned_at", "setting",
    ]  # fmt: skip
    assert set(both.best()) == {"learning_rate", "b1"}
    assert repr(both.best()["b1"]) in ("Constant(constant_value=0.9)", "Constant(constant_value=0.5)")
    assert len(both.plot().axes) == 4  # two schedules, the losses and the ranks


def test_optimizer_states_of_every_kind():
    """Integers, random keys, and an optimizer that is told the loss."""

    def optimizer(schedule):
        return optax.chain(
            optax.add_noise(0.01, 0.55, 0),
            optax.adam(schedule),
            optax.contrib.reduce_on_plateau(patience=2),
        )

    mixed = sweep(dataclasses.replace(LIGHT, optimizer=optimizer), SETTINGS, steps=6, seeds=1, log_every=3)
    assert np.isfinite(mixed.final["valid_loss"]).all()


def test_ranking_and_best(result):
    rows = result.ranking("valid_loss")
    means = result.final["valid_loss"].mean(axis=1)
    assert [row["setting"] for row in rows] == np.argsort(means).tolist()
    for row in rows:
        values = result.final["valid_loss"][row["setting"]].astype(np.float64)
        assert row["mean"] == pytest.approx(values.mean())
        assert row["std"] == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
        assert row["peak_value"] == SETTINGS.peak_value[row["setting"]]
        assert row["warmup_steps"] == SETTINGS.warmup_steps[row["setting"]]
        assert (row["seeds"], row["diverged"]) == (2, 0)
    best = result.best()
    assert type(best) is js.WarmupCosine
    assert repr(best) == repr(js.unstack(SETTINGS)[means.argmin()])
    close = result.final["valid_close"].mean(axis=1)
    assert result.ranking("valid_close", "max")[0]["mean"] == close.max()
    with pytest.raises(KeyError, match="did you mean 'valid_loss'"):
        result.best("val_loss")
    with pytest.raises(ValueError, match="mode='least'; write mode='max' or mode='min'"):
        result.best(mode="least")


def test_the_figure(result, diverging, tmp_path):
    from matplotlib.image import imread

    figures = []
    for each, name in ((result, "a.png"), (diverging[1], "b.png")):
        figures.append(each.plot(tmp_path / "new" / name))
        schedules, losses, ranks = figures[-1].axes
        assert schedules.get_xlabel() == losses.get_xlabel() == "step"
        assert losses.get_title() == "loss, mean over the seeds"
        assert ranks.get_ylabel() == "rank by valid loss"
        pixels = imread(tmp_path / "new" / name)[..., :3]
        assert pixels.shape[0] > 300
        assert pixels.shape[1] > 800
        assert len(np.unique(np.rint(pixels * 255) @ [1, 256, 65_536])) > 100  # colours
    drawn = sorted(tuple(line.get_ydata()) for line in figures[0].axes[0].lines)
    steps = jnp.arange(STEPS)
    wanted = sorted(tuple(np.asarray(s(steps))) for s in js.unstack(result.schedules))
    np.testing.assert_allclose(drawn, wanted, rtol=1e-6)


@pytest.mark.trial
def test_a_list_may_hold_tables_and_composites():
    tables = [js.PiecewiseConstant([3, 6], [a, 0.01, 0.001]) for a in (0.1, 0.2)]
    composites = [js.Linear(a, 0.0, 10).warmup(3) for a in (0.1, 0.2)]
    for settings in (tables, composites, js.stack(*tables)):
        out = sweep(LIGHT, settings, steps=4, seeds=1, log_every=2)
        assert out.final["valid_loss"].shape == (2, 1)
        assert isinstance(out.best(), js.Schedule)


# --- refusals --------------------------------------------------------------------------------------------------------


def bad_task(**fields):
    return lambda: dataclasses.replace(TASK, **fields)


def no_pair(params, batch, key):
    return jnp.zeros(())


@pytest.mark.parametrize(
    ("error", "says", "make"),
    [
        (TypeError, r"Task: init=\{\}; init must be a function: init=lambda key", bad_task(init={})),
        (TypeError, "Task: loss=3; loss must be a function", bad_task(loss=3)),
        (TypeError, "Task: optimizer=.*; optimizer must be a function", bad_task(optimizer=optax.adam(0.1))),
        (ValueError, r"Task: train=\(\) holds no arrays", bad_task(train=())),
        (ValueError, r"Task: train holds arrays of shapes \(26, 5\), \(3,\)", bad_task(train=(TRAIN[0], np.ones(3)))),
        (ValueError, r"Task: valid holds arrays of shapes \(0, 5\)", bad_task(valid=(np.ones((0, 5)), np.ones(0)))),
        (TypeError, "Task: train holds 1.0; train must be a pytree of arrays", bad_task(train=(1.0, 2.0))),
        (ValueError, "Task: valid is .* and train is", bad_task(valid=VALID[0])),
        (ValueError, "batch_size=27, and train has 26 examples", bad_task(batch_size=27)),
        (ValueError, "batch_size=0, and train has 26", bad_task(batch_size=0)),
        (TypeError, "batch_size=6.5; batch_size must be an integer", bad_task(batch_size=6.5)),
        (TypeError, "batch_size=True; batch_size must be an integer", bad_task(batch_size=True)),
        (TypeError, "loss must return a pair", bad_task(loss=no_pair)),
        (TypeError, "loss must return a pair", bad_task(loss=lambda p, b, k: (jnp.zeros(()), 3.0))),
        (TypeError, r"loss returned loss = .*write jnp.mean", bad_task(loss=lambda p, b, k: (b[1], {}))),
        (TypeError, r"metrics\['a'\] = ", bad_task(loss=lambda p, b, k: (jnp.zeros(()), {"a": b[1]}))),
        (ValueError, "a metric named 'loss'", bad_task(loss=lambda p, b, k: (jnp.zeros(()), {"loss": jnp.zeros(())}))),
        (
            ValueError,
            r"the metrics \['a'\] in training and \[\] in validation",
            bad_task(loss=lambda p, b, k: (jnp.zeros(()), {} if k is None else {"a": jnp.zeros(())})),
        ),
    ],
)
def test_a_bad_task_is_refused(error, says, make):
    with pytest.raises(error, match=says):
        make()


LINEAR = js.Linear(1.0, 0.0, 4)
TWO, THREE = js.stack(LINEAR, LINEAR), js.stack(LINEAR, LINEAR, LINEAR)


@pytest.mark.parametrize(
    ("error", "says", "fields"),
    [
        (TypeError, r"task=3; task must be a Task", {"task": 3}),
        (ValueError, r"schedules=\[\]; write at least one", {"schedules": []}),
        (ValueError, r"is not stacked; for one setting write \[schedule\]", {"schedules": LINEAR}),
        (ValueError, r"not stacked", {"schedules": js.PiecewiseInterpolate([0, 2], [0.0, 1.0])}),
        (TypeError, "schedules hold 'a', which is neither a schedule nor a number", {"schedules": "a"}),
        (TypeError, "hold True, which is neither", {"schedules": {"learning_rate": TWO, "nesterov": True}}),
        (ValueError, r"'a.init_value': 2.*'b.steps': 3", {"schedules": {"a": TWO, "b": THREE}}),
        (ValueError, r"has no number that could differ; write \[schedule\]", {"schedules": js.Lambda(abs)}),
        (ValueError, "steps=0; steps must be 1 or more", {"steps": 0}),
        (TypeError, "steps=1.5; steps must be an integer", {"steps": 1.5}),
        (ValueError, "log_every=9 and steps=4; write log_every=4 or less", {"log_every": 9}),
        (ValueError, "log_every=0", {"log_every": 0}),
        (ValueError, "chunk=0; chunk must be 1 or more", {"chunk": 0}),
        (ValueError, "seeds=0; seeds must be 1 or more", {"seeds": 0}),
        (ValueError, r"seeds=\[\]; write how many", {"seeds": []}),
        (ValueError, r"seeds=\[1, 1\]; .* different integers", {"seeds": [1, 1]}),
        (ValueError, "seeds=-1; seeds must be 0 or more", {"seeds": [-1]}),
        (TypeError, "seeds=True; seeds must be an integer", {"seeds": True}),
        (TypeError, "key='a'; key must be an integer or", {"key": "a"}),
        (
            TypeError,
            r"optimizer\(setting\)=3; it must return an optax optimizer",
            {"task": dataclasses.replace(TASK, optimizer=lambda s: 3)},
        ),
    ],
)
def test_a_bad_sweep_is_refused(error, says, fields):
    arguments = {"task": TASK, "schedules": TWO, "steps": 4, "seeds": 1, "log_every": 2} | fields
    with pytest.raises(error, match=says):
        sweep(**arguments)


def test_the_face_has_the_function():
    import jaxsched
    import jaxsched.sweep as package

    assert isinstance(jaxsched.sweep(LIGHT, TWO, steps=2, seeds=1, log_every=1), SweepResult)
    assert package.sweep is sweep
    assert jaxsched.Task is package.Task is Task


def test_a_metric_that_is_no_loss_needs_its_direction(result):
    other = next(name for name in result.final if not name.endswith("loss"))
    with pytest.raises(ValueError, match="write mode='max' or mode='min'"):
        result.best(other)
    top, bottom = (result.ranking(other, mode)[0]["mean"] for mode in ("max", "min"))
    assert top >= bottom
    assert result.ranking("train_loss")[0]["mean"] == result.ranking("train_loss", "min")[0]["mean"]


def test_a_field_with_the_name_of_a_column_is_not_lost():
    noisy = js.grid(js.Constant(0.1).noise(0.1), std=[0.0, 0.1, 0.2])
    rows = sweep(LIGHT, noisy, steps=2, seeds=2).ranking()
    assert sorted(row["setting.std"] for row in rows) == [0.0, 0.1, 0.2]
    assert all("std" in row and "mean" in row for row in rows)


def test_a_loss_that_cannot_be_called_says_where_it_was_called():
    with pytest.raises(TypeError) as caught:
        dataclasses.replace(TASK, loss=lambda params, batch: 0.0)
    assert any("loss(params, batch, key)" in note for note in caught.value.__notes__)
