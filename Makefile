# The commands of a fresh clone: `make demo`, `make test`, `make test-fast`, `make docs` and
# `make notebooks`. Each sets up `.venv` first.
SHELL := bash
PYTHON ?= python3
BIN := .venv/bin
.PHONY: demo test test-fast lint docs notebooks install clean

demo: .venv/installed
	$(BIN)/kd-keras distill

test: lint
	$(BIN)/python tests/run.py

test-fast: .venv/installed-dev
	$(BIN)/python tests/run.py -m "not slow"

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# the variable silences what mkdocs-material prints on every build about MkDocs 2
docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "The site is in site/; open site/index.html."

notebooks: .venv/installed-notebooks
	$(BIN)/python notebooks/execute.py

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

.venv/installed-notebooks: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[notebooks]'
	touch $@

clean:
	rm -rf .venv build site *.egg-info .pytest_cache .mypy_cache .ruff_cache
