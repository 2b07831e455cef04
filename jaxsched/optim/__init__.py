"""Metric-driven transformations, hyperparameters as data, and monitoring: what is kept in optimizer states."""
