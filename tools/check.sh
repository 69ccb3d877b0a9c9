#!/usr/bin/env bash
# Everything CI runs, in order. Needs a Rust toolchain and, for what else is missing, apt.
# Goes on after a failure; the last line counts the steps and tests that passed and failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

passed=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# apt puts mosquitto where only root's PATH looks.
PATH=$PATH:/usr/sbin

step() {
    printf '\n== %s\n' "$*"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf '== FAILED: %s\n' "$*"
    fi
}

skip() {
    printf '\n== skipped: %s\n' "$*"
}

installs_what_the_tests_need() {
    local missing=() as_root=()
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v mosquitto >/dev/null || missing+=(mosquitto)
    command -v mosquitto_sub >/dev/null || missing+=(mosquitto-clients)
    # The page is tested in a real browser, the interface by schemathesis.
    command -v chromium >/dev/null || missing+=(chromium)
    command -v chromedriver >/dev/null || missing+=(chromium-driver)
    command -v curl >/dev/null || missing+=(curl)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    if [ ${#missing[@]} -gt 0 ]; then
        [ "$(id -u)" -eq 0 ] || as_root=(sudo)
        "${as_root[@]}" apt-get update &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y --no-install-recommends "${missing[@]}" || return 1
        echo "Installed: ${missing[*]}. Debian may start mosquitto on port 1883, where the gateway's"
        echo "embedded broker wants to be; sudo systemctl disable --now mosquitto stops it."
    fi
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt || return 1
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
}

# After `cargo run` of the gateway, that of the tool shall not build the same crates with other
# features once more: what the tool has of its own is itself and signal-hook.
the_tool_shares_the_gateways_crates() {
    local own
    own=$(comm -13 <(crates mqtt-sn-gateway) <(crates mqtt-sn) | grep -v -e '^mqtt-sn ' -e '^signal-hook ')
    [ -z "$own" ] || { printf 'built twice:\n%s\n' "$own"; return 1; }
}

crates() {
    cargo tree --locked -p "$1" -e normal,build -f '{p} {f}' --prefix none --no-dedupe | sort -u
}

# Counts each test instead of the step; a run that ends without results counts as one failure.
tests() {
    printf '\n== %s\n' "$*"
    timeout 900 "$@" 2>&1 | tee "$log"
    local status=${PIPESTATUS[0]} good bad
    good=$(awk '/^test result:/ { n += $4 } END { print n + 0 }' "$log")
    bad=$(awk '/^test result:/ { n += $6 } END { print n + 0 }' "$log")
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
    [ "$bad" -eq 0 ] || printf '== FAILED: %s\n' "$*"
}

step installs_what_the_tests_need
step cargo fmt --all --check
step cargo clippy --workspace --all-targets --locked -- -D warnings
# The core alone: no socket, no clock, no async.
step cargo check --lib --no-default-features --locked
# The node tool without the gateway's features.
step cargo check -p mqtt-sn --no-default-features --locked
step the_tool_shares_the_gateways_crates
step cargo build --workspace --locked
tests cargo test --workspace --locked --no-fail-fast
step timeout 600 tools/check-api.sh
# The short form of docs/reliability.md's run; messages lost, or nothing sent, fail it.
step timeout 240 cargo run --quiet --locked -p chaos -- --gateway target/debug/mqtt-sn-gateway \
    --setup per-node,uplink,shared,shared-uplink --faults 20
if [ -x /lib/systemd/systemd-journald ] && unshare --mount true 2>/dev/null; then
    step timeout 120 tools/check-journal.sh
else
    skip "the journal: needs systemd-journald and a mount namespace"
fi
step env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
if cargo deny --version >/dev/null 2>&1; then
    step cargo deny --all-features check bans licenses sources
    if cargo deny fetch db >/dev/null 2>&1; then
        step cargo deny --all-features check advisories
    else
        skip "advisories: their database cannot be fetched"
    fi
else
    skip "licences, sources and advisories of dependencies: needs cargo install cargo-deny"
fi

printf '\ncheck: %d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
