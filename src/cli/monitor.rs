//! `monitor`: a line a packet, both sides, as it happens.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, stdout};
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::client::{Client, Failure, encoded};
use super::text;
use crate::print;

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct MonitorOptions {
    /// Only this client id
    #[arg(short, long, value_name = "ID")]
    node: Option<String>,
    /// Only this link
    #[arg(short, long, value_name = "NAME")]
    link: Option<String>,
    /// Only this packet type, such as PUBLISH, or changes to this state, such as lost
    #[arg(short, long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Show the octets, too
    #[arg(long)]
    hex: bool,
    /// Write a capture for Wireshark instead
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

/// Shows packets until the gateway ends or nobody reads.
pub(super) fn run(client: &Client, options: &MonitorOptions, json: bool) -> Result<(), Failure> {
    let mut query = String::from(if options.hex { "?hex=1" } else { "?hex=0" });
    for (name, value) in [
        ("node", &options.node),
        ("link", &options.link),
        ("type", &options.kind),
    ] {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    if let Some(id) = &options.node
        && let Err(Failure::Refused(_)) = client.get(&format!("/api/nodes/{}", encoded(id)))
    {
        eprintln!("no node {id:?} is known yet; waiting for it until Ctrl-C");
    }
    let failed = |error: io::Error| Failure::Here(format!("the connection ended: {error}"));
    if let Some(path) = &options.pcap {
        let mut packets = client.stream(&format!("/api/capture.pcap{query}"))?;
        let mut file = File::create(path).map_err(failed)?;
        eprintln!(
            "writing until Ctrl-C; then: tshark -r {} -d udp.port==10000,mqttsn",
            path.display()
        );
        io::copy(&mut packets, &mut file).map_err(failed)?;
        return Ok(());
    }
    let events = BufReader::new(client.stream(&format!("/api/events{query}"))?);
    let colour = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for line in events.lines() {
        let line = line.map_err(failed)?;
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        if json {
            print(&format!("{data}\n"));
        } else if let Ok(event) = serde_json::from_str(data) {
            print(&shown(&event, colour));
        }
    }
    Ok(())
}

fn shown(event: &Value, colour: bool) -> String {
    let arrow = match event["direction"].as_str() {
        Some("in") => "--->",
        Some("out") => "<---",
        Some("up") => "===>",
        Some("down") => "<===",
        _ => "  * ",
    };
    let node = &event["node"];
    let who = text(if node.is_null() {
        &event["address"]
    } else {
        node
    });
    let mut line = format!(
        "{} {who:16} {arrow} {}",
        clock(&event["at"]),
        text(&event["text"])
    );
    if event["dropped"].is_string() {
        line.push_str(&format!("  dropped: {}", text(&event["dropped"])));
    }
    if event["hex"].is_string() {
        line.push_str(&format!("  {}", text(&event["hex"])));
    }
    let code = match (event["event"].as_str(), event["dropped"].is_string()) {
        (Some("trouble" | "refused" | "missed"), _) | (_, true) => "31",
        (Some("broker"), _) => "2",
        (Some("state" | "uplink" | "forgotten"), _) => "1",
        _ => "0",
    };
    if colour {
        format!("\x1b[{code}m{line}\x1b[0m\n")
    } else {
        format!("{line}\n")
    }
}

/// Writes the time of day here, to the millisecond.
fn clock(at: &Value) -> String {
    let millis = (at.as_f64().unwrap_or_default() * 1000.0) as i64;
    let timestamp = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    let zoned = timestamp.to_zoned_datetime(jiff::tz::TimeZone::system());
    zoned.strftime("%H:%M:%S%.3f").to_string()
}
