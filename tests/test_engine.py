"""How a sweep runs: chunks and segments, devices, memory, pruning, interruptions and what it survives."""

import dataclasses
import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.sweep import Checkpoint, Task, run, sizes, successive_halving, sweep
from jaxsched.sweep.checkpoint import Store
from jaxsched.sweep.engine import Plan
from jaxsched.sweep.program import Programs
from jaxsched.sweep.stage import Stage

from .cases import x64
from .test_sweep import LIGHT, SEEDS, SETTINGS, STEPS, TRAIN, VALID

pytestmark = pytest.mark.usefixtures("shared_programs")

SMALL = {"steps": STEPS, "seeds": SEEDS, "log_every": 5, "chunk": 5}
GRADIENT = jax.jit(jax.value_and_grad(lambda params, batch: LIGHT.loss(params, batch, None)[0]))


def same(one, other):
    """To the last bit."""
    assert set(one.metrics) == set(other.metrics)
    for name in one.metrics:
        np.testing.assert_array_equal(one.metrics[name], other.metrics[name], strict=True)
        np.testing.assert_array_equal(one.final[name], other.final[name], strict=True)
    np.testing.assert_array_equal(one.diverged_at, other.diverged_at)
    np.testing.assert_array_equal(one.pruned_at, other.pruned_at)


@pytest.fixture(scope="module")
def whole():
    return sweep(LIGHT, SETTINGS, **SMALL)


# --- segments --------------------------------------------------------------------------------------------------------


def test_where_segments_end_does_not_matter_to_the_last_bit(whole, monkeypatch):
    monkeypatch.setattr(run, "_FIRST_STEPS", 3)
    monkeypatch.setattr(run, "_SEGMENT_SECONDS", 0.0)
    told = []
    same(sweep(LIGHT, SETTINGS, **SMALL, progress=told.append), whole)
    assert len(told) > 3 * STEPS - 12  # of one step each, after the first of a chunk


def test_the_status_counts():
    told = []
    sweep(LIGHT, SETTINGS, **SMALL, progress=told.append)
    assert told[-1].trainings == told[-1].done == 12
    assert told[-1].steps == told[-1].steps_total == 12 * STEPS
    assert [now.steps for now in told] == sorted(now.steps for now in told)
    assert all(now.steps_per_second > 0 for now in told)
    assert told[-1].seconds_left == 0 < told[0].seconds_left
    assert told[-1].best is not None
    assert (told[-1].diverged, told[-1].pruned, told[-1].resumed_from) == (0, 0, 0)


@pytest.mark.trial
def test_sizes_are_tried_where_it_is_worth_it(whole, monkeypatch):
    monkeypatch.setattr(sizes, "_WORTH", 0)
    monkeypatch.setattr(sizes, "_TRIAL_SECONDS", 0.001)
    monkeypatch.setattr(sizes, "lanes", lambda programs: 1)
    tuned = sweep(LIGHT, SETTINGS, **{**SMALL, "chunk": "auto"})
    tried = {int(size): cost for size, cost in tuned.run["tried"].items()}
    assert len(tried) > 1
    assert all(cost > 0 for cost in tried.values())
    assert tuned.run["chunk"] in tried
    for name in whole.final:
        np.testing.assert_allclose(tuned.final[name], whole.final[name], rtol=2e-6, atol=1e-7)


def test_a_short_sweep_does_not_try_sizes():
    assert "tried" not in sweep(LIGHT, SETTINGS, **{**SMALL, "chunk": "auto"}).run


def test_programs_and_sizes_are_kept_for_the_next_plan(monkeypatch):
    monkeypatch.setattr(sizes, "_WORTH", 0)
    plan = Plan.make(LIGHT, SETTINGS, **{**SMALL, "chunk": "auto"})
    programs = Programs(LIGHT, plan.devices)
    first, second = plan.run(programs=programs), plan.run(programs=programs)
    assert "tried" in first.run
    assert "tried" not in second.run
    assert second.run["chunk"] == first.run["chunk"]
    same(first, second)


# --- divergence ------------------------------------------------------------------------------------------------------


def loss_of_a_product(slope, batch, key):
    del key
    return jnp.mean((slope * batch) ** 2), {}


ONE_IS_BAD = np.where(np.arange(10) == 3, np.inf, np.arange(1, 11)).astype(np.float32)
PLAIN = Task(lambda key: jnp.ones(()), loss_of_a_product, ONE_IS_BAD, ONE_IS_BAD[:2], 1, optax.sgd)
GUARDED = dataclasses.replace(PLAIN, optimizer=lambda s: js.guard_spikes(optax.sgd(s), burn_in=2))


@pytest.mark.parametrize("log_every", [1, 2, 5, 10])
def test_a_bad_batch_that_the_guard_survives_is_not_the_end(log_every):
    """One batch in ten gives a loss that is not finite, with some of the seeds at the end of a window."""
    arguments = {"steps": 10, "seeds": 20, "log_every": log_every, "chunk": 20}
    assert (sweep(PLAIN, [js.Constant(1e-4)], **arguments).diverged_at >= 0).all()
    survived = sweep(GUARDED, [js.Constant(1e-4)], **arguments)
    assert (survived.diverged_at == -1).all()
    assert np.isfinite(survived.final["valid_loss"]).all()


LOST = dataclasses.replace(LIGHT, loss=lambda p, b, k: (jnp.mean((b[0] @ p["w"]) ** 2), {}), optimizer=optax.sgd)
TOO_HIGH = js.grid(js.Constant, constant_value=[1e20, 1e25])


def test_a_chunk_in_which_all_diverged_is_left():
    lost = sweep(LOST, TOO_HIGH, steps=90, seeds=1, log_every=5)
    assert (lost.diverged_at >= 0).all()
    assert lost.run["steps_done"] == 2 * 5
    assert all(np.isnan(x).all() for x in lost.final.values())


# --- pruning ---------------------------------------------------------------------------------------------------------


def test_survivors_of_pruning_are_those_of_the_whole_sweep(whole):
    pruned = sweep(LIGHT, SETTINGS, **SMALL, prune=successive_halving(rungs=(5, 15), keep=0.5))
    alive = np.ones(6, bool)
    for rung, count in ((5, 3), (15, 2)):
        values = np.where(
            alive, whole.metrics["valid_loss"][..., rung // 5 - 1].astype(np.float64).mean(axis=1), np.inf
        )
        going = np.zeros(6, bool)
        going[np.argsort(values, kind="stable")[:count]] = True
        assert (pruned.pruned_at[alive & ~going] == rung).all()
        alive &= going
    assert (pruned.pruned_at[alive] == -1).all()
    for name in whole.final:
        np.testing.assert_allclose(pruned.final[name][alive], whole.final[name][alive], rtol=2e-6, atol=1e-7)
        np.testing.assert_allclose(pruned.metrics[name][alive], whole.metrics[name][alive], rtol=2e-6, atol=1e-7)
        first = pruned.pruned_at[:, 0] == 5
        np.testing.assert_allclose(pruned.final[name][first], whole.metrics[name][first][..., 0], rtol=2e-6, atol=1e-7)
        assert np.isnan(pruned.metrics[name][first][..., 1:]).all()
    assert pruned.run["steps_done"] == 2 * (6 * 5 + 3 * 10 + 2 * 8)
    assert pruned.run["steps_done"] + pruned.run["steps_saved"] == 12 * STEPS
    assert pruned.best() is not None
    assert alive[pruned.order()[0]]


def test_halving_by_hand():
    halving = successive_halving(keep=1 / 3, metric="valid_accuracy", mode="max")
    assert halving.at(900, 1) == (100, 300)
    assert halving.at(500, 50) == (50, 150)
    values = np.array([0.1, np.nan, 0.9, 0.3, 0.2, 0.8, 0.7])
    assert halving.choose(100, values).tolist() == [False, False, True, False, False, True, False]
    assert halving.choose(100, np.full(3, np.nan)).tolist() == [False] * 3
    assert repr(halving).startswith("successive_halving(rungs=None, keep=0.333")


def test_pruning_ends_where_all_have_diverged():
    lost = sweep(LOST, TOO_HIGH, steps=90, seeds=1, log_every=5, prune=successive_halving())
    assert (lost.diverged_at >= 0).all()
    assert (lost.pruned_at == -1).all()


def with_pruning(log_every=5, **fields):
    return sweep(LIGHT, SETTINGS, **{**SMALL, "log_every": log_every}, prune=successive_halving(**fields))


@pytest.mark.parametrize(
    ("says", "make"),
    [
        ("keep=1.0; keep must be above 0 and below 1", lambda: successive_halving(keep=1.0)),
        (r"rungs=\(5, 5\); they must rise", lambda: successive_halving(rungs=(5, 5))),
        (r"rungs=\[\]; write steps", lambda: successive_halving(rungs=[])),
        ("metric='valid_accuracy' and mode=None", lambda: successive_halving(metric="valid_accuracy")),
        ("leave no rung; write a log_every of 2", lambda: with_pruning(log_every=STEPS)),
        ("must be a multiple of log_every=5", lambda: with_pruning(rungs=(7,))),
        ("prune.metric='valid_los'; did you mean 'valid_loss'", lambda: with_pruning(metric="valid_los", mode="min")),
    ],
)  # fmt: skip
def test_bad_pruning_is_refused(says, make):
    with pytest.raises(ValueError, match=says):
        make()


def test_a_pruner_that_is_none_is_refused():
    with pytest.raises(TypeError, match="prune=3; write prune=successive_halving"):
        sweep(LIGHT, SETTINGS, **SMALL, prune=3)


# --- families --------------------------------------------------------------------------------------------------------


def family_optimizer(setting):
    if isinstance(setting, dict):
        return js.reduce_on_plateau(**setting, window=2)
    return optax.sgd(setting)


def test_families_stand_side_by_side():
    task = dataclasses.replace(LIGHT, optimizer=family_optimizer)
    cosine = js.grid(js.WarmupCosine, peak_value=[0.01, 0.1], warmup_steps=2, total_steps=STEPS)
    stable = js.WarmupStableDecay(0.1, warmup_steps=2, total_steps=STEPS, decay_steps=5)
    plateaus = {
        "learning_rate": js.grid(js.Constant, constant_value=[0.1, 0.2, 0.1]),
        "patience": np.array([1, 1, 2]),
        "factor": np.array([0.1, 0.5, 0.5]),
    }
    mixed = sweep(task, [cosine, stable, plateaus], **SMALL)
    assert mixed.final["valid_loss"].shape == (6, 2)
    assert mixed.run["groups"] == 3
    for part, rows in ((cosine, [0, 1]), ([stable], [2]), (plateaus, [3, 4, 5])):
        alone = sweep(task, part, **SMALL)
        for name in alone.final:
            np.testing.assert_allclose(mixed.final[name][rows], alone.final[name], rtol=2e-6, atol=1e-7)
    assert len(np.unique(mixed.final["train_loss"][3:])) == 6  # patience and factor make a difference
    assert len(mixed.ranking()) == 6


# --- data from the host ----------------------------------------------------------------------------------------------


def host_batches():
    rng = np.random.default_rng(3)
    for _ in range(STEPS):
        rows = rng.integers(len(TRAIN[0]), size=8)
        yield tuple(x[rows] for x in TRAIN)


FED = dataclasses.replace(LIGHT, train=host_batches, batch_size=None)


def test_batches_from_the_host_are_those_of_a_plain_loop():
    fed = sweep(FED, SETTINGS, **{**SMALL, "seeds": 1})
    for i in (0, 5):
        setting = js.unstack(SETTINGS)[i]
        params = LIGHT.init(None)
        optimizer = LIGHT.optimizer(setting)
        state, losses = optimizer.init(params), []
        for batch in host_batches():
            value, grads = GRADIENT(params, batch)
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            losses.append(float(value))
        windows = np.reshape(losses[:20], (-1, 5)).mean(axis=1)
        np.testing.assert_allclose(fed.metrics["train_loss"][i, 0], windows, rtol=1e-5)
        np.testing.assert_allclose(fed.final["valid_loss"][i, 0], LIGHT.loss(params, VALID, None)[0], rtol=1e-5)


def test_seeds_that_make_no_difference_are_refused():
    with pytest.raises(ValueError, match=r"seeds=\[0, 7\], but this task does not depend on a seed.* write seeds=1"):
        sweep(FED, SETTINGS, **SMALL)


def test_an_iterator_for_one_pass_feeds_one_chunk():
    task = dataclasses.replace(LIGHT, train=host_batches(), batch_size=None)
    with pytest.raises(ValueError, match="gives its batches once, and 2 chunks of trainings need them"):
        sweep(task, SETTINGS, **{**SMALL, "seeds": 1, "chunk": 3})
    fresh = dataclasses.replace(LIGHT, train=host_batches(), batch_size=None)
    same(*(sweep(t, SETTINGS, **{**SMALL, "seeds": 1, "chunk": 6}) for t in (fresh, FED)))


def test_a_host_fed_run_goes_on_to_the_same_bits(tmp_path):
    arguments = {**SMALL, "seeds": 1}
    told = []

    def press(status):
        told.append(status)
        if len(told) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sweep(FED, SETTINGS, **arguments, checkpoint=Checkpoint(tmp_path), progress=press)
    same(sweep(FED, SETTINGS, **arguments, checkpoint=tmp_path), sweep(FED, SETTINGS, **arguments))


def test_a_host_iterator_that_runs_dry_says_at_which_step():
    dry = dataclasses.replace(LIGHT, train=iter(list(host_batches())[:7]), batch_size=None)
    with pytest.raises(ValueError, match="7"):
        sweep(dry, [js.Constant(0.1)], steps=STEPS, seeds=1, log_every=5)


# --- memory ----------------------------------------------------------------------------------------------------------


def test_out_of_memory_halves_the_chunk_and_goes_on(whole, monkeypatch):
    true = run.Run._segment

    def too_large(self, chunk, t1):
        if chunk.rows > 2 and chunk.t > 0:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")
        return true(self, chunk, t1)

    monkeypatch.setattr(run.Run, "_segment", too_large)
    with pytest.warns(UserWarning, match="out of memory: chunks are halved") as said:
        halved = sweep(LIGHT, SETTINGS, **SMALL)
    assert len(said) == 1
    assert halved.run["halved"] > 0
    for name in whole.final:
        np.testing.assert_allclose(halved.metrics[name], whole.metrics[name], rtol=2e-6, atol=1e-7)
        np.testing.assert_allclose(halved.final[name], whole.final[name], rtol=2e-6, atol=1e-7)


def test_a_training_that_fits_nowhere_is_an_error(monkeypatch):
    def too_large(self, chunk, t1):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")

    monkeypatch.setattr(run.Run, "_segment", too_large)
    with pytest.warns(UserWarning, match="halved"), pytest.raises(jax.errors.JaxRuntimeError) as caught:
        sweep(LIGHT, SETTINGS, **SMALL)
    assert "one training for each device" in caught.value.__notes__[0]


def test_the_compilers_account_of_memory_is_looked_at_first(monkeypatch):
    fits = sweep(LIGHT, SETTINGS, **SMALL)
    monkeypatch.setattr(sizes, "memory", lambda programs: fits.run["memory_estimate"] * 0.8)
    with pytest.warns(UserWarning, match="by the compiler's account"):
        halved = sweep(LIGHT, SETTINGS, **SMALL)
    assert halved.run["chunk"] < fits.run["chunk"]
    assert halved.run["memory_estimate"] < fits.run["memory_estimate"]


@pytest.mark.trial
def test_memory_that_is_really_not_there():
    """A training that asks for a thousand terabytes."""

    def greedy(params, batch, key):
        return jnp.sum(jnp.cumsum(jnp.ones((1 << 25, 1 << 25)) * params["w"][0], axis=0)[-1, -1]), {}

    with pytest.warns(UserWarning, match="halved"), pytest.raises(Exception, match=r"RESOURCE_EXHAUSTED|Out of memory"):
        sweep(dataclasses.replace(LIGHT, loss=greedy), SETTINGS, **SMALL)


# --- interruptions ---------------------------------------------------------------------------------------------------


@pytest.mark.trial
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_the_same_call_goes_on(whole, tmp_path, number):
    told = []

    def press(status):
        told.append(status)
        if len(told) == 4:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="goes on from here"):
        sweep(LIGHT, SETTINGS, **SMALL, checkpoint=tmp_path, progress=press)
    assert signal.getsignal(number) is before
    again = []
    same(sweep(LIGHT, SETTINGS, **SMALL, checkpoint=tmp_path, progress=again.append), whole)
    assert again[0].resumed_from == told[-1].steps > 0
    # And a third call has nothing left to do.
    same(sweep(LIGHT, SETTINGS, **SMALL, checkpoint=tmp_path, progress=pytest.fail), whole)


def test_ctrl_c_without_a_checkpoint_says_so():
    pressed = []

    def press(status):
        if not pressed:
            os.kill(os.getpid(), signal.SIGINT)
        pressed.append(status)

    with pytest.raises(KeyboardInterrupt, match="Nothing was saved: with checkpoint="):
        sweep(LIGHT, SETTINGS, **SMALL, progress=press)


def test_a_second_ctrl_c_does_not_wait():
    with pytest.raises(KeyboardInterrupt) as caught:
        sweep(LIGHT, SETTINGS, **SMALL, progress=lambda status: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    assert not isinstance(caught.value, run.Interrupted)


def test_a_checkpoint_of_another_sweep_is_refused_with_the_difference(tmp_path):
    sweep(LIGHT, SETTINGS, **SMALL, checkpoint=tmp_path)
    for change, says in (({"seeds": [0, 8]}, "seeds"), ({"key": 1}, "key"), ({"steps": 24}, "steps")):
        with pytest.raises(ValueError, match=says):
            sweep(LIGHT, SETTINGS, **{**SMALL, **change}, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="loss"):
        sweep(dataclasses.replace(LIGHT, loss=lambda p, b, k: (2.0 * LIGHT.loss(p, b, k)[0], {"close": 0.0 * p["b"]})),
              SETTINGS, **SMALL, checkpoint=tmp_path)  # fmt: skip


SCRIPT = """
import sys
import jax
if int(sys.argv[1]) > 1:
    jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
import numpy as np
from jaxsched.sweep import Checkpoint, run, successive_halving, sweep
from tests.test_engine import LIGHT, SETTINGS, SMALL
from tests.test_sweep import STEPS
run._FIRST_STEPS, run._SEGMENT_SECONDS = 2, 0.0
checkpoint = Checkpoint(sys.argv[3], seconds=0.0) if sys.argv[3] else None
prune = successive_halving(rungs=(5, 15), keep=0.5) if sys.argv[4] == "prune" else None
arguments = {**SMALL, "chunk": "auto"} if sys.argv[4] == "auto" else SMALL
r = sweep(LIGHT, SETTINGS, **arguments, checkpoint=checkpoint, prune=prune,
          progress=lambda s: print(s.steps, flush=True))
np.savez(sys.argv[2], diverged_at=r.diverged_at, pruned_at=r.pruned_at, padding=r.run["padding"],
         **{f"m.{k}": v for k, v in r.metrics.items()}, **{f"f.{k}": v for k, v in r.final.items()})
"""


def start(*arguments):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A function of how to prune to the file that a process of one device wrote which was left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")

    @functools.cache
    def file(prune):
        finish(start(1, folder / f"{prune}.npz", "", prune))
        return np.load(folder / f"{prune}.npz")

    return file


@pytest.mark.trial
@pytest.mark.parametrize("prune", ["", "prune", "auto"])
def test_killed_at_any_moment_it_goes_on_to_the_same_bits(undisturbed, tmp_path, prune):
    rng = random.Random(7)
    for _ in range(2):
        process = start(1, tmp_path / "killed.npz", tmp_path / "saved", prune)
        for _ in range(rng.randrange(2, 12)):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.communicate()
    out = finish(start(1, tmp_path / "killed.npz", tmp_path / "saved", prune))
    assert len(out.splitlines()) > 0
    one, other = undisturbed(prune), np.load(tmp_path / "killed.npz")
    for name in one.files:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    if not prune:  # a finished sweep that is called again ends in peace
        finish(start(1, tmp_path / "again.npz", tmp_path / "saved", prune))


@pytest.mark.trial
def test_eight_devices_give_the_bits_of_one(undisturbed, tmp_path):
    finish(start(8, tmp_path / "eight.npz", "", ""))
    one, eight = undisturbed(""), np.load(tmp_path / "eight.npz")
    assert eight["padding"] > 0  # 12 trainings do not fill 8 devices
    for name in set(one.files) - {"padding"}:
        np.testing.assert_array_equal(one[name], eight[name], err_msg=name)


def test_bad_devices_are_refused():
    for devices in (3, [], ["cpu"]):
        with pytest.raises(TypeError, match=r"write a list such as jax\.local_devices"):
            sweep(LIGHT, SETTINGS, **SMALL, devices=devices)
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("any",))
    assert sweep(LIGHT, SETTINGS, steps=2, seeds=1, devices=mesh).run["devices"] == len(jax.local_devices())


# --- what is told to listeners, and what is checked before anything runs ---------------------------------------------


def test_a_named_listener_hears_its_metric_at_the_end_of_every_window():
    """A plateau on the validation loss with a patience in windows, against the plain loop that tells it by hand."""

    def optimizer(setting):
        plateau = js.reduce_on_plateau(
            0.1, factor=0.5, patience=setting["patience"], threshold=9.0, threshold_mode="abs"
        )
        return optax.chain(optax.scale_by_adam(), js.optim.named("valid_loss", plateau))

    task = dataclasses.replace(LIGHT, optimizer=optimizer)
    swept = sweep(task, {"patience": np.array([0, 1, 100])}, steps=20, seeds=1, log_every=5)
    key = jax.random.fold_in(jax.random.key(0), 0)
    order_key = jax.random.split(key, 3)[1]
    for i, patience in enumerate((0, 1, 100)):
        plain = optimizer({"patience": patience})
        params, cuts = LIGHT.init(None), 0
        state, update = plain.init(params), jax.jit(plain.update)
        for t in range(20):
            epoch, place = divmod(t, 26 // 8)
            order = np.asarray(jax.random.permutation(jax.random.fold_in(order_key, epoch), 26))
            _, grads = GRADIENT(params, tuple(x[order[place * 8 : place * 8 + 8]] for x in TRAIN))
            updates, state = update(grads, state, params)
            params = optax.apply_updates(params, updates)
            if t % 5 == 4:
                state = js.observe(state, value=LIGHT.loss(params, VALID, None)[0], name="valid_loss")
        cuts = js.current_hyperparams(state)["valid_loss/learning_rate"]
        assert cuts == pytest.approx(0.1 * 0.5 ** {0: 3, 1: 1, 100: 0}[patience], rel=1e-6)
        np.testing.assert_allclose(swept.final["valid_loss"][i, 0], LIGHT.loss(params, VALID, None)[0], rtol=1e-5)
    assert len(np.unique(swept.final["valid_loss"])) == 3


def test_a_listener_that_would_hear_nothing_is_refused():
    task = dataclasses.replace(LIGHT, optimizer=lambda s: js.optim.named("valid", js.reduce_on_plateau(s)))
    with pytest.raises(ValueError, match=r"named='valid' of the optimizer gets no values .* valid_close, valid_loss"):
        sweep(task, SETTINGS, **SMALL)


def test_numbers_are_checked_at_the_door_of_the_optimizer():
    task = dataclasses.replace(LIGHT, optimizer=lambda s: js.reduce_on_plateau(0.1, patience=s["patience"]))
    with pytest.raises(ValueError, match="patience=-1") as caught:
        sweep(task, {"patience": np.array([3, -1])}, **SMALL)
    assert "setting 1" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("error", "says", "fields"),
    [
        (ValueError, r"patience=\[3, 5\] is a list beside 2 settings; write np.array",
         {"schedules": {"rate": js.grid(js.Constant, constant_value=[0.1, 0.2]), "patience": [3, 5]}}),
        (TypeError, "is a space; draw from it: sample",
         {"schedules": js.sweep.space(js.Constant, constant_value=js.log_uniform(0.1, 1.0))}),
        (TypeError, "progress=1; progress must be a function", {"progress": 1}),
    ],
)  # fmt: skip
def test_more_bad_arguments_are_refused(error, says, fields):
    with pytest.raises(error, match=says):
        sweep(**{"task": LIGHT, "schedules": SETTINGS, **SMALL, **fields})


def test_an_optimizer_that_fails_says_where_it_was_called():
    with pytest.raises(TypeError) as caught:
        sweep(dataclasses.replace(LIGHT, optimizer=optax.adam), {"rate": SETTINGS}, **SMALL)
    assert any("optimizer(setting), and a setting is" in note for note in caught.value.__notes__)


def test_a_task_is_printed_without_its_data():
    assert "float32[26, 5]" in repr(LIGHT)
    assert len(repr(LIGHT)) < 700


def test_a_star_import_brings_no_modules():
    names = {}
    exec("from jaxsched.sweep import *", names)
    assert "task" not in names
    assert names["Task"] is Task


# --- many lanes, slow loaders, little memory -------------------------------------------------------------------------


def test_a_checkpoint_that_is_due_is_saved_with_many_lanes(whole, tmp_path, monkeypatch):
    """With lanes that land one after the other, too: what is due stays due until all have."""
    monkeypatch.setattr(sizes, "lanes", lambda programs: 6)
    monkeypatch.setattr(run, "_FIRST_STEPS", 1)
    monkeypatch.setattr(run, "_SEGMENT_SECONDS", 0.0)
    true, saves, wanted = run.Run._segment, [], []

    def slowly(self, chunk, t1):
        time.sleep(0.002 * (1 + chunk.pairs[0] % 5))
        return true(self, chunk, t1)

    def due(self, now, steps):
        wanted.append(len(wanted) % 7 == 0)  # once, and not again: as the clock of the store
        return wanted[-1]

    monkeypatch.setattr(run.Run, "_segment", slowly)
    monkeypatch.setattr(Store, "due", due)
    save = Store.save
    monkeypatch.setattr(Store, "save", lambda self, tree: (saves.append(tree), save(self, tree)))
    many = sweep(LIGHT, SETTINGS, **{**SMALL, "chunk": 2}, checkpoint=tmp_path)
    assert many.run["lanes"] == 6
    assert len(saves) > 4
    for name in whole.final:
        np.testing.assert_allclose(many.final[name], whole.final[name], rtol=1e-5, atol=1e-6)


@pytest.mark.trial
def test_a_second_ctrl_c_does_not_wait_for_a_loader():
    released = threading.Event()
    armed = threading.Lock()
    presses = [threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)) for seconds in (0.3, 0.8)]

    def stuck():
        for i, batch in enumerate(host_batches()):
            if i == 12:
                if armed.acquire(blocking=False):  # each lane reads a loader of its own
                    for press in presses:
                        press.start()
                released.wait(60)
            yield batch

    task = dataclasses.replace(LIGHT, train=stuck, batch_size=None)
    try:
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            sweep(task, SETTINGS, **{**SMALL, "seeds": 1})
        assert time.monotonic() - begin < 40
    finally:
        released.set()
        for press in presses:
            press.join()


def test_sizes_that_are_tried_may_be_out_of_memory(whole, monkeypatch):
    monkeypatch.setattr(sizes, "_WORTH", 0)
    monkeypatch.setattr(sizes, "lanes", lambda programs: 1)
    true = Stage.cost

    def cost(self, g, rows, least):
        if rows > 3:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")
        return true(self, g, rows, least)

    monkeypatch.setattr(Stage, "cost", cost)
    with pytest.warns(UserWarning, match="out of memory"):
        small = sweep(LIGHT, SETTINGS, **{**SMALL, "chunk": "auto"})
    assert small.run["chunk"] <= 3
    for name in whole.final:
        np.testing.assert_allclose(small.final[name], whole.final[name], rtol=1e-5, atol=1e-6)


@pytest.mark.trial
def test_a_later_plan_takes_the_best_size_and_not_the_largest_that_was_tried(monkeypatch):
    monkeypatch.setattr(sizes, "_WORTH", 0)
    monkeypatch.setattr(sizes, "lanes", lambda programs: 1)
    monkeypatch.setattr(Stage, "cost", lambda self, g, rows, least: self.program(g, rows).rows * abs(rows - 3.0))
    plan = Plan.make(LIGHT, SETTINGS, **{**SMALL, "chunk": "auto"})
    programs = Programs(LIGHT, plan.devices)
    assert plan.run(programs=programs).run["chunk"] == 3
    assert max(rows for group in programs.sizes.values() for rows in group) > 3
    assert plan.run(programs=programs).run["chunk"] == 3
    assert Plan.make(LIGHT, SETTINGS, **{**SMALL, "chunk": 2}).run(programs=programs).run["chunk"] <= 2


def test_carries_of_those_who_stop_are_not_kept(monkeypatch):
    pools = []
    true = run.Run._choose_rows

    def look(self):
        pools.append({g: (len(pairs), len(leaves[0])) for g, (pairs, leaves) in self.stage.pool.items()})
        true(self)

    monkeypatch.setattr(run.Run, "_choose_rows", look)
    sweep(LIGHT, SETTINGS, **SMALL, prune=successive_halving(rungs=(5, 15), keep=0.5))
    assert [pool[0] for pool in pools if pool] == [(6, 6), (6, 6), (4, 4), (4, 4)]


def test_a_loader_that_shuffles_each_pass_is_refused_for_several_chunks():
    rng = np.random.default_rng(0)

    class Shuffled:
        def __iter__(self):
            order = rng.permutation(len(TRAIN[0]))
            return iter([tuple(x[order[i : i + 8]] for x in TRAIN) for i in (0, 8, 16)])

    task = dataclasses.replace(LIGHT, train=Shuffled(), batch_size=None)
    with pytest.raises(ValueError, match="gives other batches on each pass"):
        sweep(task, SETTINGS, **{**SMALL, "seeds": 1, "chunk": 3})
    assert np.isfinite(sweep(task, SETTINGS, **{**SMALL, "seeds": 1, "chunk": 6}).final["valid_loss"]).all()


@pytest.mark.parametrize("rungs", [(7,), (5, 5), (15, 5), (30,), ()])
def test_a_pruner_with_bad_rungs_is_refused(rungs):
    pruner = SimpleNamespace(metric="valid_loss", at=lambda steps, log_every: rungs, choose=None)
    with pytest.raises(ValueError, match=r"prune.at returned .* rising multiples of log_every=5 below steps=23"):
        sweep(LIGHT, SETTINGS, **SMALL, prune=pruner)


def test_a_pruner_that_answers_for_other_settings_is_refused():
    pruner = SimpleNamespace(
        metric="valid_loss", at=lambda steps, log_every: (5,), choose=lambda step, values: np.ones(1, bool)
    )
    with pytest.raises(ValueError, match=r"bool\[1\]; it must return a bool for each of the 6 settings"):
        sweep(LIGHT, SETTINGS, **SMALL, prune=pruner)


def test_the_precision_of_the_callers_thread_holds(whole):
    with x64():
        double = sweep(LIGHT, SETTINGS, **SMALL)
    assert double.final["valid_loss"].dtype == np.float64
    np.testing.assert_allclose(double.final["valid_loss"], whole.final["valid_loss"], rtol=1e-4)


def test_a_checkpoint_of_another_number_of_devices_is_refused(tmp_path):
    sweep(LIGHT, SETTINGS, **SMALL, checkpoint=tmp_path)
    plan = Plan.make(LIGHT, SETTINGS, **SMALL, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="devices: 1 then, 2 now"):
        dataclasses.replace(plan, devices=plan.devices * 2).run(programs=Programs(LIGHT, plan.devices))


def test_more_seeds_than_rows_share_no_order(whole):
    """Chunks that have different seeds, and a chunk that has all."""
    seeds = list(range(7))
    one = [js.unstack(SETTINGS)[4]]
    few, all_ = (sweep(LIGHT, one, steps=STEPS, seeds=seeds, log_every=5, chunk=chunk) for chunk in (3, 7))
    np.testing.assert_allclose(few.final["valid_loss"], all_.final["valid_loss"], rtol=1e-5)
    np.testing.assert_allclose(few.final["valid_loss"][0, [0]], whole.final["valid_loss"][4, [0]], rtol=1e-5)
    np.testing.assert_allclose(all_.metrics["train_loss"][0, 0], whole.metrics["train_loss"][4, 0], rtol=1e-5)
    assert len(np.unique(few.metrics["train_loss"][0, :, 0])) == 7
