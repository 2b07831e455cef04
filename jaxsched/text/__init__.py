"""One language for schedules: the expression that `repr` prints, read back without running anything, and plain dicts.

The text is read into Python's syntax tree, and the tree is walked: it may name the schedules of this package, call them
and their methods, and hold numbers, texts, lists and the operators. Nothing else has a meaning, and nothing is ever
handed to the interpreter.
"""

from .config import ScheduleConfig as ScheduleConfig
from .dicts import from_dict as from_dict
from .dicts import to_dict as to_dict
from .names import ParseError as ParseError
from .names import peers as peers
from .names import places as places
from .parsing import evaluate as evaluate
from .parsing import parse as parse
