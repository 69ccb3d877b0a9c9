//! Requests over MQTT, if the configuration lets them in, and what is answered.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::daemon::{Order, ask};
use crate::logging::LogHandle;

/// Longest time the door may be open, and a node be traced.
const SECONDS_MAX: u64 = 24 * 3600;

/// What was asked for, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Permit { seconds: u64 },
    Disconnect { id: Arc<str> },
    Forget { id: Arc<str> },
    LogLevel { level: String },
    Trace { id: Arc<str>, seconds: u64 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seconds {
    seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    level: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trace {
    id: String,
    seconds: u64,
}

impl Command {
    /// Understands a request, or says what is wrong with it.
    pub(super) fn parse(verb: &str, payload: &[u8]) -> Result<Self, String> {
        match verb {
            "permit" => {
                let Seconds { seconds } = read(payload, "{\"seconds\": 120}")?;
                Ok(Self::Permit {
                    seconds: bounded(seconds)?,
                })
            }
            "disconnect" => {
                let Id { id } = read(payload, "{\"id\": \"node1\"}")?;
                Ok(Self::Disconnect { id: id.into() })
            }
            "forget" => {
                let Id { id } = read(payload, "{\"id\": \"node1\"}")?;
                Ok(Self::Forget { id: id.into() })
            }
            "loglevel" => {
                let Level { level } = read(payload, "{\"level\": \"debug\"}")?;
                Ok(Self::LogLevel { level })
            }
            "trace" => {
                let Trace { id, seconds } = read(payload, "{\"id\": \"node1\", \"seconds\": 60}")?;
                Ok(Self::Trace {
                    id: id.into(),
                    seconds: bounded(seconds)?,
                })
            }
            _ => Err("known requests: permit, disconnect, forget, loglevel, trace".to_owned()),
        }
    }

    /// Does what concerns the gateway; returns what was done. A trace is begun by whoever publishes.
    pub(super) async fn execute(
        &self,
        orders: &mpsc::Sender<Order>,
        log: &LogHandle,
    ) -> Result<Value, String> {
        let unknown = |id: &str| format!("no node {id:?} is known");
        match self {
            Self::Permit { seconds } => {
                let duration = Duration::from_secs(*seconds);
                let done = ask(orders, move |owner| {
                    owner.gateway.permit(owner.now, duration)
                });
                done.await.map_err(|ended| ended.to_string())?;
                tracing::info!(seconds, "permit");
                Ok(json!({"seconds": seconds}))
            }
            Self::Disconnect { id } => {
                let wanted = id.clone();
                let known = ask(orders, move |owner| owner.gateway.kick(owner.now, &wanted));
                match known.await {
                    Ok(true) => Ok(json!({"id": &**id})),
                    Ok(false) => Err(unknown(id)),
                    Err(ended) => Err(ended.to_string()),
                }
            }
            Self::Forget { id } => {
                let wanted = id.clone();
                let known = ask(orders, move |owner| {
                    owner.gateway.forget(owner.now, &wanted)
                });
                match known.await {
                    Ok(true) => Ok(json!({"id": &**id})),
                    Ok(false) => Err(format!(
                        "{}; what was published of it is removed",
                        unknown(id)
                    )),
                    Err(ended) => Err(ended.to_string()),
                }
            }
            Self::LogLevel { level } => {
                log.set_level(level)?;
                Ok(json!({"level": level}))
            }
            Self::Trace { id, seconds } => Ok(json!({"id": &**id, "seconds": seconds})),
        }
    }
}

fn read<T: DeserializeOwned>(payload: &[u8], example: &str) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|error| format!("{error}; write {example}"))
}

fn bounded(seconds: u64) -> Result<u64, String> {
    if seconds <= SECONDS_MAX {
        Ok(seconds)
    } else {
        Err(format!("seconds: 0 to {SECONDS_MAX}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood_or_refused_with_an_example() {
        let id: Arc<str> = "a/b".into();
        for (verb, payload, expected) in [
            ("permit", "{\"seconds\": 5}", Command::Permit { seconds: 5 }),
            (
                "disconnect",
                "{\"id\": \"a/b\"}",
                Command::Disconnect { id: id.clone() },
            ),
            (
                "forget",
                "{\"id\": \"a/b\"}",
                Command::Forget { id: id.clone() },
            ),
            (
                "loglevel",
                "{\"level\": \"warn\"}",
                Command::LogLevel {
                    level: "warn".to_owned(),
                },
            ),
            (
                "trace",
                "{\"id\": \"a/b\", \"seconds\": 1}",
                Command::Trace {
                    id: id.clone(),
                    seconds: 1,
                },
            ),
        ] {
            assert_eq!(Command::parse(verb, payload.as_bytes()), Ok(expected));
        }
        for (verb, payload, expected) in [
            ("permit", "", "write {\"seconds\": 120}"),
            ("permit", "{\"seconds\": -1}", "write {\"seconds\": 120}"),
            ("permit", "{\"seconds\": 90000}", "0 to 86400"),
            ("forget", "{\"id\": \"a\", \"all\": true}", "unknown field"),
            ("reboot", "{}", "known requests"),
        ] {
            let error = Command::parse(verb, payload.as_bytes()).expect_err(verb);
            assert!(error.contains(expected), "{error}");
        }
    }
}
