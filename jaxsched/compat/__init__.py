"""The schedules of other systems, under their own names and arguments, each a thin definition on the core.

>>> from jaxsched.compat import torch
>>> s = torch.StepLR(lr=0.1, step_size=30, gamma=0.1)
>>> [round(float(s(t)), 6) for t in (0, 29, 30)]
[0.1, 0.1, 0.01]
>>> s
compat.torch.StepLR(lr=0.1, step_size=30)

A system's class is a class here, whose fields are the system's arguments (with `lr` in the place of the optimizer), and
its function is a function here. Where the other system is wrong, these are right; `peer_exact=True` gives its own
numbers. `docs/parity.md` lists every such difference, and how closely all the others agree.

The way back: `to_torch`, `to_keras`, `to_optax` and `to_numpy`.
"""

from __future__ import annotations

import importlib
from typing import Any

from .._errors import nearest_name
from . import others as others
from .out import to_keras as to_keras
from .out import to_numpy as to_numpy
from .out import to_optax as to_optax
from .out import to_torch as to_torch

MODULES = ("torch", "optax", "keras", "tf1", "timm", "transformers", "others")


def __getattr__(name: str) -> Any:
    """A module is loaded when it is first asked for: nobody comes from all of them."""
    if name in MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in others.MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; write compat.others.{name}.")
    names = [*MODULES, *others.MODULES, *(x for x in globals() if x.startswith("to_"))]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {nearest_name(name, names)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES})
