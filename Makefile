# Two commands from nothing: `make demo` and `make test`. After either, plain cargo works.
#
#   LIBTORCH=/path        use this libtorch 2.11.0 instead of installing one
#   CISTRON_CACHE=/path   keep libtorch and cargo's target folder outside the checkout
#   CISTRON_CUDA=1|0      install libtorch's CUDA libraries, or do not (default: as a driver is found)

SHELL := bash
CARGO ?= cargo

.PHONY: help libtorch build demo test check clean

help:
	@echo "make demo     train a small model on E. coli, score a VCF, write tracks (about 6 minutes once built)"
	@echo "make test     build and run all tests"
	@echo "make build    build the command: target/debug/cistron (optimised)"
	@echo "make check    formatting, lints and documentation"
	@echo "make libtorch install libtorch and point cargo at it"
	@echo "make clean    remove what was built and the demo's output"

libtorch:
	@scripts/libtorch.sh

build: libtorch
	$(CARGO) build --locked --package cistron-cli

demo: build
	scripts/demo.sh

test: libtorch
	tests/setup.sh
	$(CARGO) test --locked --workspace $$(scripts/features.sh)

check: libtorch
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

clean: libtorch
	$(CARGO) clean
	rm -rf demo .venv-tests
