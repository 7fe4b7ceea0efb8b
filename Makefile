# Every target does its own set-up, on a fresh Debian machine too: .ci/setup finds Python and a C
# compiler, installs what is missing when it may, and makes .venv.

BIN := .venv/bin
READY := .venv/.ready

.PHONY: help venv demo test check bench fig79 gate clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    show the forwarder at work"
	@echo "make test    compile the kernels, then run every test"
	@echo "make check   ruff, mypy and the architecture test: quick, for every commit"
	@echo "make bench   measure, in clocks and packets per second"
	@echo "make fig79   measure scalar against vector; writes README's table and plot"
	@echo "make gate    is this checkout slower than the last release?"
	@echo "make venv    only the set-up that the targets above do themselves: .venv"
	@echo "make clean   remove .venv and all that was built"

venv: $(READY)

$(READY): pyproject.toml setup.py $(wildcard csrc/*.[ch] csrc/*.py) .ci/setup
	@.ci/setup
	@touch $@

demo: $(READY)
	$(BIN)/vforward demo

test: $(READY)
	$(BIN)/vforward compile
	$(BIN)/pytest

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_architecture.py

bench: $(READY)
	$(BIN)/vforward bench

fig79: $(READY)
	$(BIN)/vforward bench fig79 --plot docs/fig79.png --markdown build/bench/fig79.md
	$(BIN)/python -m benchmarks.into_readme build/bench/fig79.md README.md

# The last release is compiled the first time. A release is a commit "Release VERSION"; where there is none,
# there is nothing to compare with.
gate: $(READY)
	@release=$$(git log -1 --format=%h --grep='^Release [0-9]'); \
	[ -n "$$release" ] || { echo "gate: no release to compare with"; exit 0; }; \
	$(BIN)/vforward bench compare "$$release" . ip4-path l2-path session-1k

clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests csrc -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f src/vforward/io/_shim*.so src/vforward/rings/libvforward_netmap.so
