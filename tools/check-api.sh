#!/usr/bin/env bash
# Asks a running gateway everything its OpenAPI document allows, and much that it does not, and reads its
# /metrics with the strict parser of OpenMetrics:  tools/check-api.sh
# Needs a built gateway and node tool, and python3 with venv; installs schemathesis and prometheus-client
# into target/.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
programs=$(realpath "${1:-$target/debug}")
version=4.32.5
metrics=0.23.1
venv=$(realpath -m "$target/schemathesis-$version-$metrics")
if [ ! -x "$venv/bin/schemathesis" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version" "prometheus-client==$metrics"
fi

work=$(mktemp -d)
children=()
trap 'kill "${children[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
cat >"$work/gateway.yaml" <<YAML
broker: {url: embedded, listen: "127.0.0.1:0"}
links: [{type: udp, listen: ["127.0.0.1:0"]}]
http: {listen: "127.0.0.1:0"}
YAML
"$programs/mqtt-sn-gateway" --config "$work/gateway.yaml" 2>"$work/log" &
children+=($!)

# Prints what the gateway's log says behind some words.
said() {
    for _ in $(seq 100); do
        sed -n "s/.*$1\([^ ,]*\).*/\1/p" "$work/log" | grep -m 1 . && return
        sleep 0.1
    done
    cat "$work/log" >&2
    return 1
}
url=$(said 'the page and the API are at ')
udp=$(said 'listening on UDP ')
"$programs/mqtt-sn" sub -p "${udp##*:}" -i node1 -t 'to/node1' >"$work/node" 2>&1 &
children+=($!)
until curl -fsS "${url%/}/api/nodes/node1" >"$work/node1" 2>"$work/curl"; do sleep 0.1; done

# Prometheus itself asks for OpenMetrics only if it is offered, so the content type counts, too.
curl -fsS -H 'Accept: application/openmetrics-text; version=1.0.0' -D "$work/headers" "${url%/}/metrics" >"$work/metrics"
grep -qi '^content-type: application/openmetrics-text; *version=1.0.0' "$work/headers" || { cat "$work/headers"; exit 1; }
"$venv/bin/python" - "$work/metrics" <<'PYTHON'
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families

families = list(text_string_to_metric_families(open(sys.argv[1]).read()))
samples = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}
assert samples[("mqttsn_nodes", (("state", "active"),))] == 1, samples
for family in families:
    assert family.name.startswith("mqttsn_") and family.documentation, family
    for sample in family.samples:
        assert "node1" not in sample.labels.values(), sample
for way in "uplink", "downlink":
    for qos in "1", "2":
        name = f"mqttsn_{way}_latency_seconds"
        assert samples[(f"{name}_bucket", (("le", "+Inf"), ("qos", qos)))] == samples[(f"{name}_count", (("qos", qos),))]
print(f"/metrics: {len(families)} families, {len(samples)} samples, as OpenMetrics has it")
PYTHON

# Not every text is a level or a directive: the document cannot say which are, and 400 says why.
cat >"$work/schemathesis.toml" <<TOML
[[operations]]
include-name = "POST /api/log"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-name = "GET /api/nodes/{id}"
parameters = {"path.id" = "node1"}
TOML
# Streams never end; tests/daemon/api reads them.
cd "$work"
timeout 300 "$venv/bin/schemathesis" run "${url%/}/api/openapi.json" --max-examples 40 --seed 1 \
    --exclude-path /api/events --exclude-path /api/capture.pcap --request-timeout 10 --no-color
