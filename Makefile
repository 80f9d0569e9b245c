# Two commands do all the set-up: `make demo` and `make test`. Both start from python3 (3.11 or newer), make and a package
# index: they create .venv, install by constraints.txt, and go. A second call installs nothing.
#
# torch is installed first, pinned, so that an available CPU build is used. A plain Linux machine downloads the CUDA build
# (gigabytes) unless TORCH_INDEX_URL names another index, such as the CPU one that pytorch.org shows.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := $(shell sed -n 's/^torch==\([0-9.]*\).*/torch==\1/p' constraints.txt)
TORCH_INDEX_URL ?=
# Python compiles a module at its first import. Compiling all of them here would take a fifth of the installation.
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile
PORT ?= 3000
# Three on two cores: many tests wait for a process of their own.
TESTS_AT_ONCE ?= 3
# One torch thread a process: on few cores, threads of several processes fight (and results stay the same bit for bit).
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Every process of the tests would compile all modules again, and pytest rewrite all tests (13 s each), where this is set.
export PYTHONDONTWRITEBYTECODE :=
export GX_ANALYTICS_ENABLED := false
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-full ui bench evidence lint format clean

help:  ## Show what there is
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name it with make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/.venv
	@echo "Installing what the demo needs into $(VENV) (a few minutes the first time) …"
	$(PIP_INSTALL) $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) $(TORCH)
	$(PIP_INSTALL) -c constraints.txt -e .
	@touch $@

# PEFT imports bitsandbytes, if it is installed, in every process. So it has a separate folder, which the test of
# 4 bits alone looks into. It needs nothing that is not there.
# Of axe-playwright-python only the axe.min.js inside is wanted, which checks the report's accessibility, not Playwright itself.
$(VENV)/.dev: $(VENV)/.run
	@echo "Installing what the tests need into $(VENV) …"
	$(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	$(PIP_INSTALL) -c constraints.txt --no-deps --upgrade --target $(VENV)/bitsandbytes bitsandbytes
	$(PIP_INSTALL) -c constraints.txt --no-deps --upgrade --target $(VENV)/axe axe-playwright-python
	@touch $@

# small-text has a package `tests` that would hide ours. So it has a separate folder, which only its side of a comparison uses.
# BERTopic has an environment of its own, without sentence-transformers: it gets rows that we made.
$(VENV)/.peers: $(VENV)/.dev
	@echo "Installing what the benchmarks compare with into $(VENV) …"
	$(PIP_INSTALL) -c constraints.txt -e '.[dev,peers]'
	$(PIP_INSTALL) -c constraints.txt --no-deps --upgrade --target $(VENV)/small_text small-text
	$(PYTHON) -m venv $(VENV)/bertopic
	$(VENV)/bertopic/bin/python -m pip install -q --no-deps bertopic==0.17.4
	$(VENV)/bertopic/bin/python -m pip install -q hdbscan umap-learn numpy pandas scikit-learn tqdm plotly pyyaml
	@touch $@

.PHONY: install
install: $(VENV)/.run  ## Install into .venv, and run nothing

demo: $(VENV)/.run  ## Run the main job on the embedded default, and print the report's path last
	$(BIN)/taskdiv run demo

ui: $(VENV)/.run  ## Open Dagster's UI over the same results, at http://localhost:3000
	@exec $(BIN)/taskdiv ui --port $(PORT)

test: $(VENV)/.dev  ## The fast tests (five to six minutes on two cores)
	$(BIN)/python -m pytest -m "not full and not ui and not cluster and not evidence" -n $(TESTS_AT_ONCE) --dist loadgroup --no-loadscope-reorder --doctest-modules tests taskdiv_assets reports data_contracts

test-full: $(VENV)/.dev  ## The slow ones: kills, the wheel, an object store, Ray, and the programs of `make bench` and `make evidence`
	$(BIN)/python -m pytest -m "full and not crash and not families and not cluster and not evidence or evidence and not full" -n $(TESTS_AT_ONCE) --dist loadgroup --no-loadscope-reorder tests

.PHONY: test-families
test-families: $(VENV)/.dev  ## Every family of models of transformers, in miniature (five minutes); after a new version of it
	$(BIN)/python -m pytest -m families -n $(TESTS_AT_ONCE) --dist loadgroup tests

.PHONY: crash-test
crash-test: $(VENV)/.dev  ## Many kills and signals at random moments of a run (half an hour); not part of CI
	$(BIN)/python -m pytest -m crash -n $(TESTS_AT_ONCE) --dist loadgroup --no-loadscope-reorder tests

.PHONY: test-ui
test-ui: $(VENV)/.dev  ## A first hour in Dagster's UI, clicked in Chromium; a backfill killed three ways (ten minutes)
	$(BIN)/python -m pytest -m ui -n $(TESTS_AT_ONCE) --dist loadgroup --no-loadscope-reorder tests

.PHONY: test-cluster
test-cluster: $(VENV)/.dev  ## Runs as pods of a miniature kubelet, some of them killed (five minutes)
	$(BIN)/python -m pytest -m cluster tests

bench: $(VENV)/.peers  ## Measured comparisons, as ratios side by side; writes docs/BENCHMARKS.md
	$(BIN)/python -m tests.benchmarks

.PHONY: bench-gpu
bench-gpu: $(VENV)/.dev  ## A model of Llama-2-7B's shape on a CUDA card; writes docs/GPU.md
	$(BIN)/python -m pytest -m full tests/benchmarks
	PYTHONPATH=$(VENV)/bitsandbytes $(BIN)/python -m tests.benchmarks.gpu

evidence: $(VENV)/.dev  ## Judge the demo's hyper-parameters on validation items; write docs/ALLOCATIONS.md, SAMPLING.md, DISCOVERY.md, STATISTICS.md and SCALING.md
	$(BIN)/python -m pytest -m full tests/evidence
	$(BIN)/python -m tests.evidence.choose_tuning
	$(BIN)/python -m tests.evidence.allocations
	$(BIN)/python -m tests.evidence.sampling
	$(BIN)/python -m tests.evidence.coverage
	$(BIN)/python -m tests.evidence.forecasts
	$(BIN)/python -m tests.evidence.scaling
	$(MAKE) discovery

.PHONY: discovery
discovery: $(VENV)/.dev  ## Found tasks against true tasks, and scores on the lab; writes docs/DISCOVERY.md (seven minutes of CPU)
	$(BIN)/python -m tests.evidence.discovered
	$(BIN)/python -m tests.evidence.discovered_scores

.PHONY: real-model
real-model: $(VENV)/.run  ## Bring Gemma 3 270M to .real_model (0.25 GB to download, 1.4 GB on disk), for trials and tests
	$(BIN)/python -m tests.real_model

.PHONY: example
example: $(VENV)/.dev  ## The demo's report as docs/example shows it, with a picture (needs Chromium)
	$(BIN)/python -m tests.evidence.example

.PHONY: screenshots
screenshots: $(VENV)/.dev  ## The pictures of docs/DAGSTER.md, clicked in the UI over the demo's results (needs Chromium)
	$(BIN)/python -m tests.evidence.screenshots

lint: $(VENV)/.dev  ## ruff, the layers of imports, and mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/.dev  ## Let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the virtual environment and caches; results in .taskdiv stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache dist
