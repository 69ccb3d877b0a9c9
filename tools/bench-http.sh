#!/usr/bin/env bash
# Measures what being watched costs: processor time a message with HTTP off, on, and with the page open,
# side by side, and how long a page of 10,000 nodes takes. Needs mosquitto, jq and curl, and a release build
# (cargo build --release --workspace):  tools/bench-http.sh [RUNS [QOS...]]
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin

runs=${1:-5}
shift || true
[ $# -gt 0 ] || set -- 0 1
udp=21011
tcp=21886
http=21080
work=$(mktemp -d)
children=()
stop() {
    for child in "${children[@]}"; do
        kill "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    done
    children=()
}
trap 'stop; rm -rf "$work"' EXIT

cat >"$work/mosquitto.conf" <<CONF
listener $tcp 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 100000
CONF
target=${CARGO_TARGET_DIR:-target}/release
ulimit -n "$(ulimit -Hn)"

# Starts a broker and a gateway; the argument is the configuration's http value.
start() {
    cat >"$work/gateway.yaml" <<CONF
broker: {url: "mqtt://127.0.0.1:$tcp"}
links: [{type: udp, listen: ["127.0.0.1:$udp"]}]
log: {level: warn}
http: $1
CONF
    mosquitto -c "$work/mosquitto.conf" 2>"$work/mosquitto.log" &
    children+=($!)
    "$target/mqtt-sn-gateway" --config "$work/gateway.yaml" 2>"$work/gateway.log" &
    gateway=$!
    children+=("$gateway")
    for attempt in $(seq 100); do
        "$target/mqtt-sn" ping -p $udp -C 1 --t-retry 0.2 >/dev/null 2>"$work/ping.log" && break
        [ "$attempt" -lt 100 ] || { cat "$work"/*.log >&2; exit 1; }
        sleep 0.1
    done
}

# What the page asks for once a second, as the overview does.
polls() {
    while sleep 1; do curl -fsS "$@" >"$work/polled" 2>"$work/curl.log" || true; done &
    children+=($!)
}

# What the page listens to.
listens() {
    curl -sN "http://127.0.0.1:$http/api/events$1" -o /dev/null &
    children+=($!)
}

api=http://127.0.0.1:$http/api
measure() {
    local watched=$1
    shift
    case $watched in
        off) start off ;;
        *) start "{listen: \"127.0.0.1:$http\"}" ;;
    esac
    case $watched in
        overview) polls "$api/gateway" "$api/links" ;;
        nodes) listens '?packets=0'; polls "$api/gateway" "$api/nodes?limit=100" ;;
        node) listens '?node=bench-1'; polls "$api/gateway" ;;
        packets) listens ''; polls "$api/gateway" ;;
    esac
    "$target/mqtt-sn" bench up --broker "mqtt://127.0.0.1:$tcp" "$@" --duration 3 --json -p $udp --pid "$gateway" |
        jq .gateway_cpu_us_per_message >>"$work/$watched"
    stop
}

median() {
    sort -n "$1" | sed -n "$(((runs + 1) / 2))p"
}

# One line: each way to be watched, run after run in turn, so that what else the machine does meets all alike.
compare() {
    local name=$1 watched base
    shift
    rm -f "$work"/{off,idle,overview,nodes,node,packets}
    for _ in $(seq "$runs"); do
        for watched in off idle overview nodes node packets; do measure $watched "$@"; done
    done
    base=$(median "$work/off")
    printf '| %s | %.1f |' "$name" "$base"
    for watched in idle overview nodes node packets; do
        printf ' %s |' "$(jq -n "$(median "$work/$watched") as \$us | \"\\(\$us * 10 | round / 10) (\\((\$us / $base - 1) * 100 | round) %)\"" -r)"
    done
    printf '\n'
}

printf '| | HTTP off, us | on, nobody looks | overview | nodes | one node | all packets |\n|---|---|---|---|---|---|---|\n'
for qos; do compare "QoS $qos, 5,000 a second" -q "$qos" --rate 5000; done

start "{listen: \"127.0.0.1:$http\"}"
"$target/mqtt-sn" bench idle -n 10000 -p $udp --duration 40 --json >"$work/idle.json" &
children+=($!)
until [ "$(curl -fsS "$api/gateway" | jq .nodes.active)" = 10000 ]; do sleep 0.5; done
printf '\n| a page of 100 of 10,000 nodes | median, ms | longest of 50, ms |\n|---|---|---|\n'
for query in '' 'offset=9900' 'sort=last_heard&order=desc' 'sort=due' 'q=99' 'state=active&sort=received'; do
    for _ in $(seq 50); do
        curl -fsS "$api/nodes?limit=100&$query" -o "$work/page" -w '%{time_total}\n'
    done | sort -n >"$work/times"
    printf '| `%s` | %s | %s |\n' "/api/nodes?limit=100&$query" \
        "$(sed -n 25p "$work/times" | jq '. * 10000 | round / 10')" "$(sed -n 50p "$work/times" | jq '. * 10000 | round / 10')"
done
