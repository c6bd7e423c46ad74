# Everything a fresh machine needs: Python >= 3.11 and make. No network beyond the package index, no keys.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export DAGSTER_HOME := $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help setup run test lint types format ui bench lock clean

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The lock is complete and hashed, so nothing is resolved; the stamp makes a repeated call instant.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else "Python 3.11 to 3.13 is needed, this is %d.%d; set PYTHON=..." % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

setup: $(READY)  ## virtual environment with every dependency

run: $(READY)  ## refresh the embedded markets and publish the warehouse: no network, no keys
	$(BIN)/vprism run --market us --market vn

test: $(READY)  ## the tests
	$(BIN)/python -m pytest

lint: $(READY)  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## mypy --strict on the package
	$(BIN)/mypy

format: $(READY)  ## rewrite to style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: $(READY)  ## Dagster UI, daemon and code server on port 3000
	$(BIN)/dagster dev --host 127.0.0.1 --port 3000

bench: $(READY)  ## benchmarks, as ratios measured side by side
	$(BIN)/python -m benchmarks

lock:  ## resolve dependencies again (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-strip-extras --no-header \
	  --python-version 3.11 --extra dev --extra vnstock --extra otel --constraint constraints.txt \
	  --output-file requirements.lock pyproject.toml

clean:  ## forget the environment and the caches; data/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
