# What people need, by name. `make demo` and `make test` need nothing but Rust and make beforehand.

CARGO ?= cargo
REPORT ?= target/churn.html
# Names of ratios for `make bench`; none for all.
NAMES ?=

.DEFAULT_GOAL := help
.PHONY: help deps demo test simulate model long soak sanitize fuzz bench bench-record lint doc versions

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

deps: ## Install LLVM 22 and clang 22 by apt-get, if they are missing
	@scripts/deps

demo: deps ## Run churn with all its strategies side by side; under two minutes
	@mkdir -p $(dir $(REPORT))
	$(CARGO) run --release --example churn -- --strategy all --report $(REPORT)

# Benches are left out: they have no tests, and to run them is `make bench`. Documentation comes by
# itself: without a selection of targets, cargo runs its examples too.
test: deps ## Run all tests and the documentation's examples; under ten minutes once it is built
	$(CARGO) test
	$(CARGO) test --features _shuttle --test simulation
	$(CARGO) test --features _loom --test models

# With debug assertions, which are checks too.
simulate: deps ## Simulate whole caches: 100,000 seeds, and each promise by 13,000 schedules; INKPOT_SEED=n for one seed
	INKPOT_SOAK=1 $(CARGO) test --features _shuttle --test simulation -- --nocapture

model: deps ## Check the models of the protocols with three preemptions, and the seeded faults
	INKPOT_SOAK=1 $(CARGO) test --features _loom --test models

soak: deps ## Run everything at once for ten minutes, or SOAK_SECONDS, and hold the accounts against each other
	SOAK_SECONDS=$(or $(SOAK_SECONDS),600) $(CARGO) test --release --test soak -- --nocapture

long: deps ## Run the tests' long forms: a million evictions, damaged files, all programs, churn; hours
	INKPOT_SOAK=1 $(CARGO) test --release --lib -- --nocapture link::tests::fuzz link::tests::agreement
	$(CARGO) build --release --examples
	INKPOT_SOAK=1 $(CARGO) test --release --test stress --test state_machine --test assumptions --test churn --test by_key \
	    --test injected --test signals --test fuzz_corpus --test random_ir --test run_ir_damaged --test lua --test corpus -- --nocapture

sanitize: deps ## Run tests under AddressSanitizer, ThreadSanitizer and valgrind; wants nightly; half an hour
	@scripts/sanitize

fuzz: deps ## Fuzz linker, cache and run_ir for FUZZ_SECONDS (60) each; wants nightly and cargo-fuzz
	@scripts/fuzz

bench: deps ## Measure against the alternatives; NAMES="a b" for some of the ratios
	$(CARGO) bench --bench ratios -- $(NAMES)

bench-record: deps ## All figures of BENCHMARKS.md, in order; some five minutes on a machine with nothing else to do
	@$(CARGO) bench --bench ratios -- call_resident pin quantum lookup_papaya lookup_quick_cache lookup_dashmap lookup_moka \
	    lookup_call_best lookup_scaling_rate lookup_while_evicting compile_rate_small compile_rate_medium link link_one \
	    link_each resident_bytes recycle growth_lookup growth_evict

# Twice, as what only one set of features uses is found only with it.
lint: deps ## Check formatting, and run clippy with warnings as errors
	$(CARGO) fmt --check
	$(CARGO) clippy --lib -- -D warnings
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --features _shuttle --lib --test simulation -- -D warnings
	$(CARGO) clippy --features _loom --lib --test models -- -D warnings

doc: deps ## Build the documentation, with warnings as errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --features serde,tracing

versions: ## Check the types against LLVM 19, 20 and 21; none of them needs to be installed
	for llvm in 19 20 21; do \
	    $(CARGO) check --lib --no-default-features --features llvm$$llvm-1-no-llvm-linking || exit 1; \
	done
