# Every target is a line or two; what is longer is Rust in tests/ or in the `quorate` tool.
.DEFAULT_GOAL := help
.PHONY: help build run check fix test test-setup test-unit test-e2e test-zookeeper-tls sim model bench bench-failover bench-elections bench-memory bench-drain bench-activemq jms-control clean

CARGO ?= cargo
# The cluster that `make run` starts.
NODES ?= 3
GATEWAYS ?= 3
SEEDS ?= 1000
STATES ?= 10000000

help: ## Shows this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## Builds the four programs, optimised, into target/release
	$(CARGO) build --release --bins --workspace --exclude quorate-sim --features quorate-coordinator/zookeeper-tls

run: build ## Starts a whole cluster on this machine; Ctrl-C stops it
	target/release/quorate dev --nodes $(NODES) --gateways $(GATEWAYS)

check: ## Formatting, lints, documentation, structure; changes nothing
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
	$(CARGO) test -p quorate-tests --test tidy

fix: ## Formats, and applies what clippy can mend
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty

test: test-setup test-unit test-e2e ## Everything but TLS to ZooKeeper: unit, property, model, simulation, end to end

test-setup: ## Gets what the end-to-end tests need beside Rust
	sh tests/scripts/setup.sh

test-unit: ## Unit, scenario and property tests, model at small bounds, 200 simulated seeds
	$(CARGO) test --workspace --exclude quorate-tests

test-e2e: ## Real processes: structure, failover, durability, clients, bad input
	$(CARGO) build --bins --workspace
	$(CARGO) test -p quorate-tests -- --test-threads 1 $(shell sh tests/scripts/skips.sh)

test-zookeeper-tls: test-setup ## TLS to ZooKeeper, which the other builds for tests leave out
	$(CARGO) build --bins --workspace --features quorate-coordinator/zookeeper-tls
	$(CARGO) test -p quorate-tests --features zookeeper-tls --test e2e -- --test-threads 1 zookeeper::secured $(shell sh tests/scripts/skips.sh zookeeper-tls)

sim: ## Simulates SEEDS seeds (or the one SEED)
	$(CARGO) run --release -p quorate-sim --bin sim -- $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

model: ## The model checker over STATES states, more than in `make test`
	MODEL_STATES=$(STATES) $(CARGO) test -p quorate-sim model -- --nocapture

bench: build ## Confirmed sends and latency on a cluster of its own
	sh tests/scripts/bench.sh throughput

bench-failover: build ## Kill to next confirm, over 50 kills
	sh tests/scripts/bench.sh failover

bench-elections: build test-setup ## Kill of a node to all its shards led again, on each coordination store, 8 and 256 shards
	bash tests/scripts/bench-elections.sh

bench-memory: build ## Memory of each node with 10 million queued messages; MIXED=1 mixes priority, expiry, delay
	sh tests/scripts/bench.sh memory

bench-drain: build ## How fast full queues are emptied, plain and mixed in turn
	sh tests/scripts/bench.sh drain

bench-activemq: build test-setup ## The Java client on Debian's ActiveMQ and on a cluster of three, in turn
	bash tests/scripts/bench-activemq.sh

jms-control: test-setup ## The JMS checks on Debian's ActiveMQ, which they describe
	bash tests/scripts/jms-control.sh

clean: ## Removes what was built and the data of `make run`
	$(CARGO) clean
	rm -rf data
