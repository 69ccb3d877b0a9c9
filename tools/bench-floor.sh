#!/usr/bin/env bash
# Measures the gateway and the floor under it, examples/floor.rs, in turn: the same packets in the same batches, and
# nothing else. So the ratio says what a gateway costs, whatever the machine and the minute. Prints a Markdown
# table of medians.  tools/bench-floor.sh own|shared [ROUNDS]: a connection a node, or one for all.
# Needs mosquitto and jq. Build first: cargo build --release --workspace --examples
set -euo pipefail
cd "$(dirname "$0")/.."

part=${1:-own}
rounds=${2:-5}
udp=21050
tcp=21925
. tools/bench-common.sh

# Runs a bench against the gateway and prints its processor time a message.
gateway_takes() {
    start
    measure "$gateway" "$@"
    stop
}

floor_takes() {
    start_broker
    until (exec 3<>"/dev/tcp/127.0.0.1/$tcp") 2>/dev/null; do sleep 0.05; done
    "$target/examples/floor" --listen "127.0.0.1:$udp" --broker "127.0.0.1:$tcp" "${shared[@]}" 2>"$work/floor.log" &
    children+=($!)
    await_answer
    measure "${children[-1]}" "$@"
    stop
}

measure() {
    local pid=$1
    shift
    "$target/mqtt-sn" bench "$@" --broker "mqtt://127.0.0.1:$tcp" --json -p $udp --pid "$pid" |
        jq '.gateway_cpu_us_per_message'
}

row() {
    local name=$1
    shift
    : >"$work/gateway.us"
    : >"$work/floor.us"
    for _ in $(seq "$rounds"); do
        gateway_takes "$@" >>"$work/gateway.us"
        floor_takes "$@" >>"$work/floor.us"
    done
    local ratio
    ratio=$(paste "$work/gateway.us" "$work/floor.us" | awk '{ print $1 / $2 }' | median)
    printf '| %s | %.1f | %.1f | %.2f |\n' "$name" \
        "$(median <"$work/gateway.us")" "$(median <"$work/floor.us")" "$ratio"
}

printf '| | gateway, us a message | floor | gateway / floor, median of rounds |\n|---|---|---|---|\n'
case $part in
own)
    shared=()
    for way in up down; do
        for qos in 0 1 2; do
            row "$way, QoS $qos" "$way" -q $qos -n 100 -w 8 --duration 4
        done
    done
    ;;
shared)
    shared=(--shared)
    keys=', mode: shared'
    for qos in 0 1; do
        row "shared, up, QoS $qos" up -q $qos -n 1000 -w 8 --duration 4
    done
    ;;
*)
    echo "usage: tools/bench-floor.sh own|shared [ROUNDS]" >&2
    exit 2
    ;;
esac
