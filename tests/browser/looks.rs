//! How the page looks: on a phone, light and dark, and for those who do not see it.
//!
//! `PICTURES=docs/images cargo test --test browser pictures` takes the pictures of docs/observe.md anew.

use std::path::Path;

use mqtt_sn_gateway::wire::{Filter, Packet, QoS};
use serde_json::{Value, json};

use crate::Shown;
use crate::mqtt::Mqtt;
use crate::node::Node;

/// Texts whose contrast with what is behind them is below 4.5 (WCAG 2.1, AA).
const FAINT: &str = "
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => {
        const [r, g, b] = colour.map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const colour = numbers(getComputedStyle(e).backgroundColor);
            if (colour.length < 4 || colour[3] === 1) return colour.slice(0, 3);
        }
        return numbers(getComputedStyle(document.documentElement).backgroundColor).slice(0, 3);
    };
    return [...document.querySelectorAll('body *')].filter((element) => {
        if (!element.checkVisibility() || element.matches('.skip, :disabled, script, noscript')) return false;
        return [...element.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    }).map((element) => {
        const [a, b] = [light(numbers(getComputedStyle(element).color).slice(0, 3)), light(behind(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        return [contrast, element.className + ' ' + element.textContent.slice(0, 40)];
    }).filter(([contrast]) => contrast < 4.5);";

/// Controls that have no name for those who do not see them.
const NAMELESS: &str = "
    return [...document.querySelectorAll('input, select, button, a, canvas, [role=region], [role=log]')].filter((element) => {
        const name = element.getAttribute('aria-label') || element.textContent.trim() || element.labels?.[0]?.textContent.trim();
        return !name;
    }).map((element) => element.outerHTML);";

const VIEWS: [(&str, &str); 5] = [
    ("overview", ""),
    ("nodes", "nodes"),
    ("node", "node/plant%2Fvalve-3"),
    ("topics", "topics"),
    ("packets", "packets"),
];

#[test]
fn pictures() {
    let shown = Shown::start();
    let browser = &shown.browser;
    let _nodes = plant(&shown);
    for (look, scheme, width, height) in [
        ("light", "light", 1280, 900),
        ("dark", "dark", 1280, 900),
        ("phone", "light", 360, 740),
    ] {
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.command("Emulation.setEmulatedMedia", &scheme);
        let phone = look == "phone";
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
        browser.command("Emulation.setDeviceMetricsOverride", &size);
        for (name, view) in VIEWS {
            shown.show(view);
            if name == "packets" {
                // It listens from now on.
                let mut node = Node::connected(shown.gateway.address, "plant/late");
                while browser.run("return document.querySelectorAll('.log .row').length < 10")
                    == Value::Bool(true)
                {
                    node.register("plant/late/hello");
                }
            } else {
                browser.until("return /[0-9a-z]/.test(document.querySelector('#main dl, #main td')?.textContent)");
            }
            if name == "overview" {
                // A chart needs two pictures of the gateway; what the plant published is in the histograms.
                browser.until("return document.querySelectorAll('.note .key').length > 4");
                browser.until("return [...document.querySelectorAll('.bars *')].some((bar) => bar.offsetHeight > 5)");
                browser.until("const bars = document.querySelectorAll('.bars'); return bars.length === 4 && /up to .*: \\d/.test(bars[0].ariaLabel)");
            }
            let faint = browser.run(FAINT);
            assert_eq!(faint, json!([]), "{look} {name}");
            assert_eq!(browser.run(NAMELESS), json!([]), "{look} {name}");
            let wide = browser.run("return document.documentElement.scrollWidth > innerWidth");
            assert_eq!(wide, false, "{look} {name} is wider than the screen");
            if name == "packets" {
                // What a packet says can be read without a finger.
                let hidden = browser.run(
                    "const log = document.querySelector('.log').getBoundingClientRect();
                     return [...document.querySelectorAll('.log .row span:last-child')].filter((what) => what.getBoundingClientRect().left > log.left + log.width / 2).length",
                );
                assert_eq!(hidden, 0, "{look}");
            }
            if name == "nodes" {
                let hidden = browser.run(
                    "return [...document.querySelectorAll('#main td')].filter((cell) => cell.textContent && cell.getBoundingClientRect().left >= innerWidth).length",
                );
                assert_eq!(hidden, 0, "{look}");
            }
            let picture = browser.picture();
            assert!(picture.starts_with(b"\x89PNG"));
            if let Some(directory) = std::env::var_os("PICTURES") {
                let file = Path::new(&directory).join(format!("{name}-{look}.png"));
                std::fs::write(file, picture).expect("written");
            }
        }
    }
}

/// A small plant: some nodes are there, one sleeps with messages waiting, one is refused.
fn plant(shown: &Shown) -> Vec<Node> {
    let gateway = shown.gateway.address;
    let mut nodes: Vec<_> = [
        "plant/meter-1",
        "plant/meter-2",
        "plant/pump",
        "plant/valve-3",
    ]
    .map(|id| Node::connected(gateway, id))
    .into();
    for (index, node) in nodes.iter_mut().enumerate() {
        let topic = node.register(&format!("plant/line{index}/temperature"));
        for value in [b"21.5", b"21.6", b"21.4"] {
            node.publish(topic, QoS::AtLeastOnce, false, value);
            node.publish(topic, QoS::ExactlyOnce, false, value);
        }
    }
    let valve = &mut nodes[3];
    valve.subscribe(Filter::Name("plant/valve-3/set"), QoS::AtLeastOnce);
    valve.send(Packet::Disconnect {
        duration: Some(1800),
    });
    valve.expect(Packet::Disconnect { duration: None });
    let mut client = Mqtt::connect(shown.mosquitto.port, "client");
    for value in ["open", "half", "closed"] {
        client.publish("plant/valve-3/set", rumqttc::QoS::AtLeastOnce, false, value);
    }
    shown
        .http
        .until("/api/nodes/plant%2Fvalve-3", |node| node["queued"] == 3);
    let stranger = Node::new(gateway);
    stranger.send_connect("somebody", true);
    stranger.hear();
    nodes.push(stranger);
    nodes
}
