"""Fixtures that several files of tests share."""

import importlib

import jax
import pytest


@pytest.fixture(scope="module")
def shared_programs():
    """Sweeps of one task in a module share their compiled programs, as those of a search do; what they remember of
    chunks and their sizes stays apart. Compiling them again takes most of the time of a small sweep."""
    from jaxsched.sweep.program import Programs

    known = {}

    class Shared(Programs):
        def __init__(self, task, devices):
            super().__init__(task, devices)
            # The task is kept, so that no other takes its id.
            mine = (task, self.first_params, self._compiled)
            _, self.first_params, self._compiled = known.setdefault(
                (id(task), *devices, jax.config.jax_enable_x64), mine
            )

        def get(self, rows, data, valid):
            program = super().get(rows, data, valid)
            self.sizes.setdefault(jax.tree.structure(rows[0]), set()).add(program.rows)
            return program

    with pytest.MonkeyPatch.context() as patch:
        for name in ("engine", "search"):
            patch.setattr(importlib.import_module(f"jaxsched.sweep.{name}"), "Programs", Shared)
        yield
