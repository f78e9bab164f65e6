# make run    set everything up and run a simulated store: http://127.0.0.1:8080
# make test   set everything up and pass the tests
# make check  what CI runs: tests, lint, types, import rules
# make bench  figures beside limits and peers

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ARGS   ?=

.PHONY: run test check lint types imports bench docs lock tools clean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,4p' Makefile

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

run: $(READY)
	$(BIN)/storefront demo $(ARGS)

test: $(READY) tools
	$(BIN)/python -m pytest -n 2 $(ARGS)

check: test lint types imports

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

bench: $(READY) tools
	$(BIN)/storefront bench $(ARGS)

# What the tests use beyond Python, where this machine lets us install it; tests that miss it say so.
tools:
	@sh tests/install-tools.sh

docs: $(READY)
	$(BIN)/python -m gateway.commands.reference docs/events.md

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --extra dev --extra onnx --extra zstd -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis
