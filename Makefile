# SPDX-License-Identifier: Apache-2.0
# `make run` and `make test` are all that a fresh machine needs; `make help` lists the rest.
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help run build test check soak install dist-h200 format clean

# rustup's and Ubuntu's Rust, where tools/setup looks too.
export PATH := $(HOME)/.cargo/bin:/usr/lib/rust-1.85/bin:$(PATH)

PREFIX = /usr/local

# As many jobs as `make -j N` asks for, else one per core.
JOBS = $(or $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS))),$(shell nproc))

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /make \1\t/p' Makefile | expand -t 16

run: build  ## set up, build, quantize the bundled model and show what came out
	tools/demo

build:  ## set up and build the program: build/comet
	tools/setup
	cmake --preset release --log-level=WARNING -DCOMET_WERROR=OFF
	cmake --build build -j $(JOBS) --target comet

test:  ## everything that CI checks (about 33 minutes on 2 cores)
	tools/setup --test --python --clients
	tools/test --jobs $(JOBS)

check:  ## the quick loop (under 5 minutes)
	tools/setup --test --python --clients
	tools/test --quick --jobs $(JOBS)

soak:  ## the long acceptance runs of tools/soak.d; goes on where it stopped
	tools/setup --test --python --soak
	tools/soak $(JOBS)

install:  ## set up, build and install the program, libcomet.so and comet.service: PREFIX=/usr/local
	tools/setup
	cmake --preset release --log-level=WARNING -DCOMET_WERROR=OFF -DCMAKE_INSTALL_PREFIX=$(PREFIX)
	cmake --build build -j $(JOBS) --target comet libcomet
	cmake --install build --strip

dist-h200:  ## stripped CUDA programs that need nothing but a driver: build-cuda-dist/
	tools/setup --test --cuda
	cmake --preset cuda --log-level=WARNING
	cmake --build build-cuda -j $(JOBS) --target dist-h200
	ctest --test-dir build-cuda -R _libraries

format:  ## format all sources
	tools/setup --test --python
	tools/format

clean:  ## remove everything that was built
	rm -rf build build-asan build-tsan build-clang build-debug build-cuda build-cuda-dist .cache
