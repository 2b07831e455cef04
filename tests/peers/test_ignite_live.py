"""`compat.others.ignite` beside Ignite itself, where its values are told by a metric."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import jaxsched as js
from jaxsched.compat.others import ignite as ours

pytest.importorskip("ignite")
LOSSES = [1.0, 0.9, 0.95, 0.9, 0.85, 0.9, 0.9, 0.9, 0.9, 0.9]


@pytest.mark.parametrize("peer_exact", [False, True])
def test_plateau(peer_exact: bool) -> None:
    """Ignite drops `min_lr`; torch, which it wraps, does not."""
    import torch
    from ignite.handlers.param_scheduler import ReduceLROnPlateauScheduler

    more = {"factor": 0.5, "patience": 1, "min_lr": 0.3}
    if peer_exact:
        theirs = [value for _, value in ReduceLROnPlateauScheduler.simulate_values(len(LOSSES), LOSSES, 1.0, **more)]
    else:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        scheduler, theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **more), []
        for loss in LOSSES:
            scheduler.step(loss)
            theirs.append(optimizer.param_groups[0]["lr"])
    transformation = ours.ReduceLROnPlateauScheduler(1.0, peer_exact=peer_exact, **more)
    state, seen = transformation.init(jnp.ones(())), []
    for loss in LOSSES:
        state = js.observe(state, value=loss)
        seen.append(float(js.current_hyperparams(state)["learning_rate"]))
    assert seen == pytest.approx(theirs)


def test_schedulers_that_go_on_from_the_last_rate_begin_wrong() -> None:
    """What `LRScheduler` says about Ignite: the first rate of a cosine from 1 is 1.17, and PolynomialLR's is 0.8."""
    import torch
    from ignite.handlers.param_scheduler import LRScheduler

    def first(name: str) -> float:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        return LRScheduler.simulate_values(1, getattr(torch.optim.lr_scheduler, name)(optimizer, 4))[0][1]

    assert first("CosineAnnealingLR") == pytest.approx(1.17157287525381)
    assert first("PolynomialLR") == pytest.approx(0.8)
