# The two commands a newcomer needs are `make demo` and `make test`; `make help` lists the rest.
SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN     := $(CURDIR)/bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
DATE    ?= $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)
# The race detector needs a C compiler.
RACE    := $(if $(shell command -v gcc || command -v clang),-race)

export GOTOOLCHAIN := local
export GOFLAGS     := -buildvcs=false

# Go starts packages in this order: the longest first, so that none is left alone at
# the end. Most of their tests wait for a cluster, a forge or Git, hence more of them
# at once than there are processors. What go vet finds, lint has found before.
LONGEST  := ./reconciler ./cmd/sluice ./promotion ./promotion/gitea ./examples/demo ./gitrepo
PARALLEL := $(shell echo $$((3 * $$(getconf _NPROCESSORS_ONLN))))

# With an existing cluster (KUBECONFIG of kind, k3d, …): make test SLUICE_TEST_KUBECONFIG=$KUBECONFIG
DEVCLUSTER := $(BIN)/devcluster run --

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/sluice
	@mkdir -p $(BIN)
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/sluice ./cmd/sluice

# Everything about an image comes from the commit, its times too.
IMAGE   ?= sluice:$(VERSION)
BUILDER ?= $(firstword $(shell command -v buildah || true))
.PHONY: image
image: sbom ## Build the image $(IMAGE) with buildah, from scratch (IMAGE=…)
	@test -n "$(BUILDER)" || { echo "buildah is not installed"; exit 1; }
	$(BUILDER) build --quiet --format oci --tag $(IMAGE) --timestamp "$$(git log -1 --format=%ct)" \
	  --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) --build-arg DATE=$(DATE) --file Dockerfile $(BIN)

.PHONY: sbom
sbom: build ## Write the software bill of materials of bin/sluice, as SPDX
	go run ./deploy/sbom $(BIN)/sluice $(VERSION) $(DATE) > $(BIN)/sluice.spdx.json

.PHONY: control-plane
control-plane:
	@$(MAKE) --no-print-directory -C dev tools BIN=$(BIN)
	@mkdir -p $(BIN)/crds/sluice
	@cp deploy/crds/*.yaml $(BIN)/crds/sluice/

.PHONY: tools
tools: control-plane ## Build what the tests run (control plane, Gitea, Vault's transit engine, sops) and the linter into bin/ (cold: some fifteen minutes, once)
	@$(MAKE) --no-print-directory -C dev/gitea tools BIN=$(BIN)
	@$(MAKE) --no-print-directory -C dev/vault tools BIN=$(BIN)
	@go -C dev/lint build -o $(BIN)/staticcheck honnef.co/go/tools/cmd/staticcheck

.PHONY: test
test: tools build lint ## Lint, then every test with -race, on a real control plane of its own
	$(DEVCLUSTER) go test $(RACE) -vet=off -parallel $(PARALLEL) -timeout 40m $(LONGEST) ./...
	@$(MAKE) --no-print-directory -C dev test BIN=$(BIN)
	go -C bench test -vet=off . ./figures

.PHONY: short
short: ## The tests that need no control plane
	go test -short ./api/... ./envrepo/... ./gitrepo/... ./promotion/... ./render/... ./secrets/... ./webhook/...

# With a Traefik that is there: make e2e TRAEFIK=/usr/bin/traefik
.PHONY: e2e
e2e: control-plane build ## Real requests through a real gateway: zero loss, exact splits (cold: ten minutes more, once; then ten)
	@$(MAKE) --no-print-directory -C dev/gateway $(if $(TRAEFIK),crds,tools) BIN=$(BIN)
	SLUICE_E2E_BIN=$(BIN) SLUICE_E2E_TRAEFIK=$(if $(TRAEFIK),$(shell command -v $(TRAEFIK)),$(BIN)/traefik) \
	  go test -tags e2e -count 1 -v -timeout 40m ./e2e $(if $(RUN),-run '$(RUN)')

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(git ls-files '*.go' | xargs gofmt -l); \
	  if [ -n "$$unformatted" ]; then echo "gofmt -w wanted:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go vet -tags e2e ./e2e
	go -C bench vet . ./figures
	@test -x $(BIN)/staticcheck || go -C dev/lint build -o $(BIN)/staticcheck honnef.co/go/tools/cmd/staticcheck
	$(BIN)/staticcheck ./...

.PHONY: demo
demo: control-plane build ## The main job, once through, on a fresh control plane (FORGE=github: on a GitHub server for tests)
	go run ./examples/demo --bin $(BIN) --forge $(or $(FORGE),local)

.PHONY: update
update: build ## Rewrite the golden output in testdata/script (look at the difference before you commit it)
	go test ./envrepo ./render/traffic ./render/diff ./promotion -update
	$(DEVCLUSTER) go test ./cmd/sluice -run 'Script|Reference' -update

# For one of them, for a try, with profiles: make bench SCENARIO=push SIZE=small PROFILE=/tmp/profiles
# Only a full run is written to docs/benchmarks; another one only prints its table.
BENCH := $(BIN)/bench --bin $(BIN) $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(SIZE),--size $(SIZE)) $(if $(PROFILE),--profile $(PROFILE))
BENCH_DOCS := --out $(CURDIR)/docs/benchmarks --docs $(CURDIR)/docs/benchmarks.md,$(CURDIR)/README.md
.PHONY: bench-tools
bench-tools: control-plane build
	CGO_ENABLED=0 go -C bench build -trimpath -o $(BIN)/bench .
	CGO_ENABLED=0 go -C bench build -trimpath -ldflags '-s -w' -o $(BIN)/kubectl ./kubectl

.PHONY: bench
bench: bench-tools ## The benchmarks of docs/benchmarks.md, beside their baselines: table, figures and plots (under 15 minutes)
	$(BENCH) $(if $(SCENARIO)$(SIZE),,$(BENCH_DOCS))

.PHONY: bench-docs
bench-docs: ## Draw the stored figures again, and renew what the documentation quotes of them
	go -C bench run . --figures $(CURDIR)/docs/benchmarks/figures.json $(BENCH_DOCS) > /dev/null

.PHONY: bench-check
bench-check: bench-tools ## The same, compared with the stored figures: fails on a clear regression
	$(BENCH) --check $(CURDIR)/docs/benchmarks/figures.json

# SOAK=2m for a shorter one; SLUICE_TEST_SEED repeats what a run has printed.
.PHONY: soak
soak: control-plane build ## Random commits, drift, kills and outages for SOAK (default 10m), and what must hold afterwards
	SLUICE_SOAK=$(or $(SOAK),10m) $(DEVCLUSTER) go test ./cmd/sluice -run '^TestSoak$$' -count=1 -v -timeout 0

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 30s) each
	@go list ./... | while read -r pkg; do \
	  go test -list '^Fuzz' "$$pkg" | grep '^Fuzz' | while read -r target; do \
	    echo "== $$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $${FUZZTIME:-30s} "$$pkg"; done; done

.PHONY: clean
clean: ## Remove bin/
	rm -rf $(BIN)
