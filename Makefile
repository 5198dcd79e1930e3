# make run, make test: everything else follows from these two. TRACK=current (default) or ipex.
PYTHON ?= python3
TRACK ?= current
VENV := $(if $(filter ipex,$(TRACK)),.venv-ipex,.venv)
BIN := $(VENV)/bin
STAMP := $(VENV)/installed-$(TRACK)

# make benchmark ARGS=--smoke: the smallest sizes, in seconds, only to see that it works.
ARGS ?=

# Processes of make test and make check; JOBS=1 where both tracks are tested at once.
JOBS ?= 2

# TORCH_INDEX takes torch from PyTorch's own wheel index; a venv remembers where its torch is from.
RECORDED_INDEX := $(shell cat $(VENV)/torch-index 2>/dev/null)
TORCH_INDEX ?= $(RECORDED_INDEX)
TORCH_current := "torch>=2.11" "torchvision>=0.26" "torchao>=0.18"
TORCH_ipex := "torch==2.8.*" "torchvision==0.23.*"

# make book has a venv of its own: it needs no torch.
BOOK ?= .venv-book
SPHINX := $(BOOK)/bin/python -m sphinx --fail-on-warning --keep-going --quiet

NBVAL := --nbval-lax --nbval-current-env

.PHONY: run test check claims nbval lint format lab notebooks book benchmark benchmark-runner benchmark-sweep \
	benchmark-classroom benchmark-explorers benchmark-overhead benchmark-drafts catalogues map clean
ifneq ($(TORCH_INDEX),$(RECORDED_INDEX))
.PHONY: $(STAMP)
endif

run: $(STAMP) ## execute all lessons on the best device there is
	$(BIN)/xpuq run

test: $(STAMP) ## the whole test suite, the notebooks included
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope --max-worker-restart 0 -m "not claims" $(NBVAL) \
		notebooks/00*.ipynb notebooks/01*.ipynb tests

check: lint ## lint and what of the tests is fast: three minutes
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadscope --max-worker-restart 0 -m "not slow and not claims" tests

claims: $(STAMP) ## do all claims hold without VNNI: every lesson under AVX2 and under AVX512_CORE
	$(BIN)/python -m pytest tests/test_claims_isa.py

nbval: $(STAMP) ## every lesson under nbval; make test takes the first two
	$(BIN)/python -m pytest $(NBVAL) notebooks

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lab: $(STAMP) ## JupyterLab on the lessons
	$(BIN)/jupyter lab notebooks

catalogues: $(STAMP) ## bring the translations' catalogues up to the English; what changed is marked fuzzy
	$(BIN)/python -c "from xpuqlib.runner import renew_catalogues; renew_catalogues()"

notebooks: $(STAMP) ## execute the lessons in place, on the CPU, as they are committed
	CUDA_VISIBLE_DEVICES= ONEAPI_DEVICE_SELECTOR='!*:gpu' $(BIN)/jupyter nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False \
		notebooks/*.ipynb
	$(BIN)/jupyter nbconvert --to notebook --inplace --CoalesceStreamsPreprocessor.enabled=True \
		--NotebookExporter.preprocessors=xpuqlib.runner.committed.PaletteFigures \
		notebooks/*.ipynb # progress bars and figures: once more, now that their output is there

book: $(BOOK)/installed-book ## the lessons as a site, in build/book: English, and Chinese
	mkdir -p build/book && cp docs/redirect.html build/book/index.html
	$(SPHINX) -d build/read/en docs build/book/en
	$(if $(wildcard docs/locale/zh_CN),$(SPHINX) -d build/read/zh -D language=zh_CN docs build/book/zh)

benchmark: $(STAMP) ## the speed of int8: against compiled fp32, beside OpenVINO and ONNX Runtime
	$(BIN)/python benchmarks/speed.py $(ARGS)

benchmark-runner: $(STAMP) ## the cost of the runner beside bare papermill, with two jobs, for 1,000 records
	$(BIN)/python benchmarks/runner.py $(ARGS)

benchmark-sweep: $(STAMP) ## twelve recipes, with two jobs and on Dask with two workers: the same numbers?
	$(BIN)/python benchmarks/twelve.py $(ARGS)

benchmark-classroom: $(STAMP) ## several kernels at once: memory of each, time against one
	$(BIN)/python benchmarks/classroom.py $(ARGS)

benchmark-explorers: $(STAMP) ## from a moved control to its new figure, against 150 ms
	$(BIN)/python benchmarks/explorers.py $(ARGS)

benchmark-overhead: $(STAMP) ## a call of what lower returns, against the compiled model alone
	$(BIN)/python benchmarks/overhead.py $(ARGS)

benchmark-drafts: $(STAMP) ## drafting and simulating the programs of six models for an Intel GPU
	$(BIN)/python benchmarks/drafts.py $(ARGS)

map: $(STAMP) ## the recipe on every classification model of torchvision, kept in docs/map; goes on where it was
	$(BIN)/python benchmarks/map/make.py $(ARGS)

clean: ## remove the venvs, results and caches of this folder
	rm -rf .venv .venv-ipex .venv-book docs/_made docs/api docs/lessons runs build *.egg-info .pytest_cache .ruff_cache

$(STAMP): pyproject.toml
	@if [ -f $(VENV)/torch-index ] && [ "$(TORCH_INDEX)" != "$(RECORDED_INDEX)" ]; then \
		echo "torch now comes from '$(TORCH_INDEX)': making $(VENV) anew"; rm -rf $(VENV); fi
	$(PYTHON) -m venv $(VENV)
	@printf '%s' '$(TORCH_INDEX)' > $(VENV)/torch-index
	@if [ -n "$(TORCH_INDEX)" ]; then set -x; \
		$(BIN)/python -m pip install $(TORCH_$(TRACK)) --index-url $(TORCH_INDEX); fi
	$(BIN)/python -m pip install -e ".[$(TRACK),test]"
	@touch $@

$(BOOK)/installed-book: pyproject.toml
	$(PYTHON) -m venv $(BOOK)
	$(BOOK)/bin/python -m pip install -e ".[book]"
	@touch $@
