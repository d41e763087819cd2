# make demo: bake the default project, if it is not there, and train it.   make test: the quick tests, in minutes.
# make test-all: every test; the slow ones type the READMEs' commands, kill trainings, and install packages.
# make messages: write the library's messages into tests/library/messages.txt, for the reviewer of a change.
# make stress: some 300 kills of trainings; RUNS=200 makes ten times as many.   make mutants: small mistakes, which tests must notice.
# make benchmark: speed, start-up, bake, accuracy and memory against hand-written loops and other frameworks.
# They install their packages into .venv once, by uv if it is installed. The first time, PyTorch is downloaded (3 GB with CUDA).
# Another Python: make demo PYTHON=python3.13
PYTHON ?= python3
VENV ?= .venv
RUNS ?= 20
BIN = $(VENV)/bin
PROJECT = demo/my-lightning-project
UV := $(shell command -v uv 2>/dev/null)
INSTALL = $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet)
PYTEST = $(BIN)/python -m pytest -n 2 --dist worksteal --durations=20

.PHONY: demo test test-slow test-all messages stress mutants benchmark clean

demo: $(VENV)/demo.installed
	@test -d $(PROJECT) || $(BIN)/cookiecutter --no-input --output-dir demo . > demo/bake.log 2>&1 || { cat demo/bake.log; exit 1; }
	cd $(PROJECT) && $(abspath $(BIN))/python -m my_lightning_project fit
	@echo "The project is in $(PROJECT). Next:"
	@echo "  cd $(PROJECT) && source ../../$(VENV)/bin/activate"
	@echo "A project of your own: $(BIN)/cookiecutter $(CURDIR)"

# torch and what the project needs are installed here as a user does it, from the baked project
$(VENV)/demo.installed: $(VENV)/bin/python {{cookiecutter.project_slug}}/pyproject.toml
	$(INSTALL) "cookiecutter>=2.6"
	test -d $(PROJECT) || $(BIN)/cookiecutter --no-input --output-dir demo . > /dev/null
	$(INSTALL) --editable $(PROJECT)
	@touch $@

test: $(VENV)/test.installed
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/test-all.installed
	$(PYTEST) -m slow

test-all: test test-slow

messages: $(VENV)/test.installed
	PYTHONPATH="{{cookiecutter.project_slug}}/vendor/lightning-runs/src" $(BIN)/python tests/library/messages.py

# kills trainings at random moments and compares the result with that of an uninterrupted one
stress: $(VENV)/test.installed
	RUNS=$(RUNS) $(PYTEST) tests/test_stress.py

# makes small mistakes in the code, one at a time, and runs the test that must notice each
mutants: $(VENV)/test-all.installed
	$(BIN)/python tests/mutants.py

# the project has an environment of its own, for the other frameworks' packages would slow the import of Lightning
benchmark: $(VENV)-benchmark/installed
	$(VENV)-benchmark/bin/python benchmarks/run.py --python $(VENV)-benchmark-project/bin/python $(BENCHMARK)

$(VENV)-benchmark/installed: pyproject.toml {{cookiecutter.project_slug}}/pyproject.toml
	$(MAKE) VENV=$(VENV)-benchmark $(VENV)-benchmark/bin/python
	$(MAKE) VENV=$(VENV)-benchmark-project $(VENV)-benchmark-project/bin/python
	$(VENV)-benchmark/bin/python -m pip install --quiet --upgrade "pip>=25.1" "cookiecutter>=2.6"
	$(VENV)-benchmark/bin/cookiecutter --no-input --overwrite-if-exists --output-dir build/benchmark . > /dev/null
	$(VENV)-benchmark-project/bin/python -m pip install --quiet build/benchmark/my-lightning-project "tokenizers>=0.21"
	$(VENV)-benchmark-project/bin/python -m pip freeze | grep -i '^torch' > build/benchmark/torch.txt
	$(VENV)-benchmark/bin/python -m pip install --quiet --group benchmark --constraint build/benchmark/torch.txt
	@touch $@

$(VENV)/test.installed: $(VENV)/bin/python pyproject.toml
	$(if $(UV),,$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1")
	$(INSTALL) --group test
	@touch $@

$(VENV)/test-all.installed: $(VENV)/test.installed
	$(INSTALL) --group test-all
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is `$(PYTHON) --version 2>&1`; Python 3.11 or later is needed. Name another one: make PYTHON=python3.12"; exit 1; }
	$(if $(UV),$(UV) venv --quiet --seed --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))

clean:
	rm -rf $(VENV) $(VENV)-benchmark $(VENV)-benchmark-project demo build
