# `make demo`, `make test` and `make docs` install what they need into .venv first.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
# Versions are those of constraints.txt. --no-compile: compiling all packages ahead takes minutes.
PIP := python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
unexport PYTHONDONTWRITEBYTECODE
# A relative path, because make cannot handle spaces in the path of the folder.
BIN := .venv/bin
# Stages call `python`; anny's cache and MLflow's file belong to this folder.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Two processes of one thread each are faster than one process of two threads. The long files must not come last.
PYTEST := OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# constraints.txt holds for every platform and Python. `make lock` keeps its pins wherever pyproject.toml allows them.
UV := $(BIN)/uv

.PHONY: demo test test-all test-oldest lint docs lock audit clean

demo: .venv/faces.stamp
	python -m dvc repro
	@echo
	@echo "The report:   $(CURDIR)/reports/index.html"
	@echo "Compare runs: cd '$(CURDIR)' && .venv/bin/duchenne ui"

test: .venv/test.stamp .venv/faces.stamp
	python -m ruff check .
	python -m ruff format --check .
	python -m mypy
	$(PYTEST)

test-all: .venv/test.stamp .venv/faces.stamp
	$(PYTEST) -m '' --cov --cov-report term:skip-covered

# The oldest versions that pyproject.toml allows, in an environment of their own: imports, and the tests that are quick.
# --timeout shows where a test hangs. Ruff and mypy are not run, Ray's and Dask's clusters are not started, and licences
# are compared with the pins.
OLDEST := .venv/oldest
test-oldest: .venv/uv.stamp
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(OLDEST)
	$(UV) pip compile pyproject.toml --quiet --all-extras --resolution lowest-direct --no-annotate --no-header \
		-o $(OLDEST)/oldest.txt
	$(UV) pip install --quiet --python $(OLDEST)/bin/python -r $(OLDEST)/oldest.txt 'pytest-timeout==2.4.0'
	$(UV) pip install --quiet --python $(OLDEST)/bin/python --no-deps -e .
	$(OLDEST)/bin/python .ci/imports.py
	PATH="$(CURDIR)/$(OLDEST)/bin:$$PATH" OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n 2 \
		--dist loadfile -m 'not slow and not exhaustive' --timeout 600 --ignore tests/test_engines.py \
		--deselect tests/test_licences.py::test_everything_pinned_and_installed_is_listed_with_a_licence

lint: .venv/test.stamp
	python -m ruff check --fix .
	python -m ruff format .
	python -m mypy

docs: .venv/test.stamp
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --quiet
	@echo "The documentation: $(CURDIR)/site/index.html (its search needs a server: python -m http.server -d site)"

.venv/run.stamp: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %s" % sys.version) if sys.version_info < (3, 11) else 0'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(PIP) -e '.[all]'
	touch $@

# Building the head model of the rendered faces takes some minutes, once per machine.
.venv/faces.stamp: .venv/run.stamp
	python -c 'from duchenne.synth.render import renderer; renderer()'
	touch $@

.venv/test.stamp: .venv/run.stamp
	$(PIP) -e '.[all,docs,test]'
	touch $@

lock: .venv/uv.stamp
	$(UV) pip compile pyproject.toml --quiet --all-extras --universal $(if $(UPGRADE),--upgrade) \
		--no-annotate --custom-compile-command 'make lock' -o constraints.txt
	@git diff --stat -- constraints.txt

audit: .venv/uv.stamp
	python .ci/audit.py $(UV) tool run pip-audit==2.10.1

.venv/uv.stamp:
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	python -m pip install --quiet --disable-pip-version-check 'uv==0.13.9'
	touch $@

clean:
	rm -rf .venv work site
