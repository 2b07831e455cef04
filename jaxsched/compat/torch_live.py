"""A live scheduler of torch, read as a schedule that goes on from where it stands."""

from __future__ import annotations

import bisect
import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._errors import format_value
from ..optim.plateau import reduce_on_plateau
from ..schedules.base import Constant, Schedule
from ..schedules.combine import Product
from ..schedules.cycles import CosineWarmRestarts
from ..schedules.pieces import PiecewiseConstant


def from_scheduler(
    scheduler: Any, *, group: int | None = None, horizon: int | None = None, peer_exact: bool = True
) -> Any:
    """The schedule that a live scheduler of torch follows from here on.

    Formula: `s(0)` is the rate that is in force, and `s(k)` the one after k more calls of `scheduler.step()`.

    It is read from the scheduler's attributes and from its optimizer: the classes of `torch.optim.lr_scheduler` and
    `SWALR`, also inside of each other. A rate that was written into the optimizer by hand counts as it does in torch:
    schedulers that multiply go on from it, and the others set their own at the next step. A `ReduceLROnPlateau` becomes
    the transformation `reduce_on_plateau`, whose first state knows the best metric, the bad epochs and the cooldown.
    The live scheduler is not changed.

    Args:
      scheduler: the scheduler; torch is not imported.
      group: the parameter group whose rate is read. It must be given if the groups differ.
      horizon: for what has no formula, the number of steps that are tabulated, the last of which holds: a function of
        `LambdaLR` that JAX cannot trace, any of `MultiplicativeLR`, and schedulers that are not torch's own, of which a
        copy is stepped (with its optimizer, but not the parameters).
      peer_exact: whether it goes on just as torch would: to rise again after `T_max`, for one. False: as the classes of
        this module do.

    Errors: TypeError for what is no scheduler; ValueError for groups that differ, for a part that cannot be read
    (which one, and why), and for a function that cannot be traced.

    Example:
      >>> from types import SimpleNamespace
      >>> from jaxsched.compat import torch
      >>> optimizer = SimpleNamespace(param_groups=[{"lr": 0.25}])        # as if after two steps from 1.0
      >>> ExponentialLR = type("ExponentialLR", (SimpleNamespace,), {"__module__": "torch.optim.lr_scheduler"})
      >>> live = ExponentialLR(optimizer=optimizer, base_lrs=[1.0], gamma=0.5, last_epoch=2)
      >>> torch.from_scheduler(live)
      compat.torch.ExponentialLR(lr=1.0, gamma=0.5, last_epoch=1)
      >>> torch.from_scheduler(live).table(3).tolist()
      [0.25, 0.125, 0.0625]

    Source: torch.optim.lr_scheduler (2.13).
    """
    if isinstance(scheduler, Schedule):
        raise TypeError("from_scheduler: this is a schedule already: use it as it is.")
    if isinstance(scheduler, dict):
        raise TypeError("from_scheduler: this is a state: load it into a scheduler, and that of its optimizer too.")
    if type(scheduler).__module__.startswith("timm."):
        raise TypeError(
            f"from_scheduler: {type(scheduler).__name__} is one of timm's, whose state is the epoch that it is told: "
            "write it as jaxsched.compat.timm has it, and .shift(-epochs_done)."
        )
    if horizon is not None and (isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1):
        raise ValueError(f"from_scheduler: horizon={format_value(horizon)}; horizon must be an integer, 1 or more.")
    groups = getattr(getattr(scheduler, "optimizer", None), "param_groups", None)
    if groups is None or (_name(scheduler) is None and not callable(getattr(scheduler, "step", None))):
        kind = type(scheduler).__name__
        raise TypeError(f"from_scheduler: a {kind} is no scheduler of torch: it must have an optimizer and step().")
    chosen = range(len(groups)) if group is None else [group]
    if group is not None and (isinstance(group, bool) or group not in range(len(groups))):
        raise ValueError(
            f"from_scheduler: group={format_value(group)}; the optimizer has the groups 0 to {len(groups) - 1}."
        )
    if _name(scheduler) == "ReduceLROnPlateau":
        return _plateau(scheduler, chosen)
    read = [_Reader(scheduler, g, horizon, peer_exact).schedule() for g in chosen]
    _refuse_different(all(_alike(read[0], other) for other in read[1:]), len(read))
    return read[0]


def _refuse_different(alike: bool, count: int) -> None:
    if not alike:
        raise ValueError(
            f"from_scheduler: the {count} parameter groups have different rates; write group=0 ... group={count - 1}, "
            "and read each by itself."
        )


def _alike(a: Any, b: Any) -> bool:
    (xs, one), (ys, other) = jax.tree.flatten(a), jax.tree.flatten(b)
    return one == other and all(np.array_equal(x, y) for x, y in zip(xs, ys, strict=True))


_NAMES = (
    "LambdaLR MultiplicativeLR StepLR MultiStepLR ConstantLR LinearLR ExponentialLR PolynomialLR CosineAnnealingLR "
    "CosineAnnealingWarmRestarts CyclicLR OneCycleLR SWALR ReduceLROnPlateau SequentialLR ChainedScheduler"
).split()


def _name(live: Any) -> str | None:
    """The name of a class of torch; None for a subclass of it, which may do anything."""
    kind = type(live)
    return kind.__name__ if kind.__module__.startswith("torch.optim.") and kind.__name__ in _NAMES else None


class _CannotRead(Exception):
    """What has no formula, and where it stands."""


class _Reader:
    """One parameter group of a live scheduler, with whatever is in it."""

    def __init__(self, scheduler: Any, group: int, horizon: int | None, exact: bool):
        from . import torch

        self.torch, self.scheduler, self.group, self.horizon, self.exact = torch, scheduler, group, horizon, exact
        self.rate = float(scheduler.optimizer.param_groups[group]["lr"])

    def schedule(self) -> Schedule:
        try:
            return self._goes_on(self.scheduler, self.rate, "the scheduler")
        except _CannotRead as error:
            if self.horizon is not None:
                return _tabulated(self.scheduler, self.group, self.horizon)
            raise ValueError(
                f"from_scheduler: {error}. Give horizon=N to have the next N steps of a copy tabulated; the live "
                "scheduler is not touched."
            ) from error.__cause__

    # --- one part, as it stands, or as it begins ---------------------------------------------------------------------

    def _part(self, live: Any, path: str, fresh: bool = False) -> Any:
        """The part with its own `lr`, whatever the rate in force is."""
        name = _name(live)
        if name is None or name == "ReduceLROnPlateau":
            what = "listens to a metric" if name else "is no class of torch.optim.lr_scheduler"
            raise _CannotRead(f"{path} is a {type(live).__name__}, which {what}, so that it cannot be read")
        try:
            return getattr(self, f"_{name}")(live, path, fresh)
        except (ValueError, TypeError) as error:
            raise _CannotRead(f"{path} cannot be read: {str(error).rstrip('.')}") from error

    def _base(self, live: Any) -> float:
        return float(live.base_lrs[self.group])

    def _clock(self, live: Any, fresh: bool) -> int:
        """The `last_epoch` that makes a schedule start at the step where the scheduler stands."""
        return -1 if fresh else live.last_epoch - 1

    def _StepLR(self, live: Any, path: str, fresh: bool) -> Schedule:
        return self.torch.StepLR(self._base(live), live.step_size, live.gamma, self._clock(live, fresh))

    def _MultiStepLR(self, live: Any, path: str, fresh: bool) -> Schedule:
        milestones = sorted(live.milestones.elements())
        clock = self._clock(live, fresh)
        return self.torch.MultiStepLR(self._base(live), milestones, live.gamma, clock, self.exact)

    def _ConstantLR(self, live: Any, path: str, fresh: bool) -> Schedule:
        clock = self._clock(live, fresh)
        return self.torch.ConstantLR(self._base(live), live.factor, live.total_iters, clock, self.exact)

    def _LinearLR(self, live: Any, path: str, fresh: bool) -> Schedule:
        factors = live.start_factor, live.end_factor
        return self.torch.LinearLR(self._base(live), *factors, live.total_iters, self._clock(live, fresh), self.exact)

    def _ExponentialLR(self, live: Any, path: str, fresh: bool) -> Schedule:
        return self.torch.ExponentialLR(self._base(live), live.gamma, self._clock(live, fresh))

    def _PolynomialLR(self, live: Any, path: str, fresh: bool) -> Schedule:
        clock = self._clock(live, fresh)
        return self.torch.PolynomialLR(self._base(live), live.total_iters, live.power, clock, self.exact)

    def _CosineAnnealingLR(self, live: Any, path: str, fresh: bool) -> Schedule:
        clock = self._clock(live, fresh)
        return self.torch.CosineAnnealingLR(self._base(live), live.T_max, live.eta_min, clock, self.exact)

    def _CosineAnnealingWarmRestarts(self, live: Any, path: str, fresh: bool) -> Schedule:
        first = live.T_0 if fresh else live.T_i
        here = CosineWarmRestarts(self._base(live), first, live.T_mult, live.eta_min)
        if not fresh and (live.T_cur, live.T_i) != _place(live.last_epoch, live.T_0, live.T_mult):
            return here.shift(-live.T_cur)  # in a cycle of a length that `step` alone does not lead to
        lengths = live.T_0, live.T_mult
        clock = self._clock(live, fresh)
        return self.torch.CosineAnnealingWarmRestarts(self._base(live), *lengths, live.eta_min, clock)

    def _CyclicLR(self, live: Any, path: str, fresh: bool) -> Schedule:
        up = _near_integer(live.total_size * live.step_ratio)
        g, custom = self.group, live._scale_fn_custom
        momenta = {}
        if live.cycle_momentum:
            momenta = {"base_momentum": live.base_momentums[g], "max_momentum": live.max_momentums[g]}
        return self.torch.CyclicLR(
            float(live.base_lrs[g]),
            float(live.max_lrs[g]),
            up,
            _near_integer(live.total_size - up),
            live.mode if custom is None else "triangular",
            live.gamma,
            scale_fn=custom,
            scale_mode="cycle" if custom is None else live.scale_mode,
            cycle_momentum=live.cycle_momentum,
            last_epoch=self._clock(live, fresh),
            **momenta,
        )

    def _OneCycleLR(self, live: Any, path: str, fresh: bool) -> Schedule:
        values = live.optimizer.param_groups[self.group]
        first, peak, last = (float(values[key]) for key in ("initial_lr", "max_lr", "min_lr"))
        momenta = {key: values[key] for key in ("base_momentum", "max_momentum") if live.cycle_momentum}
        return self.torch.OneCycleLR(
            peak,
            live.total_steps,
            pct_start=(live._schedule_phases[0]["end_step"] + 1) / live.total_steps,
            anneal_strategy=live._anneal_func_type,
            cycle_momentum=live.cycle_momentum,
            div_factor=peak / first,
            final_div_factor=first / last,
            three_phase=len(live._schedule_phases) == 3,
            last_epoch=self._clock(live, fresh),
            peer_exact=self.exact,
            **momenta,
        )

    def _SWALR(self, live: Any, path: str, fresh: bool) -> Schedule:
        target = float(live.optimizer.param_groups[self.group]["swa_lr"])
        clock = -1 if fresh else live._step_count - 2
        return self.torch.SWALR(self._base(live), target, live.anneal_epochs, live._anneal_strategy, clock)

    def _LambdaLR(self, live: Any, path: str, fresh: bool) -> Schedule:
        fn, start = live.lr_lambdas[self.group], 0 if fresh else live.last_epoch
        fn = getattr(fn, "schedule", fn)  # that of `to_torch` knows what it is a table of
        if self.horizon is None or isinstance(fn, Schedule):
            return self.torch.LambdaLR(self._base(live), fn, start - 1)
        return self.torch.LambdaLR(self._base(live), lambda k: fn(start + k), horizon=self.horizon)

    def _MultiplicativeLR(self, live: Any, path: str, fresh: bool) -> Schedule:
        fn, start = live.lr_lambdas[self.group], 0 if fresh else live.last_epoch
        return self.torch.MultiplicativeLR(self._base(live), lambda k: fn(start + k), horizon=self.horizon)

    def _SequentialLR(self, live: Any, path: str, fresh: bool) -> Schedule:
        """As a part of a chain: the child whose turn it is stands where it stands, and the others begin."""
        now = 0 if fresh else live.last_epoch
        turn = 0 if fresh else bisect.bisect_right(live._milestones, now)
        parts = [self._part(live._schedulers[turn], f"{path}.schedulers[{turn}]", fresh)]
        parts += self._later(live, path, turn)
        return self.torch.SequentialLR(parts, [at - now for at in live._milestones[turn:]])

    def _later(self, live: Any, path: str, turn: int) -> list[Any]:
        children = list(enumerate(live._schedulers))[turn + 1 :]
        return [self._part(child, f"{path}.schedulers[{i}]", fresh=True) for i, child in children]

    def _ChainedScheduler(self, live: Any, path: str, fresh: bool) -> Schedule:
        children = enumerate(live._schedulers)
        return self.torch.ChainedScheduler([self._part(s, f"{path}.schedulers[{i}]", fresh) for i, s in children])

    # --- the whole, from the rate in force on ------------------------------------------------------------------------

    def _goes_on(self, live: Any, rate: float, path: str) -> Schedule:
        name = _name(live)
        if name == "SequentialLR":
            return self._sequence(live, rate, path)
        if name == "ChainedScheduler":
            return self._chain(list(_flat(live, path)), rate)
        part = self._part(live, path)
        if name in _FACTORS:
            return _scaled(live, part, rate)
        if name == "MultiplicativeLR":
            return part.replace(lr=rate)
        if name == "CosineAnnealingLR":
            return self._cosine(live, part, rate)
        if name == "SWALR":
            return _annealed(live, part, rate)
        # The others set the rate, so that one written by hand lasts until the next step; so does that of a restart
        # which `step(epoch)` has missed.
        as_set = rate == float(live._last_lr[self.group])
        missed = name == "CosineAnnealingWarmRestarts" and live.T_cur >= live.T_i
        return part if as_set and not missed else Constant(rate).then(part.shift(-1), at=1)

    def _cosine(self, live: Any, part: Any, rate: float) -> Schedule:
        height = (1 + math.cos(math.pi * live.last_epoch / live.T_max)) / 2
        usual = live.eta_min + (part.lr - live.eta_min) * height
        over = live.last_epoch >= live.T_max
        if math.isclose(rate, usual, rel_tol=1e-12, abs_tol=1e-15 * abs(part.lr)) and (self.exact or not over):
            return part
        if self.exact:
            return self.torch.Chain(rate, (part,))
        return Constant(rate) if over else part.replace(lr=live.eta_min + (rate - live.eta_min) / height)

    def _sequence(self, live: Any, rate: float, path: str) -> Schedule:
        now = live.last_epoch
        turn = bisect.bisect_right(live._milestones, now)
        parts: list[Any] = [self._goes_on(live._schedulers[turn], rate, f"{path}.schedulers[{turn}]")]
        ends = [at - now for at in live._milestones[turn:]]
        later = zip(live._schedulers[turn + 1 :], self._later(live, path, turn), strict=True)
        for i, (child, part) in enumerate(later):
            if _name(child) == "MultiplicativeLR" and self.exact:  # it multiplies on from the rate that it finds
                found = float(self._joined(parts, ends[:i])(ends[i] - 1))
                part = part.replace(lr=found * float(child.lr_lambdas[self.group](0)))
            parts.append(part)
        return self._joined(parts, ends)

    def _joined(self, parts: list[Any], ends: list[int]) -> Schedule:
        return self.torch.SequentialLR(parts, ends) if ends else parts[0]

    def _chain(self, children: list[tuple[Any, str]], rate: float) -> Schedule:
        parts = [self._part(live, path) for live, path in children]
        if not all(self.torch._scales(part) for part in parts):
            return self.torch.Chain(rate, parts)
        factors = []
        for (live, _), part in zip(children, parts, strict=True):
            factor = _FACTORS.get(_name(live) or "", lambda live: 1.0)(live)
            if not _is_over(live):
                factors.append(part.replace(lr=1 / factor if factor else 1.0))
        return Product((Constant(rate), *factors)) if factors else Constant(rate)


# --- arithmetic on the host, in float64 ------------------------------------------------------------------------------


def _flat(live: Any, path: str) -> Any:
    for i, child in enumerate(live._schedulers):
        here = f"{path}.schedulers[{i}]"
        yield from _flat(child, here) if _name(child) == "ChainedScheduler" else [(child, here)]


def _near_integer(x: float) -> float | int:
    return round(x) if abs(x - round(x)) < 1e-6 else x


def _place(epoch: int, first: int, mult: int) -> tuple[int, int]:
    """How far `epoch` is in its cycle, and how long that is."""
    length = first
    if mult == 1:
        return epoch % first, first
    while epoch >= length:
        epoch, length = epoch - length, length * mult
    return epoch, length


# What the scheduler makes of a rate of 1 by the step where it stands.
_FACTORS: dict[str, Callable[[Any], float]] = {
    "StepLR": lambda live: live.gamma ** (live.last_epoch // live.step_size),
    "MultiStepLR": lambda live: (
        live.gamma ** sum(n for at, n in live.milestones.items() if at <= live.last_epoch and at % 1 == 0)
    ),
    "ConstantLR": lambda live: live.factor,
    "LinearLR": lambda live: (
        live.start_factor + (live.end_factor - live.start_factor) * live.last_epoch / max(live.total_iters, 1)
    ),
    "ExponentialLR": lambda live: live.gamma**live.last_epoch,
    "PolynomialLR": lambda live: (1 - live.last_epoch / max(live.total_iters, 1)) ** live.power,
}


def _is_over(live: Any) -> bool:
    """Whether it has no further effect."""
    return _name(live) in ("ConstantLR", "LinearLR", "PolynomialLR") and live.last_epoch >= live.total_iters


def _scaled(live: Any, part: Any, rate: float) -> Schedule:
    """The part with the `lr` that would have led to the rate in force."""
    if _is_over(live):
        return Constant(rate)
    factor = _FACTORS[_name(live) or ""](live)
    if factor == 0 or math.isclose(rate, part.lr * factor, rel_tol=1e-12):
        return part
    return part.replace(lr=rate / factor)


def _annealed(live: Any, part: Any, rate: float) -> Schedule:
    done = min(1.0, (part.last_epoch + 1) / live.anneal_epochs) if live.anneal_epochs else 1.0
    left = 1 - done if live._anneal_strategy == "linear" else (1 + math.cos(math.pi * done)) / 2
    if done == 1:  # at every step the rate is set
        return Constant(rate) if rate == part.swa_lr else Constant(rate).then(Constant(part.swa_lr), at=1)
    return part.replace(lr=part.swa_lr + (rate - part.swa_lr) / left)


def _tabulated(scheduler: Any, group: int, horizon: int) -> Schedule:
    """The rates of the next steps of a copy, whose optimizer is one too, but not the parameters and their state."""
    groups = scheduler.optimizer.param_groups
    kept = {id(p): p for g in groups for p in g["params"]}
    kept[id(scheduler.optimizer.state)] = {}
    twin = copy.deepcopy(scheduler, kept)
    if twin.optimizer is scheduler.optimizer:
        raise ValueError("from_scheduler: the scheduler cannot be copied without its optimizer; copy it by hand.")
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimizer makes no step
        for _ in range(horizon):
            rates.append(float(twin.optimizer.param_groups[group]["lr"]))
            try:
                twin.step()
            except Exception as error:
                if len(rates) < horizon:
                    kind = f"{type(error).__name__}: {error}"
                    raise ValueError(
                        f"from_scheduler: a copy of the scheduler stops after {len(rates)} steps ({kind}); write "
                        f"horizon={len(rates)}."
                    ) from error
    return PiecewiseConstant(np.arange(1, horizon), np.array(rates))


def _plateau(live: Any, groups: Any) -> optax.GradientTransformationExtraArgs:
    rates = {(float(live.optimizer.param_groups[g]["lr"]), float(live.min_lrs[g])) for g in groups}
    _refuse_different(len(rates) == 1, len(groups))
    ((rate, lowest),) = rates
    made = reduce_on_plateau(
        rate,
        mode=live.mode,
        factor=live.factor,
        patience=live.patience,
        threshold=live.threshold,
        threshold_mode=live.threshold_mode,
        cooldown=live.cooldown,
        min_lr=lowest,
        eps=live.eps,
    )
    best, counts = float(live.best), (live.num_bad_epochs, live.cooldown_counter, live.last_epoch)

    def init(params: Any) -> Any:
        bad, cooling, observed = (jnp.asarray(int(n), jnp.int32) for n in counts)
        state: Any = made.init(params)
        return state._replace(
            best=jnp.asarray(best, jnp.float32), bad_count=bad, cooldown_count=cooling, observed_count=observed
        )

    return optax.GradientTransformationExtraArgs(init, made.update)
