# The daily verbs. Each works alone on a fresh machine that has Python 3.11+, make and a package registry:
# the environment is made on first use in .venv, from requirements.lock, and again when the lock changes.
#
#   make demo         the whole way of a job, on this machine, in a few seconds
#   make test         the suite; but for some of the fault tests in three processes    ARGS="tests/jobs -x" runs a part
#   make faults       the fault tests at full length: hundreds of kills, minutes of bad network    ARGS="-k kill"
#   make check        lint and format, types, layers, guard; also each by itself; make -k check shows all that fails
#   make guard        what a job costs, counted and compared with bench/baseline.json    ARGS=--callgrind
#   make baseline     write that file anew, and say what is different
#   make test-wheel   the suite against the built wheel, without the checkout    ARGS="jobs workers" runs a part
#   make docs         the pages, strictly, into site/
#   make bench        all questions of bench/, about 25 minutes     ARGS="slots fsync" asks some
#   make bench-quick  the same in about 3 minutes, to see that all works
#   make bench-peers  headrace beside other engines, each in an environment of its own    ARGS="--only streaq --rounds 3"
#   make lock         pin anew what pyproject.toml asks for (needs uv)
#   make clean        remove what the verbs built; .venv stays (rm -rf .venv starts over)
#
# PYTHON=/path/to/python3.12 make test   chooses the interpreter when .venv is made.

SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := .venv/bin
STAMP := .venv/.installed
UV ?= uv
ARGS ?=
# Most tests wait for something most of the time, so there are more processes than cores. Each begins with a part of its
# own, so that a file's tests share a server, and takes from the others' when it has done that. Those marked `alone`, some
# of the fault tests, compare rates or keep narrow times: they come last, one after the other, with the machine to
# themselves. Of the fault tests that either loop could run each runs on one of the two, in turn; `make faults` runs all.
PROCESSES ?= 3
# Tests start some hundreds of programs, each of which would compile all of headrace again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv lock test faults test-wheel check lint types layers guard baseline demo bench bench-quick bench-peers docs clean

help:
	@sed -n 's/^#  *make /make /p' Makefile

venv: $(STAMP)

# --no-build-isolation: the build uses the setuptools of the lock, so nothing unpinned is fetched. Libraries are compiled
# on all cores, where pip would use one; of those files that do not compile nobody imports one.
$(STAMP): requirements.lock pyproject.toml
	@PYTHON='$(PYTHON)' sh .ci/venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null || true
	@touch $@

lock:
	@command -v $(UV) >/dev/null || { echo "make lock: needs uv; install it (pip install uv) or name it with UV=/path/to/uv" >&2; exit 1; }
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 \
		--all-extras --group dev --no-emit-index-url --output-file requirements.lock

test: $(STAMP)
	@if [ -n "$(ARGS)" ]; then set -x; exec $(BIN)/python -m pytest -q $(ARGS); fi; set -ex; \
	$(BIN)/python -m pytest -q -n $(PROCESSES) --dist worksteal -m "not alone" --durations=10 --durations-min=1; \
	$(BIN)/python -m pytest -q -m alone tests/faults --durations=10 --durations-min=1

faults: $(STAMP)
	TEST_FAULTS=long $(BIN)/python -m pytest -q -s -o faulthandler_timeout=1800 --durations=20 tests/faults $(ARGS)

# .venv-wheel holds only headrace as users get it. Its libraries are those of .venv, named in a .pth file: Python does not
# read the .pth files of a folder that it found in one, so the editable link to the checkout is not followed.
test-wheel: $(STAMP)
	rm -rf .venv-wheel build
	$(BIN)/python -m build --no-isolation --wheel --outdir .venv-wheel/dist . >/dev/null
	rm -rf build
	$(BIN)/python -m venv --without-pip .venv-wheel
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> "$$(.venv-wheel/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/locked.pth"
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --ignore-installed .venv-wheel/dist/*.whl
	cd tests && env -u PYTHONPATH ../.venv-wheel/bin/python -P packaging/assert_installed.py
	cd tests && env -u PYTHONPATH ../.venv-wheel/bin/python -P -m pytest -q -p no:cacheprovider $(ARGS)

check: lint types layers guard

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(STAMP)
	$(BIN)/lint-imports --no-logo

guard: $(STAMP)
	$(BIN)/python bench/guard.py $(ARGS)

baseline: $(STAMP)
	$(BIN)/python bench/guard.py --update $(ARGS)

demo: $(STAMP)
	$(BIN)/headrace demo $(ARGS)

bench: $(STAMP)
	$(BIN)/python bench/run.py $(ARGS)

bench-quick: $(STAMP)
	$(BIN)/python bench/run.py --quick $(ARGS)

bench-peers: $(STAMP)
	@cd bench && ../$(BIN)/python -m peers.run $(ARGS)

docs: $(STAMP)
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict --quiet --clean
	@echo "docs: built into site/"

clean:
	rm -rf bench/.disk bench/results/quick bench/results/profiles
	rm -rf build dist site .venv-wheel src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find engine workers jobs config src tests bench docs examples -name __pycache__ -type d -prune -exec rm -rf {} +
