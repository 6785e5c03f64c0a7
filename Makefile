# The tasks of a developer. `make demo` shows the main job, `make test` passes the tests, `make rpm` builds the packages,
# `make vm-test` boots machines; all set everything up.

PYTHON ?= python3
VENV ?= .venv
QUICK ?=
KILLS ?= 1000
SEED ?=
# The interpreter itself: a version manager's shim costs more than a boot.
INTERPRETER := $(shell $(PYTHON) -c 'import sys; print(sys.executable)' 2>/dev/null)
BIN := $(VENV)/bin
STALE ?= 12
INIT ?= systemd

.PHONY: demo test soak lint bench rpm rpm-test vm-test vm-bench install venv packages clean

demo: venv
	@demo/run $(BIN)/python $(STALE)

test: venv
	$(BIN)/python -m pytest $(TESTS)

soak: venv
	$(BIN)/python -m tests.soak --kills $(KILLS) $(if $(SEED),--seed $(SEED))

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/vermin -t=3.6- --no-tips --violations ovsxen tests bench tools
	$(BIN)/python -m compileall -q ovsxen tests bench tools
	$(BIN)/python -m tools.lint_units initscripts/*.service

bench: venv
	$(BIN)/python -m bench $(if $(QUICK),--quick)

# Which ones and where to: tools/build-rpm says.
rpm:
	@tools/install-packages rpm
	@tools/build-rpm

rpm-test: venv rpm
	$(BIN)/python -m pytest $(or $(TESTS),tests/rpm)

# Hosts that boot, in virtual machines and in containers; with QUICK=1 a selection, in ten minutes. Power is cut at other
# moments with CUTS="update=0.4 restart=1.5s" or CUT_SEED=7: tests/machines/cuts.py says how they are named.
vm-test: venv rpm
	@tools/install-packages machines
	$(BIN)/python -m pytest $(if $(QUICK),-m selection) $(or $(TESTS),tests/machines)

# How long a boot waits for its switch: docs/performance.md
vm-bench: venv
	@tools/install-packages machines
	$(BIN)/python -m bench.machine_boots $(if $(ROUNDS),--rounds $(ROUNDS))

# As a host has it, without Open vSwitch itself: make install DESTDIR=/some/root [INIT=systemd|systemd-219|sysv]
install:
	@tools/install-tree "$(DESTDIR)" $(INIT)
	@bundled=$$(tools/fetch-bundled) && tools/unpack-bundled "$(DESTDIR)/usr/lib/ovsxen" \
		"$(DESTDIR)/usr/share/licenses/ovsxen" "$$bundled"/*

venv: packages $(VENV)/.ready

packages:
	@tools/install-packages

$(VENV)/.ready: setup.cfg tools/make-venv
	tools/make-venv $(or $(INTERPRETER),$(PYTHON)) $(VENV)
	touch $@

$(VENV)/.lint: requirements-lint.txt $(VENV)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-lint.txt
	touch $@

clean:
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
