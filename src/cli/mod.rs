//! Commands that look at a running gateway, over its HTTP interface.

mod client;
mod monitor;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use mqtt_sn_gateway::api::sort_keys;
use mqtt_sn_gateway::session::Status;
use serde_json::{Value, json};

use client::{Client, Failure, encoded};
use monitor::MonitorOptions;
use table::{Table, wrapped};

use crate::print;

/// A command to a running gateway.
#[derive(Debug, Subcommand)]
pub(crate) enum ViewCommand {
    /// Show the links of the running gateway: state, traffic, bad frames
    Links(#[command(flatten)] Access),
    /// Show the nodes of the running gateway
    Nodes {
        /// Only those whose client id or address contains this
        filter: Option<String>,
        /// Only those in this state
        #[arg(long, value_parser = PossibleValuesParser::new(Status::ALL.map(Status::name)))]
        state: Option<String>,
        /// Order by this
        #[arg(long, default_value = "client_id", value_parser = PossibleValuesParser::new(sort_keys()))]
        sort: String,
        /// Nodes shown at most
        #[arg(long, default_value_t = 1000)]
        limit: u16,
        #[command(flatten)]
        access: Access,
    },
    /// Show all that is known of one node
    Node {
        /// Its client id
        id: String,
        #[command(flatten)]
        access: Access,
    },
    /// Show every packet on both sides as it happens
    Monitor {
        #[command(flatten)]
        options: MonitorOptions,
        #[command(flatten)]
        access: Access,
    },
    /// Say why a node does not come through, and what to do
    Explain {
        /// Its client id; it may be one that was never seen
        node: String,
        #[command(flatten)]
        access: Access,
    },
    /// Disconnect a node
    Kick {
        /// Its client id
        id: String,
        #[command(flatten)]
        access: Access,
    },
    /// Disconnect a node and forget its session
    Forget {
        /// Its client id
        id: String,
        #[command(flatten)]
        access: Access,
    },
    /// Let any client connect for a while, whatever clients.allow says
    Permit {
        /// How long, in seconds; 0 ends it
        seconds: u32,
        #[command(flatten)]
        access: Access,
    },
    /// Have the running gateway read its configuration again
    Reload(#[command(flatten)] Access),
}

/// How to reach the gateway, and how to show its answers.
#[derive(Debug, Args)]
pub(crate) struct Access {
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    /// Address of the interface [default: http.listen of the configuration]
    #[arg(long, value_name = "URL")]
    http: Option<String>,
    /// File with the token, for commands that change something [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Runs a command; what goes wrong is said on standard error.
pub(crate) fn run(command: ViewCommand, config: Option<&Path>) -> ExitCode {
    match execute(command, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: ViewCommand, config: Option<&Path>) -> Result<(), Failure> {
    let connect =
        |access: &Access| Client::new(access.http.as_deref(), access.token_file.as_deref(), config);
    match command {
        ViewCommand::Links(access) => {
            let answer = connect(&access)?.get("/api/links")?;
            show(&access, &answer, links);
        }
        ViewCommand::Nodes {
            filter,
            state,
            sort,
            limit,
            access,
        } => {
            let mut path = format!("/api/nodes?limit={limit}&sort={}", encoded(&sort));
            for (name, value) in [("q", filter), ("state", state)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", encoded(&value)));
                }
            }
            let answer = connect(&access)?.get(&path)?;
            show(&access, &answer, nodes);
        }
        ViewCommand::Node { id, access } => {
            let answer = connect(&access)?.get(&format!("/api/nodes/{}", encoded(&id)))?;
            show(&access, &answer, node);
        }
        ViewCommand::Explain { node, access } => {
            let path = format!("/api/nodes/{}/explain", encoded(&node));
            let answer = connect(&access)?.get(&path)?;
            show(&access, &answer, explanation);
        }
        ViewCommand::Monitor { options, access } => {
            monitor::run(&connect(&access)?, &options, access.json)?;
        }
        ViewCommand::Kick { id, access } => {
            let path = format!("/api/nodes/{}/kick", encoded(&id));
            show(&access, &connect(&access)?.post(&path, &json!({}))?, done);
        }
        ViewCommand::Forget { id, access } => {
            let path = format!("/api/nodes/{}/forget", encoded(&id));
            show(&access, &connect(&access)?.post(&path, &json!({}))?, done);
        }
        ViewCommand::Permit { seconds, access } => {
            let body = json!({"seconds": seconds});
            let answer = connect(&access)?.post("/api/permit", &body)?;
            show(&access, &answer, done);
        }
        ViewCommand::Reload(access) => {
            let answer = connect(&access)?.post("/api/reload", &json!({}))?;
            show(&access, &answer, done);
        }
    }
    Ok(())
}

fn show(access: &Access, answer: &Value, as_text: fn(&Value) -> String) {
    if access.json {
        print(&format!("{answer}\n"));
    } else {
        print(&as_text(answer));
    }
}

fn done(answer: &Value) -> String {
    format!("{}\n", text(&answer["done"]))
}

fn links(answer: &Value) -> String {
    let mut table = Table::new(
        &[
            "LINK",
            "STATE",
            "NODES",
            "IN",
            "OUT",
            "BYTES IN",
            "BYTES OUT",
            "BAD",
            "DAMAGED",
            "ERRORS",
            "LAST HEARD",
            "AT",
        ],
        &["OUT", "IN", "AT", "BYTES OUT", "BYTES IN", "NODES"],
    );
    for link in list(&answer["links"]) {
        let up = link["up"] == true;
        let addresses: Vec<_> = list(&link["addresses"]).iter().map(text).collect();
        table.row([
            text(&link["name"]),
            if up { "up" } else { "down" }.to_owned(),
            text(&link["nodes"]),
            text(&link["datagrams_in"]),
            text(&link["datagrams_out"]),
            text(&link["octets_in"]),
            text(&link["octets_out"]),
            text(&link["bad"]),
            text(&link["damaged"]),
            text(&link["errors"]),
            ago(&answer["now"], &link["last_heard"]),
            addresses.join(" "),
        ]);
    }
    table.to_string()
}

fn nodes(answer: &Value) -> String {
    let mut table = Table::new(
        &[
            "ID",
            "STATE",
            "LAST HEARD",
            "DUE",
            "SIGNAL",
            "QUEUED",
            "IN",
            "OUT",
            "REPEATS",
            "LINK",
            "ADDRESS",
        ],
        &[
            "OUT", "IN", "REPEATS", "ADDRESS", "LINK", "QUEUED", "SIGNAL",
        ],
    );
    for node in list(&answer["nodes"]) {
        table.row([
            text(&node["client_id"]),
            text(&node["state"]),
            ago(&answer["now"], &node["last_heard"]),
            until(&answer["now"], &node["due"]),
            text(&node["signal"]),
            text(&node["queued"]),
            text(&node["received"]),
            text(&node["sent"]),
            text(&node["retries"]),
            text(&node["link"]),
            text(&node["address"]),
        ]);
    }
    let (shown, matched) = (list(&answer["nodes"]).len(), text(&answer["matched"]));
    format!(
        "{table}{shown} of {matched} {}\n",
        if matched == "1" { "node" } else { "nodes" }
    )
}

/// Writes one member a line, times as seen from now.
fn node(answer: &Value) -> String {
    let members = answer.as_object().into_iter().flatten();
    let now = &answer["now"];
    let known = members.filter(|(name, value)| !value.is_null() && *name != "now");
    let lines = known.map(|(name, value)| {
        let shown = match value.as_array() {
            Some(items) if items.is_empty() => "none".to_owned(),
            Some(items) => {
                let items = items.iter().map(|item| member("", item, now));
                items
                    .map(|item| format!("\n    {}", wrapped(&item, 6)))
                    .collect()
            }
            None => wrapped(&member(name, value, now), 22),
        };
        format!("{name:22}{shown}\n")
    });
    lines.collect()
}

/// Writes one value: a time as seen from now, an object as its members.
fn member(name: &str, value: &Value, now: &Value) -> String {
    match (name, value) {
        ("since" | "last_heard" | "at", at) if at.is_number() => ago(now, at),
        ("due" | "until", at) if at.is_number() => until(now, at),
        (_, Value::Object(members)) => {
            let known = members.iter().filter(|(_, value)| !value.is_null());
            let members = known.map(|(name, value)| match &**name {
                // A time says by itself what it is.
                "at" => member(name, value, now),
                _ => format!("{} {}", printable(name), member(name, value, now)),
            });
            members.collect::<Vec<_>>().join(", ")
        }
        (_, value) => text(value),
    }
}

fn explanation(answer: &Value) -> String {
    let mut said = format!(
        "{}: {}\n\n",
        text(&answer["client_id"]),
        wrapped(&text(&answer["verdict"]), 4)
    );
    for step in list(&answer["steps"]) {
        let mark = match step["state"].as_str() {
            Some("ok") => "ok   ",
            Some("notice") => "note ",
            _ => "STUCK",
        };
        // The verdict is the text of a step, and stands above.
        let is_said = step["text"] == answer["verdict"] && step["advice"].is_string();
        let shown = if is_said {
            &step["advice"]
        } else {
            &step["text"]
        };
        said.push_str(&format!(
            "{mark} {:13}{}\n",
            text(&step["step"]),
            wrapped(&text(shown), 19)
        ));
        if !is_said && step["advice"].is_string() {
            said.push_str(&format!(
                "{:19}{}\n",
                "",
                wrapped(&text(&step["advice"]), 19)
            ));
        }
    }
    said
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Returns a value as text fit for a terminal: names come from nodes.
fn text(value: &Value) -> String {
    if value.is_null() {
        return String::new();
    }
    match value.as_str() {
        Some(text) => printable(text),
        None => printable(&value.to_string()),
    }
}

/// Replaces what a terminal would obey.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

fn ago(now: &Value, at: &Value) -> String {
    match now.as_f64().zip(at.as_f64()) {
        Some((now, at)) => format!("{} ago", table::duration(now - at)),
        None => "never".to_owned(),
    }
}

fn until(now: &Value, due: &Value) -> String {
    match now.as_f64().zip(due.as_f64()) {
        Some((now, due)) if due >= now => format!("in {}", table::duration(due - now)),
        Some((now, due)) => format!("{} ago", table::duration(now - due)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_shown_as_seen_from_now() {
        let answer = json!({
            "now": 1000.0, "since": 940.0, "due": 1030.0, "last_heard": 999.0,
            "packets_in": {"CONNECT": 1, "PUBLISH": 2}, "peer": null, "queue": [], "until": 1060.0,
            "topics": [{"id": 1, "name": "a/b", "state": null}],
            "troubles": [{"at": 990.0, "text": "rejected"}],
        });
        let lines: Vec<_> = [
            ("due", "in 30 s"),
            ("last_heard", "1 s ago"),
            ("packets_in", "CONNECT 1, PUBLISH 2"),
            ("queue", "none"),
            ("since", "60 s ago"),
            ("topics", "\n    id 1, name a/b"),
            ("troubles", "\n    10 s ago, text rejected"),
            ("until", "in 60 s"),
        ]
        .map(|(name, value)| format!("{name:22}{value}\n"))
        .into();
        assert_eq!(node(&answer), lines.concat());
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(
            text(&json!("a\u{1b}[31m\u{9b}1m\n")),
            "a\u{fffd}[31m\u{fffd}1m\u{fffd}"
        );
    }
}
