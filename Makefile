# "make help" lists the targets.
SHELL       = bash
.SHELLFLAGS = -o pipefail -ec

PREFIX   ?= /usr/local
FUZZTIME ?= 30s
COUNT    ?= 6

VERSION  := $(or $(shell .nfpm/version 2>/dev/null),unknown)
REVISION := $(or $(shell git rev-parse --verify -q HEAD 2>/dev/null),unknown)
# The time of the sources, for reproducible builds.
EPOCH    := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),0)
BRANCH   := $(or $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null),unknown)
V         = github.com/prometheus/common/version
LDFLAGS   = -s -w -X $V.Version=$(VERSION) -X $V.Revision=$(REVISION) -X $V.Branch=$(BRANCH)
# No -buildvcs: LDFLAGS has the same facts, and it fails in a clone that another user owns.
BUILD     = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
TOOL      = go tool -modfile=.tools/go.mod
# go test with a final line that lists skipped tests. "--" separates several runs.
TESTRUN   = mkdir -p build && go build -buildvcs=false -o build/testrun ./cmd/promspool/internal/testrun && build/testrun
# Packages that need other programs or much time. "go test ./..." skips them.
BROWSER   = -count=1 -timeout 10m ./cmd/promspool/browsertest
PEERS     = -count=1 -timeout 15m ./cmd/promspool/peertest
TORTURE   = -count=1 -timeout 15m -v ./cmd/promspool/torture
QUICK     = $$(go list ./... | grep -vE '/cmd/promspool/(browsertest|peertest|torture)$$')
# With CI=true the programs for the tests are installed first, and a test must not be skipped for a missing one.
CI_ONLY   = $(if $(filter true,$(CI)),.ci/packages && export PROMSPOOL_TEST_NO_SKIP=1 &&)
PLATFORMS = linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 freebsd/amd64

.PHONY: build run test test-all test-browser test-peers test-torture race torture lint vet format staticcheck portable words vuln fuzz bench bench-peers conformance man completions docs install packages test-packages dist release-check clean help

build: ## build ./promspool, a static binary
	$(BUILD) -o promspool ./cmd/promspool

run: build ## build and run an agent on ./spool
	mkdir -p spool && ./promspool serve --web.listen-address=127.0.0.1:9091 --spool.directory=./spool

test: ## run the quick tests, or all with CI=true; list skipped tests
ifeq ($(CI),true)
test: test-all
else
	$(TESTRUN) -timeout 10m ./...
endif

test-all: ## run the quick tests, test-browser, test-peers and test-torture
	$(CI_ONLY) export PROMSPOOL_TEST_ALL=1 && $(TESTRUN) -timeout 10m $(QUICK) -- $(BROWSER) -- $(PEERS) -- $(TORTURE)

test-browser: ## run the tests of the page, with Chromium
	$(CI_ONLY) export PROMSPOOL_TEST_ALL=1 && $(TESTRUN) $(BROWSER)

test-peers: ## run the tests with Prometheus, Pushgateway and others, and of examples and documents
	$(CI_ONLY) export PROMSPOOL_TEST_ALL=1 && $(TESTRUN) $(PEERS)

test-torture: ## run short tests of power cuts, kills, disk errors and floods
	$(CI_ONLY) export PROMSPOOL_TEST_ALL=1 && $(TESTRUN) $(TORTURE)

race: ## run the quick tests with the race detector
	$(CI_ONLY) $(TESTRUN) -race -timeout 10m $(QUICK)

torture: ## run the long form of test-torture: half an hour, as root
	PROMSPOOL_TORTURE=long go test -count=1 -timeout 2h -v ./cmd/promspool/torture

lint: vet format staticcheck portable ## vet, format, staticcheck and portable

vet: ## run go vet
	go vet ./...

format: ## fail if gofumpt would change a file (change them: go tool -modfile=.tools/go.mod gofumpt -w .)
	$(TOOL) gofumpt -d .

staticcheck: ## run staticcheck with all its checks
	$(TOOL) staticcheck -checks all ./...

portable: ## run go vet for macOS and FreeBSD
	GOOS=darwin go vet ./... && GOOS=freebsd go vet ./...

words: ## count phrases in documents and sources that the style advises against
	.ci/words

vuln: ## check for known vulnerabilities
	.ci/vuln

fuzz: ## run each fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

bench: ## run the benchmarks COUNT times, into bench.txt (compare two: go tool -modfile=.tools/go.mod benchstat OLD NEW)
	go test -run '^$$' -bench . -benchmem -count $(COUNT) ./filestore ./ingest ./exporter | tee bench.txt

bench-peers: ## compare with Debian's Pushgateway and node_exporter, if the harness is available
	.ci/bench-peers $(BENCHFLAGS)

conformance: build ## run the black-box suites, if they are available
	.ci/conformance

build/promspool.1: build # and the completions
	mkdir -p build
	SOURCE_DATE_EPOCH=$(EPOCH) ./promspool --help-man >build/promspool.1
	./promspool --completion-script-bash >build/promspool.bash
	./promspool --completion-script-zsh >build/_promspool
.PHONY: build/promspool.1

man: build/promspool.1 ## write the manual page to build/

completions: build/promspool.1 ## write the completions for bash and zsh to build/

docs: ## write docs/flags.md and docs/metrics.md from the program
	PROMSPOOL_UPDATE=1 go test -count=1 -run 'TestFlagsPage|TestMetricsPage' ./cmd/promspool

# FOR_GOARCH is the architecture of a package; make would pass GOARCH on to every command.
install: build/promspool.1 ## install program, units, manual and documents below DESTDIR and PREFIX
	$(if $(FOR_GOARCH),GOOS=linux GOARCH=$(FOR_GOARCH) $(BUILD) -o build/promspool ./cmd/promspool,cp promspool build/promspool)
	install -D -m 755 build/promspool $(DESTDIR)$(PREFIX)/bin/promspool
	install -D -m 644 systemd/promspool.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/promspool.conf
	install -D -m 644 systemd/promspool.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/promspool.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system systemd/*.service systemd/*.socket systemd/*.timer
	sed -i 's|/usr/bin/promspool|$(PREFIX)/bin/promspool|' $(DESTDIR)$(PREFIX)/lib/systemd/system/promspool*.service
	install -D -m 644 build/promspool.1 $(DESTDIR)$(PREFIX)/share/man/man1/promspool.1
	gzip -9nf $(DESTDIR)$(PREFIX)/share/man/man1/promspool.1
	install -D -m 644 build/promspool.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/promspool
	install -D -m 644 build/_promspool $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_promspool
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/promspool README.md CONTRIBUTING.md DESIGN.md CHANGELOG.md SECURITY.md
	cp -R docs $(DESTDIR)$(PREFIX)/share/doc/promspool/
	install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/promspool/copyright
	cp -R examples $(DESTDIR)$(PREFIX)/share/doc/promspool/
	test -e $(DESTDIR)/etc/default/promspool || install -D -m 644 .nfpm/default $(DESTDIR)/etc/default/promspool
	install -d $(DESTDIR)/etc/promspool/jobs

packages: ## build .deb and .rpm for amd64 and arm64 into dist/
	for arch in amd64 arm64; do .nfpm/build $$arch; done

test-packages: ## build the packages twice and compare; install, run, upgrade and remove them
	.ci/test-packages

dist: ## build binaries for all platforms, packages and checksums into dist/
	rm -rf dist
	$(MAKE) packages
	for p in $(PLATFORMS); do GOOS=$${p%/*} GOARCH=$${p#*/} $(BUILD) -o dist/promspool-$(VERSION)-$${p/\//-} ./cmd/promspool; done
	cd dist && rm -f SHA256SUMS && sha256sum -- * >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS

release-check: ## check that version, tag, changelog and documents agree
	.ci/release-check

clean: ## delete the output of the other targets
	rm -rf promspool build dist bench.txt

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' Makefile
