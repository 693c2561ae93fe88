# `make` lists the verbs. Each sets up what it needs: .venv, and on Debian the packages that are missing.

PYTHON ?= python3
CONFIG ?= hopd/demo/demo.yaml
MINUTES ?= 10
SEED ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# Files whose age says when the environment was made: with what hopd needs to run, and with what its tests and checks need.
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
# What hopd is compared with lives apart: its dependencies are none of ours.
READY_BENCH := .venv-bench/.ready
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

export PYTHON
MAKEFLAGS += --no-print-directory

.PHONY: help demo test soak lint bench run clean broker

help:
	@echo "make demo    watch hopd run 10,000 jobs; uses the broker in HOP_BROKER_URL, else hopd's own"
	@echo "make test    lint, types and all tests"
	@echo "make soak    random faults under load for MINUTES=$(MINUTES), of SEED=N to replay one; then a million jobs"
	@echo "make lint    style and types only"
	@echo "make bench   how fast: beside the broker's own limit and beside others; ARGS=\"--quick --only no-op\" for a part"
	@echo "make run     the daemon, with CONFIG=FILE (default $(CONFIG))"
	@echo "make clean   remove .venv, .venv-bench and everything else that was made here"

demo: $(READY)
	@$(BIN)/hopd demo

test: $(READY_DEV) broker lint
	@$(BIN)/python -m pytest -n 4 -m "not alone"  # most tests wait for something, so more of them than cores
	@$(BIN)/python -m pytest -m alone || [ $$? -eq 5 ]  # 5: there are none

soak: $(READY_DEV) broker
	@$(BIN)/python -m tests.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))
	@HOPD_LEAK_JOBS=1000000 $(BIN)/python -m pytest -q tests/fault/test_leaks.py -k done_jobs

lint: $(READY_DEV)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy

bench: $(READY_DEV) $(READY_BENCH) broker
	@sh packaging/debian/setup.sh go
	@$(BIN)/python -m tests.bench $(ARGS)

run: $(READY)
	@exec $(BIN)/hopd run -c $(CONFIG)

clean:
	@rm -rf $(VENV) .venv-bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

broker:
	@sh packaging/debian/setup.sh broker

$(READY): setup.cfg setup.py
	@sh packaging/debian/setup.sh python
	@echo "Making $(VENV) ..."
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --use-pep517 -e .
	@touch $@

$(READY_DEV): $(READY)
	@echo "Adding the tools for tests and checks ..."
	@$(PIP) install --use-pep517 -e '.[dev,bench]'
	@touch $@

$(READY_BENCH): tests/bench/peers/requirements.txt
	@sh packaging/debian/setup.sh python
	@echo "Making .venv-bench ..."
	@rm -rf .venv-bench
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip --quiet --disable-pip-version-check install -r $<
	@touch $@
