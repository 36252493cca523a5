# Two commands do everything on a fresh machine with Python 3.11: `make verify` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: verify test test-all mutation fuzz trust runtimes oracles bench book lint clean

verify: $(VENV)/.run
	$(BIN)/python -m models.demo --out out/verify

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

test-all: lint
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -n 2 --dist loadgroup

# every change that mutmut knows, one at a time, in a copy under out/mutation: an hour; FILES="..." for some files
mutation: $(VENV)/.test
	$(PIP) --editable ".[mutation]"
	nice $(BIN)/python -m tests.trust.mutation $(FILES)

trust: $(VENV)/.test
	$(BIN)/python -m tests.trust.report

# the real runtimes against the targets that predict them, here and, with qemu-user, on a CPU without VNNI: an hour
runtimes: $(VENV)/.test
	$(BIN)/python -m tests.runtimes.report

# other projects' executors for tests/oracles, each in an environment of its own; their tests are skipped without
oracles: $(VENV)/bin/python
	$(BIN)/python tests/oracles/install.py

# mutants of models, inputs, targets and certificates until COUNT of each kind are through; SEED=N for others
fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz --count $(or $(COUNT),20000) --seed $(or $(SEED),0)

# beside other executors on one thread, ten minutes; QUICK=1 for two; RESUME=1 goes on where it was broken off
bench: $(VENV)/.run
	$(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(RESUME),--resume)

# the pages under docs/ as a site in out/book; after a change of what commands print: python -m tests.docs.refresh
book: $(VENV)/.test
	$(BIN)/mkdocs build --strict

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[report,references]"
	touch $@

# torch is pinned by constraints.txt: an unpinned one may pull gigabytes of GPU libraries
$(VENV)/.test: $(VENV)/.run
	$(PIP) --editable ".[report,rtl,train,dev]"
	touch $@

clean:
	rm -rf $(VENV) out build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
