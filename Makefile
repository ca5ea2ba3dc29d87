# Works on a bare clone: every target first makes .venv, where it is missing or out of date.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
BENCHES_WITH_EXTRA := homelab fleet
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p && break; done)
# Tests of one file share what they set up, so a file stays with one worker. Half of the time a test waits for another
# program or for the disk, so there is a worker more than processors; files are begun in the order of tests/conftest.py.
WORKERS ?= -n $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -lt 3 ] && expr $$n + 1 || echo 4) --dist loadfile --no-loadscope-reorder
# The pages of browsers are built where Node is; without it the programs show a plain page, and the tests of pages skip.
NODE := $(shell node -e 'process.exitCode = parseInt(process.versions.node) < 20 ? 1 : 0' 2>/dev/null && command -v npm)
WEB_SOURCES := $(shell find web -path web/node_modules -prune -o -type f -print)
WEB_MODULES := web/node_modules/.installed
WEB_STAMP := web/node_modules/.built
WEB := $(if $(NODE),$(WEB_STAMP))
NAME ?=
ARGS ?=

.PHONY: help setup demo test test-packages check bench web screens clean

help:
	@echo 'make demo               a network on this computer: server, four devices, a file, points, a reward'
	@echo '                        FILE=path publishes that file; KEEP=1 leaves the network running'
	@echo 'make test               all tests (ARGS= for pytest, WORKERS= for one after the other)'
	@echo 'make test-packages      Debian packages in booted Debian machines (as root; the first time downloads them)'
	@echo 'make check              lint, format, types, direction of imports'
	@echo 'make bench NAME=bulk    one bench, all without NAME (ARGS=--quick within a minute)'
	@echo 'make setup              only the virtual environment in .venv'
	@echo 'make web                the phone app, the console and fallow.js (needs Node 20)'
	@echo 'make screens            the pictures of the phone app in docs (needs Chromium)'
	@echo 'make clean              remove what these made'

setup: $(STAMP)

$(STAMP): setup.py VERSION pyproject.toml
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed. Debian, Ubuntu: apt install python3 python3-venv;'; \
		echo 'or name one: make PYTHON=/path/to/python3.11'; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo 'The venv module is missing. Debian, Ubuntu: apt install python3-venv'; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[agent,server,client,dev]'
	@touch $@

$(WEB_MODULES): web/package.json web/package-lock.json
	cd web && npm ci --silent --no-audit --no-fund
	@touch $@

$(WEB_STAMP): $(WEB_MODULES) $(WEB_SOURCES)
	cd web && npm run --silent build
	@touch $@

web: $(or $(WEB),no-node)

.PHONY: no-node
no-node:
	@echo 'Node 20 or newer with npm is needed. Debian 13: apt install nodejs npm'; exit 1

screens: $(STAMP) $(WEB)
	$(BIN)/python demo/screens.py

demo: $(STAMP) $(WEB)
	@$(BIN)/python demo/demo.py

test: $(STAMP) $(WEB)
	$(if $(WEB),cd web && npm test --silent)
	$(BIN)/pytest $(WORKERS) --ignore=tests/packaging/debian $(ARGS)

test-packages: $(STAMP) $(WEB)
	$(BIN)/pytest tests/packaging/debian --durations=10 $(ARGS)

check: $(STAMP) $(WEB)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_architecture.py
	$(if $(WEB),cd web && npm run --silent check)

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

bench: $(STAMP) $(if $(filter $(BENCHES_WITH_EXTRA),$(or $(NAME),$(BENCHES_WITH_EXTRA))),$(BENCH_STAMP))
	@if [ -n "$(NAME)" ] && [ ! -f "bench/$(NAME).py" ]; then echo "there is no bench $(NAME); there are:" \
		$$(grep -l __main__ bench/*.py | xargs -n1 basename -s .py); exit 2; \
	elif [ -n "$(NAME)" ]; then $(BIN)/python bench/$(NAME).py $(ARGS); else \
		for bench in $$(grep -l __main__ bench/*.py); do $(BIN)/python $$bench $(ARGS) || exit 1; done; fi

clean:
	rm -rf $(VENV) web/node_modules agent/fallow_agent/lan/app server/fallow_server/console/app \
		server/fallow_server/delivery/browser build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
