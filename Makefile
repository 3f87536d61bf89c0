# dcm2fhir: `make demo` shows what it does, `make test` shows that it works. Each makes its own environment.
# Needs: Python 3.11 or newer with venv (Debian, Ubuntu: python3-venv); the tests also Java 17 and Maven.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_OPTIONS ?= -n 2

.PHONY: demo test lint docs benchmarks fuzz soak nightly clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed
	rm -rf demo-out
	$(BIN)/dcm2fhir demo demo-out

test: lint
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)
	$(BIN)/python -m pytest -m judge tests/judge

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.tested
	$(BIN)/python -m tools.build_shapes
	$(BIN)/python -m tools.build_reasons
	$(BIN)/python -m tools.build_mapping
	$(BIN)/python -m tools.build_conformance
	$(BIN)/python -m tools.update_shown

benchmarks: $(VENV)/.tested  # a table and a plot of ratios beside peers: half an hour, 8 GB in ~/.cache
	$(BIN)/python -m benchmarks

SECONDS_OF_FUZZING ?= 600
fuzz: $(VENV)/.tested  # nightly; SECONDS_OF_FUZZING=60 beside a change of the reader
	-$(BIN)/python -m pip install -q 'atheris>=3,<4'
	$(BIN)/python -m tests.fuzz.fuzz_reading $(SECONDS_OF_FUZZING)

NIGHTLY := DCM2FHIR_TEST_NIGHTLY=1 DCM2FHIR_TEST_FIGURES=docs/reliability.json $(BIN)/python -m pytest -n 0 -p no:randomly
soak: $(VENV)/.tested  # DCM2FHIR_TEST_SOAK_STUDIES=100 for a short one
	$(NIGHTLY) tests/reliability/test_soak.py
	$(BIN)/python -m tools.build_reliability

nightly: $(VENV)/.tested  # an hour: 200 kills and crash images, soak, fuzzing; figures into docs/reliability.md
	$(NIGHTLY) -m nightly
	$(BIN)/python -m tools.build_reliability
	$(MAKE) fuzz

clean:
	rm -rf $(VENV) demo-out dist

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "dcm2fhir needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	  || { echo "Python's venv is missing: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install -q --editable .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed pyproject.toml
	$(BIN)/python -m pip install -q --group test --group lint --group tools
	@touch $@
