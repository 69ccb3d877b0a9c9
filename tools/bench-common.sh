# What the tools/bench-*.sh share: a broker and a gateway of their own on loopback, started anew for
# each run. To be sourced from the top of the tree, with udp, tcp and $work/gateway.yaml chosen.
# shellcheck shell=bash
PATH=$PATH:/usr/sbin
target=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d)
children=()
trap 'stop; rm -rf "$work"' EXIT
ulimit -n "$(ulimit -Hn)"

stop() {
    for child in "${children[@]}"; do
        kill "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    done
    children=()
}

# Starts both, and sets gateway to the gateway's process; further arguments are lines of its configuration,
# $keys more keys of its broker section, each with a comma in front.
start() {
    start_broker
    start_gateway "$@"
}

start_broker() {
    cat >"$work/mosquitto.conf" <<CONF
listener $tcp 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 100000
CONF
    mosquitto -c "$work/mosquitto.conf" 2>"$work/mosquitto.log" &
    children+=($!)
}

start_gateway() {
    {
        printf 'broker: {url: "mqtt://127.0.0.1:%s"%s}\n' "$tcp" "${keys:-}"
        printf 'links: [{type: udp, listen: ["127.0.0.1:%s"]}]\n' "$udp"
        printf 'log: {level: warn}\n'
        printf '%s\n' "$@"
    } >"$work/gateway.yaml"
    "$target/mqtt-sn-gateway" --config "$work/gateway.yaml" 2>"$work/gateway.log" &
    gateway=$!
    children+=("$gateway")
    await_answer
}

# Waits until somebody serves nodes.
await_answer() {
    for attempt in $(seq 100); do
        "$target/mqtt-sn" ping -p "$udp" -C 1 --t-retry 0.2 >/dev/null 2>"$work/ping.log" && return
        [ "$attempt" -lt 100 ] || { cat "$work"/*.log >&2; exit 1; }
        sleep 0.1
    done
}

# The middle one of the numbers on standard input.
median() {
    sort -g | awk '{ n[NR] = $1 } END { print n[int((NR + 1) / 2)] }'
}
