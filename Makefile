# The commands of a fresh clone: `make demo`, `make test` and `make test-fast`. Each sets up `.venv` first.
SHELL := bash
PYTHON ?= python3
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --durations 15

# TensorFlow returns no memory to the system that a model once took, and keeps what was traced, so that
# a test process only grows. Each part of the suite has processes of its own, which end with it.
# Files of few long tests stand first, so that no process is left alone with one at the end.
PARTS := contract trained methods models backbones data training fit presets recipes commands cache \
  searches workers docs rest
FILES_contract := tests/methods/test_methods_contract.py tests/methods/test_model_kinds.py
FILES_trained := tests/methods/test_trained_contract.py $(wildcard tests/methods/test_stored_*.py)
FILES_methods := $(filter-out $(FILES_contract) $(FILES_trained),$(wildcard tests/methods/test_*.py)) \
  tests/losses tests/evaluation
FILES_backbones := tests/models/test_tails.py tests/models/test_pretrained.py
FILES_models := $(filter-out $(FILES_backbones),$(wildcard tests/models/test_*.py))
FILES_data := tests/data
FILES_presets := tests/recipes/test_presets.py tests/recipes/test_resume.py
FILES_recipes := $(filter-out $(FILES_presets),$(wildcard tests/recipes/test_*.py))
FILES_commands := tests/cli
FILES_cache := tests/cache
FILES_searches := tests/tuning/test_tune_resume.py tests/tuning/test_run.py tests/tuning/test_more_trials.py
FILES_workers := $(filter-out $(FILES_searches),$(wildcard tests/tuning/test_*.py))
FILES_docs := tests/test_benchmarks.py tests/test_docs.py tests/test_docstrings.py
FILES_training := $(wildcard tests/training/test_distiller_*.py) tests/training/test_mutual.py
FILES_fit := $(filter-out $(FILES_training),$(wildcard tests/training/test_*.py)) tests/runtime
FILES_rest := $(filter-out $(FILES_docs),$(wildcard tests/test_*.py)) tests/export tests/report tests/utils

.PHONY: demo test test-fast $(PARTS:%=test-%) test-files lint install clean

demo: .venv/installed
	$(BIN)/kd-keras distill

# `make -k test` goes on with the other parts after a failure
test: lint $(PARTS:%=test-%)

$(PARTS:%=test-%): test-%: .venv/installed-dev
	$(PYTEST) $(FILES_$*)

test-files:
	@echo $(foreach part,$(PARTS),$(FILES_$(part)))

test-fast: .venv/installed-dev
	$(PYTEST) -m "not slow"

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: .venv/installed

.venv/installed: requirements.txt setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
