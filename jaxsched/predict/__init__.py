"""What a schedule will do before it is run: bounds, laws, plans and gradients of the hyperparameters."""

from . import convex as convex
