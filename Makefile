# Everything that is done with this repository, by name. `make help` lists it.

PYTHON ?= python3
ROOM ?= rules state steps formats shuffle machine functions
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CDK_INSTALLED := $(VENV)/cdk/.installed
CDK := $(BIN)/node $(VENV)/cdk/node_modules/aws-cdk/bin/cdk --no-notices
PACKAGES := $(wildcard coordinator functions infra jobs tests benchmarks)
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)

# jsii and cdk start `node` and `python` by name: they find ours.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export CDK_DISABLE_CLI_TELEMETRY := true

.DEFAULT_GOAL := help
.PHONY: help setup lint format types test chaos mistakes mutants demo bench synth lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## make .venv from Python 3.11+ and nothing else
	@:

$(INSTALLED): pyproject.toml requirements/uv.txt requirements/all.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Fanfold needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/all.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(CDK_INSTALLED): infra/package.json infra/package-lock.json $(INSTALLED)
	@mkdir -p $(@D)
	cp infra/package.json infra/package-lock.json $(@D)
	$(BIN)/npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

lint: setup ## style, formatting and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: setup ## format, and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: setup ## mypy, strict
	$(BIN)/mypy $(PACKAGES)

test: setup lint types ## what CI runs: lint, types, tests
	$(BIN)/pytest --numprocesses 2 --dist worksteal

chaos: setup ## every schedule of faults
	FANFOLD_CHAOS=all $(BIN)/pytest tests/chaos --numprocesses 2 --dist worksteal --timeout 1800

mistakes: setup ## make every mistake of a list, and see that the tests find it
	FANFOLD_MISTAKES=all $(BIN)/pytest tests/mistakes tests/chaos/test_mutations.py --numprocesses 2 --dist worksteal

mutants: setup ## mistakes that the tests of a folder do not find: ROOM="rules state/runs"
	$(BIN)/python -m tests.mutants $(ROOM)

demo: setup ## count the words of the standard library, on this machine
	@stdlib="$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" && \
		$(BIN)/fanfold run wordcount --output demo-out \
			"$$stdlib/*.py" "$$stdlib/[!s]*/**/*.py" "$$stdlib/sqlite3/*.py"

bench: setup ## the benchmarks
	$(BIN)/python -m benchmarks

synth: $(CDK_INSTALLED) ## synthesise the stacks into cdk.out
	$(CDK) synth --quiet

lock: setup ## pin the dependencies again; UPGRADE=1 takes the newest
	$(COMPILE) --all-extras pyproject.toml --output-file requirements/all.txt
	$(COMPILE) --extra aws --constraints requirements/all.txt --excludes requirements/terminal.in pyproject.toml --output-file requirements/functions.txt
	echo uv | $(COMPILE) --no-annotate --constraints requirements/all.txt - --output-file requirements/uv.txt
	$(BIN)/npm install --prefix infra --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund --loglevel=error

clean: ## remove everything that can be made again
	rm -rf $(VENV) build dist cdk.out demo-out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .mutants
	find $(PACKAGES) -type d -name __pycache__ -prune -exec rm -rf {} +
