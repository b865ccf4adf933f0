# Both commands start from a bare machine with Python 3.11 or later: they make .venv,
# install what they need and run. A second call re-uses the environment.
PYTHON ?= python3
VENV ?= .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet
BACKENDS ?= tensorflow jax torch

export TF_CPP_MIN_LOG_LEVEL ?= 3
export HYPOTHESIS_STORAGE_DIRECTORY ?= $(VENV)/.hypothesis

.PHONY: quickstart test lint test-tensorflow test-jax test-torch clean

quickstart: $(VENV)/.quickstart
	KERAS_BACKEND=$${KERAS_BACKEND:-jax} $(VENV)/bin/python examples/quickstart.py $(ARGS)

test: lint $(BACKENDS:%=test-%)
	@echo "Passed on: $(BACKENDS)"

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test-tensorflow test-jax test-torch: test-%: $(VENV)/.test
	KERAS_BACKEND=$* $(VENV)/bin/python -m pytest $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "keras-lap needs Python 3.11 or later; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.quickstart: pyproject.toml | $(VENV)/bin/python
	@echo "Installing keras-lap with JAX into $(VENV) (some minutes, once) ..."
	$(PIP) --editable ".[jax,datasets,plots,transport]"
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	@echo "Installing keras-lap with all three backends into $(VENV) (some minutes, once) ..."
	$(PIP) --editable ".[test]"
	@touch $@
