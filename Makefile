# `make run` serves a real model on port 8321; `make test` runs the quick tests, `make test-all` all. They install what they need.
# The tests run in three processes, since each waits for its servers at times, file by file in their order, which has
# the longest files early. They start fifty servers: where bytecode is not kept, each of them compiles for a second
# what it imports.
# PORT=8080 HOST=0.0.0.0 make run: elsewhere, and for other machines too (there is no authentication by default).
PORT ?= 8321
HOST ?= 127.0.0.1
CONFIG ?= run.yaml
ARGS ?=

PYTEST = PYTHONDONTWRITEBYTECODE= .venv/bin/pytest -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: run test test-all check lint bench hostile fuzz soak audit docs setup

run:
	@scripts/setup run
	@exec .venv/bin/python scripts/serve.py $(CONFIG) $(HOST) $(PORT)

# What takes long is marked in tests/conftest.py.
test:
	@scripts/setup dev
	$(PYTEST) -m "not slow" $(ARGS)

test-all:
	@scripts/setup dev
	$(PYTEST) $(ARGS)

check: lint test-all

lint:
	@scripts/setup dev
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports

bench:
	@scripts/setup dev
	.venv/bin/python -m benchmarks $(ARGS)

hostile:
	@scripts/setup dev
	.venv/bin/python -m benchmarks.hostile $(ARGS)

fuzz:
	@scripts/setup fuzz
	MESSAGES_FUZZ_EXAMPLES=300 .venv/bin/pytest -q --timeout 3600 tests/fuzz/test_openapi.py
	.venv/bin/python -m tests.fuzz $(ARGS)

soak:
	@scripts/setup soak
	.venv/bin/python -m benchmarks.soak $(ARGS)

audit:
	@scripts/audit

docs:
	@scripts/setup docs
	.venv/bin/python scripts/docs.py
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet

setup:
	@scripts/setup dev
