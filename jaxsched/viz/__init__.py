"""Pictures: of schedules in a figure (`plot`), in a terminal (`terminal_plot`), and the page of a sweep."""

from .plot import plot as plot
from .terminal import terminal_plot as terminal_plot
