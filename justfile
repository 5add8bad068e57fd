# Every task people run. `./just` installs what is missing first; `just` alone lists the tasks.

set shell := ["bash", "-euo", "pipefail", "-c"]

target := env("CARGO_TARGET_DIR", justfile_directory() / "target")
export CARGO_TARGET_DIR := target
export PATH := target / "tools/venv/bin:" + target / "tools/bin:" + env("PATH") + ":/usr/sbin:/sbin"

release := target / "x86_64-unknown-linux-gnu/release"
iso := target / "limiquantix.iso"
test_iso := target / "limiquantix-test.iso"
image := release / "lq-image --target " + quote(target)
e2e := release / "lq-e2e"

# List the tasks
list:
    @just --list --unsorted

# Build the image, boot it in QEMU as a host, and start a demonstration VM on it (Ctrl-C ends it; ARGS: --detach, --fresh, --no-demo)
run *ARGS: iso _harness
    {{e2e}} run {{ARGS}}

# Switch off the host of `run --detach`
stop: _harness
    {{e2e}} run --stop

# Everything that must pass: formatting, lints, unit and property tests, web checks, the image, end-to-end tests
test:
    @scripts/stages fmt-check lint unit web-check web-e2e iso "e2e all -j 2"

# End-to-end tests in QEMU, on the real ISO (`just e2e list` names them; several may be given, and `-j N`)
e2e *NAMES="all": iso test-iso _harness
    {{e2e}} test {{NAMES}}

# The installer and live ISO: target/limiquantix.iso
iso: build
    {{image}} iso --bin {{quote(release)}} --out {{quote(iso)}}

# The ISO with the fault agent in it, for end-to-end tests only: target/limiquantix-test.iso
test-iso: build
    cargo build --quiet --release -p lq-qemu-test --bin lq-fault
    {{image}} iso --bin {{quote(release)}} --out {{quote(test_iso)}} --quick --with-test-agent {{quote(release / "lq-fault")}}

# All programs, static, for release
build: webui
    cargo build --release -p lq-vmm -p lq-mgmtd -p lq-init -p lq-console -p lqctl -p lq-image

# The web pages, embedded into mgmtd (only when their sources changed)
webui:
    @scripts/webui-build

# The Debian guest of tests and demonstrations (cached in target/guest)
guest-image *ARGS: _harness
    {{e2e}} guest-image {{ARGS}}

# mgmtd with a simulated host, on any machine, without root or KVM: https://127.0.0.1:8443
dev *ARGS: webui
    cargo run -p lq-mgmtd -- --simulated --listen 127.0.0.1:8443 --state {{quote(target / "dev")}} {{ARGS}}

# Measure the product: target/figures.json and docs/figures.md
figures *ARGS: iso test-iso _harness
    {{e2e}} figures {{ARGS}}

# Measure planners, state, watchers and log at 96 hosts and 8,000 machines, with hard budgets: into target/figures.json
figures-scale:
    LQ_FIGURES={{quote(target / "figures.json")}} cargo test --quiet --release -p lq-mgmtd --lib -- --ignored figures_at_scale --nocapture

# Measure lq-vmm beside QEMU's microvm on one nested host
vmm-bench *ARGS: build _harness
    {{e2e}} vmm-bench {{ARGS}}

# Write api/openapi.json and the web client's types anew
openapi:
    UPDATE_OPENAPI=1 cargo test --quiet -p lq-mgmtd --test openapi
    cd webui && npm run --silent types

# Format everything
fmt:
    cargo fmt --all
    cd webui && npm run --silent format

# Formatting of everything
fmt-check:
    cargo fmt --all --check

# Lints (warnings are errors), licences and sources of dependencies
lint: webui _cargo-deny
    cargo clippy --workspace --all-targets -- -D warnings
    cargo deny --log-level error check licenses bans sources

# Unit and property tests
unit *ARGS: webui
    if command -v cargo-nextest >/dev/null; then cargo nextest run --workspace {{ARGS}}; else cargo test --workspace {{ARGS}}; fi
    cargo test --workspace --doc

# Say everything a guest, an image, a viewer or a peer can say at random, SECONDS for each target (a few of them are part of `unit`)
fuzz SECONDS="300" SEED="1":
    FUZZ_SECONDS={{SECONDS}} FUZZ_SEED={{SEED}} cargo test -p lq-vmm --test fuzz -- --test-threads 1 --nocapture

# Simulate SEEDS whole clusters, from seed FROM on (a few are part of `unit`); SIM_LOG=1 prints what happened
sim SEEDS="1000" FROM="1":
    SIM_SEEDS={{SEEDS}} SIM_FROM={{FROM}} cargo test -p lq-mgmtd --lib cluster::sim::tests::whole_clusters -- --nocapture

# Types, formatting, tests and size of the web pages
web-check: webui
    cd webui && npm run --silent lint && npm run --silent test && npm run --silent size

# The web pages in Chromium against a simulated daemon: flows, accessibility, 5,000 machines (LQ_SHOTS=DIR keeps pictures)
web-e2e *ARGS: webui
    cargo build --quiet -p lq-mgmtd
    cd webui && npm run --silent e2e -- {{ARGS}}

# A picture of every page in both themes, from the simulated daemon: docs/screenshots/
screenshots: webui
    cargo build --quiet -p lq-mgmtd
    cd webui && LQ_SHOTS={{quote(justfile_directory() / "docs/screenshots")}} npm run --silent e2e -- shots

_harness:
    cargo build --quiet --release -p lq-qemu-test --bin lq-e2e

# Compiled without optimization: it runs for a second.
_cargo-deny:
    @if [ ! -x {{quote(target / "tools/bin/cargo-deny")}} ]; then \
        echo "installing cargo-deny (2 minutes, once)" && cd / && \
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=64 \
        cargo install --quiet cargo-deny@0.20.2 --locked --no-default-features --root {{quote(target / "tools")}} \
            --target-dir {{quote(target / "tools/build")}} && rm -rf {{quote(target / "tools/build")}}; \
    fi
