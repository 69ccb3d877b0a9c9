//! What the views show, and how fast.

use std::time::{SystemTime, UNIX_EPOCH};

use mqtt_sn_gateway::wire::{Filter, Packet, QoS};
use serde_json::{Value, json};

use crate::Shown;
use crate::mqtt::Mqtt;
use crate::node::Node;

/// Enter and Tab, as WebDriver names them.
const ENTER: &str = "\u{e007}";
const TAB: &str = "\u{e004}";

/// Milliseconds since 1970, as the page counts them.
#[expect(
    clippy::disallowed_methods,
    reason = "to compare with the page's clock"
)]
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64() * 1000.0
}

/// Five nodes connect one after the other; what a busy machine does to one or two of them is not the
/// page's.
#[test]
fn a_node_that_connects_is_there_within_a_second() {
    let shown = Shown::start();
    shown.show("nodes");
    shown
        .browser
        .until("return document.querySelector('#sort-state') !== null");
    shown.browser.run(
        "window.seen = {}; new MutationObserver(() => {
           for (const cell of document.querySelectorAll('td.id')) window.seen[cell.textContent] ??= Date.now();
         }).observe(document.body, {childList: true, subtree: true});",
    );
    let mut nodes = Vec::new();
    let mut took: Vec<f64> = ["n1", "n2", "n3", "n4", "n5"]
        .map(|id| {
            let before = now();
            nodes.push(Node::connected(shown.gateway.address, id));
            let seen = shown.browser.until(&format!("return window.seen['{id}']"));
            seen.as_f64().expect("a time") - before
        })
        .into();
    took.sort_by(f64::total_cmp);
    assert!(took[2] < 1000.0, "{took:?}");
}

#[test]
fn a_sleeping_node_counts_down() {
    let shown = Shown::start();
    let mut node = Node::connected(shown.gateway.address, "n");
    node.subscribe(Filter::Name("to/n"), QoS::AtLeastOnce);
    node.send(Packet::Disconnect {
        duration: Some(1800),
    });
    node.expect(Packet::Disconnect { duration: None });
    let mut client = Mqtt::connect(shown.mosquitto.port, "client");
    client.publish("to/n", rumqttc::QoS::AtLeastOnce, false, "waits");
    shown.show("node/n");
    let left = "const found = /^wakes in (\\d+) min (\\d+) s$/.exec(document.getElementById('due')?.textContent);
                const left = found && 60 * found[1] + Number(found[2]);";
    let first = shown.browser.until(&format!("{left} return left;"));
    assert!(
        (1..=1800).contains(&first.as_u64().expect("seconds")),
        "{first}"
    );
    shown
        .browser
        .until(&format!("{left} return left && left < {first};"));
    shown
        .browser
        .until("return document.body.innerText.includes('Queue: 1')");
    shown
        .browser
        .until("return document.getElementById('verdict')?.textContent.includes('sleep')");
    shown.show("nodes");
    shown.browser.until("return [...document.querySelectorAll('td')].some((cell) => /^wakes in 29 min/.test(cell.textContent))");
}

#[test]
fn what_nodes_call_themselves_is_text() {
    let shown = Shown::start();
    let id = "<img src=x onerror=a=1>";
    let mut node = Node::connected(shown.gateway.address, id);
    node.register("<b>topic</b>");
    node.subscribe(Filter::Name("<i>filter</i>"), QoS::AtMostOnce);
    let stranger = Node::new(shown.gateway.address);
    stranger.send_connect("x<img src=x onerror=a=2>", true);
    stranger.hear();
    let browser = &shown.browser;
    let clean = || {
        let found = browser.run(
            "return [document.querySelectorAll('#main :is(img, b, i)').length, typeof window.a]",
        );
        assert_eq!(found, json!([0, "undefined"]));
    };
    shown.show("");
    browser.until("return document.body.innerText.includes('x<img src=x onerror=a=2>')");
    clean();
    shown.show("topics");
    browser.until("return document.body.innerText.includes('<b>topic</b>')");
    clean();
    shown.show("packets");
    browser.until("return document.querySelector('.log') !== null");
    // Somebody has to listen before it happens.
    browser.until("return performance.getEntriesByType('resource').length > 0");
    while browser.run("return document.body.innerText.includes('onerror=a=1')")
        == Value::Bool(false)
    {
        node.connect(id, true);
    }
    clean();
    shown.show("nodes");
    browser.until(&format!(
        "return [...document.querySelectorAll('td.id')].some((cell) => cell.textContent === '{id}')"
    ));
    clean();
    // The link leads to the node of that name.
    browser.run("document.querySelector('td.id a').click()");
    browser.until(&format!("return document.querySelector('h2')?.textContent === '{id}' && document.getElementById('due') !== null"));
    clean();
}

#[test]
fn a_long_list_is_paged_and_sorted_by_the_keyboard() {
    let shown = Shown::start();
    let nodes: Vec<_> = (100..350)
        .map(|index| Node::connected(shown.gateway.address, &format!("n{index}")))
        .collect();
    let browser = &shown.browser;
    shown.show("nodes");
    let first = |id: &str| {
        browser.until(&format!(
            "return document.querySelector('td.id')?.textContent === '{id}'"
        ));
    };
    first("n100");
    assert_eq!(
        browser.run("return document.querySelectorAll('tbody tr').length"),
        100
    );
    let all = format!("of {}", nodes.len());
    browser.until(&format!("return document.body.innerText.includes('{all}')"));
    browser.run("document.getElementById('sort-client_id').focus()");
    browser.press(ENTER);
    first("n349");
    // The list was drawn anew, and the keyboard is still where it was.
    browser.press(ENTER);
    first("n100");
    browser.run("document.getElementById('next').focus()");
    browser.press(ENTER);
    first("n200");
    browser.run("document.getElementById('q').focus()");
    browser.press("n33");
    first("n330");
    browser.until("return document.querySelectorAll('tbody tr').length === 10");
    // The first Tab of a page is the way past its head.
    shown.browser.open("about:blank");
    shown.show("");
    browser.press(TAB);
    browser.press(ENTER);
    browser.until("return document.activeElement.id === 'main'");
}

#[test]
fn the_packet_log_filters_pauses_and_draws_only_what_is_in_sight() {
    let shown = Shown::start();
    let mut node = Node::connected(shown.gateway.address, "n");
    let other = Node::connected(shown.gateway.address, "nx");
    let browser = &shown.browser;
    let rows = |text: &str| {
        let found = browser.run(&format!(
            "return [...document.querySelectorAll('.log .row')].filter((row) => row.textContent.includes('{text}')).length"
        ));
        found.as_u64().expect("a number")
    };
    let ping = |node: &Node| {
        node.send(Packet::PingReq { client_id: "" });
        node.expect(Packet::PingResp);
    };
    shown.show("packets");
    // It listens when it shows the first.
    while rows("PINGREQ") == 0 {
        ping(&node);
    }
    for _ in 0..300 {
        ping(&other);
        ping(&node);
    }
    browser.until("return document.querySelector('.log').scrollHeight > 150 * 20");
    assert!(rows("") < 100);
    browser.run("const node = document.getElementById('f-node'); node.value = 'n'; node.dispatchEvent(new Event('change'));
                 [...document.querySelectorAll('button')].find((button) => button.textContent === 'Clear').click();");
    browser.until("return document.querySelectorAll('.log .row').length === 0");
    let topic = node.register("after/filter");
    while rows("after/filter") == 0 {
        ping(&other);
        node.register("after/filter");
    }
    assert_eq!(rows(" nx "), 0);
    let href = browser.run("return document.querySelector('a[download]').getAttribute('href')");
    assert_eq!(href, "/api/capture.pcap?node=n");
    browser.run("[...document.querySelectorAll('button')].find((button) => button.textContent === 'Pause').click()");
    browser.until("return document.querySelector('[aria-pressed=true]')?.textContent === 'Go on'");
    let before = browser.run("return document.querySelector('.log').scrollHeight");
    // What comes while it is paused is not shown; the next picture of the gateway is newer than it.
    for _ in 0..50 {
        node.publish(topic, QoS::AtLeastOnce, false, b"x");
    }
    let at = now();
    browser.until(&format!("window.got ??= fetch('/api/gateway').then((got) => got.json()).then((got) => window.at = got.now * 1000); return window.at > {at}"));
    assert_eq!(
        browser.run("return document.querySelector('.log').scrollHeight"),
        before
    );
}
