# Two targets do it all on a fresh machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

# the packages are compiled when they are first imported, once; where an environment forbids that, every process would
# compile its own anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow lint format docs bench dashboard-check clean

demo: $(VENV)/installed
	$(BIN)/limpet demo

# one thread each: threads of two tests that wait for each other would cost more than they give; three processes for
# two cores, because many tests wait for processes of their own.
# In the folders' order: by number of tests, the files with few and long ones would come last, one beside an idle core
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# into site/; a warning is an error, and so is a link that leads nowhere. The variable silences news about the builder
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# what docs/explanation/performance.md shows is measured anew and written into it; choices.py prints; methods.py takes
# hours, and is not among it
bench: $(VENV)/installed
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/choices.py

# needs Debian's packages chromium and chromium-driver
dashboard-check: $(VENV)/installed
	$(BIN)/limpet adapter promote --home limpet-demo/.limpet bbc-news@1 production --reason "the demo's isolated arm"
	$(BIN)/python docs/check_dashboard.py limpet-demo/.limpet

# constraints.txt pins what the tests pass with: an open range would draw a torch build with gigabytes of CUDA.
# Not compiled: of 22,000 files the tests import a fifth
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
