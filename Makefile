# make setup   the environment, in .venv
# make demo    the main job on the embedded defaults: from MD to the report of a small study
# make test    lint, types and tests (make slow: those that take minutes; make test-slurm: on a
#              real Slurm, and the tutorial)

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete

.PHONY: setup demo test lint types pytest slow test-slurm clean

setup: $(STAMP)

# Candidates on PATH, then pyenv's versions: a pyenv shim can be on PATH and not run.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	for candidate in python3.12 python3.13 python3 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[23]*/bin/python3; do \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 12) <= sys.version_info < (3, 14))' >/dev/null 2>&1; then \
	    python="$$candidate"; break; \
	  fi; \
	done; \
	if [ -z "$${python:-}" ]; then \
	  echo "mlsel needs Python 3.12 or 3.13 with its venv module and found none on PATH or under pyenv: install python3.12 and python3.12-venv." >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$("$$python" -c 'import sys; print(sys.executable, sys.version.split()[0])')"; \
	"$$python" -m venv --clear $(VENV); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'; \
	$(BIN)/python -m mlsel.plugins build; \
	touch $@

demo: setup
	@rm -rf demo
	$(BIN)/mpirun -n 2 $(BIN)/python -m mlsel run quick -o demo
	@$(BIN)/python -m mlsel figure pool demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

pytest: setup
	$(BIN)/python -m pytest -m "not slow and not slurm and not tutorial"

# Minutes of MD and training.
slow: setup
	$(BIN)/python -m pytest -m slow

# A Slurm of its own on this machine: slurmctld, slurmd, sbatch must be there (Debian: slurm-wlm).
test-slurm: setup
	$(BIN)/python -m pytest -m "slurm or tutorial" tests

test: lint types pytest

clean:
	rm -rf $(VENV) demo
