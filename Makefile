# make demo | test | check | bench | clean, each with PYTHON=python3.13 (or any other from 3.11 on)
PYTHON ?= python3
VENV := .venv$(if $(filter-out python3,$(notdir $(PYTHON))),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check bench clean

demo: $(VENV)/.demo
	$(BIN)/capx demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest --cov --cov-report=term

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python tests/bench/bench.py

clean:
	rm -rf .venv .venv-* .coverage .coverage.* build dist \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

# A venv's own pip may be too old for what pyproject.toml says.
$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip
	touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.pip
	$(INSTALL) --editable '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.pip
	$(INSTALL) --editable '.[dev]'
	touch $@
