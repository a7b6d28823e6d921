# Every target sets up what it needs: a fresh machine has to have only Python 3.11 or newer and make.
# Nothing needs to be activated; `make help` lists the targets.

PYTHON      ?= python3
VENV        ?= .venv
# One test process per core, at most eight: each compiles its own kernels.
PYTEST_ARGS ?= -n auto --maxprocesses 8

PY    := $(VENV)/bin/python
STAMP := $(VENV)/.npusim-installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format docs pictures pages site clean distclean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## run the demonstration
	$(PY) -m examples.demo

test: lint ## ruff, mypy and pytest: everything a change has to pass
	$(PY) -m pytest $(PYTEST_ARGS)

test-slow: $(STAMP) ## the tests that `make test` leaves out
	$(PY) -m pytest $(PYTEST_ARGS) -m slow

lint: $(STAMP) ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(STAMP) ## let ruff format the code and repair what it safely can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: $(STAMP) ## write docs/isa.md from the instruction definitions
	$(PY) -m isa.document > docs/isa.md.new
	mv docs/isa.md.new docs/isa.md

pictures: $(STAMP) ## make the pictures of the documentation, and run the example notebook
	$(PY) -m examples.pictures

pages: $(STAMP) ## run the commands that the documentation shows, and put what they print into it
	$(PY) -m examples.pages

site: $(STAMP) ## build the documentation's pages into build/site
	$(PY) -m mkdocs build --strict

clean: ## remove what building and testing leave behind
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis docs/isa.md.new
	find . -name $(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove the virtual environment as well
	rm -rf $(VENV)

# The stamp is newer than pyproject.toml while what is installed is what it asks for.
$(STAMP): pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || \
	  { echo "npusim needs Python 3.11 or newer, but there is no $(PYTHON); name one: make PYTHON=python3.12 <target>" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "npusim needs Python 3.11 or newer, but $(PYTHON) is $$("$(PYTHON)" -V 2>&1); name another: make PYTHON=python3.12 <target>" >&2; exit 1; }
	@"$(PY)" -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear "$(VENV)"
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(PY) -m npusim info --warmup
	@touch $@
