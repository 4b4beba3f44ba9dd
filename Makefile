# make demo | test | quick | frameworks | nightly | check | generated | docs | bench | bench-docs | fuzz | mutants
# make clean. Each takes PYTHON=python3.13, or any other from 3.11 on.
PYTHON ?= python3
VENV := .venv$(if $(filter-out python3,$(notdir $(PYTHON))),-$(notdir $(PYTHON)))
PEERS := $(VENV)-peers
FLOORS := $(VENV)-floors
MCP_1 := $(VENV)-mcp-1
NPM := .npm-servers
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
INSTALL := $(BIN)/python $(PIP_INSTALL)
CHECKS := check-ruff check-mypy check-pyright check-imports
PYTEST := -m pytest --numprocesses=auto --dist=loadfile

# Modules are compiled once, and not by each of the thousands of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test quick frameworks nightly check $(CHECKS) generated docs bench bench-docs fuzz mutants clean

demo: $(VENV)/.demo
	$(BIN)/capx demo

test: $(VENV)/.dev
	$(BIN)/python $(PYTEST) --no-loadscope-reorder

# The rooms whose tests start few processes, in one to two minutes.
quick: $(VENV)/.dev
	$(BIN)/python $(PYTEST) --no-loadscope-reorder tests/caveats tests/crypto tests/tokens \
		tests/verify tests/intents tests/policy tests/api tests/ledger tests/proof

# Adapters with the oldest versions of their frameworks that they take, a client of mcp 1, and servers and a client of npm.
# With the newest versions, `make test` runs them.
frameworks: $(VENV)/.dev $(FLOORS)/.installed $(MCP_1)/.installed $(NPM)/.installed
	$(FLOORS)/bin/python -m pytest -p no:cacheprovider --numprocesses=auto --dist=loadfile tests/agent/test_langchain.py \
		tests/agent/test_mcp_client.py tests/agent/test_requests_adapter.py tests/agent/test_httpx2_client.py \
		tests/guard/test_server.py tests/guard/test_server_seams.py tests/guard/test_functions.py
	CAPX_MCP_1_PYTHON=$(CURDIR)/$(MCP_1)/bin/python CAPX_NPM_SERVERS=$(CURDIR)/$(NPM) \
		$(BIN)/python -m pytest tests/cli/test_mcp_1_client.py tests/cli/test_mcp_npm.py

# Everything that `make test` shortens or leaves out (tests/labs/counts.py), with coverage: among it whole runs of the
# benchmark. Each command of a test starts an interpreter; in `make test`, a server forks it (tests/labs/command_server.py).
# Then each fuzz target for NIGHTLY_SECONDS, then all mutants. Some hours on two cores.
NIGHTLY_SECONDS ?= 600
nightly: $(VENV)/.dev $(VENV)/.mutants
	NIGHTLY=1 $(BIN)/python $(PYTEST) --no-loadscope-reorder --cov --cov-report=term
	$(BIN)/python -m tests.fuzz --seconds $(NIGHTLY_SECONDS)
	$(BIN)/python -m tests.mutants

# Each part alone, too: make -j2 check
check: $(CHECKS)

$(CHECKS): $(VENV)/.dev

check-ruff:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-mypy:
	$(BIN)/mypy

check-pyright:
	$(BIN)/pyright --pythonpath $(BIN)/python

check-imports:
	$(BIN)/lint-imports

# All files that programs write and tests compare: the reference, the table of look-alikes, the vectors, the golden files,
# and the transcripts of the pages. One test for each page, so that they are typed side by side.
generated: $(VENV)/.dev
	$(BIN)/python -m tests.reference
	$(BIN)/python -m tests.reference.confusables
	$(BIN)/python -m tests.project.vectors.generate
	$(BIN)/python -m tests.project.vectors.decisions
	$(BIN)/python -m tests.golden
	REWRITE_TRANSCRIPTS=1 $(BIN)/python -m pytest --numprocesses=auto --dist=load tests/project/test_docs.py -k transcripts

# Open build/site/index.html; it needs no network.
docs: $(VENV)/.docs
	$(BIN)/python -m tests.reference.site build/pages
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --fresh-env -c docs/site -d build/doctrees build/pages build/site

bench: $(VENV)/.dev $(PEERS)/.installed
	$(BIN)/python -m tests.bench --peers $(PEERS)/bin/python $(if $(GROW),--grow $(GROW)) $(foreach one,$(EARLIER),--earlier $(one)) $(BENCH)

bench-docs: $(VENV)/.dev $(PEERS)/.installed
	$(BIN)/python -m tests.bench --peers $(PEERS)/bin/python --write-docs

# Each target this long, two at a time: make fuzz FUZZ_SECONDS=60 FUZZ_TARGETS="wire http"
FUZZ_SECONDS ?= 600
fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)

# All rooms, or those named: make mutants ROOMS="wire chain"
mutants: $(VENV)/.mutants
	$(BIN)/python -m tests.mutants $(ROOMS)

clean:
	rm -rf .venv .venv-* .npm-servers .coverage .coverage.* build dist \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

# A venv's own pip may be too old for what pyproject.toml says.
$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip
	touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.pip
	$(INSTALL) --editable '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.pip
	$(INSTALL) --editable '.[dev]'
	touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/.pip
	$(INSTALL) --editable '.[docs]'
	touch $@

$(VENV)/.mutants: $(VENV)/.dev
	$(INSTALL) 'mutmut>=3.8'
	touch $@

$(FLOORS)/.installed: pyproject.toml tests/frameworks-floors.txt
	$(PYTHON) -m venv $(FLOORS)
	$(FLOORS)/bin/python $(PIP_INSTALL) --upgrade pip
	$(FLOORS)/bin/python $(PIP_INSTALL) --editable '.[dev]' -r tests/frameworks-floors.txt
	touch $@

$(MCP_1)/.installed: pyproject.toml
	$(PYTHON) -m venv $(MCP_1)
	$(MCP_1)/bin/python $(PIP_INSTALL) --upgrade pip
	$(MCP_1)/bin/python $(PIP_INSTALL) --editable '.[httpx]' 'mcp>=1.24,<2'
	touch $@

# Without them their tests are skipped, and say so.
$(NPM)/.installed:
	@if npm install --silent --no-audit --no-fund --prefix $(NPM) @modelcontextprotocol/server-filesystem \
		@modelcontextprotocol/server-everything @modelcontextprotocol/sdk; then touch $@; else echo "npm: cannot be had" >&2; fi

# A peer that cannot be had keeps no other from running, and is tried again next time: the tables say that it is missing.
$(PEERS)/.installed: tests/bench/peers.txt
	$(PYTHON) -m venv $(PEERS)
	@missing=; for peer in $$(grep -v '^#' $<); do \
		$(PEERS)/bin/python $(PIP_INSTALL) "$$peer" || missing="$$missing $$peer"; \
	done; if [ -n "$$missing" ]; then echo "cannot be had:$$missing" >&2; else touch $@; fi
