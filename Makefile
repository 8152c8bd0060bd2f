.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
# Of a test that starts whole products, or installs others: a slow machine is no fault of ours.
PATIENT := --timeout 900
# Compiled once, not in each of the many processes that a test run starts.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VENV)/bin

help: ## Show this help
	@awk 'BEGIN {FS = ":.*##"} /^[a-z-]+:.*##/ {printf "  \033[36m%-12s\033[0m %s\n", $$1, $$2} /^##@/ {printf "\n%s\n", substr($$0, 5)}' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

##@ Use it
install: $(VENV)/installed ## Make .venv with everything, exact versions, by pip alone
demo: install ## An endpoint from command to bill on this machine, then stop
	$(BIN)/millrace demo
up: install ## Start the local profile and leave it running; prints the URLs
	$(BIN)/millrace up
down: install ## Stop what `make up` started
	$(BIN)/millrace down

##@ Work on it
# Four workers on two cores: now and then all of three wait, for an outage of two minutes and the like.
test: install ## All tests but chaos: no Docker, no cluster
	$(BIN)/python -m pytest -q -n 4 -p no:schemathesis --ignore=tests/interop --ignore=tests/integration/kube
chaos: install ## SIGKILL of every process at every stage, outages of minutes: about twelve minutes
	$(BIN)/python -m pytest -q $(PATIENT) -m chaos
interop: install ## Somebody else's programs against ours; needs node and npm
	$(BIN)/python -m pytest -q $(PATIENT) -m interop
kube: install ## A real Kubernetes API server, built once into a cache (needs Go), and what is tested on it; or KUBECONFIG
	$(BIN)/python -m tests.integration.kube.building
	$(BIN)/python -m pytest -q -n 0 $(PATIENT) -m kube tests/integration/kube
conformance: install ## What we take vCluster Platform to do: on the twin, or on MILLRACE_PLATFORM_URL
	$(BIN)/python -m tests.contract.platform_promises
	$(BIN)/python -m pytest -q -n 0 -rs tests/contract/test_platform_promises.py
sim: install ## Repeat one seed of the simulation: make sim SEED=n
	$(BIN)/python -m tests.sim --seed $(SEED)
check: install ## Format, lint, layers, types, contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m libs.common.schemas --check
	$(BIN)/python -m services.endpoint_api.shell.openapi --check
	$(BIN)/python -m services.metering.shell.openapi --check
	$(BIN)/mypy
deploy-check: ## Render compose file and kustomizations
	bash deploy/check
schemas: install ## Write schemas/ from the models; read the diff before you commit it
	$(BIN)/python -m libs.common.schemas
	$(BIN)/python -m services.endpoint_api.shell.openapi
	$(BIN)/python -m services.metering.shell.openapi
bench: install ## Ratios, side by side in one run, into docs/benchmarks.md
	$(BIN)/python -m tests.bench
lock: install ## Renew constraints.txt from pyproject.toml
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --extra dev --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file constraints.txt pyproject.toml
clean: ## Remove what was built and what ran
	rm -rf $(VENV) .millrace .mypy_cache .ruff_cache .pytest_cache .hypothesis
.PHONY: help install demo up down test chaos interop kube conformance sim check deploy-check schemas bench lock clean
