"""The parts of the table of sweeps. `python -m bench.sweeps.child sweeps.PART:measure` measures one alone."""
