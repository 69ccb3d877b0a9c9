#!/usr/bin/env bash
# Lets a gateway log to a real systemd-journald, in a /run of their own, and reads it back with journalctl:
#   tools/check-journal.sh [DIRECTORY of the programs]
# Needs root, or user namespaces. Exit 77: this machine has no journald, or gives no namespace.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/debug}")
journald=/lib/systemd/systemd-journald
if [ "${2:-}" != inside ]; then
    [ -x $journald ] && command -v journalctl >/dev/null || { echo "no systemd-journald here"; exit 77; }
    alone=(unshare --mount)
    [ "$(id -u)" -eq 0 ] || alone+=(--map-root-user)
    "${alone[@]}" true || { echo "no namespace of our own here"; exit 77; }
    exec "${alone[@]}" "$(realpath tools/check-journal.sh)" "$programs" inside
fi

work=$(mktemp -d)
children=()
trap 'kill "${children[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
$journald 2>"$work/journald" &
children+=($!)
until [ -S /run/systemd/journal/socket ]; do sleep 0.1; done

cat >"$work/gateway.yaml" <<YAML
broker: {url: embedded, listen: "127.0.0.1:0"}
links: [{type: udp, listen: ["127.0.0.1:0"]}]
http: {listen: "127.0.0.1:0"}
log: {format: journald}
YAML
"$programs/mqtt-sn-gateway" --config "$work/gateway.yaml" 2>"$work/stderr" &
gateway=$!
children+=($gateway)

# Waits until the journal has an entry of the gateway with these fields, and prints its message.
entry() {
    for _ in $(seq 100); do
        journalctl -q --no-pager -o cat _PID=$gateway "$@" | grep -m 1 . && return
        sleep 0.1
    done
    echo "no entry $*" >&2
    journalctl -q --no-pager -o verbose _PID=$gateway >&2 || true
    cat "$work"/* >&2
    exit 1
}
listening=$(entry | head -n 1)
udp=
until [ -n "$udp" ]; do
    udp=$(journalctl -q --no-pager -o cat _PID=$gateway | sed -n 's/.*listening on UDP [^ ,]*:\([0-9]*\).*/\1/p' | head -n 1)
done
"$programs/mqtt-sn" pub -p "$udp" -i 'node 1' -t hello/world -m 42 -q 1
printf 'first: %s\nof the node: %s\n' "$listening" "$(entry 'MQTTSN_NODE=node 1' PRIORITY=6 SYSLOG_IDENTIFIER=mqtt-sn-gateway)"
# Nothing of it went elsewhere, and no packet made a line.
[ ! -s "$work/stderr" ] || { cat "$work/stderr"; exit 1; }
lines=$(journalctl -q --no-pager -o cat _PID=$gateway 'MQTTSN_NODE=node 1' | wc -l)
[ "$lines" -le 3 ] || { echo "$lines entries for one node that came, published and went"; exit 1; }
kill -TERM $gateway
entry PRIORITY=6 'MESSAGE=shutting down'
