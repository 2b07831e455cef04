"""What `compat.transformers` takes from transformers beyond its curves, beside the live peer: `make parity`."""

from __future__ import annotations

import inspect
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.compat import transformers as ours

from .cases_transformers import optimizer, run

theirs: Any = pytest.importorskip("transformers.optimization")
NAMES = [function.__name__ for function in theirs.TYPE_TO_SCHEDULER_FUNCTION.values()]


def test_every_function_is_there() -> None:
    assert len(NAMES) == 12
    found = {kind.value: function.__name__ for kind, function in theirs.TYPE_TO_SCHEDULER_FUNCTION.items()}
    assert found == {kind: function.__name__ for kind, (function, _) in ours._SCHEDULERS.items()}


@pytest.mark.parametrize("name", [*NAMES, "get_scheduler"])
def test_the_arguments_are_the_peers(name: str) -> None:
    """By name, in their order, with their defaults."""
    peers = {
        "get_greedy_schedule": theirs.GreedyLR,
        "get_reduce_on_plateau_schedule": theirs.ReduceLROnPlateau,
    }
    peer = inspect.signature(peers.get(name, getattr(theirs, name))).parameters
    mine = {n: p for n, p in inspect.signature(getattr(ours, name)).parameters.items() if n != "peer_exact"}
    assert list(mine) == ["lr" if n == "optimizer" else n for n in peer]
    for argument, parameter in mine.items():
        if (name, argument) != ("get_greedy_schedule", "min_lr") and argument != "lr":
            assert parameter.default == peer[argument].default, argument


def test_a_polynomial_of_no_decay_crashes() -> None:
    arguments = {"lr": 0.1, "num_warmup_steps": 3, "num_training_steps": 3}
    with pytest.raises(ZeroDivisionError):
        run("get_polynomial_decay_schedule_with_warmup", arguments, 5)
    assert np.all(np.isfinite(ours.get_polynomial_decay_schedule_with_warmup(**arguments).table(9)))


@pytest.mark.parametrize(
    ("name", "lengths", "others"),
    [
        ("linear", (None, 9), {}),
        ("linear", (1, None), {}),
        ("cosines", (1, 9), {}),
        ("polynomial", (1, 9), {"lr_end": 1.0}),
        ("cosine_with_min_lr", (1, 9), {}),
        ("cosine_with_min_lr", (1, 9), {"min_lr": 0.1, "min_lr_rate": 0.1}),
        ("cosine", (1, 9), {"cycles": 1}),
        ("warmup_stable_decay", (1, None), {"num_decay_steps": 3}),
        ("warmup_stable_decay", (1, 9), {"num_decay_steps": 3, "decay_type": "sqrt"}),
        ("warmup_stable_decay", (1, 9), {}),
        ("greedy", (None, None), {"factor": 1.5}),
        ("greedy", (None, None), {"mode": "lowest"}),
    ],
)
def test_what_the_peer_refuses_is_refused(name: str, lengths: tuple[Any, Any], others: dict[str, Any]) -> None:
    for module, rate in ((theirs, optimizer(0.1)), (ours, 0.1)):
        with pytest.raises((ValueError, TypeError)):
            module.get_scheduler(name, rate, *lengths, scheduler_specific_kwargs=others)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", ["greedy", "reduce_lr_on_plateau"])
def test_the_metric_is_heard_alike(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arguments: dict[str, Any] = {
        "factor": float(rng.choice([0.5, 0.9])),
        "patience": int(rng.integers(0, 4)),
        "threshold": float(rng.choice([1e-4, 0.05])),
        "threshold_mode": str(rng.choice(["rel", "abs"])),
        "cooldown": int(rng.integers(0, 3)),
        "mode": str(rng.choice(["min", "max"])),
    }
    if seed % 3:
        arguments["min_lr"] = 0.02
    peer = theirs.get_scheduler(name, optimizer(0.5), scheduler_specific_kwargs=arguments)
    mine = ours.get_scheduler(name, 0.5, scheduler_specific_kwargs=arguments, peer_exact=True)
    state = mine.init(jnp.zeros(()))
    for metric in (rng.normal(size=80).cumsum() * 0.1).astype(np.float32).tolist():
        peer.step(metric)
        state = js.observe(state, value=metric)
        rate = float(js.current_hyperparams(state)["learning_rate"])
        assert rate == pytest.approx(peer.optimizer.param_groups[0]["lr"], rel=1e-5), arguments
