# Each target makes .venv by itself. PYTHON=python3.12 make test: with another Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MADE := $(VENV)/made

.PHONY: demo test test-all lint notebook bench bench-gpu soak backbones fuzz spark-test clouds clean docs

demo: $(MADE)
	$(BIN)/headstart demo

# Those that take less than four seconds each: nine of ten, in a quarter of the time.
test: $(MADE)
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --dist worksteal

test-all: $(MADE)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: $(MADE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The usual notebook's experiment: make notebook DATA=folder [BACKBONE=VGG16] [FLAGS="--weights FILE --seeds 1"]
BACKBONE ?= EfficientNetLite0
notebook: $(MADE)
	$(BIN)/headstart notebook $(DATA) --backbone $(BACKBONE) $(FLAGS)

bench: $(MADE)
	$(BIN)/python -m tests.benchmarks

# What an extraction makes of this machine's GPU: make bench-gpu DATA=folder [FLAGS="--backbone EfficientNetLite0"]
bench-gpu: $(MADE)
	$(BIN)/python -m tests.benchmarks.gpu --folder $(DATA) $(FLAGS)

# Random damage to images and shards, for a minute: make fuzz [SECONDS=600] [SEED=1]
SECONDS ?= 60
SEED ?= 0
fuzz: $(MADE)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) --seed $(SEED)

# Commands killed, interrupted, started twice and out of disk at random moments, for hours: make soak [FLAGS="--only extract"]
soak: $(MADE)
	$(BIN)/python -m tests.soak $(FLAGS)

# A Spark cluster on this machine, one of its executors killed; needs Java. `make test-all` does it too, where there is Java.
spark-test: $(MADE)
	SPARK_PHOTOS=1000 $(BIN)/python -m pytest -rs tests/test_spark.py

# Object stores, Google's and Azure's emulators among them, which are no packages:
# make clouds FAKE_GCS_SERVER=binary AZURITE_BLOB=binary
clouds: $(MADE)
	$(BIN)/python -m pytest -rs tests/test_clouds.py tests/test_remote.py tests/test_remote_runs.py

# All pages as a site, in build/site: it opens from disk, and asks for nothing elsewhere.
docs: $(MADE)
	$(BIN)/python -m mkdocs build --strict

# Each network in a process of its own: TensorFlow gives back no graph before its process ends.
backbones: $(MADE)
	set -e; for name in $$($(BIN)/python -c "from headstart.features.backbones.catalogue import BACKBONES; print(*BACKBONES)"); do \
	  $(BIN)/python -m pytest -m all_backbones --durations 0 \
	    "tests/test_backbone.py::test_features_of_every_backbone_are_those_of_keras_applications[$$name]"; \
	done

$(MADE): setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(MADE)

clean:
	rm -rf $(VENV) demo notebook bench build *.egg-info
