# What people type. Everything real is in tools/; plain `make` prints this list.
.DEFAULT_GOAL := help
NODE := sh tools/node.sh

.PHONY: help setup demo test test-long ci bench bench-api bench-services test-kube-proxy fuzz kernels kubernetes image manifest cluster cluster-down cluster-test e2e soak teeth format clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

setup: ## install what is missing (packages, Node, the kernel programs); quick when nothing is
	@sh tools/setup.sh

demo: setup ## the tour on the example shop: real packets, a live edit, every drop explained (needs root)
	@$(NODE) src/main/moat.ts demo

test: setup ## every test, packets included (needs root)
	@$(NODE) tools/check.ts test

test-long: setup ## tests that take minutes: an agent killed after each write of a change of Services (needs root)
	@$(NODE) tools/check.ts long

ci: setup ## format, lint, types, dead code and every test, as CI runs them, and the datapath on Linux 6.1
	@sh tools/setup.sh kernels
	@sh tools/setup.sh kubernetes
	@$(NODE) tools/check.ts all

fuzz: setup ## the properties, with as many random cases as you like (make fuzz CASES=2000000), or for so long (MINUTES=60)
	@MINUTES='$(MINUTES)' CASES='$(CASES)' FILES='$(FILES)' $(NODE) tools/fuzz.ts

kernels: setup ## the conformance suite on Debian's kernels 6.1, 6.12 and the newest, in an emulator
	@sh tools/setup.sh kernels
	@$(NODE) tools/kernels/run.ts

bench: ## packets with policy against the plain kernel, the kernel programs alone, the core at scale, and CNI calls, as JSON lines (needs root)
	@sh tools/setup.sh bench
	@$(NODE) bench/datapath.ts
	@$(NODE) bench/change.ts
	@$(NODE) bench/moves.ts
	@$(NODE) bench/bpf.ts
	@$(NODE) --max-semi-space-size=2 bench/core.ts
	@$(NODE) bench/build.ts
	@$(NODE) bench/memory.ts
	@$(NODE) test/cni-times.ts

bench-api: ## an agent that follows a real API server with 5 000 pods: memory, processor time, staleness (needs root)
	@sh tools/setup.sh kubernetes
	@$(NODE) test/api-load.ts

bench-services: setup ## Services by Moat against kube-proxy's nftables mode, with 10, 1 000 and 10 000 of them (needs root)
	@sh tools/setup.sh kube-proxy
	@$(NODE) test/service-times.ts

test-kube-proxy: setup ## Services of the real kube-proxy, by nftables, beside an agent (needs root)
	@sh tools/setup.sh kube-proxy
	@$(NODE) --test test/beside-kube-proxy.ts

kubernetes: ## build a kube-apiserver and install etcd, for the tests against a real API server (long, the first time)
	@sh tools/setup.sh kubernetes

image: setup ## the agent's image, for this machine's architecture: build/image
	@$(NODE) --disable-warning=ExperimentalWarning tools/image/build.ts

manifest: setup ## deploy/moat.yaml, from the chart
	@sh tools/setup.sh helm
	@$(NODE) tools/chart.ts >deploy/moat.yaml.new && mv deploy/moat.yaml.new deploy/moat.yaml

cluster: setup ## a real Kubernetes of two nodes on this machine, with Moat as its CNI: .moat/bin/kubectl (needs root)
	@sh tools/setup.sh cluster
	@$(NODE) tools/cluster/run.ts up

cluster-down: ## takes that down, and leaves nothing
	@$(NODE) tools/cluster/run.ts down

cluster-test: setup ## brings it up, tries policies on it, interrupts and kills it, and takes it down (needs root)
	@sh tools/setup.sh cluster
	@$(NODE) --test --test-concurrency=1 test/real-cluster.ts test/real-cluster-shop.ts test/real-cluster-uninstall.ts

e2e: setup ## the Kubernetes e2e suite's NetworkPolicy tests on that cluster, or others: make e2e FOCUS='Services' (needs root)
	@sh tools/setup.sh cluster
	@sh tools/setup.sh e2e
	@FOCUS='$(FOCUS)' $(NODE) tools/e2e/run.ts

soak: setup ## half an hour of churn, load and kills of the agent: make soak MINUTES=30, or KILLS=1000 (needs root)
	@MINUTES=$(MINUTES) KILLS=$(KILLS) $(NODE) test/soak.ts

teeth: setup ## plants a fault for each hole that the datapath's rules close, and sees a test fail (needs root)
	@$(NODE) test/holes.ts

format: setup ## rewrite the sources in the project's format
	@$(NODE) tools/check.ts --write format

clean: ## remove what was built (not the downloaded toolchain)
	rm -rf build coverage
