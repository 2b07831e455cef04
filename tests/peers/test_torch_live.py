"""`compat.torch.from_scheduler` on live schedulers: in mid-run, nested, changed by hand, after `load_state_dict`."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.optim import lr_scheduler as lrs
from torch.optim.swa_utils import SWALR

import jaxsched as js
from jaxsched.compat import torch as ours
from tests.cases import x64

from .cases_torch import FUNCTIONS, new_optimizer

# torch minds that a scheduler inside of another steps before the optimizer does.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
AHEAD = 60
Draw = Callable[[np.random.Generator], Callable[[Any], Any]]


def number(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


def rate(rng: np.random.Generator, low: float = 0.01, high: float = 1.0) -> float:
    return float(np.float32(rng.uniform(low, high)))


def cyclic(rng: np.random.Generator) -> Callable[[Any], Any]:
    low, up, down, mode = rate(rng), number(rng, 1, 9), number(rng, 1, 9), rng.choice(["triangular", "exp_range"])
    return lambda o: lrs.CyclicLR(o, low, 2.0, up, down, str(mode), gamma=0.97)


def one_cycle(rng: np.random.Generator) -> Callable[[Any], Any]:
    total, strategy, three = number(rng, 70, 120), str(rng.choice(["cos", "linear"])), bool(rng.integers(2))
    return lambda o: lrs.OneCycleLR(o, 2.0, total, pct_start=0.25, anneal_strategy=strategy, three_phase=three)


def of(make: Callable[..., Any], *draws: Callable[[np.random.Generator], Any]) -> Draw:
    """Draws the arguments first, so that the same scheduler can be made several times."""

    def draw(rng: np.random.Generator) -> Callable[[Any], Any]:
        arguments = [one(rng) for one in draws]
        return lambda optimizer: make(optimizer, *arguments)

    return draw


def n(low: int, high: int) -> Callable[[np.random.Generator], int]:
    return lambda rng: number(rng, low, high)


LEAVES: dict[str, Draw] = {
    "LambdaLR": of(lambda o: lrs.LambdaLR(o, FUNCTIONS["inverse"])),
    "StepLR": of(lrs.StepLR, n(1, 20), rate),
    "MultiStepLR": of(lambda o, a, b, g: lrs.MultiStepLR(o, [b, a, 2.5, a + 7], g), n(0, 20), n(0, 20), rate),
    "ConstantLR": of(lrs.ConstantLR, rate, n(0, 30)),
    "LinearLR": of(lrs.LinearLR, rate, rate, n(0, 30)),
    "LinearLR to 0": of(lambda o, n: lrs.LinearLR(o, 0.5, 0.0, n), n(1, 30)),
    "ExponentialLR": of(lrs.ExponentialLR, lambda rng: rate(rng, 0.8)),
    "PolynomialLR": of(lrs.PolynomialLR, n(0, 30), lambda rng: rate(rng, 0.5, 3)),
    "CosineAnnealingLR": of(lrs.CosineAnnealingLR, n(1, 50), lambda rng: rate(rng, 0, 0.01)),
    "WarmRestarts": of(lrs.CosineAnnealingWarmRestarts, n(1, 9), n(1, 3), lambda rng: rate(rng, 0, 0.01)),
    "CyclicLR": cyclic,
    "OneCycleLR": one_cycle,
    "SWALR": of(lambda o, swa, n, s: SWALR(o, swa, n, ["cos", "linear"][s]), rate, n(0, 30), n(0, 1)),
}  # fmt: skip
PLAIN = ["StepLR", "MultiStepLR", "ExponentialLR", "PolynomialLR", "LinearLR"]
# Parts that draw to a floor: no rising again, whose rates beside others lose their digits (see cases_torch.py).
LONG_COSINE = of(lambda o, floor: lrs.CosineAnnealingLR(o, 120, floor), lambda rng: rate(rng, 0, 0.01))


def sequence(*children: Draw) -> Draw:
    def draw(rng: np.random.Generator) -> Callable[[Any], Any]:
        makers, gaps = [child(rng) for child in children], [number(rng, 2, 15) for _ in children[1:]]
        return lambda o: lrs.SequentialLR(o, [make(o) for make in makers], np.cumsum(gaps).tolist())

    return draw


def chain(*children: Draw) -> Draw:
    def draw(rng: np.random.Generator) -> Callable[[Any], Any]:
        makers = [child(rng) for child in children]
        return lambda o: lrs.ChainedScheduler([make(o) for make in makers])

    return draw


def leaf(rng: np.random.Generator) -> Callable[[Any], Any]:
    return LEAVES[str(rng.choice(list(LEAVES)))](rng)


def plain(rng: np.random.Generator) -> Callable[[Any], Any]:
    return LEAVES[str(rng.choice(PLAIN))](rng)


NESTED: dict[str, Draw] = {
    "sequence": sequence(leaf, leaf, leaf),
    "chain that scales": chain(plain, plain, plain),
    "chain to a floor": chain(plain, LONG_COSINE, plain),
    "chain of SWALR": chain(plain, LEAVES["SWALR"], plain),
    "chain of rates that are set": chain(plain, LEAVES["LambdaLR"], LONG_COSINE, plain),
    "chain of chains": chain(plain, chain(plain, LONG_COSINE)),
    "chain of a sequence": chain(sequence(plain, plain), plain),
    "chain of a sequence to a floor": chain(plain, sequence(LEAVES["ConstantLR"], LONG_COSINE, LEAVES["SWALR"])),
    "sequence of a sequence": sequence(sequence(leaf, leaf), leaf),
    "sequence of a chain": sequence(chain(plain, plain), leaf, leaf),
    "sequence of a chain to a floor": sequence(chain(plain, LONG_COSINE), plain),
    "sequence of a sequence of a chain": sequence(sequence(chain(plain, plain), plain), leaf),
}


def on(optimizer: Any, scheduler: Any, steps: int) -> list[float]:
    """The rate now, and after each of the next steps; shorter where torch refuses to go on."""
    found = [optimizer.param_groups[0]["lr"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(steps):
            optimizer.step()
            try:
                scheduler.step()
            except (ValueError, ZeroDivisionError, NotImplementedError):
                break
            found.append(optimizer.param_groups[0]["lr"])
    return [float(x) for x in found]


def agrees(scheduler: Any, optimizer: Any, **options: Any) -> None:
    """Reading changes nothing, and what is read is what torch then does."""
    before = copy.deepcopy((optimizer.state_dict(), {k: v for k, v in scheduler.state_dict().items() if k != "_s"}))
    schedules = {64: None, 32: ours.from_scheduler(scheduler, **options)}
    with x64():
        schedules[64] = ours.from_scheduler(scheduler, **options)
    assert repr(before) == repr((optimizer.state_dict(), scheduler.state_dict()))
    theirs = np.array(on(optimizer, scheduler, AHEAD))
    dust = 1e-12 * np.max(np.abs(theirs))
    for bits, bar in ((64, 1e-11), (32, 2e-6)):  # torch's recurrences have rounded at each of the steps before
        with x64() if bits == 64 else contextlib.nullcontext():
            values = np.asarray(schedules[bits](jnp.arange(len(theirs))), np.float64)
        np.testing.assert_allclose(values, theirs, rtol=bar, atol=dust, err_msg=repr(schedules[bits]))


@pytest.mark.parametrize("name", [*LEAVES, *NESTED])
@pytest.mark.parametrize("seed", range(8))
def test_it_goes_on_as_torch_does(name: str, seed: int) -> None:
    rng = np.random.default_rng([seed, *name.encode()])
    optimizer = new_optimizer(rate(rng))
    scheduler = {**LEAVES, **NESTED}[name](rng)(optimizer)
    on(optimizer, scheduler, [0, 1, 2, 5][seed] if seed < 4 else number(rng, 1, 40))
    agrees(scheduler, optimizer)


@pytest.mark.parametrize("name", [name for name in [*LEAVES, *NESTED] if name != "CosineAnnealingLR"])
def test_a_rate_changed_by_hand_counts(name: str) -> None:
    for seed in range(3):
        rng = np.random.default_rng([seed, 1, *name.encode()])
        optimizer = new_optimizer(rate(rng))
        scheduler = {**LEAVES, **NESTED}[name](rng)(optimizer)
        on(optimizer, scheduler, number(rng, 0, 12))
        optimizer.param_groups[0]["lr"] = rate(rng)
        agrees(scheduler, optimizer)


def test_a_cosine_changed_by_hand() -> None:
    """It goes on from there to the floor, and rises from it to the old height."""
    optimizer = new_optimizer(1.0)
    scheduler = lrs.CosineAnnealingLR(optimizer, 20)
    on(optimizer, scheduler, 7)
    optimizer.param_groups[0]["lr"] = 0.25
    agrees(scheduler, optimizer)


@pytest.mark.parametrize("name", [*LEAVES, *NESTED])
def test_after_a_state_was_loaded(name: str) -> None:
    rng = np.random.default_rng([2, *name.encode()])
    lr, make = rate(rng), {**LEAVES, **NESTED}[name](rng)
    first = new_optimizer(lr)
    old = make(first)
    on(first, old, 9)
    second = new_optimizer(lr)
    new = make(second)
    new.load_state_dict(old.state_dict())
    second.load_state_dict(first.state_dict())
    agrees(new, second)


def test_a_function_that_cannot_be_traced() -> None:
    optimizer = new_optimizer(0.5)
    scheduler = lrs.LambdaLR(optimizer, FUNCTIONS["jump"])
    on(optimizer, scheduler, 20)
    with pytest.raises(ValueError, match=r"the scheduler cannot be read: LambdaLR: JAX cannot trace.*horizon=N"):
        ours.from_scheduler(scheduler)
    agrees(scheduler, optimizer, horizon=AHEAD + 1)


def test_multiplicative() -> None:
    for build in (
        lambda o: lrs.MultiplicativeLR(o, FUNCTIONS["parity"]),
        lambda o: lrs.ChainedScheduler([lrs.MultiplicativeLR(o, FUNCTIONS["parity"]), lrs.StepLR(o, 4)]),
        lambda o: lrs.SequentialLR(o, [lrs.StepLR(o, 4), lrs.MultiplicativeLR(o, FUNCTIONS["shrink"])], [12]),
    ):
        optimizer = new_optimizer(0.5)
        scheduler = build(optimizer)
        on(optimizer, scheduler, 5)
        with pytest.raises(ValueError, match=r"MultiplicativeLR.*horizon"):
            ours.from_scheduler(scheduler)
        agrees(scheduler, optimizer, horizon=AHEAD + 1)


class Halves(lrs.LRScheduler):
    def get_lr(self) -> list[float]:
        return [group["lr"] * 0.5 for group in self.optimizer.param_groups]


def test_what_is_not_torchs_own() -> None:
    optimizer = new_optimizer(0.5)
    scheduler = lrs.SequentialLR(optimizer, [lrs.StepLR(optimizer, 4), Halves(optimizer)], [3])
    with pytest.raises(ValueError, match=r"scheduler\.schedulers\[1\] is a Halves, which is no class of torch.optim"):
        ours.from_scheduler(scheduler)
    optimizer = new_optimizer(0.5)
    scheduler = lrs.ChainedScheduler([lrs.StepLR(optimizer, 4), Halves(optimizer)])
    on(optimizer, scheduler, 3)
    with pytest.raises(ValueError, match=r"schedulers\[1\] is a Halves"):
        ours.from_scheduler(scheduler)
    agrees(scheduler, optimizer, horizon=AHEAD + 1)


def test_the_copy_shares_the_parameters_and_nothing_else() -> None:
    optimizer = torch.optim.Adam([torch.zeros(3, requires_grad=True)], lr=0.5)
    optimizer.param_groups[0]["params"][0].grad = torch.ones(3)
    optimizer.step()
    scheduler = Halves(optimizer)
    s = ours.from_scheduler(scheduler, horizon=4)
    np.testing.assert_allclose(s.table(6), [0.25, 0.125, 0.0625, 0.03125, 0.03125, 0.03125])
    assert (scheduler.last_epoch, optimizer.param_groups[0]["lr"], len(optimizer.state)) == (0, 0.25, 1)


def test_parameter_groups() -> None:
    parameters = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in (0.5, 0.25)]
    optimizer = torch.optim.SGD(parameters)
    scheduler = lrs.LambdaLR(optimizer, [FUNCTIONS["inverse"], FUNCTIONS["halves"]])
    scheduler.step()
    with pytest.raises(ValueError, match=r"2 parameter groups have different rates; write group=0 \.\.\. group=1"):
        ours.from_scheduler(scheduler)
    assert [float(ours.from_scheduler(scheduler, group=g)(1)) for g in (0, 1)] == [np.float32(0.5 / 1.5), 0.0625]
    with pytest.raises(ValueError, match=r"group=2; the optimizer has the groups 0 to 1"):
        ours.from_scheduler(scheduler, group=2)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = 0.5
    assert ours.from_scheduler(lrs.StepLR(optimizer, 3)).table(4).tolist()[0] == 0.5  # alike: no group is needed


def test_rates_that_are_tensors() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=torch.tensor(0.5))
    scheduler = lrs.StepLR(optimizer, 2, 0.5)
    scheduler.step()
    assert ours.from_scheduler(scheduler).table(4).tolist() == [0.5, 0.25, 0.25, 0.125]


def test_right_instead_of_exact() -> None:
    optimizer = new_optimizer(1.0)
    scheduler = lrs.CosineAnnealingLR(optimizer, 10)
    on(optimizer, scheduler, 5)
    s = ours.from_scheduler(scheduler, peer_exact=False)
    assert (float(s(0)), float(s(5)), float(s(9))) == (pytest.approx(0.5), 0.0, 0.0)
    on(optimizer, scheduler, 9)  # it has risen again: the rate in force holds
    s = ours.from_scheduler(scheduler, peer_exact=False)
    assert float(s(0)) == float(s(50)) == pytest.approx(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("seed", range(6))
def test_plateau(seed: int) -> None:
    """A live plateau in mid-run: the transformation goes on as it does."""
    rng = np.random.default_rng(seed)
    optimizer = new_optimizer(0.5)
    arguments = {
        "mode": ["min", "max"][seed % 2], "factor": 0.5, "patience": number(rng, 0, 3), "cooldown": number(rng, 0, 3),
        "min_lr": 0.01, "threshold": 0.05, "threshold_mode": ["rel", "abs"][seed % 3 % 2],
    }  # fmt: skip
    scheduler = lrs.ReduceLROnPlateau(optimizer, **arguments)
    metrics = rng.random(60).round(2)
    for metric in metrics[:20]:
        scheduler.step(metric)
    made = ours.from_scheduler(scheduler)
    chain = optax.chain(optax.identity(), made)
    state = chain.init(jnp.zeros(2))
    for metric in metrics[20:]:
        assert float(js.current_hyperparams(state)["learning_rate"]) == pytest.approx(optimizer.param_groups[0]["lr"])
        scheduler.step(metric)
        state = js.observe(state, value=float(metric))
    updates, state = jax.jit(chain.update)(jnp.ones(2), state, jnp.zeros(2))
    assert float(updates[0]) == pytest.approx(-optimizer.param_groups[0]["lr"])


def test_a_plateau_inside_is_refused_by_torch_and_here() -> None:
    optimizer = new_optimizer(0.5)
    plateau, step = lrs.ReduceLROnPlateau(optimizer), lrs.StepLR(optimizer, 3)
    for make in (
        lambda: lrs.ChainedScheduler([step, plateau]),
        lambda: lrs.SequentialLR(optimizer, [step, plateau], [3]),
    ):
        with pytest.raises(ValueError, match="does not support"):
            make()


def test_faults_that_stop_torch() -> None:
    """Where torch raises, ours goes on."""
    optimizer = new_optimizer(1.0)
    assert len(on(optimizer, lrs.ConstantLR(optimizer, 0.0, 3), 9)) == 3  # ZeroDivisionError
    assert ours.ConstantLR(1.0, 0.0, 3).table(5).tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    optimizer = new_optimizer(1.0)
    outer = sequence(LEAVES["ConstantLR"], sequence(plain, plain))(np.random.default_rng(0))(optimizer)
    assert len(on(optimizer, outer, 40)) < 40  # NotImplementedError
    late = ours.SequentialLR([ours.StepLR(0.5, 3), ours.LinearLR(0.5, 0.5, total_iters=2)], [1])
    assert ours.SequentialLR([ours.ConstantLR(0.5, 0.5, 9), late], [2]).table(6).tolist() == [
        0.25, 0.25, 0.5, 0.25, 0.375, 0.5,
    ]  # fmt: skip


def test_restarts_by_epoch() -> None:
    """`step(363)` gives eta_min, where `step()` restarts."""
    optimizer = new_optimizer(1.0)
    scheduler = lrs.CosineAnnealingWarmRestarts(optimizer, 3, 3)
    scheduler.step(363)
    assert optimizer.param_groups[0]["lr"] < 1e-12
    assert float(ours.CosineAnnealingWarmRestarts(1.0, 3, 3)(363)) == 1.0
    agrees(scheduler, optimizer)  # as it stands: at the end of its cycle


@pytest.mark.parametrize("name", ["ExponentialLR", "CosineAnnealingLR", "LambdaLR", "PolynomialLR"])
def test_last_epoch(name: str) -> None:
    """A scheduler made anew with `last_epoch`, on an optimizer that has its rate."""
    rng = np.random.default_rng(5)
    make = {"ExponentialLR": lambda o, e: lrs.ExponentialLR(o, 0.9, e),
            "CosineAnnealingLR": lambda o, e: lrs.CosineAnnealingLR(o, 90, 0.01, e),
            "LambdaLR": lambda o, e: lrs.LambdaLR(o, FUNCTIONS["inverse"], e),
            "PolynomialLR": lambda o, e: lrs.PolynomialLR(o, 90, 2.0, e)}[name]  # fmt: skip
    optimizer = new_optimizer(rate(rng))
    on(optimizer, make(optimizer, -1), 10)
    agrees(make(optimizer, 9), optimizer)
