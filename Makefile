# Everything starts here: `make help` lists the targets.
VENV ?= .venv
BIN := $(VENV)/bin
BENCHMARKS := $(filter-out common bare_step step_batch,$(basename $(notdir $(wildcard benchmarks/*.py))))
CLEAN := build dist castkd.egg-info .pytest_cache .ruff_cache

.DEFAULT_GOAL := help
.PHONY: help env test demo lint format benchmark clean

help:  ## list the targets
	@echo 'Targets (each makes the environment first where it needs one):'
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 14
	@echo 'Variables: VENV=.venv  PYTHON=python3.11  TORCH_INDEX=URL  EXTRAS="mm dev"  ARGS="..." (for pytest, benchmarks)'

env:  ## make or complete the environment in $(VENV)
	@tools/setup_env.sh $(VENV)

test: env  ## run the test suite, on all cores
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

demo: env  ## three-stage CAST on generated street scenes, on a CPU
	$(BIN)/python tools/make_scenes.py
	$(BIN)/python tools/train.py configs/quickstart/cast_scenes.py --resume

lint: env  ## check style and formatting
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

format: env  ## format the code and apply safe fixes
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

benchmark: env  ## run every script of benchmarks/ into work_dirs/benchmarks/
	@set -e; for name in $(BENCHMARKS); do echo "$$name"; \
	  $(BIN)/python benchmarks/$$name.py --out work_dirs/benchmarks/$$name.json $(ARGS); done

clean:  ## remove build outputs and caches; environment, data and runs stay
	rm -rf $(CLEAN)
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
