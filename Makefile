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

# A process for each core, and no more threads than that.
EACH_CORE := -n auto --dist worksteal
export OPENBLAS_NUM_THREADS := 1

# What says that every row comes once, whatever happens: with the cache on, too.
ONCE := tests/test_shards.py tests/test_resume.py tests/test_failure.py

.PHONY: help demo test lint sanitize fuzz benchmarks clean

help:
	@echo "make demo                 train from a database, beside the usual generator"
	@echo "     IMAGES=some/folder   with your own pictures (subfolder or labels.csv = label)"
	@echo "     DB=postgres          from PostgreSQL in place of SQLite; a server comes along"
	@echo "make test                 lint, type check and the whole test suite"
	@echo "make sanitize             kernel, corpora and PostgreSQL under ASan and UBSan"
	@echo "make fuzz                 libFuzzer over the kernel (clang)"
	@echo "     FORMAT=png MINUTES=30"
	@echo "make benchmarks           all figures of docs/measured.md, which takes an hour"
	@echo "make clean                remove what the others made"

demo: $(VENV)/demo.done
	$(BIN)/python -m benchmarks.demo

test: lint $(VENV)/torch.tried
	$(BIN)/python -m pytest $(EACH_CORE)
	FASTLOADER_CACHE=ram $(BIN)/python -m pytest $(EACH_CORE) $(ONCE)

lint: $(VENV)/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A build of its own, so that the other one stays as fast as it is. What a sanitizer reports goes to
# descriptor 2, which pytest would otherwise keep to itself when the process aborts.
sanitize: $(VENV)/test.done
	FASTLOADER_SANITIZE=1 $(BIN)/python setup.py -q build --build-base build/sanitize --build-lib build/sanitize/lib
	$(ASAN) PYTHONPATH=build/sanitize/lib FASTLOADER_EXPECT_SANITIZED=1 FASTLOADER_TEST_PG= \
		$(BIN)/pytest $(EACH_CORE) --import-mode=append --capture=sys \
		tests/test_kernel.py tests/test_geometry.py tests/test_fast.py tests/test_images.py \
		tests/test_corpora.py tests/test_source.py tests/test_postgres.py tests/test_pg_images.py \
		tests/test_pg_hostile.py tests/test_pg_consistency.py tests/test_pg_faults.py \
		-k "not tensorflow"

# libFuzzer over the C core alone; needs clang. The first bytes of an input are options, so the seeds
# get some. What it has found is kept, and taken up again, in build/fuzz/.
FORMAT ?= png
MINUTES ?= 30
SEEDS ?= ../shared/data/corpora
FUZZ := build/fuzz/$(FORMAT)
fuzz:
	@mkdir -p $(FUZZ)/inputs $(FUZZ)/seeds
	clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Icsrc \
		fuzz/fuzz.c csrc/*.c -ljpeg -lwebp -lisal -lm -o build/fuzz/fuzz
	@find $(SEEDS) tests -name '*.$(FORMAT)' -size -64k | while read -r file; do \
		(printf '\40\40\0\0\2\0\1\1'; cat "$$file") > $(FUZZ)/seeds/$$(cksum < "$$file" | tr ' ' -); done
	build/fuzz/fuzz -max_total_time=$$(($(MINUTES) * 60)) -timeout=20 -rss_limit_mb=3000 -max_len=70000 \
		-artifact_prefix=$(FUZZ)/ -print_final_stats=1 $(FUZZ)/inputs $(FUZZ)/seeds

benchmarks: $(VENV)/benchmarks.done
	$(BIN)/python -m benchmarks run
	$(BIN)/python -m benchmarks report
	$(BIN)/python -m benchmarks.labels -o docs/labels-in-a-batch.png

$(VENV)/created.done:
	@tools/system-deps $(PYTHON)
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip
	@touch $@

$(VENV)/%.done: $(VENV)/created.done pyproject.toml $(EXTENSIONS)
	@echo "Installing fastloader[$*] into $(VENV), which takes a minute or two"
	@$(PIP) install --editable ".[$*]"
	@touch $@

# PyTorch's build for CPUs, where the package index has one: the usual one brings gigabytes of CUDA.
# Without it the tests of that adapter are skipped, and say so.
TORCH ?= torch==2.13.0+cpu torchdata
$(VENV)/torch.tried: $(VENV)/test.done
	@$(PIP) install $(TORCH) 2>/dev/null || echo "No $(TORCH) to be had: its tests will be skipped"
	@touch $@

clean:
	rm -rf $(VENV) build demo *.egg-info fastloader/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +
