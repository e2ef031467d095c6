# Every target does only what is not yet done. `make demo` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq
NATIVE_SOURCES := CMakeLists.txt pyproject.toml $(wildcard csrc/*)
SANITIZED := build/sanitize

.PHONY: install demo test test-slow test-data bench sanitize lint stubs clean

install: $(VENV)/.installed

# torch comes first and exactly: an open range would bring gigabytes of CUDA packages.
$(VENV)/.dependencies: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tidegate needs Python 3.11 or later; name one: make PYTHON=python3.12")'
	@echo "Making the virtual environment $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade "pip>=25.1"
	@echo "Installing torch and the other packages"
	@$(PIP) "torch==2.13.0"
	@$(PIP) --group dev
	@touch $@

$(VENV)/.installed: $(VENV)/.dependencies $(NATIVE_SOURCES)
	@echo "Building the native extension and installing tidegate"
	@$(PIP) --no-build-isolation --editable ".[all]"
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	@$(PIP) --group bench
	@touch $@

demo: install
	@$(BIN)/tidegate train sentiment_en --out runs/demo --overwrite

test: install
	$(BIN)/python -m pytest

test-slow: install
	$(BIN)/python -m pytest -m "slow and not data"

# Needs the data sets that are not part of the repository; TIDEGATE_DATA names their folder.
test-data: install
	$(BIN)/python -m pytest -m data

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/gru.py --json benchmarks/results/gru.json

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright

# The tests of the kernels with the extension built under AddressSanitizer and UndefinedBehaviorSanitizer: those that call
# it themselves, not those of what PyTorch compiles and differentiates around it, which take the longest.
sanitize: install
	cmake -S . -B $(SANITIZED) -G Ninja -DCMAKE_BUILD_TYPE=Debug -DTIDEGATE_SANITIZE=address,undefined \
	  -DPython_EXECUTABLE=$(abspath $(BIN))/python
	cmake --build $(SANITIZED)
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so) $$(gcc -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	TIDEGATE_TEST_NATIVE=$(SANITIZED) $(BIN)/python -m pytest -q tests/kernels \
	  --ignore=tests/kernels/test_recurrence_in_torch.py -p no:cacheprovider

# The typed stub of the extension, made from the extension itself; a test holds it to the committed file.
stubs: install
	$(BIN)/python -c "from tidegate.native import extension; extension()"
	$(BIN)/python -m nanobind.stubgen -m tidegate._native -o src/tidegate/_native.pyi

clean:
	rm -rf build dist $(VENV) runs
