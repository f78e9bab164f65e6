# make run    set everything up and run a simulated store: http://127.0.0.1:8080
# make test   set everything up and pass the tests
# make check  what CI runs: tests, lint, types, import rules
# make bench  figures beside limits and peers

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TOOLED := $(VENV)/.ready-dev
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
UV     := uv
ARGS   ?=

.PHONY: run test check lint types imports bench screenshots docs lock sbom tools clean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,4p' Makefile

# What runs: locked with hashes. The gateway itself is installed last, without a download of its own.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# What tests, checks and measures.
$(TOOLED): $(READY) requirements-dev.lock
	$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

run: $(READY)
	$(BIN)/storefront demo $(ARGS)

test: $(TOOLED) tools
	$(BIN)/python -m pytest -n 2 $(ARGS)

check: test lint types imports

lint: $(TOOLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(TOOLED)
	$(BIN)/mypy

imports: $(TOOLED)
	$(BIN)/lint-imports

bench: $(TOOLED) tools
	$(BIN)/storefront bench $(ARGS)

# What the tests use beyond Python, where this machine lets us install it; tests that miss it say so.
tools:
	@sh tests/install-tools.sh

# The pictures of README and docs, from the demo in Chromium.
screenshots: $(TOOLED) tools
	$(BIN)/python -m bench.screenshots $(ARGS)

docs: $(TOOLED)
	$(BIN)/python -m gateway.commands.reference docs/events.md

lock:
	$(UV) pip compile $(LOCKED) --group build -o requirements.lock pyproject.toml
	$(UV) pip compile $(LOCKED) --group build --all-extras -o requirements-dev.lock pyproject.toml

# What is installed with us, with versions and hashes, as CycloneDX JSON; from the lock, so nothing is asked of anybody.
sbom: $(TOOLED)
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
	  -o sbom.cdx.json requirements.lock

LOCKED := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

clean:
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis
