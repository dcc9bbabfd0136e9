# make run     set up, start the appliance in ./appliance-data, send and consume a few messages, stay until Ctrl-C
# make test    set up and pass the tests; those with the official Java client are skipped without a JDK and Maven
# make lint    format, lint, types, directions         make bench     beside the real Apache broker, into BENCHMARKS.md
# make chaos   the long figures of the fault tests     make sanitize  the C helper under ASan, UBSan and TSan
# make clean   all that was built; ./appliance-data stays

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS ?=

# What `make bench` takes: see `python -m tools.bench.bench --help`.
BENCH ?=

.PHONY: setup run test lint format bench chaos sanitize clean
setup: $(VENV)/.built

$(VENV)/.installed: pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/.built: $(VENV)/.installed $(wildcard clib/*.c clib/*.h clib/build.py)
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

run: setup
	@$(BIN)/python tools/run.py

test: setup
	$(BIN)/python -m pytest -m "not slow" $(TESTS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/tidy.py

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python tools/tidy.py --fix

bench: setup
	$(BIN)/python -m tools.bench.bench $(BENCH)

chaos: setup
	$(BIN)/python -m pytest -m slow --timeout 0 $(TESTS)

sanitize: setup
	$(BIN)/python tools/sanitize.py

clean:
	rm -rf build dist *.egg-info clib/*.so clib/_appliance.c clib/*.o
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
