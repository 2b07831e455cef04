"""Rates that listen, and the optimizer states that they live in."""
