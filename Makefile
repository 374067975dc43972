# The same targets for developers and CI. `make` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Any Python from 3.11 to 3.13; torch from pip's index (a CUDA or a CPU wheel).
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { echo $$p; break; }; done)
TORCH ?= torch==2.13.0
# The package index of PyTorch; empty: pip's index. PyPI's build for x86-64 includes CUDA, the one of
# https://download.pytorch.org/whl/cpu does not (docs/kubeflow.md, "The image").
TORCH_INDEX ?=
TORCH_FROM = $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
# Lists the CUDA packages that TORCH requires and ends with 1 if there are any; downloads metadata only.
TORCH_CHECK = $(BIN)/python infra/images/cuda.py $(TORCH_FROM) "$(TORCH)"
BASE_IMAGE ?= python:3.11-slim-bookworm
BUILD_IMAGE ?= python:3.11-bookworm
TARGET ?= runtime
IMAGE ?= mcti-python:0.1.0$(patsubst %,-%,$(filter-out runtime,$(TARGET)))
IMAGE_LOCK = $(if $(filter dev services,$(TARGET)),requirements.lock,requirements-runtime.lock)
# Published without a wheel; dvc, lifelines and kfp require them.
SOURCE_ONLY := antlr4-python3-runtime,autograd-gamma,kfp-server-api
# `make test COVERAGE=1` measures the branch coverage of mcti/ by its fast tests and ends with 1 below the floor in pyproject.toml.
COVERAGE ?=
MEASURE = --cov --cov-report=term:skip-covered --cov-report=json:build/coverage.json
BIN := .venv/bin
INSTALLED := .venv/.installed
export DVC_NO_ANALYTICS = 1
export MLFLOW_DISABLE_TELEMETRY = true
export DO_NOT_TRACK = true
# Empty: modules are compiled once. Images often set it to 1; then each of the hundreds of processes of the stages and
# tests compiles what it imports, which takes longer than most of them.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help install check bandit check-infra test test-fast coverage demo stop stack lock image image-test sbom audit wheel compile drill rehearse bench docs site clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## install the environment in .venv, every package by hash

$(INSTALLED): requirements.lock requirements-uv.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11-3.13 found: install one, or name it (make PYTHON=…)" >&2; exit 4; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { rm -rf .venv; echo "error: $(PYTHON) cannot make environments: install its venv package (Debian: apt-get install python3-venv)" >&2; exit 4; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@$(BIN)/python -c 'import torch' 2>/dev/null || { \
		cuda=$$($(TORCH_CHECK)) || test $$? = 2 || echo "note: PyTorch brings CUDA, several GB ($$cuda). Without a GPU: make install TORCH_INDEX=https://download.pytorch.org/whl/cpu" >&2; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_FROM) "$(TORCH)"; }
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

check: $(INSTALLED)  ## lint, types, layers, declared dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports
	$(BIN)/deptry .

bandit: $(INSTALLED)  ## bandit on the code (fetched by uv; exclusions with reasons: pyproject.toml)
	$(BIN)/uv tool run --from bandit==1.9.4 --with tomli bandit -q -c pyproject.toml -r mcti components pipelines

check-infra: $(INSTALLED)  ## check the Kubernetes manifests with Checkov (fetches Checkov into build/)
	@command -v kubectl >/dev/null || { echo "error: no kubectl: install 1.27 or later" >&2; exit 4; }
	@test -x build/checkov/bin/checkov || { $(BIN)/uv venv --quiet build/checkov && \
		$(BIN)/uv pip install --quiet --python build/checkov/bin/python checkov==3.3.30; }
	@for overlay in infra/kubernetes/overlays/*; do \
		kubectl kustomize $$overlay > build/$$(basename $$overlay).yaml && \
		build/checkov/bin/checkov --config-file infra/kubernetes/.checkov.yaml --file build/$$(basename $$overlay).yaml || exit 1; done
	@echo "every overlay keeps Checkov's policies"

test: check  ## everything: lint, types, layers, unit tests, real servers, one complete small pipeline
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(if $(COVERAGE),$(MEASURE))

test-fast: $(INSTALLED)  ## only the fast unit tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not stack and not container"

coverage: $(INSTALLED)  ## branch coverage of mcti/ by the fast tests, with its floor: build/coverage.json
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not stack and not container" $(MEASURE)

demo: $(INSTALLED)  ## all steps on the demo cohort, up to a promoted champion
	@$(BIN)/mcti demo

stop: $(INSTALLED)  ## stop the servers that `make demo` or `make stack` started
	@$(BIN)/mcti stack down

docs: $(INSTALLED)  ## write the pages and the drawing that are generated from the code
	$(BIN)/python docs/risks.py
	$(BIN)/python docs/render.py
	$(BIN)/python docs/drawing.py

site: $(INSTALLED)  ## the documentation as a site that opens without a network: build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "build/site/index.html"

stack: $(INSTALLED)  ## start S3 and MLflow on this machine
	@$(BIN)/mcti stack up

lock: $(INSTALLED)  ## resolve requirements.lock again from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $(UV_ARGS) --custom-compile-command "make lock" \
		$$(sed -n 's/^# not locked, since [^:]*: //p' pyproject.toml | tr ' ' '\n' | sed 's/^/--no-emit-package /') \
		--extra local --extra pipelines --extra lite0 --extra dev pyproject.toml -o requirements.lock

	printf 'kfp\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $(UV_ARGS) --custom-compile-command "make lock" \
		$$(sed -n 's/^# not locked, since [^:]*: //p; s/^# not in the image, since only the kfp client needs it: //p' pyproject.toml \
			| tr ' ' '\n' | sed 's/^/--no-emit-package /') \
		--constraints requirements.lock pyproject.toml - -o requirements-runtime.lock
	sed -n 's/^\([a-z0-9][^ ]*==[^\\]*[^\\ ]\) *\\$$/\1/p' requirements.lock > mcti/diagnosis/locked.txt

wheel: $(INSTALLED)  ## the wheel of mcti and the tested versions of its packages: dist/mcti-*.whl, dist/constraints.txt
	@rm -rf build/lib build/bdist.* dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	$(BIN)/python -m mcti.project.constraints > dist/constraints.txt

compile: $(INSTALLED)  ## the Kubeflow pipeline as YAML: build/training.yaml
	$(BIN)/mcti pipeline compile --out build/training.yaml

drill: $(INSTALLED)  ## backup, restore, upgrade of MLflow and back on this machine: MLFLOW=3.18.0, KFP=2.16.0 (infra/runbook.md)
	@infra/drill.sh $(BIN)/python "$(MLFLOW)" $(KFP)

rehearse: $(INSTALLED)  ## test a complete cluster, step by step: HOST, CONTEXT, IMAGE, YES=1, ARGS (docs/rehearsal.md)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m infra.rehearse $(if $(HOST),--host "$(HOST)") $(if $(CONTEXT),--context "$(CONTEXT)") \
		$(if $(filter command line environment,$(origin IMAGE)),--image "$(IMAGE)") $(if $(RUNS_NAMESPACE),--runs-namespace "$(RUNS_NAMESPACE)") \
		$(foreach name,SERVICES POSTGRES SEAWEEDFS,$(if $($(name)_IMAGE),--$(shell echo $(name) | tr A-Z a-z)-image "$($(name)_IMAGE)")) \
		$(if $(FROM),--from "$(FROM)") $(if $(ONLY),--only "$(ONLY)") $(if $(PATIENCE),--patience "$(PATIENCE)") $(if $(YES),--yes) $(ARGS)

image: $(INSTALLED)  ## the container image IMAGE: TARGET=runtime|gpu|services|dev, TORCH, TORCH_INDEX, BASE_IMAGE, BUILD_IMAGE (docs/kubeflow.md)
	@command -v docker >/dev/null || { echo "error: no docker: install an engine (Debian: apt-get install docker.io)" >&2; exit 4; }
	@# From version 23 on the client builds by a plug-in, which Debian and static downloads omit.
	@docker buildx version >/dev/null 2>&1 || test "$$(docker --version | sed -n 's/^Docker version \([0-9]*\)\..*/\1/p')" -lt 23 2>/dev/null || \
		{ echo "error: $$(docker --version | sed 's/,.*//') has no buildx, which builds images: install the plug-in (docker-buildx or docker-buildx-plugin; not podman or nerdctl)" >&2; exit 4; }
	@docker version --format '{{.Server.Version}}' >/dev/null 2>&1 || \
		{ echo "error: no Docker engine answers at $${DOCKER_HOST:-the default socket}: start it, or see whether you may use it (docker version)" >&2; exit 4; }
	@test "$(TARGET)" = gpu || cuda=$$($(TORCH_CHECK)) || { test $$? = 1 || \
		{ echo "error: pip finds no $(TORCH)$(if $(TORCH_INDEX), at $(TORCH_INDEX)): check TORCH and TORCH_INDEX" >&2; exit 4; }; \
		echo "error: the CPU image ($(TARGET)) would get CUDA, several GB ($$cuda): make image TORCH_INDEX=https://download.pytorch.org/whl/cpu, or TARGET=gpu" >&2; exit 4; }
	@fetch() { test "$$(cat build/wheels/$$1/.for 2>/dev/null)" = "$$2" || { rm -rf build/wheels/$$1 && mkdir -p build/wheels/$$1 && \
		$(BIN)/python -m pip download --quiet --only-binary :all: --no-binary $(SOURCE_ONLY) -d build/wheels/$$1 "$${@:3}" && echo "$$2" > build/wheels/$$1/.for; }; }; \
	fetch locked "$$(sha256sum < $(IMAGE_LOCK))" --no-deps --require-hashes -r $(IMAGE_LOCK) && fetch torch "$(strip $(TORCH) $(TORCH_INDEX))" $(TORCH_FROM) "$(TORCH)"
	DOCKER_BUILDKIT=1 docker build --network none --target $(TARGET) --tag $(IMAGE) \
		--build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg BUILD_IMAGE=$(BUILD_IMAGE) --build-arg TORCH="$(TORCH)" \
		--build-arg LOCK=$(IMAGE_LOCK) --build-arg COMMIT=$$(git rev-parse HEAD 2>/dev/null || echo unknown) .

image-test: $(INSTALLED)  ## build the image in a separate engine and run the pipeline in containers
	MCTI_IMAGE_TEST=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs --durations=5 tests/containers

sbom: $(INSTALLED)  ## components of the image, as CycloneDX: build/sbom.json
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements --output-reproducible --of JSON --sv 1.6 -o build/sbom.json requirements-runtime.lock

audit: $(INSTALLED)  ## known vulnerabilities of the image's packages; queries the advisory service of PyPI (network)
	$(BIN)/pip-audit --require-hashes --disable-pip --requirement requirements-runtime.lock

clean:  ## remove caches and build outputs; never deletes data/, models/ or reports/
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
