# Everything from a bare machine with python3 (>= 3.11) and make: `make sweep`, `make test`, `make bench`.
# Another Python gets an environment of its own: `make test PYTHON=python3.13`.
PYTHON ?= python3
VENV ?= .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
# Versions to hold, with an environment of their own: VENV=.venv-old CONSTRAINTS="jax==0.6.0 optax==0.2.4".
CONSTRAINTS ?=
BIN := $(VENV)/bin

.PHONY: sweep test trials browser parity lint docs pictures bench lowest clean

sweep: $(VENV)/.ready-sweep
	$(BIN)/jaxsched sweep examples/digits.py

test: $(VENV)/.ready-test
	$(BIN)/python -m pytest -n auto --dist loadgroup

# What takes longer, or more than Python: what is marked as a trial (the laws of every peer's schedule, the examples
# trained, processes that are killed), several processes, a real terminal (tmux), 100,000 broken expressions, and the
# report in a real browser (Debian's chromium and chromium-driver).
PLAIN := -o addopts="--strict-config --strict-markers -p no:cacheprovider" --dist worksteal
trials: $(VENV)/.ready-test browser
	$(BIN)/python -m pytest -n auto --dist loadgroup -m trial
	$(BIN)/python -m pytest $(PLAIN) -n auto tests/processes tests/terminal tests/fuzz

browser: $(VENV)/.ready-test
	$(BIN)/python -m pytest $(PLAIN) tests/browser

# The site, from the docstrings and the pages in docs/, without a network; any warning is an error.
docs: $(VENV)/.ready-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The pictures of schedules in the README and on the site.
pictures: $(VENV)/.ready-test
	$(BIN)/python docs/pictures.py

# The live peers beside ours, the recordings of some made again, and the page of what was seen.
parity: $(VENV)/.ready-bench
	rm -rf tests/peers/.figures
	$(BIN)/python -m pytest -o addopts=--strict-config -W ignore::DeprecationWarning -n auto --dist worksteal tests/peers
	$(BIN)/python -m tests.peers.report

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.ready-bench
	$(BIN)/python -m bench

# The lowest versions that pyproject.toml admits.
lowest:
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS="jax==0.6.0 jaxlib==0.6.0 optax==0.2.4"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS_$*)]" $(CONSTRAINTS)
	touch $@

EXTRAS_sweep := all
EXTRAS_test := dev
EXTRAS_bench := dev,parity

clean:
	rm -rf .venv .venv-* .jax_cache runs site
