"""Fixtures that several files of tests share."""

import importlib
import shlex

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


@pytest.fixture
def run(capsys):
    """Runs a command line of `jaxsched` in this process: a function that returns its exit code, stdout and stderr."""
    from jaxsched import cli

    def run(line):
        capsys.readouterr()
        code = 0
        try:
            cli.main(shlex.split(line) if isinstance(line, str) else line)
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def refusal(run):
    """Runs a command line that is refused: a function that returns the one sentence that says so."""

    def refusal(line, code=2, lines=1):
        found, out, err = run(line)
        assert (found, out) == (code, ""), err
        assert err.startswith("jaxsched: ")
        assert err.count("\n") == lines, err
        return err.removeprefix("jaxsched: ")

    return refusal


@pytest.fixture
def without_pictures(monkeypatch):
    """Pictures and pages take longer than the trainings of the tests of commands."""
    from jaxsched.finder import FinderResult
    from jaxsched.sweep import SweepResult

    for cls, name in ((SweepResult, "plot"), (SweepResult, "report"), (FinderResult, "plot")):
        monkeypatch.setattr(cls, name, lambda result, path, *by, **named: path)
