# Everything happens in one environment, .venv, made by `make install` from the locked versions.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)# JupyterLab asks for it, in containers for one

.PHONY: help install demo lab test lint bench lock clean

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

install: $(STAMP)  ## Make the environment

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[all,dev]'
	touch $@

demo: install  ## Run the main job on real input, and show what comes out
	$(BIN)/ingestlab demo

lab: install  ## Start the stack and JupyterLab on notebooks/
	$(BIN)/ingestlab up --detach
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/01_first_ingestion.ipynb $(AS_ROOT)

test: install  ## Run all tests
	$(BIN)/python -m pytest

lint: install  ## Check style, types and import layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install  ## Measure the speed, against the tutorial's worker in the same run
	$(BIN)/python benchmarks/run.py

lock: install  ## Write the versions that are installed into requirements.lock
	{ echo '# The versions that are tested together; `make lock` writes them anew.'; \
	  $(BIN)/python -m pip freeze --exclude-editable; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:  ## Remove the environment and all caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
