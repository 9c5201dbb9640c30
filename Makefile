# Three commands: `make demo`, `make transfer` and `make test`. Each sets up
# the environment first, if that is missing or its requirements have changed.

VENV ?= .venv
PYTHON ?=
METHOD ?= oss
METHODS := oss, seed, compress, disco, visual_priors, visual_priors_margin
SEEDS ?= 1
WORK_DIR ?= work_dirs/$(if $(filter transfer,$(MAKECMDGOALS)),transfer/$(SUITE),demo)
SUITE ?= demo
CHECKPOINTS ?=
TRANSFER_ARGS ?=
PYTEST_ARGS ?=

ifneq ($(words $(VENV)),1)
$(error VENV='$(VENV)' must be one path without blanks, such as VENV=.venv)
endif

PY := $(VENV)/bin/python
# what a failing lint step says to do
FIX := run `make format`, then look at what is left

.DEFAULT_GOAL := help
.PHONY: help setup demo transfer test slow lint format clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s  %s\n", $$1, $$2 }' \
		$(firstword $(MAKEFILE_LIST))
	@echo
	@echo 'Variables, with their values now:'
	@echo '  VENV=$(VENV)            where the environment lives'
	@echo '  PYTHON=$(PYTHON)               the Python it is made from; empty: search'
	@echo '  METHOD=$(METHOD) SEEDS=$(SEEDS) WORK_DIR=$(WORK_DIR)   of the demo; METHOD is'
	@echo '         one of $(METHODS)'
	@echo '  CHECKPOINTS="oss=FILE swav=FILE" SUITE=$(SUITE)   of transfer, with'
	@echo '  TRANSFER_ARGS=$(TRANSFER_ARGS)        such as --plan'
	@echo '  PYTEST_ARGS=$(PYTEST_ARGS)          further arguments of pytest'

setup: ## make the environment, or bring it up to date
	@VENV='$(VENV)' PYTHON='$(PYTHON)' bash tools/dev/setup_env.sh

demo: setup ## the main job: pretrain, compare, transfer, report
	$(PY) tools/demo.py --method $(METHOD) --seeds $(SEEDS) \
		--work-dir $(WORK_DIR)

transfer: setup ## a table of what checkpoints are worth, over tasks
	$(PY) tools/benchmarks/transfer.py $(SUITE) $(CHECKPOINTS) \
		--seeds $(SEEDS) --work-dir $(WORK_DIR) $(TRANSFER_ARGS)

test: lint ## lint and the fast tests
	$(PY) -m pytest -q -m 'not slow' $(PYTEST_ARGS)

slow: setup ## the slow tests
	@$(PY) -m pytest -q -m slow $(PYTEST_ARGS); status=$$?; \
	if [ $$status -eq 5 ]; then echo 'no slow tests'; exit 0; fi; \
	exit $$status

lint: setup ## check style, format and spelling
	@$(PY) -m ruff check . || { echo '$(FIX)'; exit 1; }
	@$(PY) -m ruff format --check . || { echo '$(FIX)'; exit 1; }
	@$(PY) -m codespell_lib
	@$(PY) tools/dev/check_files.py

format: setup ## format the code and fix what can be fixed
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean: ## remove caches and build products
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find mmssd tests tools configs -name __pycache__ -type d -prune \
		-exec rm -rf {} +

distclean: clean ## also remove the environment, in VENV
	@if [ -e '$(VENV)/pyvenv.cfg' ]; then rm -rf '$(VENV)'; fi
