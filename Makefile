# Both commands start from a bare machine with Python 3.11 or later: they make .venv,
# install what they need and run. A second call re-uses the environment.
PYTHON ?= python3
VENV ?= .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet
BACKENDS ?= tensorflow jax torch
# How many of the parts of `make test` run side by side; each prints when it ends.
JOBS ?= 2

export TF_CPP_MIN_LOG_LEVEL ?= 3
export HYPOTHESIS_STORAGE_DIRECTORY ?= $(VENV)/.hypothesis

# Keras joins PyTorch's processes from 3.16 on, which the registry has as keras-nightly.
# That replaces keras, so it needs an environment of its own; torch as in pyproject.toml.
DISTRIBUTED_VENV ?= .venv-distributed
DISTRIBUTED := keras-nightly 'torch>=2.6,<2.14' numpy hypothesis 'pytest>=8' \
  scikit-learn

BENCHMARK = KERAS_LAP_DISTRIBUTED_PYTHON=$(CURDIR)/$(DISTRIBUTED_VENV)/bin/python \
  $(VENV)/bin/python

.PHONY: quickstart test lint test-tensorflow test-jax test-torch clean
.PHONY: test-distributed test-nightly
.PHONY: docs docs-check docs-serve benchmarks benchmarks-quick benchmarks-guard
.PHONY: support check-support gpu

# How each way of training ended, of which docs/support.md is made: of whole runs only.
RESULTS := build/support
WRITE = $(if $(ARGS),,--results=$(RESULTS)/$(1).json)

quickstart: $(VENV)/.quickstart
	KERAS_BACKEND=$${KERAS_BACKEND:-jax} $(VENV)/bin/python examples/quickstart.py $(ARGS)

# The longest first, so that no processor waits at the end; what fails soonest before.
PARTS = lint $(BACKENDS:%=test-%) docs benchmarks-quick test-nightly test-distributed
test:
	rm -rf $(RESULTS)
	$(MAKE) --jobs=$(JOBS) --output-sync=target $(PARTS)
	$(if $(ARGS)$(filter-out $(words $(BACKENDS)),3),,$(MAKE) check-support)
	@echo "Passed on: $(BACKENDS), on PyTorch in two processes, and on Keras's nightly"
	@echo "release; the site builds, and the benchmarks run"

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Two parts that have two threads each take longer on two processors than with one.
$(BACKENDS:%=test-%) test-distributed test-nightly: export OMP_NUM_THREADS ?= 1
$(BACKENDS:%=test-%): export TF_NUM_INTRAOP_THREADS ?= 1
$(BACKENDS:%=test-%): export TF_NUM_INTEROP_THREADS ?= 1

test-tensorflow test-jax test-torch: test-%: $(VENV)/.test
	KERAS_BACKEND=$* $(VENV)/bin/python -m pytest $(call WRITE,$*) $(ARGS)

test-distributed: $(DISTRIBUTED_VENV)/.test
	KERAS_BACKEND=torch HYPOTHESIS_STORAGE_DIRECTORY=$(DISTRIBUTED_VENV)/.hypothesis \
	  $(DISTRIBUTED_VENV)/bin/python -m pytest tests/distributed \
	  $(call WRITE,distributed) $(ARGS)

# What reads and trains networks, on the next release of Keras: keras>=3.15 is open, and
# two files know private names. A failure there says which of them is gone.
NIGHTLY := tests/test_private_names.py tests/energies tests/blocks \
  tests/trajectory tests/training/test_closed_form.py tests/training/test_model.py \
  tests/training/test_reference.py tests/training/test_terms.py
# What asks Keras nothing, or takes long to ask no more.
NIGHTLY += --ignore=tests/blocks/test_discovery_cost.py --deselect=tests/blocks/$\
  test_random_graphs.py::test_thousands_of_plain_graphs_are_searched_as_the_definition_says
test-nightly: $(DISTRIBUTED_VENV)/.test
	KERAS_BACKEND=torch HYPOTHESIS_STORAGE_DIRECTORY=$(DISTRIBUTED_VENV)/.hypothesis \
	  $(DISTRIBUTED_VENV)/bin/python -m pytest $(NIGHTLY) $(ARGS)

# Of what the latest `make test` found.
support:
	PYTHONPATH=tests $(PYTHON) -m support.support_table $(RESULTS)

check-support:
	PYTHONPATH=tests $(PYTHON) -m support.support_table $(RESULTS) --check

docs: $(VENV)/.test
	$(VENV)/bin/mkdocs build $(ARGS)

# Every page in headless Chromium, which has to be there; pictures in build/screenshots.
docs-check: docs
	$(VENV)/bin/python docs/hooks/browser.py $(ARGS)

docs-serve: $(VENV)/.test
	$(VENV)/bin/mkdocs serve $(ARGS)

# Nothing else may run beside it. MNIST is read from TFDS_DATA_DIR or downloaded.
benchmarks: $(VENV)/.test $(DISTRIBUTED_VENV)/.test
	$(BENCHMARK) benchmarks/run.py $(ARGS)

benchmarks-quick: $(VENV)/.test $(DISTRIBUTED_VENV)/.test
	$(BENCHMARK) benchmarks/run.py --quick

# Measures the overhead of a step and compares its ratios with the committed ones.
benchmarks-guard: $(VENV)/.test
	$(BENCHMARK) benchmarks/step_overhead.py $(ARGS)
	$(BENCHMARK) benchmarks/guard.py

# On a machine with a GPU, in an environment that has Keras and a backend for it: `make
# gpu GPU_PYTHON=python3`. Each part takes eight minutes at most, and goes on when run again.
GPU_PYTHON ?= $(VENV)/bin/python
gpu:
	$(GPU_PYTHON) benchmarks/gpu.py $(ARGS)

clean:
	rm -rf $(VENV) $(DISTRIBUTED_VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(VENV)/bin/python $(DISTRIBUTED_VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "keras-lap needs Python 3.11 or later; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(@D)/..

$(VENV)/.quickstart: pyproject.toml | $(VENV)/bin/python
	@echo "Installing keras-lap with JAX into $(VENV) (some minutes, once) ..."
	$(PIP) --editable ".[jax,datasets,plots,transport]"
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	@echo "Installing keras-lap with all three backends into $(VENV) (some minutes, once) ..."
	$(PIP) --editable ".[test,docs]"
	@touch $@

$(DISTRIBUTED_VENV)/.test: Makefile pyproject.toml | $(DISTRIBUTED_VENV)/bin/python
	@echo "Installing Keras's nightly release with PyTorch into $(@D) (once) ..."
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet $(DISTRIBUTED)
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps \
	  --editable .
	@touch $@
