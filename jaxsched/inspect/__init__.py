"""What a schedule does, for people: its phases (`outline`), its problems (`lint`) and its plots."""

from .finding import Finding as Finding
from .lint import lint as lint
from .phases import Jump as Jump
from .phases import Outline as Outline
from .phases import Phase as Phase
from .phases import outline as outline
from .plot import plot as plot
from .terminal import terminal_plot as terminal_plot
