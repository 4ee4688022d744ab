# Hilum: `make demo` and `make test` are the only two commands a newcomer needs.
# Each does all of its own set-up (virtual environment, Java build, OHIF), the first time only.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JAR    := hapi/target/hilum-hapi.jar
OHIF   := build/ohif/.stamp
say    = @printf '\033[1m==> %s\033[0m\n' "$(1)"

.PHONY: help demo test check setup peers clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: setup  ## a study goes through the whole path; ONCE=1 checks each step and exits
	$(BIN)/hilum demo $(if $(ONCE),--once) $(if $(DATA),--data $(DATA))

test: setup peers  ## all tests, on real parts (ARGS="-k name" to choose)
	$(BIN)/python -m pytest $(ARGS)

check: $(STAMP)  ## lint, format, types, import rules, house rules
	$(call say,ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(call say,mypy --strict)
	$(BIN)/mypy
	$(call say,import rules)
	$(BIN)/lint-imports --no-cache
	$(call say,house rules)
	$(BIN)/python -m pytest -q tests/house

setup: $(STAMP) $(JAR) $(OHIF)  ## everything that `demo` and `test` need

peers:  ## DCMTK, Orthanc, dicom3tools, Chromium, poppler for the tests, where apt can install them
	@sh tools/peers.sh

$(STAMP): requirements.txt pyproject.toml
	$(call say,Python environment in $(VENV) (about 90 packages))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Hilum needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(JAR): hapi/pom.xml $(shell find hapi/src -type f 2>/dev/null)
	$(call say,HAPI FHIR server from Maven (about 250 jars the first time))
	@command -v mvn >/dev/null || { echo "Hilum needs Maven and a JDK 17+ (Debian: apt install maven openjdk-17-jdk-headless)"; exit 1; }
	mvn --batch-mode --quiet -f hapi/pom.xml package
	@touch $@

$(OHIF): tools/ohif.py | $(STAMP)
	$(call say,OHIF viewer)
	$(BIN)/python tools/ohif.py --out build/ohif

clean:  ## remove what was built (not the data folder)
	rm -rf $(VENV) build .cache hapi/target
