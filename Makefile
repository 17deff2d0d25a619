# Each target makes .venv by itself. PYTHON=python3.12 make test: with another Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MADE := $(VENV)/made

.PHONY: demo test lint bench backbones clean

demo: $(MADE)
	$(BIN)/headstart demo

test: $(MADE)
	$(BIN)/python -m pytest

lint: $(MADE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(MADE)
	$(BIN)/python -m tests.benchmarks.extraction

backbones: $(MADE)
	$(BIN)/python -m pytest -m all_backbones tests/test_backbone.py

$(MADE): setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(MADE)

clean:
	rm -rf $(VENV) demo build *.egg-info
