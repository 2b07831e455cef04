"""Many settings trained side by side in one compiled program, and the table of what came out.

`jaxsched.sweep` is this package, and it can be called: `jaxsched.sweep(task, schedules)` is `jaxsched.sweep.sweep`.
"""

import sys
import types
from typing import Any

from .checkpoint import Checkpoint as Checkpoint
from .distributed import ProcessDied as ProcessDied
from .distributed import initialize as initialize
from .engine import sweep as sweep
from .prune import successive_halving as successive_halving
from .result import SweepResult as SweepResult
from .run import Interrupted as Interrupted
from .run import Status as Status
from .search import SearchResult as SearchResult
from .search import search as search
from .space import choice as choice
from .space import field as field
from .space import int_uniform as int_uniform
from .space import log_uniform as log_uniform
from .space import sample as sample
from .space import space as space
from .space import uniform as uniform
from .task import Task as Task

# Without it a star import would bring the modules along, and `task` is a module here.
__all__ = [
    "Checkpoint",
    "Interrupted",
    "ProcessDied",
    "SearchResult",
    "Status",
    "SweepResult",
    "Task",
    "choice",
    "field",
    "initialize",
    "int_uniform",
    "log_uniform",
    "sample",
    "search",
    "space",
    "successive_halving",
    "sweep",
    "uniform",
]


class _CallablePackage(types.ModuleType):
    """Lets one name be the function that people call and the package that it lives in."""

    def __call__(self, *args: Any, **kwargs: Any) -> SweepResult:
        return sweep(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
