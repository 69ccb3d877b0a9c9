//! The `broker:` section.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::problem::Problem;
use super::section::{Reader, Section};
use super::value::{choice, duration, literal, number, size, socket_address, text, whole_seconds};
use super::yaml::Node;
use crate::broker::BrokerConfig;
use crate::gateway::{Mode, Uplink, UpstreamSettings};
use crate::topics::{Pattern, is_valid_name};
use crate::upstream::shared::CONNECTIONS_MAX;

/// TCP port of MQTT without TLS.
const MQTT_PORT: u16 = 1883;

/// How nodes reach the broker, as it is written.
pub(super) const MODES: [(&str, Mode); 2] = [("per-node", Mode::PerNode), ("shared", Mode::Shared)];

/// Who acknowledges uplink, as it is written.
pub(super) const UPLINKS: [(&str, Uplink); 2] =
    [("broker", Uplink::Broker), ("store", Uplink::Store)];

const HOUR: Duration = Duration::from_secs(3600);

/// Reads where the broker is and how to talk to it.
pub(super) fn read_broker(
    reader: &Reader<'_>,
    mut section: Section<'_>,
    broker: &mut BrokerConfig,
    upstream: &mut UpstreamSettings,
) {
    let remote = section.read("url", url).flatten();
    if let Some(listen) = section.read("listen", socket_address) {
        *broker = BrokerConfig::Embedded { listen };
    }
    if let Some((host, port)) = remote {
        *broker = BrokerConfig::Remote { host, port };
    }
    read_credentials(reader, &mut section, upstream);
    let keep_alive = whole_seconds(1..=65_535);
    section.set("keepalive", &mut upstream.keep_alive, keep_alive);
    let timeout = duration(Duration::from_millis(100)..=HOUR);
    section.set("connect_timeout", &mut upstream.connect_timeout, timeout);
    section.set(
        "connect_rate",
        &mut upstream.connect_rate,
        number(1..=100_000),
    );
    let patience = duration(Duration::ZERO..=HOUR);
    section.set("patience", &mut upstream.patience, patience);
    let grace = duration(Duration::ZERO..=24 * HOUR);
    section.set("grace", &mut upstream.grace, grace);
    if let Some(node) = section.get("backoff") {
        read_backoff(reader, node, &mut upstream.backoff);
    }
    let packet = size(128..=268_435_460);
    section.set("max_packet", &mut upstream.max_packet, packet);
    section.set("uplink", &mut upstream.uplink, choice(&UPLINKS));
    section.set("mode", &mut upstream.mode, choice(&MODES));
    if let Some(node) = section.get("mode_for") {
        upstream.mode_for = read_mode_for(reader, node);
    }
    let shared = &mut upstream.shared;
    let connections = number(1..=CONNECTIONS_MAX);
    section.set("connections", &mut shared.connections, connections);
    section.set("status_topic", &mut shared.status_topic, status_topic);
    section.finish();
}

/// Reads client id patterns, each with its mode: `"sensor-*": shared`.
fn read_mode_for(reader: &Reader<'_>, node: &Node) -> Vec<(Pattern, Mode)> {
    let Some(entries) = node.map() else {
        let message = format!(
            "mode_for takes client ids with a mode, {{\"sensor-*\": shared}}, not {}",
            node.kind()
        );
        reader.report(Problem::new(node.place, message));
        return Vec::new();
    };
    let mut modes: Vec<(Pattern, Mode)> = Vec::new();
    for (key, value) in entries {
        let read = literal(key).and_then(|pattern| {
            let mode = choice(&MODES)(reader, value)?;
            if modes.iter().any(|(known, _)| known.to_string() == pattern) {
                let message = format!("\"{pattern}\" is listed twice");
                return Err(Problem::new(key.place, message));
            }
            Ok((Pattern::new(pattern), mode))
        });
        match read {
            Ok(entry) => modes.push(entry),
            Err(problem) => reader.report(problem.about("mode_for")),
        }
    }
    modes
}

fn status_topic(reader: &Reader<'_>, node: &Node) -> Result<Option<Arc<str>>, Problem> {
    match &*text(reader, node)? {
        "off" => Ok(None),
        topic if is_valid_name(topic) => Ok(Some(topic.into())),
        topic => {
            let message = format!("'{topic}' is no topic name; write one, or off");
            Err(Problem::new(node.place, message))
        }
    }
}

/// Reads `embedded` as `None`, `mqtt://host[:port]` as host and port.
fn url(reader: &Reader<'_>, node: &Node) -> Result<Option<(String, u16)>, Problem> {
    let text = text(reader, node)?;
    let problem = |message: String| Err(Problem::new(node.place, message));
    if text == "embedded" {
        return if cfg!(feature = "embedded-broker") {
            Ok(None)
        } else {
            problem("this build has no embedded broker, write mqtt://host:1883".to_owned())
        };
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return problem(format!("'{text}': write mqtt://{text}, or embedded"));
    };
    if authority.contains('@') {
        return problem("user and password have their own keys, take them out here".to_owned());
    }
    match scheme {
        "mqtt" => {}
        "tcp" => return problem(format!("'{text}': write mqtt://{authority}")),
        "mqtts" | "ssl" | "tls" => {
            return problem(format!("'{text}': TLS is not there yet, only mqtt://"));
        }
        _ => return problem(format!("'{text}': only mqtt:// is known, or embedded")),
    }
    match host_and_port(authority.strip_suffix('/').unwrap_or(authority)) {
        Some(address) => Ok(Some(address)),
        None => problem(format!(
            "'{text}': write mqtt://host, mqtt://host:1883 or mqtt://[::1]:1883"
        )),
    }
}

fn host_and_port(authority: &str) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':')?),
            };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || host.len() > 253 || !host.chars().all(allowed) {
        return None;
    }
    let port = port.map_or(Some(MQTT_PORT), |port| port.parse().ok())?;
    (port != 0).then(|| (host.to_owned(), port))
}

fn read_credentials(
    reader: &Reader<'_>,
    section: &mut Section<'_>,
    upstream: &mut UpstreamSettings,
) {
    let user = section.read("user", text);
    let password = section.read("password", secret);
    let file = section.read("password_file", secret_file);
    let at = |key| section.place(key);
    match (user, password, file) {
        (None, None, None) => {}
        (_, Some(_), Some(_)) => reader.report(
            Problem::new(
                at("password_file"),
                "password and password_file: one of them is enough",
            )
            .related_to(at("password"), "the other is here"),
        ),
        (Some(user), password, file) => {
            let password = password.or(file).unwrap_or_default();
            upstream.credentials = Some((user.into(), Arc::from(password)));
        }
        (None, Some(_), None) => {
            reader.report(Problem::new(at("password"), "a password needs a user"));
        }
        (None, None, Some(_)) => {
            reader.report(Problem::new(at("password_file"), "a password needs a user"));
        }
    }
}

/// Reads text that no message may show.
pub(super) fn secret(reader: &Reader<'_>, node: &Node) -> Result<String, Problem> {
    if node.text().is_none() {
        return Err(Problem::new(node.place, "put it in \"quotes\""));
    }
    text(reader, node)
}

/// Longest password read from a file, in octets: what MQTT can carry.
const PASSWORD_MAX: usize = 65_535;

/// Reads the file a node names, relative to the configuration; its last newline is not part of it.
pub(super) fn secret_file(reader: &Reader<'_>, node: &Node) -> Result<String, Problem> {
    let path = reader.directory.join(text(reader, node)?);
    let problem =
        |message: String| Problem::new(node.place, format!("{}: {message}", path.display()));
    let text = fs::read_to_string(&path).map_err(|error| problem(error.to_string()))?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() || line.len() > PASSWORD_MAX || line.contains('\n') {
        return Err(problem("one line with the password is wanted".to_owned()));
    }
    Ok(line.to_owned())
}

fn read_backoff(reader: &Reader<'_>, node: &Node, backoff: &mut (Duration, Duration)) {
    let mut section = Section::open(reader, "backoff", node);
    let range = Duration::from_millis(10)..=HOUR;
    section.set("first", &mut backoff.0, duration(range.clone()));
    section.set("longest", &mut backoff.1, duration(range));
    section.finish();
    if backoff.0 > backoff.1 {
        reader.report(Problem::new(
            node.place,
            "backoff: the first wait is longer than the longest",
        ));
    }
}
