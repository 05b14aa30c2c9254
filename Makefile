# Refit. `make demo` runs the main job, `make test` passes the tests; both need Go, git and make, and
# install what else they need. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.PHONY: help build up down clean status demo test test-short test-long chaos bench-gateway bench-evaluation lint generate exposure-table gate-table judge-table test-stack-up

RACE := $(shell command -v gcc >/dev/null 2>&1 && go env CGO_ENABLED | grep -qx 1 && echo -race)
# SIMD arithmetic of Go's experiment makes the reference model's training faster.
RUNTIME_ENV := GOEXPERIMENT=simd

help: ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

build: bin/refit bin/refit-runtime bin/devstack ## build the three commands into bin/

bin/refit: FORCE
	@go build -o bin/refit ./cmd/refit

bin/refit-runtime: FORCE
	@cd runtime && $(RUNTIME_ENV) go build -o ../bin/refit-runtime ./cmd/refit-runtime

bin/devstack: FORCE
	@test -x bin/devstack || echo "building the one-machine stack: the first time takes 7 to 11 minutes on 2 cores"
	cd devstack && go build -o ../bin/devstack ./cmd/devstack

FORCE:

up: bin/devstack ## start the one-machine stack (PostgreSQL, Temporal with its UI, S3)
	@bin/devstack up

down: bin/devstack ## stop the stack, and what the demo left running; the data stays
	@if [ -x bin/refit-demo ]; then bin/refit-demo stop; else bin/devstack down; fi

clean: down ## stop all that and wipe the data
	@bin/devstack clean

status: bin/devstack ## say whether the stack runs and where
	@bin/devstack status

demo: build ## drive one foundation model once around its whole life
	@scripts/demo

test: ## every test that fits into 40 minutes on 2 cores, on a stack of its own
	@scripts/test

test-short: ## the inner loop: no stack, under a minute warm
	@go vet ./...
	go test ./...

test-long: ## everything three times, simulations at full size, fuzzing
	@scripts/test long

chaos: ## many kills, drawn by seed
	@scripts/test chaos

bench-gateway: build ## measure the gateway against other proxies (ARGS="-rounds 3 -scenarios small")
	@cd bench && go build -o ../bin/bench-gateway ./cmd/bench-gateway
	cd .. && bin/devstack run -- bin/bench-gateway $(ARGS)

bench-evaluation: ## measure what evaluating 1,000 to 1,000,000 cases costs, into docs/gate.md; with LM_EVAL=PYTHON also lm-evaluation-harness; with SIZES="1000 10000" these two, and nothing is written
	go test ./internal/evaluation -count 1 -timeout 30m -run TestEvaluationOfManyCases -v -cost -sizes "$$(echo $(SIZES) | tr ' ' ',')"
	if [ -n "$(LM_EVAL)" ]; then "$(LM_EVAL)" bench/evaluation/lm_eval_overhead.py $(SIZES); fi

lint: ## formatting, vet, determinism of workflows; golangci-lint where it is installed
	@scripts/lint

generate: ## write the generated files anew
	@go generate ./...

exposure-table: ## play the exposure rule and write what it costs into docs/exposure.md; takes minutes
	go test ./internal/rollout -count 1 -timeout 60m -run TestThePricesAreTheDocumentedOnes -update

judge-table: ## play the judge and others against bad releases and write what each needs into docs/judge.md; takes minutes
	go test ./internal/rollout -count 1 -timeout 60m -run TestTheJudgesPricesAreTheDocumentedOnes -update

gate-table: ## simulate the gate's promises at full size and write what was seen into docs/gate.md; takes half an hour on two cores
	go test ./internal/evaluation -count 1 -timeout 3h -run TestTheGateKeepsItsPromises -update

test-stack-up: bin/devstack ## a stack on free ports for tests run by hand; prints REFIT_TEST_STACK
	@bin/devstack up --free-ports --data "$${REFIT_TEST_DATA:-/var/tmp/refit-test-stack}" >&2
	echo "export REFIT_TEST_STACK=$${REFIT_TEST_DATA:-/var/tmp/refit-test-stack}/stack.json"
