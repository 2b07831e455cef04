"""Many settings trained side by side in one compiled program, and the table of what came out.

In the face of the library `jaxsched.sweep` is the function; `from jaxsched.sweep import ...` reaches this package.
"""

from .engine import sweep as sweep
from .result import SweepResult as SweepResult
from .space import choice as choice
from .space import int_uniform as int_uniform
from .space import log_uniform as log_uniform
from .space import sample as sample
from .space import uniform as uniform
from .task import Task as Task
