# Two commands matter: `make demo` (set up and run the main job) and `make test` (set up and run every check).
PYTHON ?= python3
VENV ?= .venv
# Where Cora/raw and CiteSeer/raw are, for the experiments.
ROOT ?= ../shared/planetoid
# Where the campaign keeps its results and goes on from.
STATE ?= runs/campaign
BIN := $(VENV)/bin
STAMP := $(VENV)/.deqops-installed
# One thread per process keeps runs reproducible and lets two test workers share two cores.
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test install format lint types unit wheel proofs campaign mutations benchmarks experiments experiments-pign experiments-certified clean

demo: install
	$(BIN)/deqops demo

test: install lint types proofs unit wheel
	@echo "make test: everything passed"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("deqops needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

unit: install
	$(THREADS) $(BIN)/python -m pytest -n 2 -m 'not slow'

wheel: install
	$(BIN)/python tests/smoke/wheel.py

proofs:
	@$(MAKE) --no-print-directory -C proofs

campaign: install
	$(THREADS) $(BIN)/python -m pytest -n 2 -m slow
	$(THREADS) $(BIN)/python -m campaign all --state $(STATE)

mutations: install
	$(THREADS) $(BIN)/python -m mutations

benchmarks: install
	set -e; for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script; done

experiments: install
	$(THREADS) $(BIN)/python -m experiments.results --root ../shared

experiments-pign: install
	$(THREADS) $(BIN)/python experiments/pign.py --root $(ROOT)

experiments-certified: install
	$(THREADS) $(BIN)/python -m experiments.certified_training --root $(ROOT)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	$(MAKE) -C proofs clean
