# Each target does its own set-up: a virtual environment in .venv, Debian packages when root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench setup system clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[lab,dev]'
	@touch $@

# programs that the tests and benchmarks start: installed when root, listed when not
system:
	@sh tools/system-packages sip-tester:sipp openssl:openssl baresip-core:baresip tshark:tshark \
		kamailio:kamailio kamailio-ims-modules:kamailio kamailio-presence-modules:kamailio

demo: setup
	$(BIN)/ims-as demo --report demo-report

test: setup system
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup system
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) demo-report
