# make setup   the environment, in .venv
# make demo    the main job on the embedded defaults: from MD to the report of a small study
# make test    lint, types and tests (make slow: those that take minutes; make test-slurm: on a
#              real Slurm, and the tutorial)
# make crash-points  every operation on the disk of every stage killed, every write refused; make -j2
#              -Otarget crash-points does it on two cores
# make mutants changes of one line that the tests must notice, one after the other; many minutes
# make coverage which decisions no test takes; a table in build/coverage/report.txt
# make docs    the documentation, in build/site; a warning is an error

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
DOCS := $(VENV)/.docs
COVERAGE := $(VENV)/.coverage
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: setup demo test lint types pytest slow crash-points crash-points-md crash-points-rest test-slurm mutants coverage docs clean

setup: $(STAMP)

# `venv --clear` would empty what a link points to, which may be another checkout's environment.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	if [ -L $(VENV) ]; then \
	  echo "$(VENV) is a symbolic link to $$(readlink $(VENV)), and set-up would empty what it points to: remove the link, or name another folder with make VENV=FOLDER." >&2; exit 1; \
	fi; \
	python="$$(.ci/find-python)"; \
	echo "Setting up $(VENV) with $$python ($$("$$python" -V))"; \
	"$$python" -m venv --clear $(VENV); \
	$(INSTALL) -e '.[test]'; \
	$(BIN)/python -m mlsel.plugins build; \
	touch $@

$(DOCS): $(STAMP)
	@$(INSTALL) -e '.[docs]'
	@touch $@

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

# Those of MD and the others, each on a core with make -j2.
CRASHES := -q -m slow tests/mpi/test_crash_points.py
crash-points: crash-points-md crash-points-rest

crash-points-md: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(CRASHES) -k "validate or generate"

crash-points-rest: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(CRASHES) tests/lammps/test_crash_points_of_commands.py \
	  -k "not validate and not generate"

# A Slurm of its own on this machine: slurmctld, slurmd, sbatch must be there (Debian: slurm-wlm).
test-slurm: setup
	$(BIN)/python -m pytest -m "slurm or tutorial" tests

test: lint types pytest

mutants: setup
	$(BIN)/python -m tests.mutants.run

$(COVERAGE): $(STAMP)
	@$(INSTALL) 'coverage>=7.10'
	@touch $@

coverage: $(COVERAGE)
	@rm -rf build/coverage; mkdir -p build/coverage
	$(BIN)/python -m coverage run -m pytest -m "not slow and not slurm and not tutorial"
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report > build/coverage/report.txt; tail -1 build/coverage/report.txt

docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) demo build
