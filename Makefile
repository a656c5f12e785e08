# Set-up is part of every target: a fresh machine needs Python 3.11, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Tests start callhouse some hundred times, which otherwise would compile all of it each time.
export PYTHONDONTWRITEBYTECODE :=

# One more than there are cores, as some tests wait; with many more, each of them takes longer.
AT_ONCE = -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo serve browse test test-all test-faults fuzz lint describe bench bench-large \
	screenshots clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## A believable day of calls, received and browsed on this machine
	@$(BIN)/callhouse demo

serve: $(VENV)/.installed ## Receive Retell's webhooks
	@$(BIN)/callhouse serve

browse: $(VENV)/.installed ## Browse the calls with Datasette
	@$(BIN)/callhouse browse

test: lint $(VENV)/.installed-system ## Lint, types and tests, on SQLite and on PostgreSQL
	@$(BIN)/python -m pytest -m "not slow" $(AT_ONCE)
	@$(BIN)/python -m pytest -m "not slow" $(AT_ONCE) --engine postgres

test-all: lint $(VENV)/.installed-dev-all $(VENV)/.installed-system ## The same, the slow tests and those of other engines
	@$(BIN)/python -m pytest
	@$(BIN)/python -m pytest --engine postgres

test-faults: $(VENV)/.installed-dev $(VENV)/.installed-system ## Kill, fill, cut and corrupt the real server (some minutes)
	@$(BIN)/python -m pytest tests/faults

fuzz: $(VENV)/.installed-dev ## Throw bytes at every parser, a minute each (Linux)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@$(BIN)/python -m tests.fuzz

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

describe: $(VENV)/.installed ## Write datasette_metadata.json, docs/tables.md and docs/questions.md anew
	@$(BIN)/python -m schema.metadata > build.tmp && mv build.tmp datasette_metadata.json
	@$(BIN)/python -m schema.document > build.tmp && mv build.tmp docs/tables.md
	@$(BIN)/python -m schema.questions > build.tmp && mv build.tmp docs/questions.md

bench: $(VENV)/.installed ## Speed against a bare endpoint and the ten-minute version (needs wrk)
	@$(BIN)/python -m benchmarks.run

bench-large: $(VENV)/.installed ## A file with a million calls: ingest, and every page of Datasette
	@$(BIN)/python -m benchmarks.large

screenshots: $(VENV)/.installed-dev ## Take the README's pictures anew (needs Chromium)
	@$(BIN)/python docs/screenshots.py

clean: ## Remove the virtual environment and the demo
	rm -rf $(VENV) callhouse-demo

$(VENV)/bin/python:
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	@echo "Installing callhouse into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the development tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Not Python's: tests that need it are skipped with a reason where it cannot be had.
$(VENV)/.installed-system: $(VENV)/bin/python
	@if ! ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 && ! command -v postgres >/dev/null \
		&& command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "Installing PostgreSQL for the tests"; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes \
			--no-install-recommends postgresql; } >$(VENV)/postgresql.log 2>&1 \
		|| echo "It could not be had, see $(VENV)/postgresql.log"; \
	fi
	@touch $@

$(VENV)/.installed-dev-all: $(VENV)/.installed-dev
	@echo "Installing other engines and an object store for the tests into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev-all]'
	@touch $@
