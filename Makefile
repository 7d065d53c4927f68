# `make` alone lists the targets. Each one fetches its own needs, so any of them works in a fresh clone.

CONFIG       ?= configs/four-rooms.toml
STUDY        ?= configs/studies/carry-vs-reset.toml
LOCAL_ACTORS ?= 2
ACTOR_TARGET ?= $(shell uname -m)-unknown-linux-musl
ARM_TARGET   := aarch64-unknown-linux-musl
# Passed on unchanged, e.g. make train ARGS="--seed 7 --run-dir runs/seven".
ARGS         ?=

# The version that deny.toml was last tested with.
CARGO_DENY_VERSION := 0.20.2
# cargo-fuzz, and the time of each target.
CARGO_FUZZ_VERSION := 0.13.2
CARGO_FUZZ := $(or $(shell command -v cargo-fuzz 2>/dev/null),.tools/bin/cargo-fuzz)
TARGETS      ?= unroll weights config checkpoint
FUZZ_SECONDS ?= 60
SOAK_MINUTES ?= 30
# All but learner-cuda, which is ten times larger.
IMAGES       ?= actor learner
# No registry has this name, so an image under it can only come from this machine.
REGISTRY     ?= registry.invalid
# Of amd64 and arm64, for images under the tag VERSION-PLATFORM; without it, for this machine under the tag VERSION.
PLATFORMS    ?=
# The commit that images and bills of materials are marked with.
REVISION     ?= $(shell git describe --always --match= --abbrev=40 --dirty 2>/dev/null || echo unknown)
# cosign's keys: the private one signs, the public one verifies.
KEY          ?= cosign.key
PUBLIC_KEY   ?= cosign.pub
COSIGN       ?= $(or $(shell command -v cosign 2>/dev/null),.tools/bin/cosign)
CARGO_CYCLONEDX_VERSION := 0.5.9
CARGO_CYCLONEDX := $(or $(shell command -v cargo-cyclonedx 2>/dev/null),.tools/bin/cargo-cyclonedx)
CARGO_DENY := $(or $(shell command -v cargo-deny 2>/dev/null),.tools/bin/cargo-deny)

# The tag of the images.
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
# Images of Debian's packages for cluster-test, tagged with Debian's release. No registry has these names.
TEST_RUST := registry.invalid/hrm-test/rust:debian-trixie
TEST_RUNTIME := registry.invalid/hrm-test/runtime:debian-trixie
TEST_PROMETHEUS := registry.invalid/hrm-test/prometheus:debian-forky

# The Python environment of the checks of deploy/.
DEPLOY_REQUIREMENTS := deploy/grafana/requirements.txt $(wildcard deploy/tests/*/requirements.txt)
DEPLOY_PYTHON := .tools/deploy/bin/python3
DEPLOY_STAMP := .tools/deploy/complete
CHECK_SCHEMA := .tools/deploy/bin/check-jsonschema --quiet --builtin-schema
# The Python environment of the package in python/.
PACKAGE_PYTHON := .tools/python/bin/python3
PACKAGE_STAMP := .tools/python/complete
KUBECTL := $(or $(shell command -v kubectl 2>/dev/null),.tools/bin/kubectl)
# Prometheus 3's. PATH has Prometheus 2's on Debian 12.
PROMTOOL3 ?= .tools/prometheus3/promtool
CRANE := $(or $(shell command -v crane 2>/dev/null),.tools/bin/crane)
REGISTRY_PROGRAM := $(or $(shell command -v docker-registry 2>/dev/null),.tools/bin/docker-registry)
# Compose 2 and BuildKit as plugins of the Docker command. PATH has Compose 1.29 on Debian 12.
DOCKER_TOOLS := .tools/docker
DOCKER_PLUGINS := $(addprefix $(DOCKER_TOOLS)/cli-plugins/,docker-compose docker-buildx)

# An empty LIBTORCH would still hide the value of .cargo/config.toml.
ifeq ($(strip $(LIBTORCH)),)
unexport LIBTORCH
endif

.DEFAULT_GOAL := help
# The steps of `verify` run in order; cargo uses all cores by itself.
.NOTPARALLEL:
.PHONY: help libtorch build actor arm-check arm-learner train study test verify cluster-check panels page-test cuda-check cuda-image-check gpu-check images publish publish-verify publish-check cluster-test chaos churn soak fleet fuzz python python-test generated check-format lint doc fix bench audit sbom clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

libtorch: ## Fetch libtorch for the CPU into .libtorch/, unless LIBTORCH is set (544 MB, once)
	@command -v python3 >/dev/null || { echo "libtorch: Python 3.9 or later is needed to fetch it (on Debian: sudo apt install python3 python3-pip), or set LIBTORCH" >&2; exit 1; }
	@python3 scripts/libtorch.py

build: libtorch ## Build hrm-learner and hrm-actor, optimised, into target/release/
	cargo build --release --workspace --bins --locked

actor: ## Build hrm-actor as one static program, without libtorch (ACTOR_TARGET=aarch64-unknown-linux-musl)
	@rustc --print target-libdir --target $(ACTOR_TARGET) | xargs test -d || rustup target add $(ACTOR_TARGET)
	cargo build --release --package hrm-actor --bin hrm-actor --target $(ACTOR_TARGET) --locked

arm-check: ## Run the tests of mazes, model, wire and kernels for ARM (needs Debian's gcc-aarch64-linux-gnu and qemu-user)
	@rustc --print target-libdir --target $(ARM_TARGET) | xargs test -d || rustup target add $(ARM_TARGET)
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER=qemu-aarch64 cargo test --release --target $(ARM_TARGET) --locked \
		--package hrm-kernels --package hrm-common --lib $(ARGS)

arm-learner: ## Build hrm-learner for ARM with its own libtorch, and start it (needs Debian's g++-aarch64-linux-gnu and qemu-user)
	@rustc --print target-libdir --target aarch64-unknown-linux-gnu | xargs test -d || rustup target add aarch64-unknown-linux-gnu
	python3 scripts/libtorch.py --arch aarch64 --folder .libtorch-aarch64
	LIBTORCH=$(CURDIR)/.libtorch-aarch64 CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
		cargo build --release --package hrm-learner --bin hrm-learner --target aarch64-unknown-linux-gnu --locked
	qemu-aarch64 -L /usr/aarch64-linux-gnu target/aarch64-unknown-linux-gnu/release/hrm-learner --version

train: libtorch ## Train on four rooms with two local actors, or resume a stopped run (CONFIG=, LOCAL_ACTORS=, ARGS=)
	cargo run --release --locked -p hrm-learner --bin hrm-learner -- \
		train --config $(CONFIG) --local-actors $(LOCAL_ACTORS) --resume $(ARGS)

study: libtorch ## Train all runs of a study and report on them, for hours, or resume it (STUDY=, ARGS=)
	cargo run --release --locked -p hrm-learner --bin hrm-learner -- study $(STUDY) $(ARGS)

test: libtorch ## Run all tests
	cargo test --workspace --locked $(ARGS)

verify: check-format lint doc test ## Run everything that must pass before a merge; changes no source file

check-format:
	cargo fmt --all --check

lint: libtorch
	python3 -m unittest discover --start-directory scripts
	python3 scripts/imports.py
	python3 scripts/order.py
	python3 scripts/prose.py
	cargo clippy --workspace --all-targets --locked -- -D warnings

doc: libtorch ## Build the API documentation; a warning is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

cluster-check: libtorch $(DEPLOY_STAMP) $(KUBECTL) $(PROMTOOL3) ## Check documents and deploy/: rules, dashboards, manifests, then real learner, actors and Prometheus
	@for tool in promtool prometheus prometheus-alertmanager; do command -v $$tool >/dev/null || { echo "cluster-check: no $$tool (on Debian: sudo apt install prometheus prometheus-alertmanager)" >&2; exit 1; }; done
	$(DEPLOY_PYTHON) -m yamllint --strict --config-file deploy/.yamllint.yml deploy docker-compose.yml .github CITATION.cff
	.tools/deploy/bin/hadolint deploy/docker/Dockerfile
	$(CHECK_SCHEMA) vendor.compose-spec docker-compose.yml
	$(CHECK_SCHEMA) vendor.github-workflows .github/workflows/*.yml
	$(CHECK_SCHEMA) custom.github-workflows-require-timeout .github/workflows/*.yml
	$(CHECK_SCHEMA) vendor.dependabot .github/dependabot.yml
	$(CHECK_SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(CHECK_SCHEMA) vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(CHECK_SCHEMA) vendor.citation-file-format --force-filetype yaml CITATION.cff
	$(DEPLOY_PYTHON) -m deploy.tests.host.check_versions
	for promtool in promtool $(PROMTOOL3); do $$promtool check config deploy/prometheus/prometheus.yml && $$promtool check rules deploy/prometheus/rules/*.yml && $$promtool test rules deploy/prometheus/tests/*.yml || exit 1; done
	$(DEPLOY_PYTHON) -m deploy.grafana.dashboards --check
	$(DEPLOY_PYTHON) -m deploy.k8s.rules --check
	$(DEPLOY_PYTHON) -m deploy.prometheus.alerts_page --check
	$(DEPLOY_PYTHON) -m deploy.tests.observability.check_promql
	$(DEPLOY_PYTHON) -m deploy.tests.observability.check_texts
	$(DEPLOY_PYTHON) -m deploy.tests.observability.check_dashboards
	$(DEPLOY_PYTHON) -m deploy.tests.panels.check_panels
	cargo build --workspace --bins --locked
	$(DEPLOY_PYTHON) -m deploy.tests.engine.check_compose --bin-dir target/debug
	$(DEPLOY_PYTHON) -m deploy.tests.kubernetes.check_manifests --kubectl $(KUBECTL) --bin-dir target/debug
	BIN_DIR=target/debug KUBECTL=$(KUBECTL) $(DEPLOY_PYTHON) -m unittest deploy.tests.kubernetes.test_manifests deploy.tests.kubernetes.test_chart deploy.tests.documents.test_documents
	$(DEPLOY_PYTHON) -m deploy.tests.documents.check_documents --kubectl $(KUBECTL) --bin-dir target/debug
	$(DEPLOY_PYTHON) -m deploy.tests.observability.live --bin-dir target/debug
	$(DEPLOY_PYTHON) -m deploy.tests.store.check_store --bin-dir target/debug

panels: $(DEPLOY_STAMP) ## Check what every panel of the dashboards shows, and draw them without Grafana into target/panels/
	@command -v prometheus >/dev/null || { echo "panels: no prometheus (on Debian: sudo apt install prometheus)" >&2; exit 1; }
	$(DEPLOY_PYTHON) -m deploy.tests.panels.check_panels --pictures target/panels

page-test: libtorch $(DEPLOY_STAMP) ## Open a real learner's live page in Chromium (needs Debian's chromium), and read a run with TensorBoard and MLflow
	@command -v chromium >/dev/null || { echo "page-test: no chromium (on Debian: sudo apt install chromium fonts-dejavu-core)" >&2; exit 1; }
	cargo build --workspace --bin hrm-learner --locked
	$(DEPLOY_PYTHON) -m deploy.tests.page.check_page --bin-dir target/debug $(ARGS)
	$(DEPLOY_PYTHON) -m deploy.tests.trackers.check_trackers --bin-dir target/debug

# BuildKit's own attestations would make an index of each image. `make publish` attaches signed ones.
images: ## Build the container images (IMAGES="actor learner learner-cuda", REGISTRY=, PLATFORMS="amd64 arm64"; ARGS= goes to docker build)
	for target in $(IMAGES); do for platform in $(or $(PLATFORMS),none); do \
		tag=$(REGISTRY)/hrm-impala/$$target:$(VERSION); \
		if [ $$platform = none ]; then set --; else tag=$$tag-$$platform; set -- --platform linux/$$platform; fi; \
		DOCKER_BUILDKIT=1 BUILDX_NO_DEFAULT_ATTESTATIONS=1 docker build --file deploy/docker/Dockerfile --target $$target --tag $$tag "$$@" \
			--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) $(ARGS) . || exit 1; \
	done; done

publish: $(COSIGN) ## Push images of `make images PLATFORMS=` with signatures, SBOMs and provenance (REGISTRY=, IMAGES=, PLATFORMS=, KEY=; RELEASING.md)
	@python3 scripts/publish.py publish --registry $(REGISTRY) --version $(VERSION) --revision $(REVISION) --key $(KEY) \
		--bills target/sbom --platforms "$(or $(PLATFORMS),amd64 arm64)" --cosign $(COSIGN) $(IMAGES)

publish-verify: $(COSIGN) ## Verify published images: signatures, SBOMs and provenance (REGISTRY=, IMAGES=, PUBLIC_KEY=)
	@python3 scripts/publish.py verify --registry $(REGISTRY) --version $(VERSION) --key $(PUBLIC_KEY) --cosign $(COSIGN) $(IMAGES)

publish-check: sbom $(COSIGN) $(CRANE) $(REGISTRY_PROGRAM) ## Publish to a registry on this machine, then tamper with the images (needs an engine)
	@docker buildx version >/dev/null 2>&1 || DOCKER_CONFIG=.tools/docker docker buildx version >/dev/null 2>&1 || \
		deploy/tests/fetch_debian.sh forky docker-buildx libexec/docker/cli-plugins/docker-buildx .tools/docker/cli-plugins
	@docker buildx version >/dev/null 2>&1 || export DOCKER_CONFIG=$(CURDIR)/.tools/docker; \
		python3 -m deploy.tests.engine.check_publish --images "$(IMAGES)" --platforms "$(or $(PLATFORMS),amd64 arm64)" \
		--revision $(REVISION) --cosign $(COSIGN) --crane $(CRANE) --registry-program $(REGISTRY_PROGRAM)

cluster-test: export DOCKER_CONFIG := $(abspath $(DOCKER_TOOLS))
cluster-test: export DOCKER_BUILDKIT := 1
cluster-test: $(DEPLOY_STAMP) $(DOCKER_PLUGINS) $(REGISTRY_PROGRAM) ## Start docker-compose.yml with Compose 1.29 and 2, on base images made here (needs root and an engine)
	deploy/tests/engine/base_images.sh $(TEST_RUST) $(TEST_RUNTIME) $(TEST_PROMETHEUS)
	$(MAKE) images REGISTRY=registry.invalid ARGS="--build-arg RUST_IMAGE=$(TEST_RUST) --build-arg RUNTIME_IMAGE=$(TEST_RUNTIME)"
	$(DEPLOY_PYTHON) -m deploy.tests.engine.cluster --rust $(TEST_RUST) --runtime $(TEST_RUNTIME) --prometheus $(TEST_PROMETHEUS) --registry $(REGISTRY_PROGRAM)

cuda-check: libtorch $(DEPLOY_STAMP) ## Check without a GPU that the learner finds CUDA, with the real CUDA libtorch (2.3 GB to download, once)
	cargo build --workspace --bin hrm-learner --locked
	$(DEPLOY_PYTHON) -m deploy.tests.engine.check_cuda --bin-dir target/debug --wheels .tools/cuda

cuda-image-check: $(DEPLOY_STAMP) ## Run the same check in the image that `make images IMAGES=learner-cuda` built (needs an engine)
	$(DEPLOY_PYTHON) -m deploy.tests.engine.check_cuda --image $(REGISTRY)/hrm-impala/learner-cuda:$(VERSION)

gpu-check: libtorch ## Compare a GPU with the CPU and measure it, for ten minutes (ARGS="--device cpu" tries it without one)
	cargo bench --package hrm-learner --bench gpu --locked -- --device cuda $(ARGS)

chaos: libtorch ## Kill, freeze and disconnect processes, then check frame accounting (minutes; needs root and Debian's faketime)
	cargo build --workspace --bins --locked
	cargo test --package hrm-learner --locked --test program chaos:: -- --ignored --nocapture --test-threads 1 $(ARGS)

churn: libtorch $(DEPLOY_STAMP) ## Kill six of eight actors every 20 s for ten minutes, and check training and the autoscaler's rule (needs Debian's prometheus)
	cargo build --workspace --bins --locked
	$(DEPLOY_PYTHON) -m deploy.tests.observability.churn --bin-dir target/debug $(ARGS)

soak: libtorch ## Inject faults for half an hour; memory, threads and files must stay level (SOAK_MINUTES=; target/soak/)
	cargo build --workspace --bins --locked
	SOAK_MINUTES=$(SOAK_MINUTES) cargo test --package hrm-learner --locked --test program soak:: -- --ignored --nocapture

fleet: build ## Measure the frames that a learner on one core admits from 1,000 sessions (4 minutes; ARGS=; docs/results/fleet/)
	python3 scripts/fleet.py --results docs/results/fleet $(ARGS)

# No sanitizer: sanitizers need a nightly compiler, and the targets run no unsafe code of this project.
fuzz: libtorch $(CARGO_FUZZ) ## Fuzz all external input, a minute per target (TARGETS=, FUZZ_SECONDS=)
	@for target in $(TARGETS); do \
		mkdir -p fuzz/grown/$$target && \
		PATH="$(dir $(abspath $(CARGO_FUZZ))):$$PATH" cargo fuzz run --sanitizer none $$target \
			fuzz/grown/$$target fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 || exit 1; \
	done

python: $(PACKAGE_STAMP) ## Build the Python package, and install it in .tools/python/ (docs/python.md)
	rm -rf python/target/wheels
	.tools/python/bin/maturin build --release --locked --manifest-path python/Cargo.toml --out python/target/wheels
	$(PACKAGE_PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall python/target/wheels/*.whl

# The learner is the reference for evaluations.
python-test: libtorch python ## Test the Python package: types, Gymnasium's checks, and evaluations equal to hrm-learner's
	cargo fmt --manifest-path python/Cargo.toml --check
	cargo clippy --manifest-path python/Cargo.toml --release --all-targets --locked -- -D warnings
	cd python && $(abspath $(PACKAGE_PYTHON)) -m mypy --config-file pyproject.toml package examples benches tests
	$(PACKAGE_PYTHON) -m mypy.stubtest hrm_impala._native --concise
	cargo build --workspace --bin hrm-learner --locked
	$(PACKAGE_PYTHON) -m pytest --quiet python/tests $(ARGS)

$(PACKAGE_STAMP): python/requirements.txt
	python3 -m venv .tools/python
	$(PACKAGE_PYTHON) -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

generated: $(DEPLOY_STAMP) ## Regenerate the files that come from others: dashboards, the rules for Kubernetes, the page of alerts
	$(DEPLOY_PYTHON) -m deploy.grafana.dashboards
	$(DEPLOY_PYTHON) -m deploy.k8s.rules
	$(DEPLOY_PYTHON) -m deploy.prometheus.alerts_page

# Programs of newer Debian releases than 12. On other systems, put a kubectl 1.27 or later on the PATH, and name a promtool
# 3 with PROMTOOL3=.
.tools/bin/kubectl:
	deploy/tests/fetch_debian.sh trixie kubectl kubectl $(@D)

.tools/prometheus3/promtool:
	deploy/tests/fetch_debian.sh forky promtool promtool $(@D)

.tools/bin/cosign:
	deploy/tests/fetch_debian.sh forky cosign cosign $(@D)

.tools/bin/crane:
	deploy/tests/fetch_debian.sh forky crane crane $(@D)

.tools/bin/docker-registry:
	deploy/tests/fetch_debian.sh bookworm docker-registry docker-registry $(@D)

$(DOCKER_PLUGINS):
	deploy/tests/fetch_debian.sh forky $(@F) libexec/docker/cli-plugins/$(@F) $(@D)

$(DEPLOY_STAMP): $(DEPLOY_REQUIREMENTS)
	python3 -m venv .tools/deploy
	$(DEPLOY_PYTHON) -m pip install --quiet --disable-pip-version-check $(addprefix --requirement=,$(DEPLOY_REQUIREMENTS))
	@touch $@

fix: libtorch ## Format, and apply clippy's automatic corrections
	cargo clippy --workspace --all-targets --locked --fix --allow-dirty --allow-staged
	cargo fmt --all

bench: libtorch ## Run the benchmarks
	cargo bench --workspace --locked $(ARGS)
	@if $(PACKAGE_PYTHON) -c 'import hrm_impala' 2>/dev/null; then \
		$(PACKAGE_PYTHON) python/benches/vector_env.py; \
	else \
		echo "bench: skipped python/benches/vector_env.py: the package is not built (make python)" >&2; \
	fi

audit: $(CARGO_DENY) ## Check the dependencies: licences, bans, sources, advisories
	$(CARGO_DENY) --locked check --hide-inclusion-graph licenses bans sources
	@if $(CARGO_DENY) --locked fetch db; then \
		echo "$(CARGO_DENY) --locked check advisories"; \
		$(CARGO_DENY) --locked check advisories; \
	else \
		echo "audit: ADVISORIES NOT CHECKED: their database (github.com/rustsec/advisory-db) cannot be reached from here" >&2; \
	fi

sbom: $(CARGO_CYCLONEDX) ## Write a bill of materials per program and processor, libtorch included (CycloneDX, into target/sbom/)
	python3 scripts/sbom.py $(CARGO_CYCLONEDX) --revision $(REVISION)

.tools/bin/cargo-cyclonedx:
	cargo install --locked --version $(CARGO_CYCLONEDX_VERSION) --root .tools cargo-cyclonedx

.tools/bin/cargo-fuzz:
	cargo install --locked --version $(CARGO_FUZZ_VERSION) --root .tools cargo-fuzz

.tools/bin/cargo-deny:
	cargo install --locked --version $(CARGO_DENY_VERSION) --root .tools cargo-deny

clean: ## Delete cargo's build output
	cargo clean

distclean: clean ## Delete libtorch and the tools too; runs/ stays
	rm -rf .libtorch* .tools
