"""What a schedule does: its phases, its problems and its plots, for people."""

from .finding import Finding as Finding
from .lint import lint as lint
from .phases import Jump as Jump
from .phases import Outline as Outline
from .phases import Phase as Phase
from .phases import outline as outline
