# Two commands do everything: `make demo` and `make test`. Both set up .venv first and are quick the second time.
#
# Variables (make test WORKERS=4):
#   PYTHON       interpreter for .venv: 3.10 to 3.13
#   ORT          ONNX Runtime flavour: cpu, gpu or openvino (exactly one; `make clean-venv` before changing it)
#   TORCH        PyTorch requirement, and TORCH_INDEX: a wheel index for it alone, e.g. PyTorch's CPU index.
#                Without one pip's own settings decide, and on some machines that means several GB of CUDA libraries.
#   WORKERS      pytest processes; one of them runs whole robots, which mostly wait
#   DEMO_SECONDS length of the demo [s]

comma := ,
# With a sourced ROS install its own interpreter is the right one, and the ROS wheels stay away.
PYTHON ?= $(if $(ROS_DISTRO),python3,$(shell command -v python3.11 || command -v python3 || echo python3.11))
ROS := $(if $(ROS_DISTRO),,$(comma)ros)
ORT ?= cpu
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
WORKERS ?= 2
DEMO_SECONDS ?= 10

BIN := .venv/bin
# Compiling what is never imported would take a quarter of the set-up; Python compiles the rest when it is first used.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
CODE := robot_wm models sim calibration ros_nodes launch tests setup.py

.PHONY: help demo test setup lint format type bench clean clean-venv
.DELETE_ON_ERROR:

help:
	@echo "make demo    swing a pole up: real ROS 2 processes, a world model trained from bags"
	@echo "make test    lint, types and every test"
	@echo "make format lint type bench clean clean-venv"

demo: .venv/.demo
	$(BIN)/robot-wm sim --task cartpole_swingup --bundle models/zoo/cartpole_swingup --seconds $(DEMO_SECONDS) --json

test: lint type
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -q -n $(WORKERS) --no-loadscope-reorder

setup: .venv/.test

lint: .venv/.test
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

format: .venv/.test
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

type: .venv/.test
	$(BIN)/mypy robot_wm

bench: .venv/.test
	for what in plan tick train bags; do $(BIN)/robot-wm bench $$what --json || exit 1; done

clean:
	rm -rf build dist install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

clean-venv:
	rm -rf .venv

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/.pip: Makefile | $(BIN)/python
	$(PIP) --upgrade "pip>=25" "setuptools>=70.1,<80" wheel
	@touch $@

# What the demo needs; no PyTorch.
.venv/.demo: setup.py Makefile | .venv/.pip
	@echo "Setting up .venv for the demo (once; a minute or two)"
	$(PIP) --no-build-isolation -e ".[$(ORT),sim,report$(ROS)]"
	@touch $@

# Everything, the demo's part included.
.venv/.test: setup.py Makefile | .venv/.pip
	@echo "Setting up .venv for training and tests (once; a few minutes)"
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	$(PIP) --no-build-isolation -e ".[$(ORT),sim,report,train,serial,calibration,dev$(ROS)]"
	@touch .venv/.demo $@
