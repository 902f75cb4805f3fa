# Every target sets up what it needs, from a bare clone on a machine with Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint integration bench clean

demo: .venv/base.stamp
	$(BIN)/interleaver run "How to draw a cat step by step?"

test: lint
	$(BIN)/pytest

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

integration: .venv/studio.stamp
	$(BIN)/pytest -m integration --force-enable-socket

bench: .venv/dev.stamp
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/checkpoints.py
	$(BIN)/python benchmarks/critic.py

clean:
	rm -rf .venv out dist

.venv/base.stamp: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/dev.stamp: .venv/base.stamp
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/studio.stamp: .venv/dev.stamp
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,studio]'
	touch $@
