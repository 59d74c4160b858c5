# The commands of a fresh clone: `make demo`, `make test` and `make test-fast`. Each sets up `.venv` first.
SHELL := bash
PYTHON ?= python3
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest --durations 10

# TensorFlow returns no memory to the system that a model once took, and keeps what was traced, so that
# a test process only grows. Each part of the suite is a process of its own, and as many run at a time
# as there are cores. Long files are parts of their own, the longest first; the other files of a folder
# share one.
LONG := tuning/distributed tuning/tune_resume recipes/sweep tuning/run recipes/distill cli/cli \
  methods/trained_contract recipes/resume recipes/plan_runs given_teachers models/models_registry docs \
  methods/stored_predictions recipes/mhist_smoke training/distiller_plans models/pretrained \
  models/published training/execution_training methods/methods_contract recipes/presets \
  cli/cli_tune models/tails training/mutual cache/build training/arrays training/inputs \
  models/freezing models/models_saved methods/storages methods/deployed methods/model_kinds tuning/more_trials \
  benchmarks training/features_training methods/exits recipes/fitting
FOLDERS := recipes methods training models tuning cli cache losses data evaluation export report \
  runtime utils
file_of = $(patsubst tests/./%,tests/%,tests/$(dir $(1))test_$(notdir $(1)).py)
LONG_FILES := $(foreach part,$(LONG),$(call file_of,$(part)))
PARTS := $(subst /,-,$(LONG)) $(FOLDERS) others
$(foreach part,$(LONG),$(eval FILES_$(subst /,-,$(part)) := $(call file_of,$(part))))
$(foreach folder,$(FOLDERS),$(eval FILES_$(folder) := \
  $(filter-out $(LONG_FILES),$(wildcard tests/$(folder)/test_*.py))))
FILES_others := $(filter-out $(LONG_FILES),$(wildcard tests/test_*.py))

.PHONY: demo test test-fast $(PARTS:%=test-%) test-files lint install clean

demo: .venv/installed
	$(BIN)/kd-keras distill

# every part runs, even after one has failed
test: lint
	@$(MAKE) --keep-going --output-sync=target --jobs=$$(getconf _NPROCESSORS_ONLN) \
	  $(PARTS:%=test-%)

$(PARTS:%=test-%): test-%: .venv/installed-dev
	$(PYTEST) $(FILES_$*)

test-files:
	@echo $(foreach part,$(PARTS),$(FILES_$(part)))

test-fast: .venv/installed-dev
	$(PYTEST) -m "not slow" --numprocesses auto --dist loadfile --no-loadscope-reorder

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
