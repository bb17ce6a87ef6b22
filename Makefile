# Each target does its own set-up: a virtual environment in .venv, one in .venv-peers for programs that tests and
# benchmarks talk to, Debian packages when root.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin

.PHONY: demo test lint bench quality setup peers system clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[lab,dev]'
	@touch $@

peers: $(PEERS)/.installed

$(PEERS)/.installed: tools/peers-requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# programs that the tests and benchmarks start: installed when root, listed when not
system:
	@sh tools/system-packages sip-tester:sipp openssl:openssl baresip-core:baresip tshark:tshark \
		kamailio:kamailio kamailio-ims-modules:kamailio kamailio-presence-modules:kamailio \
		libopencore-amrnb0:libopencore-amrnb.so.0 libopencore-amrwb0:libopencore-amrwb.so.0 \
		libvo-amrwbenc0:libvo-amrwbenc.so.0 libopus0:libopus.so.0 libspandsp2:libspandsp.so.2 \
		libbcg729-0:libbcg729.so.0 \
		freediameter:freeDiameterd freediameter-extensions:freeDiameterd \
		ffmpeg:ffmpeg opus-tools:opusinfo rtpengine-daemon:rtpengine

demo: setup
	$(BIN)/ims-as demo --report demo-report

test: setup peers system
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup peers system
	$(BIN)/python -m bench

# speech through a worker against the codecs alone; PESQ is C, so that only this needs a compiler
quality: setup system
	@sh tools/system-packages gcc:cc libc6-dev:cc python3-dev:python3-config
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[quality]'
	$(BIN)/python -m bench.speech_quality

clean:
	rm -rf $(VENV) $(PEERS) demo-report
