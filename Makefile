# Targets: dev, test, check, fmt, bench, torture, coverage, docs; everything a contributor or CI needs, and nothing lives elsewhere.
# Options: args="…" is passed on to the program; name="transfer" picks one benchmark.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
CONFORMANCE := tests/conformance
COVERING := $(patsubst %,tests/%,values schema protocol engine races)
NODE_PROJECTS := $(CONFORMANCE) examples/dashboard
NODE_STAMPS := $(NODE_PROJECTS:%=%/node_modules/.package-lock.json)
SOURCES := reactor functions schema.py docs tests bench
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup dev check fmt fmt-check lint types layers test torture coverage bench docs compiler chromium clean

help:
	@sed -n '1,2s/^# //p' Makefile

# A virtual environment with the first Python that is new enough.
$(BIN)/python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "reactor needs Python 3.11 or newer: set PYTHON=/path/to/python3" >&2; exit 1; fi; \
	if ! $$found -c 'import ensurepip' 2>/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get install -y python3-venv >/dev/null || exit 1; \
		else echo "Python's venv module is missing: install it (Debian: apt-get install python3-venv)" >&2; exit 1; fi; \
	fi; \
	echo "creating $(VENV) with $$($$found --version)"; \
	$$found -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[test]'
	@touch $@ $(VENV)/.installed

# The official JavaScript client, as an app would install it; the example page, as a newcomer would.
$(NODE_STAMPS): %/node_modules/.package-lock.json: %/package-lock.json
	@command -v npm >/dev/null || { echo "the client tests need Node 20.19 or newer with npm" >&2; exit 1; }
	cd $* && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# The example page is tested in a browser.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get install -y --no-install-recommends chromium >/dev/null || { \
				apt-get update >/dev/null && apt-get install -y --no-install-recommends chromium >/dev/null; }; \
		else echo "tests/conformance/test_dashboard.py needs Chromium: install it (Debian: apt-get install chromium)" >&2; exit 1; fi; \
	}

# The crash tests build a small library that stands between SQLite and the disk.
compiler:
	@command -v cc >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get install -y gcc libc6-dev >/dev/null; \
		else echo "tests/crash needs a C compiler: install one (Debian: apt-get install gcc libc6-dev)" >&2; exit 1; fi; \
	}

setup: $(VENV)/.installed-test $(NODE_STAMPS) compiler chromium

# On the developer's own machine anybody may log and read; `serve` asks for a key, unless its environment says the same.
dev: export AI_PUBLIC_LOGGING ?= true
dev: $(VENV)/.installed
	@$(BIN)/reactor dev $(args)

check: fmt-check lint types layers

fmt: $(VENV)/.installed-test
	$(BIN)/ruff check --fix-only --quiet $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

fmt-check: $(VENV)/.installed-test
	$(BIN)/ruff format --check $(SOURCES)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check $(SOURCES)

types: $(VENV)/.installed-test
	$(BIN)/mypy

layers: $(VENV)/.installed-test
	$(BIN)/pytest -q tests/test_layers.py tests/test_exports.py

test: setup
	$(BIN)/pytest $(args)

torture: setup
	REACTOR_TEST_SIZE=full $(BIN)/pytest --timeout=900 $(args)

# Every branch of the packages that pyproject.toml names, by the tests that are about them.
coverage: $(VENV)/.installed-test
	$(BIN)/coverage run -m pytest -q $(COVERING)
	$(BIN)/coverage report

docs: $(VENV)/.installed-test
	$(BIN)/python -m docs.generate
	$(BIN)/python -m docs.environment_file

bench: $(VENV)/.installed-test
	@for file in $(if $(name),bench/bench_$(name).py,bench/bench_*.py); do $(BIN)/python -m bench.$$(basename $$file .py) $(args) || exit 1; done

clean:
	rm -rf $(VENV) $(NODE_PROJECTS:%=%/node_modules) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
