# Two commands do everything: `make demo` and `make test`. Both first make the environment, in .venv.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint docs clean

demo: $(READY)
	$(BIN)/python -m evsam_cli.demo

test: $(READY) lint
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev,text,train]'
	touch $@

docs: $(READY)
	$(BIN)/python -m evsam_cli.reference docs/cli.md docs/models.md

clean:
	rm -rf .venv demo build dist *.egg-info
