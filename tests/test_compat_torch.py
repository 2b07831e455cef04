"""`compat.torch`: bad input, what takes functions, schedulers of schedulers, and what is read from a scheduler.

The stand-ins have the attributes that those of torch 2.13 have; `tests/peers/test_torch_live.py` asks the live ones.
"""

from __future__ import annotations

import re
from collections import Counter
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.compat import torch

from .cases import x64


def refused(kind: type[Exception], text: str, make: Any) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        make()


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: torch.StepLR(0.1, 0), "StepLR: step_size=0; step_size must be a number of steps above 0"),
        (lambda: torch.StepLR(0.1, 3, last_epoch=-2), "last_epoch=-2; last_epoch must be an integer, -1 or more"),
        (lambda: torch.MultiStepLR(0.1, [-1, 3]), "milestones must be a list of steps, 0 or more"),
        (lambda: torch.ConstantLR(0.1, 1.5), "ConstantLR: factor=1.5; factor must be a number from 0 to 1"),
        (
            lambda: torch.LinearLR(0.1, 0.0),
            "LinearLR: start_factor=0.0; start_factor must be a number above 0, up to 1",
        ),
        (
            lambda: torch.LinearLR(0.1, end_factor=2.0),
            "LinearLR: end_factor=2.0; end_factor must be a number from 0 to 1",
        ),
        (lambda: torch.CosineAnnealingWarmRestarts(0.1, 0), "T_0=0; T_0 must be an integer, 1 or more"),
        (lambda: torch.CosineAnnealingWarmRestarts(0.1, 3, 0), "T_mult=0; T_mult must be an integer, 1 or more"),
        (lambda: torch.CyclicLR(0.1, 0.2, mode="triangle"), "mode='triangle'; did you mean 'triangular'?"),
        (lambda: torch.CyclicLR(0.1, 0.2, scale_mode="iterations"), "ignored by torch without a scale_fn"),
        (lambda: torch.OneCycleLR(0.1), "total_steps=None; write total_steps, or epochs and steps_per_epoch"),
        (lambda: torch.OneCycleLR(0.1, epochs=3), "write total_steps, or epochs and steps_per_epoch"),
        (lambda: torch.OneCycleLR(0.1, 100, pct_start=1.5), "pct_start must be a number from 0 to 1"),
        (lambda: torch.OneCycleLR(0.1, 100, anneal_strategy="cosine"), "anneal_strategy='cosine'; did you mean 'cos'?"),
        (lambda: torch.OneCycleLR(0.1, 100, cycle_momentum=False).momentum, "momentum stays that of the optimizer"),
        (lambda: torch.SWALR(0.1, 0.05, -1), "anneal_epochs=-1; anneal_epochs must be an integer, 0 or more"),
        (lambda: torch.MultiplicativeLR(0.1, lambda t: 0.9), "give horizon=N to have its first N values tabulated"),
        (lambda: torch.LambdaLR(0.1, lambda t: 1.0 if t < 3 else 0.1), "or give horizon=N"),
        (lambda: torch.LambdaLR(0.1, lambda t: 1.0, horizon=0), "horizon=0; horizon must be an integer, 1 or more"),
        (
            lambda: torch.SequentialLR([torch.StepLR(0.1, 3)] * 3, [5]),
            "3 schedulers and 1 milestones; 3 schedulers take turns at 2",
        ),
        (lambda: torch.SequentialLR([torch.StepLR(0.1, 3)] * 3, [5, 2]), "each boundary must come after"),
        (lambda: torch.SequentialLR([], []), "write at least one schedule"),
        (
            lambda: torch.SequentialLR([0.1, torch.MultiplicativeLR(0.1, abs, horizon=9)], [5], peer_exact=True),
            "schedulers[1] is a MultiplicativeLR",
        ),
        (
            lambda: torch.SequentialLR([0.1, torch.StepLR(0.1, 3)], [5], last_epoch=3, peer_exact=True),
            "torch's own numbers begin at last_epoch=-1",
        ),
        (lambda: torch.ChainedScheduler([torch.StepLR(0.1, 3), torch.StepLR(0.2, 3)]), "write one lr"),
        (lambda: torch.SequentialLR([0.1, torch.ReduceLROnPlateau(0.1)], [5]), "schedulers[1] listens to a metric"),
        (lambda: torch.ChainedScheduler([torch.ReduceLROnPlateau(0.1)]), "ReduceLROnPlateau(ChainedScheduler([...])"),
        (lambda: torch.ReduceLROnPlateau(0.1, factor=1.0), "factor must be a number between 0 and 1"),
    ],
)
def test_what_is_wrong_is_refused(make: Any, text: str) -> None:
    refused(ValueError, text, make)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: torch.OneCycleLR(lr=0.1, max_lr=1.0, total_steps=9), "OneCycleLR takes no lr: torch ignores"),
        (lambda: torch.CyclicLR(lr=0.1, base_lr=0.1, max_lr=1.0), "CyclicLR takes no lr: torch ignores"),
        (lambda: torch.StepLR(0.1, 3, gama=0.1), "StepLR has no field 'gama': did you mean 'gamma'?"),
        (lambda: torch.LambdaLR(0.1, [abs, abs]), "write one function"),
        (lambda: torch.LambdaLR(0.1, 3.0), "lr_lambda must be a function of the step"),
        (lambda: torch.OneCycleLR(0.1, 100.5), "total_steps=100.5 is not an integer"),
        (lambda: torch.ChainedScheduler([js.Linear(1.0, 0.0, 9)]), "schedulers[0] is a Linear"),
        (lambda: torch.ReduceLROnPlateau(0.1, min_lr=[0.1, 0.2]), "each parameter group has its own rate"),
        (lambda: torch.from_scheduler(object()), "a object is no scheduler of torch"),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused(make: Any, text: str) -> None:
    refused(TypeError, text, make)


# --- the classes -----------------------------------------------------------------------------------------------------


def test_milestones_in_any_order() -> None:
    assert torch.MultiStepLR(1.0, [4, 2, 4], 0.5).table(6).tolist() == [1.0, 1.0, 0.5, 0.5, 0.125, 0.125]
    assert torch.MultiStepLR(1.0, []).table(3).tolist() == [1.0, 1.0, 1.0]


def test_functions() -> None:
    def jump(t: int) -> float:
        return 1.0 if t < 2 else 0.5

    assert torch.LambdaLR(1.0, jump, horizon=3).table(5).tolist() == [1.0, 1.0, 0.5, 0.5, 0.5]
    assert torch.LambdaLR(1.0, jump, 0, horizon=3).table(3).tolist() == [1.0, 0.5, 0.5]
    assert torch.MultiplicativeLR(1.0, jump, horizon=5).table(6).tolist() == [1.0, 1.0, 0.5, 0.25, 0.125, 0.125]
    # A schedule of the factors does as well, and its numbers can be swept.
    decay = torch.LambdaLR(1.0, js.ExponentialDecay(1.0, 0.5, 1))
    assert jax.grad(lambda s: s(2), allow_int=True)(decay).lr_lambda.decay_rate == 1.0
    custom = torch.CyclicLR(0.0, 1.0, 2, scale_fn=lambda cycle: 1.0 / cycle)
    assert custom.table(8).tolist() == [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25]
    by_step = torch.CyclicLR(0.0, 1.0, 2, scale_fn=lambda t: t, scale_mode="iterations")
    assert by_step.table(4).tolist() == [0.0, 0.5, 2.0, 1.5]


def test_it_says_what_it_is() -> None:
    s = torch.SequentialLR([torch.LinearLR(0.1), torch.StepLR(0.1, 3)], [5])
    assert repr(s) == (
        "compat.torch.SequentialLR(schedulers=[compat.torch.LinearLR(lr=0.1), "
        "compat.torch.StepLR(lr=0.1, step_size=3)], milestones=[5])"
    )
    assert eval(repr(s), {"compat": SimpleNamespace(torch=torch)}).table(9).tolist() == s.table(9).tolist()
    table = torch.LambdaLR(1.0, lambda t: 1.0 if t < 2 else 0.5, horizon=3)
    names = {"compat": SimpleNamespace(torch=torch), **vars(js.schedules)}
    assert eval(repr(table), names).table(5).tolist() == table.table(5).tolist()


def test_last_epoch_goes_on() -> None:
    for make in (
        lambda e: torch.StepLR(1.0, 3, 0.5, e),
        lambda e: torch.CosineAnnealingLR(1.0, 9, last_epoch=e),
        lambda e: torch.CyclicLR(0.1, 1.0, 3, last_epoch=e),
        lambda e: torch.OneCycleLR(1.0, 30, last_epoch=e),
        lambda e: torch.SWALR(1.0, 0.5, last_epoch=e),
        lambda e: torch.SequentialLR([torch.LinearLR(1.0), torch.StepLR(1.0, 3)], [5], e),
    ):
        np.testing.assert_array_equal(make(6).table(10), make(-1).table(17)[7:])
    np.testing.assert_array_equal(
        torch.OneCycleLR(1.0, 30, last_epoch=4).momentum(0), torch.OneCycleLR(1.0, 30).momentum(5)
    )


# --- schedulers of schedulers ----------------------------------------------------------------------------------------


def test_a_sequence_takes_any_schedule() -> None:
    s = torch.SequentialLR([js.Linear(0.0, 1.0, 2), torch.StepLR(1.0, 1, 0.5), 0.125], [2, 4])
    assert s.table(6).tolist() == [0.0, 0.5, 1.0, 0.5, 0.125, 0.125]
    # SWALR begins at the rate that it finds, wherever it stands
    swa = torch.SWALR(99.0, 0.25, anneal_epochs=2, anneal_strategy="linear")
    assert torch.SequentialLR([torch.StepLR(1.0, 2, 0.5), swa], [3]).table(7).tolist()[2:] == [
        0.5,
        0.5,
        0.375,
        0.25,
        0.25,
    ]


def test_a_sequence_inside_of_a_sequence() -> None:
    """In torch it is one step ahead, or stops with a NotImplementedError (#196243)."""
    inner = torch.SequentialLR([torch.ConstantLR(1.0, 0.5, 99), torch.ExponentialLR(1.0, 0.5)], [3])
    last = torch.ConstantLR(1.0, 0.125, 99)
    want = [0.5, 0.5, 0.5, 1.0, 0.5, 0.25, 0.125, 0.125]
    assert torch.SequentialLR([inner, last], [6]).table(8).tolist() == want
    assert torch.SequentialLR([inner, last], [6], peer_exact=True).table(8).tolist() == [
        0.5,
        *want[2:6],
        0.125,
        0.125,
        0.125,
    ]
    assert torch.SequentialLR([last, inner], [1]).table(9).tolist() == [0.125, *want[:6], 0.125, 0.0625]


def chain_by_hand(lr: float, eta: float, T: int, gamma: float, warm: int, steps: int) -> list[float]:
    """LinearLR, CosineAnnealingLR and ExponentialLR on one rate, step by step in float64."""
    height = [(1 + np.cos(np.pi * t / T)) / 2 for t in range(steps + 1)]
    factor = [0.5 + 0.5 * min(t, warm) / warm for t in range(steps + 1)]
    found = [lr * 0.5]
    for t in range(1, steps):
        rate = found[-1] * factor[t] / factor[t - 1]
        if t <= T:
            rate = eta + (rate - eta) * height[t] / height[t - 1]
        found.append(rate * gamma)
    return found


@pytest.mark.trial
def test_a_chain_to_a_floor_is_what_each_step_makes_of_it() -> None:
    want = chain_by_hand(1.0, 2**-7, 700, 1 - 2**-10, 40, 1_000)  # beyond several blocks of the sum
    parts = [
        torch.LinearLR(1.0, 0.5, total_iters=40),
        torch.CosineAnnealingLR(1.0, 700, 2**-7),
        torch.ExponentialLR(1.0, 1 - 2**-10),
    ]
    chain = torch.ChainedScheduler(parts)
    # The heights of the reference lose digits near T: 1e-16 of 1 is 1e-11 of them.
    np.testing.assert_allclose(chain(np.arange(1_000).reshape(10, 100)), np.reshape(want, (10, 100)), rtol=2e-6)
    assert float(chain(999)) == pytest.approx(want[999], rel=2e-6)
    with x64():
        np.testing.assert_allclose(torch.ChainedScheduler(parts)(jnp.arange(1_000)), want, rtol=1e-10)
    gradient = jax.grad(lambda s: s(500), allow_int=True)(chain)
    above, below = (chain_by_hand(1.0, 2**-7 + d, 700, 1 - 2**-10, 40, 501)[500] for d in (1e-3, -1e-3))
    assert float(gradient.schedulers[1].eta_min) == pytest.approx((above - below) / 2e-3, rel=1e-4)
    stacked = js.stack(chain, torch.ChainedScheduler([part.replace(lr=0.5) for part in parts]))
    np.testing.assert_allclose(jax.vmap(lambda s: s(jnp.arange(9)))(stacked)[0], want[:9], rtol=2e-6)


def test_a_chain_that_scales_is_a_product() -> None:
    parts = [torch.LinearLR(0.5, 0.5), torch.ChainedScheduler([torch.StepLR(0.5, 3), torch.PolynomialLR(0.5, 8)])]
    chain = torch.ChainedScheduler(parts)
    assert isinstance(chain.build(), js.schedules.Product)
    want = (
        0.5 * torch.LinearLR(1.0, 0.5).table(10) * torch.StepLR(1.0, 3).table(10) * torch.PolynomialLR(1.0, 8).table(10)
    )
    np.testing.assert_allclose(chain.table(10), want, rtol=1e-6)


def test_a_rate_that_is_set_forgets_what_was_before() -> None:
    parts = [torch.ExponentialLR(1.0, 0.5), torch.LambdaLR(1.0, lambda t: 1 / (1 + t)), torch.ExponentialLR(1.0, 0.5)]
    want = [1.0, *(0.5 / (1 + t) for t in range(1, 6))]
    np.testing.assert_allclose(torch.ChainedScheduler(parts).table(6), want, rtol=1e-6)


# --- a scheduler that is read ----------------------------------------------------------------------------------------


def live(name: str, lr: float, **attributes: Any) -> Any:
    optimizer = SimpleNamespace(param_groups=[{"lr": lr}])
    kind = type(name, (SimpleNamespace,), {"__module__": "torch.optim.lr_scheduler"})
    return kind(**{"optimizer": optimizer, "base_lrs": [1.0], "last_epoch": 2, "_last_lr": [lr], **attributes})


@pytest.mark.parametrize(
    ("scheduler", "text", "values"),
    [
        (
            live("StepLR", 0.5, step_size=2, gamma=0.5),
            "StepLR(lr=1.0, step_size=2, gamma=0.5, last_epoch=1)",
            [0.5, 0.5],
        ),
        (
            live("StepLR", 0.25, step_size=2, gamma=0.5),
            "StepLR(lr=0.5, step_size=2, gamma=0.5, last_epoch=1)",
            [0.25, 0.25],
        ),
        (
            live("MultiStepLR", 0.25, milestones=Counter([1, 1, 3]), gamma=0.5),
            "MultiStepLR(lr=1.0, milestones=[1, 1, 3], gamma=0.5, last_epoch=1, peer_exact=True)",
            [0.25, 0.125],
        ),
        (live("ConstantLR", 0.75, factor=0.5, total_iters=2), None, [0.75, 0.75]),
        (
            live("CosineAnnealingLR", 0.5, T_max=4, eta_min=0.0),
            "CosineAnnealingLR(lr=1.0, T_max=4, last_epoch=1, peer_exact=True)",
            [0.5, 0.14644662],
        ),
        (
            live("CosineAnnealingWarmRestarts", 0.5, T_0=4, T_mult=2, T_i=4, T_cur=2, eta_min=0.0),
            "CosineAnnealingWarmRestarts(lr=1.0, T_0=4, T_mult=2, last_epoch=1)",
            [0.5, 0.14644662, 1.0],
        ),
        (
            live("SWALR", 0.75, _step_count=2, swa_lr=0.5, anneal_epochs=2, _anneal_strategy="linear"),
            None,
            [0.75, 0.5, 0.5],
        ),
    ],
    ids=lambda x: type(x).__name__ if hasattr(x, "optimizer") else None,
)
def test_what_is_read(scheduler: Any, text: str | None, values: list[float]) -> None:
    scheduler.optimizer.param_groups[0]["swa_lr"] = 0.5
    s = torch.from_scheduler(scheduler)
    assert text is None or repr(s) == f"compat.torch.{text}"
    np.testing.assert_allclose(s.table(len(values)), values, rtol=1e-6)


def test_what_is_set_comes_back_at_the_next_step() -> None:
    scheduler = live("LambdaLR", 0.125, lr_lambdas=[lambda t: 1 / (1 + t)], _last_lr=[1 / 3])
    np.testing.assert_allclose(torch.from_scheduler(scheduler).table(3), [0.125, 0.25, 0.2], rtol=1e-6)


def test_what_cannot_be_read_is_named() -> None:
    step = live("StepLR", 0.5, step_size=2, gamma=0.5)
    own = SimpleNamespace(optimizer=step.optimizer, step=lambda: None)
    chain = live("ChainedScheduler", 0.5, _schedulers=[step, own])
    refused(
        ValueError,
        "the scheduler.schedulers[1] is a SimpleNamespace, which is no class",
        lambda: torch.from_scheduler(chain),
    )
    refused(ValueError, "Give horizon=N", lambda: torch.from_scheduler(chain))
    zero = live("StepLR", 0.0, step_size=2, gamma=0.0)
    refused(ValueError, "StepLR: gamma=0.0; gamma must be a finite number above 0", lambda: torch.from_scheduler(zero))


def test_a_plateau_goes_on() -> None:
    plateau = live(
        "ReduceLROnPlateau", 0.5, min_lrs=[0.0], mode="min", factor=0.5, patience=2, threshold=0.0,
        threshold_mode="abs", cooldown=1, eps=1e-8, best=0.25, num_bad_epochs=2, cooldown_counter=0,
    )  # fmt: skip
    state = optax.chain(torch.from_scheduler(plateau)).init(jnp.zeros(2))
    assert state[0].best == 0.25
    state = js.observe(state, value=0.3)  # the third bad epoch
    assert js.current_hyperparams(state)["learning_rate"] == 0.25


def test_plateau_by_torchs_names() -> None:
    ours = torch.ReduceLROnPlateau(0.5, "max", 0.25, 0, 0.0, "abs", 1, 0.01, 0.0).init(jnp.zeros(1))
    core = js.reduce_on_plateau(
        0.5, mode="max", factor=0.25, patience=0, threshold=0.0, threshold_mode="abs", cooldown=1, min_lr=0.01, eps=0.0
    ).init(jnp.zeros(1))
    assert jax.tree.all(jax.tree.map(lambda a, b: a == b, ours, core))


def test_an_integer_of_jax_is_not_one_of_python() -> None:
    with pytest.raises(ValueError, match=r"lr_lambda\(1\) is 0.5 in Python and 0 in JAX"):
        torch.LambdaLR(0.1, lambda t: 2**-t)
    with pytest.raises(ValueError, match=r"lr_lambda\(1000\) is 1e-12 in Python"):
        torch.LambdaLR(0.1, lambda t: 1 / (1 + t**4))
    np.testing.assert_allclose(torch.LambdaLR(1.0, lambda t: 2.0**-t).table(3), [1, 0.5, 0.25])
    np.testing.assert_allclose(torch.LambdaLR(1.0, lambda t: 2**-t, horizon=3).table(3), [1, 0.5, 0.25])


class Live:
    """What a scheduler of torch has, as far as an error text reads it."""

    last_epoch, optimizer = 3, None


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: torch.SequentialLR(0.1, [torch.ExponentialLR(0.1, 0.5)], [3]),
            "SequentialLR takes no lr: each of",
        ),
        (lambda: torch.SequentialLR(lr=0.1, schedulers=[], milestones=[]), "SequentialLR takes no lr"),
        (lambda: torch.ChainedScheduler(lr=0.1, schedulers=[]), "ChainedScheduler takes no lr"),
        (
            lambda: torch.SequentialLR([Live()], []),
            "schedulers[0] is a live scheduler of torch; from_scheduler",
        ),
        (lambda: torch.OneCycleLR(0.1, 100, epochs=3), "total_steps=100, beside which torch ignores epochs"),
        (
            lambda: torch.StepLR(SimpleNamespace(param_groups=[]), 30),
            "the optimizer SimpleNamespace(...) is",
        ),
        (lambda: torch.from_scheduler({"last_epoch": 3}), "this is a state: load it into a scheduler"),
        (lambda: torch.from_scheduler(torch.StepLR(0.1, 30)), "this is a schedule already"),
        (lambda: js.compat.to_torch(0.1, None), "optimizer=None has no param_groups"),
        (lambda: js.compat.to_numpy(Live(), 3), "a live scheduler of torch; compat.torch.from_scheduler reads it"),
        (lambda: js.grid(torch.ReduceLROnPlateau, lr=[0.1, 0.2]), "of a function stack what it makes: stack(*("),
    ],
)
def test_what_was_meant_for_torch_itself(make: Any, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(text)):
        make()
