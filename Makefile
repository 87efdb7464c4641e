# Two commands on a fresh machine: `make run` opens the inspector, `make test` checks everything
# that takes under ten seconds each or is alone of its kind, `make test-slow` the rest.
# `make real` fetches two pretrained models and runs the tests on them. `make docs` writes the pages to site/.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check install --quiet -c constraints.txt
ARGS   ?=
REAL   ?= real-models
# One test process more than there are cores, as a third of their time is waiting for screens and terminals, each with one
# thread: a file of tests stays together, so that it shares its models, and files begin in their order, the small ones
# last. `make test WORKERS=0` runs them one after the other.
WORKERS ?= $(shell expr `getconf _NPROCESSORS_ONLN` + 1)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: run test test-slow real fmt lint bench screenshots docs clean
.DEFAULT_GOAL := run

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) "torch$$(sed -n 's/^torch==/==/p' constraints.txt)"
	$(PIP) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) --editable ".[test,dev,screenshots]"
	touch $@

$(VENV)/.docs: $(VENV)/.run
	$(PIP) --editable ".[docs]"
	touch $@

run: $(VENV)/.run
	$(BIN)/tpe $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(PYTEST) -m "not slow and not real" $(ARGS)

test-slow: $(VENV)/.test
	$(PYTEST) -m "slow and not real" $(ARGS)

# Two pretrained models as GGUF files, fetched once (330 MB), and the tests that need them.
real: $(VENV)/.test
	$(BIN)/python -m benchmarks.real_models $(REAL)
	TPE_REAL_MODELS=$(REAL) $(PYTEST) -m real $(ARGS)

fmt: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks $(ARGS)

screenshots: $(VENV)/.test
	$(BIN)/python -m screenshots $(ARGS)

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet $(ARGS)

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
