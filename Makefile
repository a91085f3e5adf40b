# Two commands: `make demo` shows what it does, `make test` shows that it works. Each does all of its
# own set-up, in .venv. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
EXTENSIONS := setup.py $(wildcard fastloader/*.p[yx][xd] fastloader/source/*.p[yx][xd] csrc/*.[ch])
# The sanitizers: libasan has to be the first library that Python loads. Python itself keeps memory
# until it ends, so leaks are looked for by a test of our own instead; it counts pages, hence the small
# quarantine.
ASAN := LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=8 PYTHONMALLOC=malloc

.PHONY: help demo test lint sanitize benchmarks clean

help:
	@echo "make demo                 train from a database, beside the usual generator"
	@echo "     IMAGES=some/folder   with your own pictures (subfolder or labels.csv = label)"
	@echo "     DB=postgres          from PostgreSQL in place of SQLite; a server comes along"
	@echo "make test                 lint, type check and the whole test suite"
	@echo "make sanitize             kernel, corpora and PostgreSQL under ASan and UBSan"
	@echo "make benchmarks           the README's figures (see benchmarks/)"
	@echo "make clean                remove what the others made"

demo: $(VENV)/demo.done
	$(BIN)/python -m benchmarks.demo

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A build of its own, so that the other one stays as fast as it is. What a sanitizer reports goes to
# descriptor 2, which pytest would otherwise keep to itself when the process aborts.
sanitize: $(VENV)/test.done
	FASTLOADER_SANITIZE=1 $(BIN)/python setup.py -q build --build-base build/sanitize --build-lib build/sanitize/lib
	$(ASAN) PYTHONPATH=build/sanitize/lib FASTLOADER_EXPECT_SANITIZED=1 FASTLOADER_TEST_PG= \
		$(BIN)/pytest --import-mode=append --capture=sys tests/test_kernel.py tests/test_corpora.py \
		tests/test_source.py tests/test_postgres.py tests/test_pg_hostile.py \
		tests/test_pg_consistency.py tests/test_pg_faults.py \
		-k "not tensorflow"

benchmarks: $(VENV)/benchmarks.done
	$(BIN)/python -m benchmarks.decode
	$(BIN)/python -m benchmarks.end_to_end
	$(BIN)/python -m benchmarks.handover
	$(BIN)/python -m benchmarks.first_batch
	$(BIN)/python -m benchmarks.postgres

$(VENV)/created.done:
	@tools/system-deps $(PYTHON)
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip
	@touch $@

$(VENV)/%.done: $(VENV)/created.done pyproject.toml $(EXTENSIONS)
	@echo "Installing fastloader[$*] into $(VENV), which takes a minute or two"
	@$(PIP) install --editable ".[$*]"
	@touch $@

clean:
	rm -rf $(VENV) build demo *.egg-info fastloader/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +
