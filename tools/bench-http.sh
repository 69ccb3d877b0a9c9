#!/usr/bin/env bash
# Measures what being watched costs: processor time a message with HTTP and management off, with both on and
# nobody looking, and with each view of the page open, one after the other in each round; then how long a
# page of 10,000 nodes takes. Needs mosquitto, jq and curl, and a release build:
#   cargo build --release --workspace && tools/bench-http.sh [ROUNDS [QOS [VIEW...]]]
# A view is idle, overview, nodes, node or packets; `pages` measures only the pages of nodes.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-5}
qos=${2:-1}
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- idle overview nodes node packets pages
udp=21011
tcp=21886
http=21080
. tools/bench-common.sh
on="http: {listen: \"127.0.0.1:$http\"}"
api=http://127.0.0.1:$http/api

# What the page asks for once a second.
polls() {
    while sleep 1; do curl -fsS "$@" >"$work/polled" 2>"$work/curl.log" || true; done &
    children+=($!)
}

# What the page listens to.
listens() {
    curl -sN "$api/events?$1" -o /dev/null &
    children+=($!)
}

# Adds a line to the file of this way to be watched: microseconds a message.
measure() {
    if [ "$1" = off ]; then start 'http: off' 'management: off'; else start "$on"; fi
    case $1 in
        overview) polls "$api/gateway" "$api/links" ;;
        nodes) listens 'packets=0&rate=20'; polls "$api/gateway" "$api/nodes?limit=100" ;;
        node) listens 'node=bench-1&rate=200'; polls "$api/gateway" "$api/nodes/bench-1/explain" "$api/nodes/bench-1" ;;
        packets) listens 'rate=200'; polls "$api/gateway" ;;
    esac
    "$target/mqtt-sn" bench up --broker "mqtt://127.0.0.1:$tcp" -q "$qos" --rate 5000 --duration 3 --json \
        -p $udp --pid "$gateway" | jq .gateway_cpu_us_per_message >>"$work/$1"
    stop
}

views=()
for view; do [ "$view" = pages ] || views+=("$view"); done
if [ ${#views[@]} -gt 0 ]; then
    # Off at both ends of a round: how far they differ is what else the machine does.
    for _ in $(seq "$rounds"); do
        for watched in off "${views[@]}" off; do measure "$watched"; done
    done
    printf '\nQoS %s, 5,000 messages a second, %s rounds\n\n| watched | CPU a message, us, median | least | most | more than off |\n|---|---|---|---|---|\n' "$qos" "$rounds"
    base=$(median <"$work/off")
    for watched in off "${views[@]}"; do
        middle=$(median <"$work/$watched")
        printf '| %s | %.1f | %.1f | %.1f | %+.0f %% |\n' "$watched" "$middle" "$(sort -g "$work/$watched" | head -n 1)" \
            "$(sort -g "$work/$watched" | tail -n 1)" "$(jq -n "($middle / $base - 1) * 100")"
    done
fi

[ "${!#}" = pages ] || exit 0
start "$on"
"$target/mqtt-sn" bench idle -n 10000 -p $udp --duration 40 --json >"$work/idle.json" &
children+=($!)
until [ "$(curl -fsS "$api/gateway" | jq .nodes.active)" = 10000 ]; do sleep 0.5; done
printf '\n| a page of 100 of 10,000 nodes | median of 100, ms | longest, ms |\n|---|---|---|\n'
for query in '' 'offset=9900' 'sort=last_heard&order=desc' 'sort=due' 'q=99' 'state=active&sort=received'; do
    for _ in $(seq 100); do
        curl -fsS "$api/nodes?limit=100&$query" -o "$work/page" -w '%{time_total}\n'
    done >"$work/times"
    printf '| `%s` | %.1f | %.1f |\n' "/api/nodes?limit=100&$query" "$(jq -n "$(median <"$work/times") * 1000")" \
        "$(jq -n "$(sort -g "$work/times" | tail -n 1) * 1000")"
done
