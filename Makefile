# Everything a working copy needs; `make` alone lists the targets. Works with GNU make 3.81 (macOS) and later.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := geodyne node router replication delivery
PROTOS := $(wildcard proto/geodyne/wire/*.proto)
INSTALLED := $(VENV)/installed.stamp
GENERATED := $(VENV)/generated.stamp
CLIENTS_JS := tests/clients/js
CLIENTS_JS_INSTALLED := $(CLIENTS_JS)/node_modules/.package-lock.json
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup clients-js up down check static sim test test-long bench lock clean
.DEFAULT_GOAL := help

help:
	@echo "make up         set up what is needed and run the default cluster until Ctrl-C"
	@echo "make test       set up and run every test that belongs to every change, $(JOBS) at a time (JOBS=N for others)"
	@echo "make setup      virtual environment, dependencies, generated code, .venv/bin/geodyne"
	@echo "make check      the quick gate: format, lint, types, imports, fast tests"
	@echo "make sim        simulate a region under faults for about a minute (SEEDS=A..B for other runs)"
	@echo "make test-long  the tests that take longer"
	@echo "make bench      print throughput and latency beside a yardstick (needs wrk)"
	@echo "make lock       resolve the lock files again from pyproject.toml"
	@echo "make clean      remove what was built; data directories stay"

setup: $(GENERATED)

# The first Python of at least 3.11 is taken; PYTHON=... chooses another.
$(INSTALLED): requirements-dev.lock pyproject.toml
	@set -e; \
	for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "make: Python 3.11 or newer is needed (PYTHON=/path/to/python3.11 names one)" >&2; exit 1; fi; \
	if [ ! -x $(BIN)/python ]; then \
	  echo "making $(VENV) with $$($$found --version)"; \
	  $$found -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "make: $$found cannot make virtual environments (on Debian: apt-get install python3-venv)" >&2; exit 1; }; \
	fi; \
	echo "installing the locked dependencies"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	touch $@

$(GENERATED): $(INSTALLED) $(PROTOS) router/api/generate_shapes.py
	@echo "generating bindings and shapes"
	@$(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. $(PROTOS)
	@$(BIN)/python -m router.api.generate_shapes
	@touch $@

# Node and npm come with the Python packages. Without a registry to install from, the tests of these clients are skipped
# and say so; GEODYNE_CLIENTS_JS=required makes that a failure.
clients-js: $(CLIENTS_JS_INSTALLED)
$(CLIENTS_JS_INSTALLED): $(CLIENTS_JS)/package-lock.json $(INSTALLED)
	@echo "installing the JavaScript clients"
	@$(BIN)/npm ci --prefix $(CLIENTS_JS) --ignore-scripts --loglevel=error --no-progress || { \
	  rm -rf $(CLIENTS_JS)/node_modules; [ "$$GEODYNE_CLIENTS_JS" != required ] || exit 1; \
	  echo "make: the JavaScript clients could not be installed; their tests will be skipped" >&2; }

up: setup
	@$(BIN)/geodyne up; code=$$?; [ $$code -eq 130 ] || exit $$code

down: setup
	@$(BIN)/geodyne down

static: setup
	@$(BIN)/ruff format --check --quiet . || { echo "make: not formatted: $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy $(PACKAGES)
	@$(BIN)/lint-imports --no-logo

JOBS := 2
check: static
	@$(PYTEST) -n $(JOBS) --max-worker-restart=0 -m "not long and not cluster" tests/unit tests/tidy tests/deploy

# The report goes to standard output, and depends on the sources and the seeds alone.
SEEDS := 1..80
sim: setup
	@$(BIN)/geodyne sim --seeds $(SEEDS) --jobs $(JOBS) --fresh

# The simulation goes first: the last line is pytest's summary. What runs beside what: tests/sharing.py.
test: setup clients-js
	@$(MAKE) --no-print-directory --jobs=2 static sim
	@$(PYTEST) -n $(JOBS) --max-worker-restart=0 -m "not long"

test-long: setup clients-js
	@$(PYTEST) -m long

bench: setup
	@$(BIN)/python -m tests.bench

# The resolver lives in an environment of its own, outside this one. No index or host lines go into the files.
LOCK_TOOL := $(VENV)-lock/bin/uv
COMPILE := $(LOCK_TOOL) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
lock: $(LOCK_TOOL)
	@$(COMPILE) pyproject.toml -o requirements.lock
	@$(COMPILE) --group build -o requirements-build.lock
	@$(COMPILE) pyproject.toml --group build --group check --group test -o requirements-dev.lock

$(LOCK_TOOL):
	@python3 -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

clean:
	rm -rf $(VENV) $(VENV)-lock build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -rf $(CLIENTS_JS)/node_modules
	rm -f geodyne/wire/*_pb2.py geodyne/wire/*_pb2.pyi router/api/shapes.json
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
