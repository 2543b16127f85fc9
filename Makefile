.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
PYTHON ?= python3
# The build of torch that is installed first, so that nothing later asks for another one. For another version than
# constraints.txt names: make constraints TORCH=...
TORCH ?= torch==2.13.0
# Extra arguments for that install, e.g. the index of CPU wheels where your package index serves CUDA builds.
TORCH_ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test quick coverage test-slow check format hooks setup constraints tools compilers missing bench base-models families chains programs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: setup ## train the embedded model with GSPO against g++ (about five minutes on two cores)
	$(BIN)/python -m rlvr_cpp.gspo $(ARGS)

# The tests of one room, as in `make test ROOM=verifier`, or of another package, as in ROOM=kernels; all without it.
ROOM ?=
PLACE = $(if $(ROOM),$(or $(firstword $(wildcard tests/rlvr_cpp/$(ROOM) tests/$(ROOM))),$(error there is no room $(ROOM): give a folder of tests/rlvr_cpp or of tests)))
TEST = $(BIN)/python -m pytest -n 2 --dist loadgroup --durations 25 $(PLACE) $(ARGS)

test: setup missing ## run the tests, with ROOM=... those of one room
	$(TEST)

quick: setup ## the tests that start no compiler, no torch and no wheel (under two minutes)
	$(BIN)/python -m pytest -n 2 --quick $(PLACE) $(ARGS)

coverage: setup missing ## the branches of the verifier's tiers that its tests take, and whether they are enough
	$(BIN)/python -m pytest -n 2 --dist loadgroup --cov --cov-report term -q tests/rlvr_cpp/verifier $(ARGS)

test-slow: setup missing ## the tests that `make test` leaves out: hostile programs with clang++, kills at every moment
	$(TEST) -m slow

check: setup ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

hooks: setup ## let every commit run the quick checks of .pre-commit-config.yaml
	$(BIN)/pre-commit install

setup: tools $(READY) ## make the virtual environment

tools:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is missing: apt-get install python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11: install a newer one and set PYTHON=" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: $(PYTHON) has no venv: apt-get install python3-venv" >&2; exit 2; }
	@command -v g++ >/dev/null || { echo "error: g++ is missing: apt-get install g++" >&2; exit 2; }

# The verifier needs g++ alone; with these both compilers and the linter are tested, too.
OPTIONAL := clang++ ld.lld mold clang-tidy
compilers: ## install clang, lld, mold and clang-tidy by apt
	@needed=; for tool in $(OPTIONAL); do command -v $$tool >/dev/null || needed=yes; done; \
	if [ -n "$$needed" ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq clang lld mold clang-tidy >/dev/null; \
	fi

missing:
	@for tool in $(OPTIONAL); do command -v $$tool >/dev/null || echo "left out: what needs $$tool (make compilers installs it)"; done

bench: setup missing ## what a verification costs, beside plain g++ (about fifteen minutes)
	$(BIN)/python -m benchmarks.verifier $(ARGS)

# Bytecode is made where it is first imported: most of what is installed never is.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -c constraints.txt $(TORCH_ARGS) "$(TORCH)"
	$(BIN)/python $(INSTALL) -c constraints.txt -e ".[train,sweep,dev]"
	touch $(READY)

# Left out are pip, this project, and what comes with one build of torch alone: its CUDA libraries and its triton.
FRESH := build/constraints
constraints: tools ## resolve all dependencies anew and write constraints.txt
	rm -rf $(FRESH)
	$(PYTHON) -m venv $(FRESH)
	$(FRESH)/bin/python $(INSTALL) $(TORCH_ARGS) "$(TORCH)"
	$(FRESH)/bin/python $(INSTALL) -e ".[train,sweep,dev]"
	$(FRESH)/bin/python -m pip freeze --all --exclude pip --exclude-editable \
		| sed -E '/^(triton|nvidia|cuda)[-_a-z0-9]*==/d; s/\+.*//' | LC_ALL=C sort -f > constraints.txt

families: setup ## judge and write the shipped tasks anew (about eight minutes)
	$(BIN)/rlvr-families tasks --out rlvr_cpp/data/families.jsonl

base-models: setup ## train the two shipped base models anew (under nine minutes)
	$(BIN)/rlvr-families corpus --out build/corpus.jsonl
	$(BIN)/rlvr-sft --data build/corpus.jsonl --architecture demo_hybrid --out rlvr_cpp/models/tiny-hybrid
	$(BIN)/rlvr-sft --data build/corpus.jsonl --out rlvr_cpp/models/tiny-cpp

chains: setup ## the tasks and base model of the StepCoder ablation (about ten minutes)
	$(BIN)/rlvr-families tasks --family chains --out build/chains/tasks.jsonl
	$(BIN)/rlvr-families corpus --family chains --out build/chains/corpus.jsonl
	$(BIN)/rlvr-sft --data build/chains/corpus.jsonl --out build/chains/model --batch-rows 16 --steps 1500

programs: setup ## tasks of input and output, and a base model that writes such programs (about five minutes)
	$(BIN)/rlvr-families tasks --family programs --train 50 --held-out 48 --out build/programs/tasks.jsonl
	$(BIN)/rlvr-families corpus --family programs --rows 12000 --out build/programs/corpus.jsonl
	$(BIN)/rlvr-sft --data build/programs/corpus.jsonl --out build/programs/model --batch-rows 16 --steps 800

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
