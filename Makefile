# Everything runs in .venv, which `make` creates and fills by itself, and fills
# again when pyproject.toml changes. PYTHON is the interpreter it is made from.
# On Windows, without make, CONTRIBUTING.md has the same steps as commands.
PYTHON ?= python3
# Processes that run tests side by side.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The smaller build of TensorFlow, where it exists, and all else of TensorFlow.
TENSORFLOW := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),tensorflow-cpu,tensorflow)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
NOTEBOOKS := $(wildcard tutorials/*.ipynb)
LINTED := keras_vit tests benchmarks tutorials docs
SPHINX := $(BIN)/python -m sphinx -E -W --keep-going -d outputs/docs/doctrees

# Quickstart runs here; any other installed backend does as well.
export KERAS_BACKEND ?= jax

.DEFAULT_GOAL := help
.PHONY: help setup torch quickstart lab test slow benchmark lint format \
	notebooks docs docs-links test-browser clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | \
		awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## create .venv with JAX, TensorFlow and all tools

$(READY): pyproject.toml
	@echo "Setting up $(VENV) (once; a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable '.[jax,data,viz,notebooks,dev]' $(TENSORFLOW)
	@touch $@

torch: $(READY) ## add PyTorch and the libraries that tests compare with
	@# This version is what the tests were written against. On Linux plain
	@# `torch` may bring several gigabytes of CUDA libraries.
	@$(PIP) torch==2.13.0
	@$(PIP) --editable '.[oracles]' torch==2.13.0

quickstart: $(READY) ## train on real digits, load under a second backend
	@$(BIN)/python tutorials/src/01_quickstart.py

lab: $(READY) ## open the tutorials in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir=tutorials

# One thread an operation: in tiny models more would only wait for one another,
# and for minutes if the machine is busy.
test: $(READY) ## run all tests on each installed backend
	@ran=; failed=; \
	for backend in tensorflow jax torch; do \
		$(BIN)/python -c "import $$backend" 2>/dev/null || continue; \
		echo "=== $$backend"; \
		ran="$$ran $$backend"; \
		OMP_NUM_THREADS=1 KERAS_BACKEND=$$backend \
			$(BIN)/python -m pytest -n $(JOBS) -m 'not slow' || \
			failed="$$failed $$backend"; \
	done; \
	echo "Tested on:$$ran. Failed on:$${failed:- none}."; \
	case "$$ran" in *tensorflow*jax*) ;; *) \
		echo "TensorFlow and JAX must both be there."; exit 1;; esac; \
	test -z "$$failed"

slow: $(READY) ## train every architecture, run every tutorial (one backend)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m slow -rA
	@OMP_NUM_THREADS=1 KERAS_BACKEND=tensorflow $(BIN)/python -m pytest \
		-n $(JOBS) -m slow tests/test_tutorials.py -k '01 or 02 or 03 or 04'

test-browser: $(VENV)/.browser ## run a tutorial and `explore` in Chromium
	@$(BIN)/python -m pytest -m browser -rA tests/browser

$(VENV)/.browser: $(READY)
	@$(PIP) --editable '.[browser]'
	@touch $@

benchmark: $(READY) ## time the library in turn with its peers
	@$(BIN)/python benchmarks/speed.py --variants Ti/16 S/16 B/16 \
		--sizes 224 384 --dtypes float32 bfloat16

# Blank lines are passed over: ruff and jupytext put them before a function, one
# behind the words above it and the other in front of them.
lint: $(READY) ## check code, format, notebooks against scripts, and types
	@$(BIN)/ruff check $(LINTED)
	@$(BIN)/ruff format --check $(LINTED)
	@for notebook in $(NOTEBOOKS); do \
		script=tutorials/src/$$(basename $$notebook .ipynb).py; \
		$(BIN)/jupytext --quiet --to py:percent --output - \
			--opt notebook_metadata_filter=-all $$notebook | \
			diff -uB $$script - || { \
			echo "$$notebook and $$script differ: run make notebooks"; \
			exit 1; }; \
	done
	@$(BIN)/python benchmarks/variants_table.py --check
	@$(BIN)/python tests/typing/check.py

format: $(READY) ## fix and format all code
	@$(BIN)/ruff check --fix $(LINTED)
	@$(BIN)/ruff format $(LINTED)

notebooks: $(READY) ## make the notebooks from their scripts and run them
	@$(BIN)/python tutorials/build.py

# Warnings are errors, and a link within the site that leads nowhere is one.
docs: $(VENV)/.docs ## make the site, outputs/docs/html/index.html
	@$(SPHINX) -q -b html docs outputs/docs/html
	@echo "Made outputs/docs/html/index.html"

docs-links: $(VENV)/.docs ## follow the links of the site to other sites
	@$(SPHINX) -b linkcheck docs outputs/docs/links

$(VENV)/.docs: $(READY)
	@$(PIP) --editable '.[docs]'
	@touch $@

clean: ## remove what make made, .venv included
	rm -rf $(VENV) outputs tutorials/outputs build dist .pytest_cache \
		.ruff_cache digits.keras tutorials/digits.keras \
		docs/_made docs/api docs/tutorials docs/benchmarks docs/keras_vit \
		docs/CHANGELOG.md docs/CONTRIBUTING.md docs/LICENSE
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
