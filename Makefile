# Everything runs in .venv, which `make` creates and fills by itself, and fills
# again when pyproject.toml changes. PYTHON is the interpreter it is made from.
# On Windows, without make, CONTRIBUTING.md has the same steps as commands.
PYTHON ?= python3
# The versions of all packages that the tests last passed with. They hold for
# the Python and the system that its first line names; others, and LOCK= on the
# command line, get the newest.
LOCK ?= requirements-dev.lock
# Processes that run tests side by side.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The smaller build of TensorFlow, where it exists, and all else of TensorFlow.
TENSORFLOW := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),tensorflow-cpu,tensorflow)
HERE = \# $(shell $(PYTHON) -c "import platform as p, sys; print(\
	'Python %d.%d' % sys.version_info[:2], 'on', p.system(), p.machine())")
LOCKED = $(if $(LOCK),$(shell grep -qsx '$(HERE)' $(LOCK) && \
	echo --constraint $(LOCK)))
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(LOCKED)
NOTEBOOKS := $(wildcard tutorials/*.ipynb)
LINTED := keras_vit tests benchmarks tutorials docs
SPHINX := $(BIN)/python -m sphinx -E -W --keep-going -d outputs/docs/doctrees

# Quickstart runs here; any other installed backend does as well.
export KERAS_BACKEND ?= jax

.DEFAULT_GOAL := help
.PHONY: help setup torch lock quickstart lab test slow lowest benchmark audit \
	fuzz lint format notebooks docs docs-links test-browser clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | \
		awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## create .venv with JAX, TensorFlow and all tools

$(READY): pyproject.toml $(wildcard $(LOCK))
	@echo "Setting up $(VENV) (once; a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable '.[jax,data,viz,notebooks,dev]' $(TENSORFLOW)
	@touch $@

torch: $(READY) ## add PyTorch and the libraries that tests compare with
	@# This version is what the tests were written against. On Linux plain
	@# `torch` may bring several gigabytes of CUDA libraries.
	@$(PIP) torch==2.13.0
	@$(PIP) --editable '.[oracles]' torch==2.13.0

# After `make clean torch test LOCK=`, which takes the newest.
lock: ## note the versions in .venv, for `make setup` on other machines
	@{ echo '$(HERE)'; $(BIN)/python -m pip freeze --exclude-editable | \
		grep -v ' @ ' | sed 's/+cpu$$//'; } >$(LOCK)
	@echo "Wrote $(LOCK), $$(wc -l <$(LOCK)) lines"

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

# In an environment of its own. JAX alone: the others' oldest versions are
# checked by the tests of what is theirs.
lowest: ## test on the oldest versions that pyproject.toml allows (JAX)
	@$(PYTHON) -m venv $(VENV)-lowest
	@$(VENV)-lowest/bin/python -m pip install --quiet --editable . \
		$$($(PYTHON) .ci/lowest.py jax data viz) \
		pytest pytest-timeout pytest-xdist pyyaml
	@OMP_NUM_THREADS=1 KERAS_BACKEND=jax $(VENV)-lowest/bin/python -m pytest \
		-n $(JOBS) -m 'not slow' tests/checkpoints tests/data tests/layers \
		tests/models tests/recipes tests/training tests/test_arguments.py

# Without a network to the lists pip-audit would find nothing and be content;
# --strict makes that an error.
audit: $(READY) ## look for known weaknesses in the packages of the lock
	@$(PIP) pip-audit
	@$(BIN)/python -m pip_audit --strict --no-deps --disable-pip \
		--requirement requirements-dev.lock

test-browser: $(VENV)/.browser ## run a tutorial and `explore` in Chromium
	@$(BIN)/python -m pytest -m browser -rA tests/browser

$(VENV)/.browser: $(READY)
	@$(PIP) --editable '.[browser]'
	@touch $@

INPUTS ?= 10000
SEED ?= 0
fuzz: $(READY) ## damage INPUTS files by SEED, write benchmarks/trust.md
	@OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py \
		--inputs $(INPUTS) --seed $(SEED)

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
	rm -rf $(VENV) $(VENV)-lowest outputs tutorials/outputs build dist .pytest_cache \
		.ruff_cache digits.keras tutorials/digits.keras \
		docs/_made docs/api docs/tutorials docs/benchmarks docs/keras_vit \
		docs/CHANGELOG.md docs/CONTRIBUTING.md docs/LICENSE \
		docs/SECURITY.md
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
