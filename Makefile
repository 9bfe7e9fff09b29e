# Each target does its own set-up from nothing, in .venv of this checkout. Needs Python 3.11 to 3.14 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the benchmarks compare with.
BENCH_VENV := .venv-bench
WHERE := import site; print(site.getsitepackages()[0])
# Where torch comes from, if not from the usual index: the address of PyTorch's small CPU build, for example.
TORCH_INDEX ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-release game-day fuzz check docs bench chaos clean

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/done ## Install everything into .venv (TORCH_INDEX=URL takes torch from another index)

$(VENV)/done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
	  { echo "expected Python 3.11 to 3.14, found $$($(PYTHON) --version); run make PYTHON=python3.12, for example"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/pip install --quiet --disable-pip-version-check --index-url $(TORCH_INDEX) -c constraints.txt torch)
	@echo "installing: a minute or two, most of it for torch"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,dev,evaluate,registry]'
	@touch $@

demo: setup ## See it all at work (ARGS="--seconds 90" ends by itself)
	@$(BIN)/nextclick demo $(ARGS)

test: setup ## Test the core, and the ways of clicks, bundles and lists: five minutes (ARGS="-k name" runs some)
	$(BIN)/pytest -n auto --dist loadgroup -m "not long and not release" $(ARGS)

test-all: setup ## Run all tests but those of a release
	$(BIN)/pytest -n auto --dist loadgroup -m "not release" $(ARGS)

test-release: setup ## Upgrade, image, game day, rare failures, other processors: an hour, on quiet cores
	$(BIN)/pytest -m release $(ARGS)

game-day: setup ## Let six things go wrong, and see which alerts fire: a quarter of an hour, on quiet cores
	$(BIN)/pytest tests/integration/test_game_day.py $(ARGS)

fuzz: setup ## Search longer for input that does harm: about ten minutes
	$(BIN)/pytest tests/fuzz --hypothesis-profile=fuzz -o timeout=1800 $(ARGS)

check: setup ## Lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup ## Make the documentation a site, in build/site (ARGS=--help lists options)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet $(ARGS)
	@echo "open build/site/index.html, or serve the folder with any web server"

# Beside $(VENV), whose packages it sees behind its own: Quix Streams needs an older confluent-kafka.
$(BENCH_VENV)/done: $(VENV)/done
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BIN)/python -c '$(WHERE)' > "$$($(BENCH_VENV)/bin/python -c '$(WHERE)')/behind.pth"
	sed 's/^confluent-kafka==.*/confluent-kafka==2.12.2/' constraints.txt > $(BENCH_VENV)/constraints.txt
	$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check -c $(BENCH_VENV)/constraints.txt -e '.[bench]'
	@touch $@

bench: setup $(BENCH_VENV)/done ## Print the benchmarks (ARGS="--quick" for a short run)
	$(BIN)/python -m bench $(ARGS)

chaos: setup ## Kill, pause and starve workers and broker, and look for lost clicks (ARGS="--help" lists options)
	@$(BIN)/python -m tests.chaos $(ARGS)

clean: ## Remove .venv and caches
	rm -rf $(VENV) $(BENCH_VENV) bench/kafka_streams/target .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build
