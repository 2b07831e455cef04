"""optax.schedules, live, under x64: in float32 Optax loses digits that ours keep."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from jaxsched.compat import optax as ours
from tests.cases import x64

from .harness import Case, Difference, f32, rates

PEER = "optax"

values = st.just(0.0) | rates()
counts = st.integers(1, 60)
begins = st.integers(-3, 20)


def version() -> str:
    import optax

    return optax.__version__


def run(name: str, arguments: dict[str, Any], steps: int) -> Any:
    """Step by step (Optax's piecewise interpolation is wrong on an array of steps), all at once."""
    import optax

    with x64():
        schedule = getattr(optax.schedules, name)(**arguments)
        return np.broadcast_to(jax.vmap(schedule)(jnp.arange(steps)), (steps,))


def case(name: str, draw: dict[str, Any] | st.SearchStrategy[Any], numeric: str, label: str = "", **more: Any) -> Case:
    return Case(
        f"{name} {label}".strip(),
        getattr(ours, name),
        lambda arguments, steps: run(name, arguments, steps),
        st.fixed_dictionaries(draw) if isinstance(draw, dict) else draw,
        tuple(numeric.split()),
        **more,
    )


# --- arguments that a JSON file cannot hold as they are --------------------------------------------------------------


def tabled(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Ours of a pair, whose numbers can be traced, and theirs of a dictionary."""

    def our_own(boundaries: Any, scales: Any, **arguments: Any) -> Any:
        return getattr(ours, name)(**arguments, boundaries_and_scales=(boundaries, scales))

    def their_own(arguments: dict[str, Any], steps: int) -> Any:
        arguments = dict(arguments)
        table = dict(zip(arguments.pop("boundaries"), arguments.pop("scales"), strict=True))
        return run(name, {**arguments, "boundaries_and_scales": table}, steps)

    return our_own, their_own


TABLE = {
    "init_value": values,
    "boundaries": st.lists(st.integers(0, 100), min_size=3, max_size=3, unique=True),  # in any order
    "scales": st.lists(st.just(0.0) | f32(0.05, 2), min_size=3, max_size=3),
}


def joined(schedules: list[list[Any]], boundaries: list[int]) -> Any:
    return ours.join_schedules([ours.linear_schedule(*row) for row in schedules], boundaries)


def their_join(arguments: dict[str, Any], steps: int) -> Any:
    import optax

    with x64():
        parts = [optax.schedules.linear_schedule(*row) for row in arguments["schedules"]]
        return jax.vmap(optax.schedules.join_schedules(parts, arguments["boundaries"]))(jnp.arange(steps))


def warmup_cosine(**more: Any) -> st.SearchStrategy[dict[str, Any]]:
    """The cosine's own length is drawn: at the end of a longer one Optax's 1 + cos has lost its digits."""
    drawn = {"init_value": values, "peak_value": values, "warmup_steps": st.integers(0, 30), "length": counts}
    drawn |= {"end_value": values, "exponent": st.just(1.0) | f32(0.5, 3)}

    def whole(d: dict[str, Any]) -> dict[str, Any]:
        length = d.pop("length")
        return {**d, "decay_steps": d["warmup_steps"] + length}

    return st.fixed_dictionaries(drawn).map(whole)


# --- the plateau: the scale after each metric ------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="peer_exact")
def scales(numbers: dict[str, Any], metrics: Any, peer_exact: bool) -> Any:
    optimizer = ours.contrib.reduce_on_plateau(**numbers, peer_exact=peer_exact)
    one = jnp.ones(())

    def update(state: Any, metric: Any) -> Any:
        updates, state = optimizer.update(one, state, value=metric)
        return state, updates

    return jax.lax.scan(update, optimizer.init(one), metrics)[1]


def plateau(metrics: Any, peer_exact: bool = False, **numbers: Any) -> Callable[[Any], Any]:
    def at(steps: Any) -> Any:
        with jax.disable_jit(False):  # one compilation for all, even where the schedules are not compiled
            return scales(numbers, jnp.asarray(metrics, float), peer_exact)[steps]

    return at


def their_plateau(arguments: dict[str, Any], steps: int) -> list[float]:
    import optax

    arguments = dict(arguments)
    metrics = arguments.pop("metrics")
    found = []
    with x64(), jax.disable_jit():  # whose branches are compiled anew on each update
        optimizer = optax.contrib.reduce_on_plateau(**arguments)
        state = optimizer.init(jnp.ones(()))
        for metric in metrics[:steps]:
            updates, state = optimizer.update(jnp.ones(()), state, value=metric)
            found.append(float(updates))
    return found


PLATEAU = {
    "factor": st.sampled_from([0.5, 0.25, 0.125]),  # whose powers float32 holds: ours keeps its scale in it
    "patience": st.integers(0, 4),
    "rtol": f32(0.001, 0.3),
    "atol": st.just(0.0) | f32(0.001, 0.3),
    "cooldown": st.integers(0, 3),
    "accumulation_size": st.integers(1, 3),
    "min_scale": st.just(0.0) | f32(0.001, 0.3),
    # Falling more often than rising, in parts of a size that no tolerance meets by accident.
    "metrics": st.lists(st.integers(-9, 6), min_size=32, max_size=32).map(
        lambda moves: [float(m) for m in np.float32(4 + np.cumsum(moves) / 64)]
    ),
}


def plateau_fault(arguments: dict[str, Any], steps: np.ndarray) -> np.ndarray:
    """Optax's patience of 0 cuts when a metric is better, and a negative metric need not move to be better."""
    return np.full(steps.shape, arguments["patience"] == 0 or min(arguments["metrics"]) < 0)


# --- the list --------------------------------------------------------------------------------------------------------


def colliding(*shares: str) -> Callable[[dict[str, Any], np.ndarray], np.ndarray]:
    """Whether two phases end at one step, or in the wrong order: all steps are wrong then, or most."""

    def fault(arguments: dict[str, Any], steps: np.ndarray) -> np.ndarray:
        total = arguments["transition_steps"]
        ends = [int(arguments[share] * total) for share in shares] + [total]
        return np.full(steps.shape, len(set(ends)) < len(ends))

    return fault


EXPONENTIAL = {
    "transition_steps": st.integers(-1, 50),
    "decay_rate": st.just(0.0) | f32(0.3, 1.2),
    "transition_begin": begins,
}
ONE_CYCLE = {
    "transition_steps": st.integers(1, 60),
    "peak_value": rates(),
    "pct_start": f32(0, 1),
    "div_factor": f32(0.5, 50),
    "final_div_factor": f32(0.5, 1000),
}
constant, their_constant = tabled("piecewise_constant_schedule")
interpolated, their_interpolated = tabled("piecewise_interpolate_schedule")

CASES = [
    case("constant_schedule", {"value": values}, "value"),
    case(
        "polynomial_schedule",
        {
            "init_value": values,
            "end_value": values,
            "power": f32(0.25, 4),
            "transition_steps": st.integers(-2, 100),
            "transition_begin": begins,
        },
        "init_value end_value power transition_steps transition_begin",
    ),
    case(
        "linear_schedule",
        {
            "init_value": values,
            "end_value": values,
            "transition_steps": st.integers(-2, 100),
            "transition_begin": begins,
        },
        "init_value end_value transition_steps transition_begin",
    ),
    case(
        "exponential_decay",
        {"init_value": values, **EXPONENTIAL},
        "init_value transition_steps decay_rate transition_begin",
    ),
    case(
        "exponential_decay",
        {"init_value": values, **EXPONENTIAL, "staircase": st.just(True), "end_value": values},
        "init_value transition_steps decay_rate transition_begin end_value",
        "staircase end_value",
    ),
    case(
        "cosine_decay_schedule",
        {
            "init_value": values,
            "decay_steps": st.integers(1, 80),
            "alpha": st.just(0.0) | f32(0, 2),  # below 0 the value crosses 0, where all digits are lost
            "exponent": st.just(1.0) | f32(0.5, 3),
        },
        "init_value decay_steps alpha exponent",
    ),
    case(
        "warmup_constant_schedule",
        {"init_value": values, "peak_value": rates(), "warmup_steps": st.integers(0, 100)},
        "init_value peak_value warmup_steps",
        fault=lambda a, t: np.full(t.shape, a["warmup_steps"] == 0),
    ),
    case(
        "warmup_cosine_decay_schedule",
        warmup_cosine(),
        "init_value peak_value warmup_steps decay_steps end_value exponent",
    ),
    case(
        "warmup_exponential_decay_schedule",
        {"init_value": values, "peak_value": values, "warmup_steps": st.integers(0, 40), **EXPONENTIAL},
        "init_value peak_value warmup_steps transition_steps decay_rate transition_begin",
    ),
    case(
        "warmup_exponential_decay_schedule",
        {
            "init_value": values,
            "peak_value": values,
            "warmup_steps": st.integers(0, 40),
            **EXPONENTIAL,
            "staircase": st.just(True),
            "end_value": values,
        },
        "init_value peak_value warmup_steps transition_steps decay_rate transition_begin end_value",
        "staircase end_value",
    ),
    case(
        "sgdr_schedule",
        {"cosine_kwargs": st.lists(warmup_cosine(), min_size=2, max_size=2)},
        " ".join(
            f"cosine_kwargs/{i}/{name}"
            for i in range(2)
            for name in "init_value peak_value warmup_steps decay_steps end_value exponent".split()
        ),
        steps=192,
    ),
    Case(
        "join_schedules",
        joined,
        their_join,
        st.fixed_dictionaries(
            {
                "schedules": st.lists(st.tuples(values, values, st.integers(0, 60)).map(list), min_size=3, max_size=3),
                "boundaries": st.lists(st.integers(0, 100), min_size=2, max_size=2, unique=True).map(sorted),
            }
        ),
        ("schedules/0/0", "schedules/1/1", "schedules/1/2", "schedules/2/0", "boundaries/0", "boundaries/1"),
    ),
    Case(
        "piecewise_constant_schedule",
        constant,
        their_constant,
        st.fixed_dictionaries(TABLE),
        ("init_value", "boundaries", "scales"),
    ),
    *(
        Case(
            f"piecewise_interpolate_schedule {kind}",
            interpolated,
            their_interpolated,
            st.fixed_dictionaries({"interpolate_type": st.just(kind), **TABLE}),
            ("init_value", "boundaries", "scales"),
        )
        for kind in ("linear", "cosine")
    ),
    case(
        "linear_onecycle_schedule",
        st.fixed_dictionaries({**ONE_CYCLE, "pct_final": f32(0, 1)}).map(
            lambda d: d | dict(zip(("pct_start", "pct_final"), sorted([d["pct_start"], d["pct_final"]]), strict=True))
        ),
        "transition_steps peak_value pct_start pct_final div_factor final_div_factor",
        fault=colliding("pct_start", "pct_final"),
    ),
    case(
        "cosine_onecycle_schedule",
        ONE_CYCLE,
        "transition_steps peak_value pct_start div_factor final_div_factor",
        fault=colliding("pct_start"),
    ),
    Case(
        "contrib.reduce_on_plateau",
        plateau,
        their_plateau,
        st.fixed_dictionaries(PLATEAU),
        ("factor", "patience", "rtol", "atol", "cooldown", "accumulation_size", "min_scale", "metrics"),
        steps=32,
        fault=plateau_fault,
    ),
]

NUMBERS = {"factor": 0.5, "rtol": 0.1, "atol": 0.0, "cooldown": 0, "accumulation_size": 1, "min_scale": 0.0}

DIFFERENCES = [
    Difference(
        "warmup_constant_schedule",
        {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 0},
        10,
        "without a warmup it stays at init_value, and never comes to its peak",
    ),
    Difference(
        "linear_onecycle_schedule",
        {"transition_steps": 10, "peak_value": 1.0, "pct_start": 0.3, "pct_final": 0.35},
        2,
        "two phases that end at one step are one key of a dictionary, and the peak is lost",
    ),
    Difference(
        "linear_onecycle_schedule",
        {"transition_steps": 10, "peak_value": 1.0, "pct_start": 0.3, "pct_final": 1.0},
        10,
        "with pct_final=1 the way back is lost, and the last value is div_factor times too high",
    ),
    Difference(
        "cosine_onecycle_schedule",
        {"transition_steps": 10, "peak_value": 1.0, "pct_start": 1.0},
        9,
        "with pct_start=1 the peak is lost, and the value only falls",
    ),
    Difference(
        "contrib.reduce_on_plateau",
        {**NUMBERS, "patience": 2, "metrics": [-1.0] * 32},
        10,
        "a negative metric that does not move is ever better under rtol, and never makes a cut",
    ),
    Difference(
        "contrib.reduce_on_plateau",
        {**NUMBERS, "patience": 0, "metrics": [4.0 - 0.5 * i for i in range(5)]},
        4,
        "a patience of 0 cuts whenever the metric is better",
    ),
]
