"""Plans: extending a run, and the learning rate for another horizon or batch size."""

from .batch import BatchRule as BatchRule
from .batch import Seesaw as Seesaw
from .batch import Stage as Stage
from .batch import scale_batch as scale_batch
from .batch import seesaw as seesaw
from .horizon import Extension as Extension
from .horizon import ExtensionRule as ExtensionRule
from .horizon import Ways as Ways
from .horizon import extend as extend
from .horizon import transfer_peak as transfer_peak
