"""Every schedule: pure functions `step -> value` that are pytrees of their hyperparameters.

The face of the package has the common ones; here are also the composites, the kernels (`shapes`) and the structure
(`parts`, `marks`, `span`, `axes`).
"""

from . import shapes as shapes
from .base import Constant as Constant
from .base import Lambda as Lambda
from .base import Recipe as Recipe
from .base import Schedule as Schedule
from .combine import Clip as Clip
from .combine import Cooldown as Cooldown
from .combine import Hold as Hold
from .combine import Join as Join
from .combine import Noise as Noise
from .combine import PerEpoch as PerEpoch
from .combine import Product as Product
from .combine import Repeat as Repeat
from .combine import Shift as Shift
from .combine import Sum as Sum
from .combine import Warmup as Warmup
from .combine import join as join
from .cycles import CosineWarmRestarts as CosineWarmRestarts
from .cycles import CyclicTriangular as CyclicTriangular
from .cycles import PolynomialDecay as PolynomialDecay
from .decays import ExponentialDecay as ExponentialDecay
from .decays import InverseSqrtDecay as InverseSqrtDecay
from .decays import InverseTimeDecay as InverseTimeDecay
from .decays import NaturalExpDecay as NaturalExpDecay
from .decays import PowerDecay as PowerDecay
from .decays import StepDecay as StepDecay
from .pieces import MultiStepDecay as MultiStepDecay
from .pieces import PiecewiseConstant as PiecewiseConstant
from .pieces import PiecewiseInterpolate as PiecewiseInterpolate
from .ramps import Cosine as Cosine
from .ramps import Exponential as Exponential
from .ramps import KDecay as KDecay
from .ramps import Linear as Linear
from .ramps import Polynomial as Polynomial
from .ramps import Ramp as Ramp
from .ramps import Rex as Rex
from .ramps import Tanh as Tanh
from .recipes import ChebyshevSteps as ChebyshevSteps
from .recipes import InfiniteSchedule as InfiniteSchedule
from .recipes import Noam as Noam
from .recipes import OneCycle as OneCycle
from .recipes import OneCycleMomentum as OneCycleMomentum
from .recipes import PowerSchedule as PowerSchedule
from .recipes import SilverSteps as SilverSteps
from .recipes import TriStage as TriStage
from .recipes import WarmupConstant as WarmupConstant
from .recipes import WarmupCosine as WarmupCosine
from .recipes import WarmupExponential as WarmupExponential
from .recipes import WarmupInverseSqrt as WarmupInverseSqrt
from .recipes import WarmupLinear as WarmupLinear
from .recipes import WarmupPolynomial as WarmupPolynomial
from .recipes import WarmupStableDecay as WarmupStableDecay
from .stacking import grid as grid
from .stacking import stack as stack
from .stacking import unstack as unstack
from .structure import axes as axes
from .structure import marks as marks
from .structure import parts as parts
from .structure import span as span
from .untuned import UntunedWarmup as UntunedWarmup
