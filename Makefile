# Everything installs through one constraints file. To keep the torch that your own index or environment provides:
#   make demo CONSTRAINTS=/dev/null              resolve torch freely
#   make demo VENV=/path/to/your/venv            use an environment that already has torch
#   make demo PIP_FLAGS='--index-url URL'        take a CPU build from the index you trust
PYTHON      ?= python3
VENV        ?= .venv
CONSTRAINTS ?= constraints.txt
PIP_FLAGS   ?=
BIN         := $(VENV)/bin
BENCHMARKS  := training.masked_step kernels.selection kernels.linear kernels.convolution training.sparse_step training.update_cost \
               training.bf16_step training.transformer training.networks training.inference training.checkpoint_size training.memory \
               training.huge_layer training.fallback training.edst_wallclock training.auto training.plan_time training.plan_memory \
               training.suite_throughput training.tweaks
KERNELS     := CMakeLists.txt $(wildcard src/regrow/execution/kernels/*)

.PHONY: setup demo test test-all check docs walk bench clean
.DEFAULT_GOAL := demo

# Two set-ups: what runs need, and what developing needs besides.
setup: $(VENV)/.ready-dev

$(VENV)/.ready: what := .
$(VENV)/.ready-dev: what := .[dev]
$(VENV)/.ready $(VENV)/.ready-dev: pyproject.toml constraints.txt $(KERNELS)
	@sh tools/check_machine.sh $(PYTHON) $(VENV) $(what)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_FLAGS) -c $(CONSTRAINTS) -e '$(what)'
	@touch $@

demo: $(VENV)/.ready
	@$(BIN)/regrow demo

test: setup
	@$(BIN)/python -m pytest -m 'not full'

test-all: setup
	@$(BIN)/python -m pytest

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -m 'not full'
	@$(MAKE) --no-print-directory docs

# The site, into build/docs: warnings are errors. What its code blocks do is tested in tests/docs.
docs: setup
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

# A stranger's walk: the wheel in an empty environment, three models made sparse, the sdist with and without a compiler.
walk: setup
	@$(BIN)/python tools/walk.py --constraints $(CONSTRAINTS) -- $(PIP_FLAGS)

bench: setup
	@for what in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$what || exit 1; done

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache
