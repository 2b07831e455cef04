"""Predicting schedules before training: bounds, laws of loss curves, plans, descent on schedules and hypergradients."""

from . import annealing as annealing
from . import convex as convex
from . import plan as plan
from . import power_law as power_law
from .constraints import bounds as bounds
from .constraints import falling as falling
from .constraints import fixed as fixed
from .constraints import fixed_peak as fixed_peak
from .curves import Curve as Curve
from .descent import Optimized as Optimized
from .descent import knots as knots
from .descent import optimize as optimize
from .fitted import FitOptions as FitOptions
from .fitted import FittedLaw as FittedLaw
from .fitted import Prediction as Prediction
from .fitted import Ranking as Ranking
from .gradients import UnrolledGradient as UnrolledGradient
from .gradients import unroll_grad as unroll_grad
from .gradients import unrolled_loss as unrolled_loss
from .hypergradients import HypergradientState as HypergradientState
from .hypergradients import hypergradient as hypergradient
from .many import sweep as sweep
from .refinement import refine as refine
