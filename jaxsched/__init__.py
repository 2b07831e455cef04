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

from typing import TYPE_CHECKING

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
from .lint import LintFinding as LintFinding
from .lint import lint as lint
from .optim.adaptive_warmup import AdaptiveWarmupState as AdaptiveWarmupState
from .optim.adaptive_warmup import adaptive_warmup as adaptive_warmup
from .optim.clip import AutoclipState as AutoclipState
from .optim.clip import ZclipState as ZclipState
from .optim.clip import autoclip as autoclip
from .optim.clip import zclip as zclip
from .optim.diagnose import Finding as Finding
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
from .outline import Jump as Jump
from .outline import Outline as Outline
from .outline import Phase as Phase
from .outline import outline as outline
from .schedules import shapes as shapes
from .schedules.base import Clip as Clip
from .schedules.base import Constant as Constant
from .schedules.base import Cooldown as Cooldown
from .schedules.base import Hold as Hold
from .schedules.base import Join as Join
from .schedules.base import Lambda as Lambda
from .schedules.base import Noise as Noise
from .schedules.base import PerEpoch as PerEpoch
from .schedules.base import Product as Product
from .schedules.base import Recipe as Recipe
from .schedules.base import Repeat as Repeat
from .schedules.base import Schedule as Schedule
from .schedules.base import Shift as Shift
from .schedules.base import Sum as Sum
from .schedules.base import Warmup as Warmup
from .schedules.base import join as join
from .schedules.cycles import CosineWarmRestarts as CosineWarmRestarts
from .schedules.cycles import CyclicTriangular as CyclicTriangular
from .schedules.cycles import PolynomialDecay as PolynomialDecay
from .schedules.decays import ExponentialDecay as ExponentialDecay
from .schedules.decays import InverseSqrtDecay as InverseSqrtDecay
from .schedules.decays import InverseTimeDecay as InverseTimeDecay
from .schedules.decays import NaturalExpDecay as NaturalExpDecay
from .schedules.decays import PowerDecay as PowerDecay
from .schedules.decays import StepDecay as StepDecay
from .schedules.pieces import MultiStepDecay as MultiStepDecay
from .schedules.pieces import PiecewiseConstant as PiecewiseConstant
from .schedules.pieces import PiecewiseInterpolate as PiecewiseInterpolate
from .schedules.ramps import Cosine as Cosine
from .schedules.ramps import Exponential as Exponential
from .schedules.ramps import Linear as Linear
from .schedules.ramps import Polynomial as Polynomial
from .schedules.ramps import Ramp as Ramp
from .schedules.ramps import Rex as Rex
from .schedules.ramps import Tanh as Tanh
from .schedules.recipes import ChebyshevSteps as ChebyshevSteps
from .schedules.recipes import InfiniteSchedule as InfiniteSchedule
from .schedules.recipes import LinearToZero as LinearToZero
from .schedules.recipes import Noam as Noam
from .schedules.recipes import OneCycle as OneCycle
from .schedules.recipes import OneCycleMomentum as OneCycleMomentum
from .schedules.recipes import PowerSchedule as PowerSchedule
from .schedules.recipes import SilverSteps as SilverSteps
from .schedules.recipes import TriStage as TriStage
from .schedules.recipes import WarmupConstant as WarmupConstant
from .schedules.recipes import WarmupCosine as WarmupCosine
from .schedules.recipes import WarmupExponential as WarmupExponential
from .schedules.recipes import WarmupInverseSqrt as WarmupInverseSqrt
from .schedules.recipes import WarmupLinear as WarmupLinear
from .schedules.recipes import WarmupPolynomial as WarmupPolynomial
from .schedules.recipes import WarmupStableDecay as WarmupStableDecay
from .schedules.stacking import grid as grid
from .schedules.stacking import stack as stack
from .schedules.stacking import unstack as unstack
from .schedules.untuned import UntunedWarmup as UntunedWarmup
from .schedules.untuned import untuned_warmup as untuned_warmup
from .sweep import SweepResult as SweepResult
from .sweep import Task as Task
from .sweep import choice as choice
from .sweep import int_uniform as int_uniform
from .sweep import log_uniform as log_uniform
from .sweep import sample as sample
from .sweep import uniform as uniform
from .text import ParseError as ParseError
from .text import ScheduleConfig as ScheduleConfig
from .text import from_dict as from_dict
from .text import parse as parse
from .text import to_dict as to_dict
from .units import Timeline as Timeline

if TYPE_CHECKING:  # to a type checker a package cannot be called; this one can
    from .sweep import sweep as sweep
else:
    from . import sweep as sweep

from .inspect import plot as plot
from .inspect import terminal_plot as terminal_plot
from .version import __version__ as __version__
