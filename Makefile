# Everything happens in one environment, .venv, with the locked versions. `make demo` and `make lab` install what they
# need, 0.7 GB; `make install` and all other goals install what the tests need too, 2.2 GB. Both use uv where it is
# there; `make demo UV=` does without. Python compiles what it imports, at the first time, and not all that there is.
PYTHON ?= python3
UV ?= $(shell command -v uv 2>/dev/null)
BIN := .venv/bin
LEAN := .venv/.lean
STAMP := .venv/.installed
ENOUGH := $(if $(wildcard $(STAMP)),$(STAMP),$(LEAN))# for the demo and JupyterLab: where all is installed, all is kept so
PIP = $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check --no-compile)
TORCH := .venv-torch# sees .venv, and adds torch with what runs on it: large, and nothing else needs it
SPARK := .venv-spark# sees .venv, and adds PySpark: large, and where it is pandera loads half of it into every worker
DOCS := .venv-docs# sees .venv, and adds mkdocs
# Two at a time, a file by one process: most tests wait for servers, of which each process starts its own. These are
# real and the machine may be busy, so what fails is tried once more; the summary names it as RERUN, a race to repair.
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --reruns 1 -rR
PEERS := .venv-bench# its own: where PySpark is, pandera loads half of it

.PHONY: help install demo lab notebooks test test-rest test-all test-compose test-milvus test-torch test-spark lint docs bench lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(STAMP)  ## Make the environment, with all that tests need

$(LEAN): EXTRAS := stack,lab,listen
$(LEAN): SIZE := 0.7 GB, a minute or two
$(STAMP): EXTRAS := all,dev
$(STAMP): SIZE := 2.2 GB, some minutes

# pip.conf: what `pip install 'ingestlab[milvus]'` adds later has the locked versions as well.
$(LEAN) $(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@test -x $(BIN)/python || { echo 'Making the environment .venv'; $(PYTHON) -m venv .venv; }
	@$(BIN)/python -c 'from pathlib import Path; lock = Path("requirements.lock").resolve().as_uri(); \
	  Path(".venv/pip.conf").write_text(f"[install]\nconstraint = {lock}\n")'
	@echo 'Installing ingestlab[$(EXTRAS)] into .venv: $(SIZE)'
	@$(PIP) --constraint requirements.lock --editable '.[$(EXTRAS)]'
	@touch $@

demo: $(ENOUGH)  ## Run the main job on real input, and show what comes out
	$(BIN)/ingestlab demo

lab: $(ENOUGH)  ## Start the stack, and JupyterLab with the dashboard beside the first notebook
	$(BIN)/ingestlab lab

notebooks: install  ## Make the notebooks of notebooks/src
	$(BIN)/python notebooks/build.py

test: install  ## Run the quick tests: every part of the system, in five minutes
	$(PYTEST) --part=quick

test-rest: install  ## Run what `make test` leaves out: browsers, whole courses, long stories, all examples of each law
	$(PYTEST) --part=rest

test-all: install  ## Run all tests
	$(PYTEST)

test-torch: install $(TORCH)/.installed  ## Run the tests of models on torch (CPU), in an environment of their own
	$(TORCH)/bin/python -c 'import torch; print("torch", torch.__version__)'
	$(TORCH)/bin/python -m pytest -m torch

# Not compiled: most of torch is never imported.
$(TORCH)/.installed: $(STAMP)
	test -x $(TORCH)/bin/python || $(BIN)/python -m venv $(TORCH)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(TORCH)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth"
	$(TORCH)/bin/python -m pip install --quiet --no-cache-dir --no-compile torch==2.13.0 \
	  --constraint requirements.lock --editable '.[timm,sentence-transformers,ultralytics]' \
	  || { echo 'torch 2.13.0 and what runs on it cannot be installed here: see above.' >&2; exit 1; }
	touch $@

# Only some lessons and the readers of tables want Spark, all on one machine's memory: one process.
test-spark: install $(SPARK)/.installed  ## Run the tests that want PySpark and Java, in an environment of their own
	$(SPARK)/bin/python -m pytest --reruns 1 -rR -m spark

$(SPARK)/.installed: $(STAMP)
	test -x $(SPARK)/bin/python || $(BIN)/python -m venv $(SPARK)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(SPARK)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth"
	$(SPARK)/bin/python -m pip install --quiet --no-cache-dir --no-compile pyspark==4.3.0 \
	  --constraint requirements.lock --editable '.[spark]' \
	  || { echo 'pyspark 4.3.0 cannot be installed here: see above.' >&2; exit 1; }
	touch $@

test-milvus: install  ## Run the tests that want a full Milvus, against the server of the package milvus
	$(BIN)/python tests/support/with_milvus.py

test-compose: install  ## Bring up docker-compose.yml on this machine's container engine, and test it
	INGESTLAB_TEST_COMPOSE=1 $(BIN)/python -m pytest -m compose

lint: install  ## Check style, types and import layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DOCS)/.installed  ## Build the documentation into dist/docs, and check its links
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --config-file docs/site/mkdocs.yml
	$(DOCS)/bin/python docs/site/check.py dist/docs

$(DOCS)/.installed: $(STAMP)
	test -x $(DOCS)/bin/python || $(BIN)/python -m venv $(DOCS)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(DOCS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth"
	$(DOCS)/bin/python -m pip install --quiet --constraint requirements.lock --editable '.[docs]'
	touch $@

# `make bench ONLY=log` measures one group; that of the log needs no peers.
bench: install $(if $(filter log,$(ONLY)),,$(PEERS)/.installed)  ## Measure the speed, against others on the same work in the same run
	$(BIN)/python benchmarks/run.py $(addprefix --only ,$(ONLY))

$(PEERS)/.installed: pyproject.toml requirements.lock
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --constraint requirements.lock --editable '.[bench]'
	touch $@

lock: install  ## Write the versions that are installed into requirements.lock
	{ echo '# The versions that are tested together; `make lock` writes them anew.'; \
	  $(BIN)/python -m pip freeze --exclude-editable; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:  ## Remove the environment and all caches
	rm -rf .venv .venv-milvus $(TORCH) $(SPARK) $(PEERS) $(DOCS) dist/docs .pytest_cache .mypy_cache .ruff_cache .hypothesis
