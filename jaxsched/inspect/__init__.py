"""Plots of schedules: as a matplotlib figure (`plot`) and as text for a terminal (`terminal_plot`)."""

from .plot import plot as plot
from .terminal import terminal_plot as terminal_plot
