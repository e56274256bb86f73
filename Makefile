# konsil: every command of a developer. `make demo` and `make test` need nothing but
# Python 3.11 or newer; both prepare .venv first, which is quick when nothing changed.
#
#   make demo ARGS="--json"          arguments for the command
#   make setup PYTHON=python3.12     another interpreter
#   make setup TORCH_ARGS="…"        options for installing PyTorch (see README.md)

PYTHON ?= python3
TORCH_ARGS ?=
ARGS ?=
# Test processes side by side. Many tests wait for daemons and sockets half of their time.
WORKERS ?= 4
# A test file stays in one process, where its fixtures are; slow ones begin first (tests/conftest.py).
SPREAD := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Tests start hundreds of processes, and without bytecode each would compile konsil anew.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
FLOORS := protocol knowledge trust node simulations
CODE := $(FLOORS) tests tools benchmarks examples
COVERED := protocol trust

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lint floors types covered exhaustive bench wheel fix clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*  ## /  make \1\t/p' Makefile | expand -t 18

setup:  ## prepare .venv with everything konsil needs
	@command -v "$(PYTHON)" >/dev/null || { echo "setup: no $(PYTHON) here; konsil needs Python 3.11 or newer (make PYTHON=...)" >&2; exit 5; }
	@"$(PYTHON)" tools/bootstrap.py --torch-args="$(TORCH_ARGS)"

demo: setup  ## a consortium of real daemons on real data, on this machine
	@$(BIN)/konsil demo $(ARGS)

test: setup  ## run the tests
	@$(BIN)/python -m pytest $(SPREAD) $(ARGS)

check: setup  ## everything that must be green: format, lint, floors, types, tests, coverage
	@$(MAKE) --keep-going --jobs=2 format lint floors types covered

format: setup
	@$(BIN)/ruff format --check $(CODE)

lint: setup
	@$(BIN)/ruff check $(CODE)

floors: setup
	@$(BIN)/lint-imports --no-cache

types: setup
	@$(BIN)/mypy

covered: setup
	@$(MAKE) test ARGS="$(COVERED:%=--cov=%) --cov-report= $(ARGS)"
	@for floor in $(COVERED); do \
	  printf '%s: ' "coverage of $$floor/ (at least 95 %)"; \
	  $(BIN)/coverage report --include="$$floor/*" --format=total --fail-under=95 || failed=1; \
	done; \
	test -z "$$failed" || { $(BIN)/coverage report --skip-covered --show-missing; exit 1; }

exhaustive: setup  ## the long tests, whole; writes docs/reliability.md
	@$(BIN)/python tools/reliability.py $(ARGS)

bench: setup  ## benchmarks: a table, and JSON in out/bench.json
	@$(BIN)/python -m benchmarks $(ARGS)

wheel: setup  ## build the wheel, install it elsewhere, run the demo from it
	@$(BIN)/python tools/wheel_check.py

fix: setup  ## format, and repair what the linter can
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

clean:  ## remove caches and build outputs; .venv stays
	@rm -rf build dist out .coverage coverage.xml .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
