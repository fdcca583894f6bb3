# Every command makes what it needs: a virtual environment with pinned dependencies.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format torture bench docs requirements clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## what running needs, into .venv

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Upwell needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(STAMP): requirements.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(DEV_STAMP): requirements-dev.txt $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

demo: $(STAMP) ## a shop, its customers, and a dashboard that follows them (Ctrl-C stops)
	$(BIN)/upwell demo $(ARGS)

test: $(DEV_STAMP) ## the whole suite, about twelve minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not torture" $(ARGS)

lint: $(DEV_STAMP) ## formatting, rules, strict types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP) ## mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

torture: $(DEV_STAMP) ## every fault of engine and lake, and the soak suites; results go to docs/torture.md
	$(BIN)/python -m pytest -p tests.torture_report -m "torture or fault" --timeout 3600 $(ARGS)

bench: $(DEV_STAMP) ## benchmarks; results go to benchmarks/results
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(DEV_STAMP) ## write the generated reference anew
	$(BIN)/python -m upwell.project.reference docs/reference
	$(BIN)/python -m tests.sources.postgres.type_page docs/reference

requirements: pyproject.toml ## pin dependencies anew (needs uv)
	uv lock --quiet
	uv export --quiet --no-emit-project --no-dev --extra demo --no-annotate --no-header --output-file requirements.txt
	uv export --quiet --no-emit-project --all-extras --all-groups --no-annotate --no-header --output-file requirements-dev.txt

clean: ## forget the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
