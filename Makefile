# `make demo` and `make test` work on a fresh Debian 12 with Rust and gcc, with no other step.

.PHONY: all deps demo test lint

all:
	cargo build --release --workspace

deps:
	@tools/deps

demo: deps
	@cargo run --release --quiet --package testbed --bin demo

test: deps
	cargo test --workspace

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
