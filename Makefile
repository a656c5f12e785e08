# Set-up is part of every target: a fresh machine needs Python 3.11, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IS_NEW := 'import sys; sys.exit(sys.version_info < (3, 11))'
# Recreate an environment of another Python version, or of one that was removed.
$(shell [ ! -d $(VENV) ] || $(BIN)/python -c $(IS_NEW) 2>/dev/null || rm -rf $(VENV))

# Tests start callhouse some hundred times, which otherwise would compile all of it each time.
export PYTHONDONTWRITEBYTECODE :=

# One more than there are cores, as some tests wait; with many more, each of them takes longer.
AT_ONCE = -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo serve browse test coverage test-versions test-system test-all test-faults simulate \
	fuzz lint describe bench bench-large screenshots clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## A believable month of calls, received and browsed on this machine
	@$(BIN)/callhouse demo

serve: $(VENV)/.installed ## Receive Retell's webhooks
	@$(BIN)/callhouse serve

browse: $(VENV)/.installed ## Browse the calls with Datasette
	@$(BIN)/callhouse browse

test: lint ## Lint, types and tests, on SQLite and on PostgreSQL
	@$(BIN)/python -m pytest -m "not slow" $(AT_ONCE)
	@$(BIN)/python -m pytest -m "not slow" $(AT_ONCE) --engine postgres

coverage: $(VENV)/.installed-dev ## Which lines the fast tests on SQLite do not reach
	@$(BIN)/python -m pytest -m "not slow" $(AT_ONCE) --cov --cov-report=term-missing

test-versions: ## The fast tests on SQLite with each Python that is installed, in environments of their own
	@for version in 3.11 3.12 3.13 3.14; do \
		python$$version -c "" 2>/dev/null || { echo "Python $$version is not installed"; continue; }; \
		echo "Python $$version"; \
		python$$version -m venv $(VENV)-$$version && \
		$(VENV)-$$version/bin/python -m pip install --quiet --disable-pip-version-check \
			--editable '.[dev]' && \
		$(VENV)-$$version/bin/python -m pytest -m "not slow" $(AT_ONCE) || exit 1; \
	done

test-system: ## Install PostgreSQL, Chromium and nginx for the tests, by apt-get (as root, on Debian)
	@echo "Installing the packages postgresql, chromium and nginx-light with apt-get"
	@apt-get update
	@DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
		postgresql chromium nginx-light

test-all: lint $(VENV)/.installed-dev-all ## The same, the slow tests and those of other engines
	@$(BIN)/python -m pytest
	@$(BIN)/python -m pytest --engine postgres

test-faults: $(VENV)/.installed-dev ## Kill, fill, cut and corrupt the real server (some minutes)
	@$(BIN)/python -m pytest tests/faults

simulate: $(VENV)/.installed-dev ## 100,000 short histories of the store with faults, on every core (45 minutes)
	@$(BIN)/python -m tests.simulation --histories 100000

fuzz: $(VENV)/.installed-dev ## Throw bytes at every parser, a minute each (Linux)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@$(BIN)/python -m tests.fuzz

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

describe: $(VENV)/.installed ## Write datasette_metadata.json and the generated pages of docs/reference/
	@$(BIN)/python -m schema.describe metadata > build.tmp && mv build.tmp datasette_metadata.json
	@$(BIN)/python -m schema.describe tables > build.tmp && mv build.tmp docs/reference/tables.md
	@$(BIN)/python -m schema.describe questions > build.tmp && mv build.tmp docs/reference/questions.md
	@$(BIN)/python -m receiver.cli.document commands > build.tmp && mv build.tmp docs/reference/commands.md
	@$(BIN)/python -m receiver.cli.document settings > build.tmp && mv build.tmp docs/reference/settings.md
	@$(BIN)/python -m receiver.cli.document dashboards > build.tmp && mv build.tmp docs/reference/dashboards.md

bench: $(VENV)/.installed ## Speed against a bare endpoint and the ten-minute version (needs wrk)
	@$(BIN)/python -m benchmarks.run

bench-large: $(VENV)/.installed ## A file with a million calls: ingest, and every page of Datasette
	@$(BIN)/python -m benchmarks.large

screenshots: $(VENV)/.installed-dev ## Take the README's pictures anew (needs Chromium)
	@$(BIN)/python docs/screenshots.py

clean: ## Remove the virtual environment and the demo
	rm -rf $(VENV) $(VENV)-3.* callhouse-demo

$(VENV)/bin/python:
	@$(PYTHON) -c $(IS_NEW) || { echo "callhouse needs Python 3.11 or newer, and $(PYTHON) is none:" \
		"make PYTHON=python3.11" >&2; exit 1; }
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

$(VENV)/.installed-dev-all: $(VENV)/.installed-dev
	@echo "Installing other engines and an object store for the tests into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev-all]'
	@touch $@
