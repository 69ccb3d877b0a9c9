//! Where log lines go: standard error, as text for people or JSON for machines, or systemd's journal.

mod journal;

use std::io::{IsTerminal, stderr};
use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};
use journal::{Journal, SOCKET};

/// Environment variable that overrides `log.level`.
pub const OVERRIDE: &str = "RUST_LOG";

/// Changes the level of a running process.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    overridden: bool,
}

/// Starts logging for the whole process; to be called once. Text is coloured on a terminal only, and
/// without the time when systemd's journal, which adds its own, reads it. It is text, too, where there
/// is no journal.
pub fn start(config: &LogConfig) -> LogHandle {
    let overridden = std::env::var(OVERRIDE).ok().filter(|text| !text.is_empty());
    let level = overridden.as_deref().unwrap_or(&config.level);
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal());
    let text = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => lines.without_time().with_target(false).boxed(),
        None => lines.with_target(false).boxed(),
    };
    let mut missing = None;
    let lines = match config.format {
        LogFormat::Text => text,
        LogFormat::Json => {
            let lines = layer().with_writer(stderr).with_ansi(false);
            lines.json().flatten_event(true).boxed()
        }
        LogFormat::Journald => match Journal::connect(Path::new(SOCKET)) {
            Ok(journal) => journal.boxed(),
            Err(error) => {
                missing = Some(error);
                text
            }
        },
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
    if let Some(error) = missing {
        tracing::warn!(%error, "log.format is journald, but no journal listens at {SOCKET}; this is text instead");
    }
    LogHandle {
        filter: handle,
        overridden: overridden.is_some(),
    }
}

/// Whether a text is a level, or directives. A word alone would be taken for a part of the program, of
/// which alone would be heard: it is neither.
pub(crate) fn is_level(text: &str) -> bool {
    const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
    let mut parts = text.split(',');
    parts.all(|part| part.contains('=') || LEVELS.contains(&part.trim()))
        && EnvFilter::try_new(text).is_ok()
}

impl LogHandle {
    /// Sets the level, or directives; the environment variable has no say in what somebody asks for.
    ///
    /// # Errors
    /// When it is neither, in words.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        if !is_level(level) {
            return Err(format!(
                "{level:?} is not one of error, warn, info, debug, trace, or directives"
            ));
        }
        let reloaded = self.filter.reload(filter(level));
        reloaded.map_err(|error| error.to_string())
    }

    /// Takes over the level of a new configuration; the format stays as it was. The environment
    /// variable keeps its precedence.
    pub fn apply(&self, config: &LogConfig) {
        if self.overridden {
            return;
        }
        if let Err(error) = self.filter.reload(filter(&config.level)) {
            tracing::warn!(%error, "the log level could not be changed");
        }
    }
}

/// Reads a level or directives. The embedded broker is silent unless they name it: it logs every
/// connection that ends as an error.
fn filter(level: &str) -> EnvFilter {
    if level.contains("rumqttd") {
        return EnvFilter::new(level);
    }
    EnvFilter::new(format!("{level},rumqttd=off"))
}
