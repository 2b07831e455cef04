"""What is special about `compat.transformers`: names, refusals, phases of no length, and the two optimizers."""

from __future__ import annotations

import inspect
import re
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.compat import transformers

NAMES = {  # with the arguments that each needs beyond the rate
    "linear": {"num_warmup_steps": 4, "num_training_steps": 20},
    "cosine": {"num_warmup_steps": 4, "num_training_steps": 20},
    "cosine_with_restarts": {"num_warmup_steps": 4, "num_training_steps": 20},
    "polynomial": {"num_warmup_steps": 4, "num_training_steps": 20},
    "constant": {},
    "constant_with_warmup": {"num_warmup_steps": 4},
    "inverse_sqrt": {"num_warmup_steps": 4},
    "reduce_lr_on_plateau": {},
    "cosine_with_min_lr": {
        "num_warmup_steps": 4,
        "num_training_steps": 20,
        "scheduler_specific_kwargs": {"min_lr": 1e-5},
    },
    "cosine_warmup_with_min_lr": {
        "num_warmup_steps": 4,
        "num_training_steps": 20,
        "scheduler_specific_kwargs": {"min_lr_rate": 0.1},
    },
    "warmup_stable_decay": {
        "num_warmup_steps": 4,
        "num_training_steps": 20,
        "scheduler_specific_kwargs": {"num_decay_steps": 8},
    },
    "greedy": {},
}


def rate(state: Any) -> float:
    return float(js.current_hyperparams(state)["learning_rate"])


def told(optimizer: Any, *metrics: float) -> Any:
    state = optimizer.init(jnp.zeros(()))
    for metric in metrics:
        state = js.observe(state, value=metric)
    return state


# --- the names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("peer_exact", [False, True])
def test_every_name_is_there(name: str, peer_exact: bool) -> None:
    made = transformers.get_scheduler(name, lr=5e-5, **NAMES[name], peer_exact=peer_exact)
    if name in ("reduce_lr_on_plateau", "greedy"):
        assert isinstance(made, optax.GradientTransformationExtraArgs)
        assert rate(told(made)) == pytest.approx(5e-5)
    else:
        assert isinstance(made, js.Schedule)
        assert float(made.table(40).max()) == pytest.approx(5e-5)
        if not peer_exact and name.startswith("cosine"):
            assert np.all(np.diff(made.table(60)[4:]) <= 0)


def test_the_horizon_of_a_wsd_may_be_its_plateau() -> None:
    by_plateau = {"num_decay_steps": 8, "num_stable_steps": 8}
    one = transformers.get_scheduler("warmup_stable_decay", 0.1, 4, None, by_plateau)
    two = transformers.get_scheduler("warmup_stable_decay", **{"lr": 0.1, **NAMES["warmup_stable_decay"]})
    assert jnp.array_equal(one.table(30), two.table(30))
    both = transformers.get_wsd_schedule(0.1, 4, 8, num_training_steps=99, num_stable_steps=8)
    assert jnp.array_equal(both.table(30), two.table(30))  # as transformers says in a warning


def test_one_program_for_all_settings() -> None:
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def values(lr: Any, warmup: Any, total: Any) -> Any:
        specific: dict[str, Any] = {"polynomial": {"power": 2.0}, "inverse_sqrt": {"timescale": total}}
        found = []
        for name, arguments in NAMES.items():
            lengths = {"num_warmup_steps": warmup, "num_training_steps": total}
            lengths = {key: lengths[key] for key in arguments if key in lengths}
            others = arguments.get("scheduler_specific_kwargs", {}) | specific.get(name, {})
            made = transformers.get_scheduler(name, lr, **lengths, scheduler_specific_kwargs=others)
            if isinstance(made, js.Schedule):
                found.append(made(jnp.arange(40)))
        return jnp.stack(found)

    found = jax.vmap(values)(jnp.array([0.1, 0.2]), jnp.array([0, 7]), jnp.array([20, 30]))
    assert found.shape == (2, 10, 40)
    assert np.all(np.isfinite(found))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda f: f.get_scheduler("cosin", 0.1), "get_scheduler: name='cosin'; did you mean 'cosine'?"),
        (lambda f: f.get_scheduler("linear", 0.1), "linear requires num_warmup_steps; write num_warmup_steps=..."),
        (lambda f: f.get_scheduler("linear", 0.1, 5), "linear requires num_training_steps"),
        (lambda f: f.get_scheduler("constant", 0.1, 5), "num_warmup_steps=5 is ignored by transformers' 'constant'"),
        (lambda f: f.get_scheduler("constant", 0.1, 5), "write constant_with_warmup."),
        (lambda f: f.get_scheduler("greedy", 0.1, 5), "num_warmup_steps=5 is ignored by transformers' 'greedy'"),
        (lambda f: f.get_scheduler("linear", 0.1, 0.1, 9), "num_warmup_steps=0.1 is less than a step; a share of the"),
        (
            lambda f: f.get_scheduler("constant_with_warmup", 0.1, 5, scheduler_specific_kwargs={"num_cycles": 2}),
            "scheduler_specific_kwargs={'num_cycles': 2} is ignored",
        ),
        (
            lambda f: f.get_scheduler("cosine", 0.1, 5, 9, scheduler_specific_kwargs={"num_cycle": 2}),
            "get_cosine_schedule_with_warmup has no argument 'num_cycle': did you mean 'num_cycles'?",
        ),
        (
            lambda f: f.get_linear_schedule_with_warmup(0.1, 9, 5),
            "get_linear_schedule_with_warmup: num_warmup_steps=9 and num_training_steps=5; the warmup must not be",
        ),
        (lambda f: f.get_linear_schedule_with_warmup(0.1, -1, 5), "num_warmup_steps=-1; num_warmup_steps must be"),
        (
            lambda f: f.get_linear_schedule_with_warmup(0.1, 1),
            "missing a required argument: 'num_training_steps'; its arguments",
        ),
        (lambda f: f.get_linear_schedule_with_warmup("0.1", 1, 5), "lr='0.1' is text; lr must be a finite number"),
        (lambda f: f.get_polynomial_decay_schedule_with_warmup(1e-7, 0, 9), "lr_end=1e-07 and lr=1e-07; the end of a"),
        (lambda f: f.get_polynomial_decay_schedule_with_warmup(1e-3, 0, 9, lr_end=1.0), "write lr_end < lr"),
        (lambda f: f.get_cosine_with_min_lr_schedule_with_warmup(0.1, 0, 9), "min_lr=None and min_lr_rate=None; write"),
        (
            lambda f: f.get_cosine_with_min_lr_schedule_with_warmup(0.1, 0, 9, min_lr=0.01, min_lr_rate=0.1),
            "min_lr=0.01 and min_lr_rate=0.1; write one of them",
        ),
        (lambda f: f.get_wsd_schedule(0.1, 2, 3), "num_training_steps=None and num_stable_steps=None; write one"),
        (lambda f: f.get_wsd_schedule(0.1, 2, 3, 4), "the phases must fit into the whole"),
        (lambda f: f.get_wsd_schedule(0.1, 2, 3, 9, decay_type="sqrt"), "decay_type='sqrt'; did you mean '1-sqrt'?"),
        (
            lambda f: f.get_wsd_schedule(0.1, 2, 3, 9, decay_type="linear", num_cycles=1.0),
            "num_cycles=1.0; transformers ignores num_cycles with decay_type='linear'",
        ),
        (lambda f: f.get_greedy_schedule(0.1, verbose=True), "verbose=True; nothing is printed"),
        (lambda f: f.get_greedy_schedule(0.1, factor=1.0), "factor=1.0; factor must be"),
        (lambda f: f.get_reduce_on_plateau_schedule(0.1, mode="lowest"), "mode='lowest'"),
    ],
)
def test_refuses(make: Any, text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(text)):
        make(transformers)


def test_no_warmup_is_nothing_to_ignore() -> None:
    """transformers' own trainer hands 0 to all of them."""
    assert repr(transformers.get_scheduler("constant", 0.1, num_warmup_steps=0)) == "Constant(constant_value=0.1)"


# --- phases of no length, and ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["linear", "cosine", "cosine_with_restarts", "polynomial", "cosine_with_min_lr", "warmup_stable_decay"]
)
def test_a_warmup_as_long_as_the_whole(name: str) -> None:
    """The end is at its end; of a polynomial transformers crashes there."""
    specific = {"cosine_with_min_lr": {"min_lr": 1e-3}, "warmup_stable_decay": {"num_decay_steps": 0}}.get(name)
    s = transformers.get_scheduler(name, 0.1, 10, 10, specific)
    end = {"polynomial": 1e-7, "cosine_with_min_lr": 1e-3}.get(name, 0.0)
    np.testing.assert_allclose(s.table(14), [*(0.1 * np.arange(10) / 10), *[end] * 4], rtol=1e-6)
    slope = jax.grad(lambda lr: transformers.get_scheduler(name, lr, 10, 10, specific)(10))(0.1)
    assert np.isfinite(slope)


def test_ends_are_exact_and_hold_at_any_step() -> None:
    total = 2_000_000_000
    for name in ("linear", "cosine", "cosine_with_restarts"):
        s = transformers.get_scheduler(name, 0.1, 1_000_000_000, total)
        assert [float(s(t)) for t in (0, 1_000_000_000, total, 2**31 - 1)] == [0, float(np.float32(0.1)), 0, 0]
        assert 0 < float(s(total - 1)) < 1e-8


def test_waves_too_long_to_be_counted_in_integers() -> None:
    """22 times 2,000,000,000 steps are beyond an int32."""
    s = transformers.CosineRestarts(1.0, 0.0, 2_000_000_000, 22)
    middles = (np.arange(22) + 0.5) * 2_000_000_000 / 22
    np.testing.assert_allclose(s(middles.astype(int)), 0.5, atol=1e-4)
    assert float(s(2_000_000_000)) == 0.0


def test_waves_hold_what_they_reach() -> None:
    s = transformers.get_cosine_schedule_with_warmup(1.0, 0, 12, num_cycles=1.0)
    assert [float(s(t)) for t in (0, 6, 12, 100)] == [1.0, 0.0, 1.0, 1.0]
    endless = transformers.CosineWaves(1.0, 0.0, 6, endless=True)
    assert [float(endless(t)) for t in (0, 6, 12, 18)] == [1.0, 0.0, 1.0, 0.0]
    with_floats = transformers.CosineWaves(1.0, 0.0, 12.0, waves=1.25)
    np.testing.assert_allclose(with_floats.table(14), transformers.CosineWaves(1.0, 0.0, 12, 1.25).table(14), atol=1e-6)


@pytest.mark.parametrize("steps", [44, 44.0, 220, 700])
def test_no_restart_is_missed(steps: float) -> None:
    count = 22 if steps != 700 else 7
    s = transformers.CosineRestarts(1.0, 0.0, steps, count)
    assert np.all(np.asarray(s(np.arange(count) * (int(steps) // count))) == 1.0)


# --- driven by a metric ----------------------------------------------------------------------------------------------


def test_greedy_can_let_a_small_rate_fall() -> None:
    losses = [1.0, 1.0, 1.0]
    assert rate(told(transformers.get_greedy_schedule(5e-5, factor=0.5, patience=1), *losses)) == pytest.approx(2.5e-5)
    exact = transformers.get_greedy_schedule(5e-5, factor=0.5, patience=1, peer_exact=True)
    assert rate(told(exact, *losses)) == pytest.approx(5e-5)
    by_name = {"factor": 0.5, "patience": 1, "min_lr": 4e-5}
    made = transformers.get_scheduler("greedy", 5e-5, scheduler_specific_kwargs=by_name)
    assert rate(told(made, *losses)) == pytest.approx(4e-5)
    raised = transformers.get_greedy_schedule(0.6, factor=0.5, patience=0)
    assert rate(told(raised, 1.0, 0.5)) == pytest.approx(1.0)  # transformers' max_lr


def test_a_negative_metric_that_gets_worse_is_not_better() -> None:
    make = {"factor": 0.5, "patience": 0, "threshold": 0.5}
    for peer_exact, last in ((False, 0.05), (True, 0.1)):
        made = transformers.get_scheduler(
            "reduce_lr_on_plateau", 0.1, scheduler_specific_kwargs=make, peer_exact=peer_exact
        )
        assert rate(told(made, -1.0, -0.8)) == pytest.approx(last)
        # The first raises, as it is better than none; the second cuts, or raises again.
        greedy = transformers.get_greedy_schedule(0.1, **make, threshold_mode="rel", peer_exact=peer_exact)
        assert rate(told(greedy, -1.0, -0.8)) == pytest.approx(0.4 if peer_exact else 0.1)


def test_a_warmup_before_the_plateau() -> None:
    """#68978 of torch: the two do not go together there."""
    up = transformers.get_constant_schedule_with_warmup(0.1, num_warmup_steps=10)
    state = (made := transformers.get_reduce_on_plateau_schedule(up)).init(jnp.zeros(()))
    for _ in range(6):
        _, state = made.update(jnp.ones(()), state)
    assert rate(state) == pytest.approx(0.05)


def test_functions_keep_their_signature() -> None:
    names = list(inspect.signature(transformers.get_cosine_schedule_with_warmup).parameters)
    assert names[:4] == ["lr", "num_warmup_steps", "num_training_steps", "num_cycles"]
