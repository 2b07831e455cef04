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

from . import schedules as schedules
from .schedules import ChebyshevSteps as ChebyshevSteps
from .schedules import Clip as Clip
from .schedules import Constant as Constant
from .schedules import Cooldown as Cooldown
from .schedules import Cosine as Cosine
from .schedules import CosineWarmRestarts as CosineWarmRestarts
from .schedules import CyclicTriangular as CyclicTriangular
from .schedules import Exponential as Exponential
from .schedules import ExponentialDecay as ExponentialDecay
from .schedules import Hold as Hold
from .schedules import InfiniteSchedule as InfiniteSchedule
from .schedules import InverseSqrtDecay as InverseSqrtDecay
from .schedules import InverseTimeDecay as InverseTimeDecay
from .schedules import Join as Join
from .schedules import Lambda as Lambda
from .schedules import Linear as Linear
from .schedules import MultiStepDecay as MultiStepDecay
from .schedules import NaturalExpDecay as NaturalExpDecay
from .schedules import Noam as Noam
from .schedules import Noise as Noise
from .schedules import OneCycle as OneCycle
from .schedules import OneCycleMomentum as OneCycleMomentum
from .schedules import PerEpoch as PerEpoch
from .schedules import PiecewiseConstant as PiecewiseConstant
from .schedules import PiecewiseInterpolate as PiecewiseInterpolate
from .schedules import Polynomial as Polynomial
from .schedules import PolynomialDecay as PolynomialDecay
from .schedules import PowerDecay as PowerDecay
from .schedules import PowerSchedule as PowerSchedule
from .schedules import Product as Product
from .schedules import Ramp as Ramp
from .schedules import Recipe as Recipe
from .schedules import Repeat as Repeat
from .schedules import Rex as Rex
from .schedules import Schedule as Schedule
from .schedules import Shift as Shift
from .schedules import SilverSteps as SilverSteps
from .schedules import StepDecay as StepDecay
from .schedules import Sum as Sum
from .schedules import Tanh as Tanh
from .schedules import TriStage as TriStage
from .schedules import UntunedWarmup as UntunedWarmup
from .schedules import Warmup as Warmup
from .schedules import WarmupConstant as WarmupConstant
from .schedules import WarmupCosine as WarmupCosine
from .schedules import WarmupExponential as WarmupExponential
from .schedules import WarmupInverseSqrt as WarmupInverseSqrt
from .schedules import WarmupLinear as WarmupLinear
from .schedules import WarmupPolynomial as WarmupPolynomial
from .schedules import WarmupStableDecay as WarmupStableDecay
from .schedules import grid as grid
from .schedules import join as join
from .schedules import shapes as shapes
from .schedules import stack as stack
from .schedules import unstack as unstack
from .schedules import untuned_warmup as untuned_warmup
from .schedules.structure import PROVIDERS
from .units import Timeline as Timeline
from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import compat as compat
    from . import predict as predict
    from .fields import Count as Count
    from .fields import Growth as Growth
    from .fields import Integer as Integer
    from .fields import Length as Length
    from .fields import NonNegative as NonNegative
    from .fields import Offset as Offset
    from .fields import Positive as Positive
    from .fields import Scalar as Scalar
    from .fields import Steps as Steps
    from .fields import StepTable as StepTable
    from .fields import Table as Table
    from .fields import Unit as Unit
    from .fields import reject_if as reject_if
    from .finder import FinderResult as FinderResult
    from .finder import Suggestion as Suggestion
    from .finder import find_lr as find_lr
    from .inspect.lint import lint as lint
    from .inspect.phases import Jump as Jump
    from .inspect.phases import Outline as Outline
    from .inspect.phases import Phase as Phase
    from .inspect.phases import outline as outline
    from .optim.adaptive_warmup import AdaptiveWarmupState as AdaptiveWarmupState
    from .optim.adaptive_warmup import adaptive_warmup as adaptive_warmup
    from .optim.clip import AutoclipState as AutoclipState
    from .optim.clip import ZclipState as ZclipState
    from .optim.clip import autoclip as autoclip
    from .optim.clip import zclip as zclip
    from .optim.diagnose import Norms as Norms
    from .optim.diagnose import diagnose as diagnose
    from .optim.diagnose import gradient_norms as gradient_norms
    from .optim.greedy import GreedyState as GreedyState
    from .optim.greedy import greedy as greedy
    from .optim.groups import by_path as by_path
    from .optim.groups import layerwise as layerwise
    from .optim.guard import GuardState as GuardState
    from .optim.guard import guard_spikes as guard_spikes
    from .optim.hyperparams import InjectState as InjectState
    from .optim.hyperparams import inject as inject
    from .optim.hyperparams import weight_decay as weight_decay
    from .optim.listen import named as named
    from .optim.listen import observe as observe
    from .optim.monitor import MonitorState as MonitorState
    from .optim.monitor import monitor_gradients as monitor_gradients
    from .optim.plateau import PlateauState as PlateauState
    from .optim.plateau import reduce_on_plateau as reduce_on_plateau
    from .optim.states import current_hyperparams as current_hyperparams
    from .sweep import SweepResult as SweepResult
    from .sweep import Task as Task
    from .sweep import choice as choice
    from .sweep import int_uniform as int_uniform
    from .sweep import log_uniform as log_uniform
    from .sweep import sample as sample
    from .sweep import sweep as sweep  # a package that can be called: to a type checker, its function
    from .sweep import uniform as uniform
    from .text import ParseError as ParseError
    from .text import ScheduleConfig as ScheduleConfig
    from .text import from_dict as from_dict
    from .text import parse as parse
    from .text import to_dict as to_dict
    from .viz import plot as plot
    from .viz import terminal_plot as terminal_plot

_LAZY = {
    "fields": "Count Growth Integer Length NonNegative Offset Positive Scalar Steps StepTable Table Unit reject_if",
    "finder": "FinderResult Suggestion find_lr",
    "inspect.lint": "lint",
    "optim.adaptive_warmup": "AdaptiveWarmupState adaptive_warmup",
    "optim.clip": "AutoclipState ZclipState autoclip zclip",
    "optim.diagnose": "Finding Norms diagnose gradient_norms",
    "optim.greedy": "GreedyState greedy",
    "optim.groups": "by_path layerwise",
    "optim.guard": "GuardState guard_spikes",
    "optim.hyperparams": "InjectState inject weight_decay",
    "optim.listen": "named observe",
    "optim.monitor": "MonitorState monitor_gradients",
    "optim.plateau": "PlateauState reduce_on_plateau",
    "optim.states": "current_hyperparams",
    "inspect.phases": "Jump Outline Phase outline",
    "sweep": "SweepResult Task choice int_uniform log_uniform sample uniform",
    "text": "ParseError ScheduleConfig from_dict parse to_dict",
    "viz": "plot terminal_plot",
}
"""The names of modules that are imported on first use."""

_MODULES = ("compat", "fields", "optim", "predict", "sweep", "text", "viz")
_HOME = {name: module for module, names in _LAZY.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    elif name in _MODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


PROVIDERS["compat"] = lambda: importlib.import_module(".compat", __name__)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES})
