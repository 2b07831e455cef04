"""Metric-driven learning rates, hyperparameters in the optimizer state, gradient guards and monitoring."""

from ..inspect.finding import Finding as Finding
from .adaptive_warmup import AdaptiveWarmupState as AdaptiveWarmupState
from .adaptive_warmup import adaptive_warmup as adaptive_warmup
from .clip import AutoclipState as AutoclipState
from .clip import ZclipState as ZclipState
from .clip import autoclip as autoclip
from .clip import zclip as zclip
from .diagnose import Norms as Norms
from .diagnose import diagnose as diagnose
from .diagnose import gradient_norms as gradient_norms
from .greedy import GreedyState as GreedyState
from .greedy import greedy as greedy
from .groups import by_path as by_path
from .groups import layerwise as layerwise
from .guard import GuardState as GuardState
from .guard import guard_spikes as guard_spikes
from .hyperparams import InjectState as InjectState
from .hyperparams import inject_hyperparams as inject_hyperparams
from .hyperparams import weight_decay as weight_decay
from .metrics import named as named
from .metrics import observe as observe
from .monitor import MonitorState as MonitorState
from .monitor import monitor_gradients as monitor_gradients
from .plateau import PlateauState as PlateauState
from .plateau import reduce_on_plateau as reduce_on_plateau
from .states import current_hyperparams as current_hyperparams
