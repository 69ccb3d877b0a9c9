#!/usr/bin/env bash
# Measures docs/benchmark.md's section "Shared connections, and the store" on this machine, one part at a time:
#   tools/bench-shared.sh up [ROUNDS] | fan | idle | open
# Needs mosquitto and jq. Build first: cargo build --release --workspace
set -euo pipefail
cd "$(dirname "$0")/.."

udp=21030
tcp=21905
. tools/bench-common.sh
keys=', mode: shared'
# Processes that play nodes: each may have so many sockets.
crowd=6
each=16700

# The value at a path of a JSON object, two digits.
value() {
    jq -r --arg path "$1" 'getpath($path / ".") | . * 100 | round / 100'
}

# Round after round: the nodes through the gateway, then one MQTT client at the same broker.
up() {
    printf '| QoS | round | through the gateway, msg/s | gateway, us | native, msg/s | part of it | native, window 256 | lost | twice |\n|---|---|---|---|---|---|---|---|---|\n'
    for qos in 0 1; do
        for round in $(seq "${1:-5}"); do
            start
            local flow=(-q "$qos" --duration 4 --broker "mqtt://127.0.0.1:$tcp" --json)
            "$target/mqtt-sn" bench up "${flow[@]}" -n 1000 -w 8 -p $udp --pid "$gateway" >"$work/up"
            "$target/mqtt-sn" bench native "${flow[@]}" -n 1000 -w 8 >"$work/native"
            "$target/mqtt-sn" bench native "${flow[@]}" -n 256 -w 1 >"$work/narrow"
            stop
            jq -rs --arg qos "$qos" --arg round "$round" \
                '"| \($qos) | \($round) | \(.[0].rate | round) | \(.[0].gateway_cpu_us_per_message * 100 | round / 100) | \(.[1].rate | round) | \(.[0].rate / .[1].rate * 100 | round) % | \(.[2].rate | round) | \(.[0].lost) | \(.[0].duplicates) |"' \
                "$work/up" "$work/native" "$work/narrow"
        done
    done
}

fan() {
    printf '| 10,000 nodes | all after, ms, p50 | max | us a copy | resident, MB | grown by, MB | lost | twice |\n|---|---|---|---|---|---|---|---|\n'
    for size in 32 1000; do
        for qos in 0 1; do
            start
            "$target/mqtt-sn" bench fan -q $qos -n 10000 -s $size --count 10 --broker "mqtt://127.0.0.1:$tcp" \
                -p $udp --pid "$gateway" --json >"$work/fan"
            stop
            jq -r --arg name "QoS $qos, $size octets" \
                '"| \($name) | \(.all_ms.p50 | round) | \(.all_ms.max | round) | \(.gateway_cpu_us_per_copy * 100 | round / 100) | \(.gateway_rss / 1e5 | round / 10) | \(.gateway_rss_grown / 1e5 | round / 10) | \(.lost) | \(.duplicates) |"' "$work/fan"
        done
    done
}

resident() {
    awk '/^VmRSS/ { print $2 / 1000 }' "/proc/$gateway/status"
}

processor() {
    awk '{ print ($14 + $15) / 100 }' "/proc/$gateway/stat"
}

# Starts the nodes of each process at an address of their own; further arguments are for mqtt-sn bench.
crowd() {
    local what=$1
    shift
    players=()
    for number in $(seq $crowd); do
        "$target/mqtt-sn" bench "$what" -n $each --bind "127.0.0.$((number + 1))" --id-prefix "n$number-" -p $udp \
            "$@" --json >"$work/$what.$number" &
        players+=($!)
    done
}

idle() {
    start 'limits: {clients: 120000}'
    printf 'before: %s MB\n' "$(resident)"
    crowd idle --duration 75 -k 60
    sleep 70
    local before after
    before=$(processor)
    printf '%s nodes connected: %s MB\n' $((crowd * each)) "$(resident)"
    sleep 20
    after=$(processor)
    printf 'processor: %s %% of one\n' "$(echo "($after - $before) * 5" | bc)"
    wait "${players[@]}"
    jq -s '{nodes: map(.nodes) | add, pings: map(.pings) | add}' "$work"/idle.*
    stop
}

# Opens a store of a hundred thousand sessions, each with a subscription.
open() {
    local settings=('limits: {clients: 120000}' "store: {path: $work/store, max: 256MiB}")
    start "${settings[@]}"
    crowd fan --count 1 --kept --broker "mqtt://127.0.0.1:$tcp"
    wait "${players[@]}"
    kill "$gateway"
    wait "$gateway" || true
    du -h "$work/store" | tail -1
    for _ in $(seq 5); do
        local from to
        from=$(date +%s%N)
        RUST_LOG=info start_gateway 'limits: {clients: 120000}' "store: {path: $work/store, max: 256MiB, required: true}"
        to=$(date +%s%N)
        printf 'answers a PINGREQ after %s ms\n' $(((to - from) / 1000000))
        grep -h "records" "$work/gateway.log" || true
        kill "$gateway"
        wait "$gateway" || true
    done
    stop
}

"$@"
