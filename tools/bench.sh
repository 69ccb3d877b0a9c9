#!/usr/bin/env bash
# Measures the table of docs/benchmark.md on this machine: a release build in front of a Mosquitto of its
# own, both on loopback. Needs mosquitto and jq. Each row is the median of some runs:  tools/bench.sh [RUNS]
set -euo pipefail
cd "$(dirname "$0")/.."

runs=${1:-5}
udp=21010
tcp=21885
. tools/bench-common.sh
cargo build --release --workspace --quiet

# One run; nothing of it is left to the next. Prints one JSON object.
run() {
    start
    "$target/mqtt-sn" bench "$@" --json -p $udp --pid "$gateway"
    stop
}

# Prints a line of a Markdown table: the median of each value named, over all runs.
row() {
    local name=$1 values=$2
    shift 2
    for _ in $(seq "$runs"); do run "$@"; done >"$work/runs"
    printf '| %s |' "$name"
    for value in $values; do
        jq -rs --arg value "$value" \
            'map(getpath($value / ".")) | sort | .[length / 2 | floor]
             | if . == null then " -" else " \(. * 100 | round / 100)" end' "$work/runs" | tr '\n' ' '
        printf '|'
    done
    printf '\n'
}

broker=(--broker "mqtt://127.0.0.1:$tcp")
flow="gateway_cpu_us_per_message rate lost duplicates"
for window in 8 1; do
    printf '\n100 nodes, window %s\n\n| | CPU a message, us | messages a second | lost | twice | p50, ms | p99, ms |\n' $window
    printf '|---|---|---|---|---|---|---|\n'
    for qos in 0 1 2; do
        row "up, QoS $qos" "$flow broker_ms.p50 broker_ms.p99" up "${broker[@]}" -q $qos -w $window --duration 5
    done
    for qos in 0 1 2; do
        row "down, QoS $qos" "$flow node_ms.p50 node_ms.p99" down "${broker[@]}" -q $qos -w $window --duration 5
    done
done
row "up, QoS 0, 5,000 a second" "$flow broker_ms.p50 broker_ms.p99" up "${broker[@]}" -q 0 --rate 5000 --duration 5
row "PINGREQ, PINGRESP" "$flow answer_ms.p50 answer_ms.p99" rtt --duration 5

printf '\n| | RSS a node, octets | CONNECT to CONNACK p50, ms | p99, ms | connects a second |\n|---|---|---|---|---|\n'
row "100 nodes connect at once" "gateway_rss_per_node connack_ms.p50 connack_ms.p99 rate" conn -n 100
row "10,000 nodes connect" "gateway_rss_per_node connack_ms.p50 connack_ms.p99 rate" conn -n 10000

printf '\n| | RSS a node, octets | CPU, %% of a core |\n|---|---|---|\n'
runs=1
row "10,000 nodes idle a minute" "gateway_rss_per_node gateway_cpu_percent" idle -n 10000 --duration 60
