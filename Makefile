# `make demo` and `make test` are all a newcomer needs; each sets up .venv by itself, and does so only once.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help demo ui test lint bench clean lock
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Load the sample data, from raw bars to backtests, on an embedded PostgreSQL
	@$(BIN)/tickstock demo

ui: $(INSTALLED) ## Open the Dagster web UI on http://127.0.0.1:3000
	@$(BIN)/tickstock ui

test: $(INSTALLED) ## Run the tests, with coverage, a process a core
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

lint: $(INSTALLED) ## Check style, types and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(INSTALLED) ## Run every file in benchmarks/; each ends with one line of JSON
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

clean: ## Remove the environment, caches and builds; stored data in .tickstock stays
	@if [ -x $(BIN)/tickstock ] && [ -d .tickstock ]; then $(BIN)/tickstock db stop; fi
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: pyproject.toml # Not for newcomers: needs uv
	uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-header --no-emit-index-url \
		--no-annotate --python-version 3.12 --quiet --output-file requirements.lock

# Exact versions with hashes; uv when it is there, else venv and pip.
$(INSTALLED): requirements.lock pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python 3.12 .venv && \
		uv pip install --quiet --python $(BIN)/python --require-hashes --requirements requirements.lock && \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else \
		$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 12) else "Python: expected 3.12 or newer, found %d.%d; name one, as in: make PYTHON=python3.12" % sys.version_info[:2])' && \
		$(PYTHON) -m venv .venv && \
		echo "Installing the locked packages into .venv (once; a minute or two)" && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements.lock && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	fi
	@touch $@
