# `make` or `make help` lists the targets.
PYTHON ?= python3
# An activated virtual environment is used; otherwise .venv in the checkout is made.
VENV ?= $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
STAMP := $(VENV)/.kdcompress-setup
# One thread a process: small models run no faster on more, and busy machines run slower.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-web test-pythons lint format bench-digits bench-distill bench-sentences bench-lm bench-text bench-translation bench-export wheel clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | awk -F'|' '{printf "  make %-16s %s\n", $$1, $$2}'
	@echo
	@echo "Uses $(VENV) (VENV=..., or activate another one) and $(PYTHON) (PYTHON=...)."
	@echo "On Linux, pip may choose a CUDA build of torch (gigabytes). For a CPU build, export"
	@echo "PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS with the place of your CPU wheels first."

setup: $(STAMP) ## Make the virtual environment and install the pinned dependencies (once)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "kdcompress needs Python 3.10 or later, and '$(PYTHON)' is not that; name one: make PYTHON=python3.11 setup" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; \
	  rm -rf $(VENV); exit 1; }

NATIVE := hatch_build.py $(wildcard runtime/kdcompress_runtime/decoders/native/*.[ch])

$(STAMP): pyproject.toml constraints.txt $(NATIVE) | $(BIN)/python
	@echo "Installing into $(VENV); the first time takes some minutes."
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "kdcompress needs Python 3.10 or later; $(VENV) holds an older one: remove it, or name another with VENV=..." >&2; exit 1; }
	@pins=$$($(BIN)/python -c 'import sys; print("-c constraints.txt" if sys.version_info[:2] == (3, 11) else "")'); \
	test -n "$$pins" || echo "constraints.txt holds the versions for Python 3.11; this one gets the newest that fit."; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$pins -e '.[dev]'
	@touch $@

demo: setup ## The main job on the embedded recordings: train, distil, export, verify, report
	$(BIN)/kdcompress demo

# Two processes halve the time on two cores; each file stays in one, since tests of a file may build on each other.
JOBS ?= 2
test: setup lint ## Lint and types, then the fast tests (JOBS=2 processes)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-slow: setup ## The tests that take minutes
	$(BIN)/python -m pytest -m slow

test-web: setup ## The web bundle under Node and in headless Chromium (needs node, npm, chromium; fetches onnxruntime-web)
	npm install --prefix examples/web --no-audit --no-fund --ignore-scripts
	$(BIN)/python -m pytest -s -m slow tests/export/test_web_slow.py

PYTHONS ?= python3.10 python3.11 python3.12 python3.13
test-pythons: ## The runtime's tests with numpy 1.26 and 2 on other interpreters (PYTHONS="python3.10 /path/to/python3.13")
	tests/pythons.sh $(PYTHONS)

lint: setup ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Format, and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-digits: setup ## Three seeds of three students on noisy digits: error rates with their spread
	$(BIN)/python benchmarks/bench_digits.py

bench-distill: setup ## Three seeds of every method of distillation on noisy digits: tables, plots and rows
	$(BIN)/python benchmarks/bench_distill.py

bench-sentences: setup ## The leading methods on English sentences, wideband and narrowband: tables, plots and rows
	$(BIN)/python benchmarks/bench_sentences.py

bench-lm: setup ## Language models as teachers, by unit and direction, against label interpolation: tables and rows
	$(BIN)/python benchmarks/bench_lm.py

bench-text: setup ## Receipt lines: students from labels and teachers, int8, beside RapidOCR: tables and rows
	$(BIN)/python benchmarks/bench_text.py

bench-translation: setup ## English to Swedish: students from labels and teachers, beside an autoregressive one: tables and rows
	test -f runs/translation/marian/config.json || $(BIN)/python benchmarks/marian.py
	$(BIN)/python benchmarks/bench_translation.py

bench-export: setup ## Parity of every student family and target, as a table
	$(BIN)/python benchmarks/bench_export.py

wheel: setup ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

clean: ## Remove what builds and checks left; keeps .venv and runs
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
