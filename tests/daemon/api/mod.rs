//! The HTTP interface of a running gateway, as programs and people use it.

mod access;
mod commands;
mod events;
mod explain;
mod views;

use crate::http::Http;
use crate::process::{Gateway, Mosquitto};

/// Starts a gateway with the interface on, and further lines of configuration.
fn start(mosquitto: &Mosquitto, lines: &str) -> (Gateway, Http) {
    start_on(
        mosquitto,
        "{type: udp, listen: ['127.0.0.1:0'], max_message: 255}",
        lines,
    )
}

/// The same, with these links.
fn start_on(mosquitto: &Mosquitto, links: &str, lines: &str) -> (Gateway, Http) {
    let gateway = Gateway::start(&format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}'}}\nlinks: [{links}]\n{}{lines}\n",
        mosquitto.port,
        if lines.contains("http:") {
            ""
        } else {
            "http: {listen: '127.0.0.1:0'}\n"
        }
    ));
    let http = Http::of(&gateway.process);
    gateway.process.line("broker reached").expect("it is there");
    (gateway, http)
}
