# Everything happens in .venv; a second call reinstalls only what setup.py changed.
IS_311 := import sys; sys.exit(sys.version_info[:2] != (3, 11))
PYTHON ?= $(shell for name in python3.11 python3 python; do \
	$$name -c '$(IS_311)' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
DESCRIPTION := setup.py pyproject.toml fedml_spurious.pth

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart mpi install test check mutants format docs dist clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: .venv/.installed ## install and run the quickstart; a second call continues or shows it again
	$(BIN)/fedml-spurious run --cf fedml_configs/quickstart.yaml --output runs/quickstart --resume

mpi: .venv/.installed-mpi ## the quickstart on 3 processes, a server and two workers, to the same numbers
	$(BIN)/mpirun --oversubscribe $(if $(filter 0,$(shell id -u)),--allow-run-as-root) -np 3 \
		$(BIN)/fedml-spurious run --cf quickstart --set comm_args.backend=MPI --output runs/mpi --resume

install: .venv/.installed ## create .venv and install the package with all it needs

# A test uses one thread. Tests of a file stay together: some of them share names of hosts. By their number of tests
# the slow files, which have few, would come last and leave one of two processes without work.
test: .venv/.installed-test ## run all tests; PYTEST_ARGS="-k pgd" for some
	$(BIN)/python -m pytest --timeout=900 --numprocesses=2 --dist=loadfile --no-loadscope-reorder $(PYTEST_ARGS)

check: .venv/.installed-dev ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mutants: .venv/.installed-mutants ## plant faults in the pure maths, one at a time, and list those that no test sees
	# The hook of `fedml run` imports the package when Python starts: from there, not from where it is installed.
	mkdir -p mutants/fedml_spurious
	cp fedml_spurious/__init__.py fedml_spurious/_fedml*.py mutants/fedml_spurious
	PYTHONPATH='$(CURDIR)/mutants' $(BIN)/mutmut run $(MUTANTS)
	$(BIN)/mutmut results

format: .venv/.installed-dev ## sort imports, format the code
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

docs: .venv/.installed ## write docs/configuration.md from the docstrings of the settings
	page=$$($(BIN)/python -m fedml_spurious.config.reference) && printf '%s\n' "$$page" > docs/configuration.md

dist: .venv/.installed-dev ## build the wheel and the source archive in dist/
	rm -rf build dist
	$(BIN)/python -m build

clean: ## remove what was built; .venv and runs/ stay
	rm -rf build dist mutants *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@'$(PYTHON)' -c '$(IS_311)' 2>/dev/null || { \
		echo "FedML 0.9.6 needs Python 3.11, which is not $(or $(PYTHON),on the PATH)." \
		"Install it or say where it is: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 2; }  # half an environment would be taken for one

.venv/.installed: $(DESCRIPTION) | $(BIN)/python
	$(PIP_INSTALL) --editable .
	touch $@

.venv/.installed-%: $(DESCRIPTION) | $(BIN)/python
	$(PIP_INSTALL) --editable '.[$(EXTRAS_$*)]'
	touch $@ .venv/.installed

EXTRAS_test := test,mpi,grpc,tracking
EXTRAS_mpi := mpi
EXTRAS_mutants := test,mutants
EXTRAS_dev := dev
