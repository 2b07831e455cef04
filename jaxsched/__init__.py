"""jaxsched: learning-rate schedules for JAX. A schedule is data: a pure `step -> value` function that is a pytree.

>>> import jax, jax.numpy as jnp, optax
>>> import jaxsched as js
>>> s = js.WarmupCosine(peak_value=3e-4, warmup_steps=2_000, total_steps=100_000)
>>> print(f"{s(1_000):.2e}")                                      # one compiled call
1.50e-04
>>> optimizer = optax.adamw(s)                                    # optax and Flax take it as it is
>>> slope = jax.grad(lambda s: s(51_000), allow_int=True)(s)      # a WarmupCosine of gradients
>>> print(f"{slope.peak_value:.2f}")
0.50
>>> S = js.grid(js.WarmupCosine, peak_value=[1e-4, 3e-4, 1e-3], warmup_steps=[0, 500], total_steps=10_000)
>>> jax.vmap(lambda s: s(jnp.arange(10_000)))(S).shape            # six schedules, one program
(6, 10000)
>>> s.warmup(100).cooldown(at=5_000, steps=500) * 0.5             # put together; printed as it is written
WarmupCosine(peak_value=0.0003, warmup_steps=2000, total_steps=100000).warmup(steps=100).cooldown(at=5000, steps=500) * 0.5
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import fields as fields
from . import schedules as schedules
from ._errors import nearest_name as _nearest_name
from .schedules import Constant as Constant
from .schedules import Cosine as Cosine
from .schedules import CosineWarmRestarts as CosineWarmRestarts
from .schedules import CyclicTriangular as CyclicTriangular
from .schedules import Exponential as Exponential
from .schedules import ExponentialDecay as ExponentialDecay
from .schedules import InverseSqrtDecay as InverseSqrtDecay
from .schedules import InverseTimeDecay as InverseTimeDecay
from .schedules import Lambda as Lambda
from .schedules import Linear as Linear
from .schedules import MultiStepDecay as MultiStepDecay
from .schedules import NaturalExpDecay as NaturalExpDecay
from .schedules import Noam as Noam
from .schedules import OneCycle as OneCycle
from .schedules import OneCycleMomentum as OneCycleMomentum
from .schedules import PiecewiseConstant as PiecewiseConstant
from .schedules import PiecewiseInterpolate as PiecewiseInterpolate
from .schedules import Polynomial as Polynomial
from .schedules import PolynomialDecay as PolynomialDecay
from .schedules import PowerDecay as PowerDecay
from .schedules import Ramp as Ramp
from .schedules import Recipe as Recipe
from .schedules import Rex as Rex
from .schedules import Schedule as Schedule
from .schedules import StepDecay as StepDecay
from .schedules import Tanh as Tanh
from .schedules import TriStage as TriStage
from .schedules import WarmupConstant as WarmupConstant
from .schedules import WarmupCosine as WarmupCosine
from .schedules import WarmupExponential as WarmupExponential
from .schedules import WarmupInverseSqrt as WarmupInverseSqrt
from .schedules import WarmupLinear as WarmupLinear
from .schedules import WarmupPolynomial as WarmupPolynomial
from .schedules import WarmupStableDecay as WarmupStableDecay
from .schedules import grid as grid
from .schedules import join as join
from .schedules import stack as stack
from .schedules import unstack as unstack
from .schedules.structure import PROVIDERS as _PROVIDERS
from .units import Timeline as Timeline
from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import compat as compat
    from . import finder as finder
    from . import inspect as inspect
    from . import optim as optim
    from . import predict as predict
    from . import text as text
    from .finder import find_lr as find_lr
    from .inspect import lint as lint
    from .inspect import plot as plot
    from .optim import adaptive_warmup as adaptive_warmup
    from .optim import by_path as by_path
    from .optim import current_hyperparams as current_hyperparams
    from .optim import greedy as greedy
    from .optim import guard_spikes as guard_spikes
    from .optim import inject_hyperparams as inject_hyperparams
    from .optim import layerwise as layerwise
    from .optim import monitor_gradients as monitor_gradients
    from .optim import observe as observe
    from .optim import reduce_on_plateau as reduce_on_plateau
    from .optim import weight_decay as weight_decay
    from .sweep import SweepResult as SweepResult
    from .sweep import Task as Task
    from .sweep import choice as choice
    from .sweep import int_uniform as int_uniform
    from .sweep import log_uniform as log_uniform
    from .sweep import sample as sample
    from .sweep import sweep as sweep  # the package can be called: to a type checker it is its function
    from .sweep import uniform as uniform
    from .text import ScheduleConfig as ScheduleConfig
    from .text import from_dict as from_dict
    from .text import parse as parse
    from .text import to_dict as to_dict

_LAZY = {
    "finder": "find_lr",
    "inspect": "lint plot",
    "optim": "adaptive_warmup by_path current_hyperparams greedy guard_spikes inject_hyperparams layerwise monitor_gradients observe reduce_on_plateau weight_decay",
    "sweep": "SweepResult Task choice int_uniform log_uniform sample uniform",
    "text": "ScheduleConfig from_dict parse to_dict",
    "": "compat finder inspect optim predict sweep text",
}
"""Names that are imported on first use, by their module."""

_HOME = {name: module for module, names in _LAZY.items() for name in names.split()}

__all__ = sorted({*(name for name in globals() if name[0] != "_"), *_HOME} - {"TYPE_CHECKING", "Any", "importlib"})


def _module(name: str) -> Any:
    return importlib.import_module(f".{name}", __name__)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        if name[0] == "_":  # asked for by tools, such as `__wrapped__`
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = next((m for m in ("schedules", "fields", "optim", "inspect") if name in dir(_module(m))), None)
        hint = f"write jaxsched.{home}.{name}" if home else _nearest_name(name, __all__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {hint}")
    module = _module(_HOME[name] or name)
    value = getattr(module, name) if _HOME[name] else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name[0] == "_")]


_PROVIDERS["compat"] = lambda: _module("compat")
