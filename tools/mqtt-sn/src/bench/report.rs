//! What a run found, for people and for scripts.

use serde_json::{Map, Value};

use super::figures::Percentiles;
use crate::failure::Failure;
use crate::print::line;

/// Lines of a report, each with its part of the JSON object.
#[derive(Debug)]
pub(crate) struct Report {
    title: String,
    lines: Vec<(&'static str, String)>,
    object: Map<String, Value>,
}

impl Report {
    pub(crate) fn new(bench: &str, title: String) -> Self {
        let mut object = Map::new();
        object.insert("bench".into(), bench.into());
        Self {
            title,
            lines: Vec::new(),
            object,
        }
    }

    /// Adds a line for people.
    pub(crate) fn say(&mut self, label: &'static str, text: String) {
        self.lines.push((label, text));
    }

    /// Adds a value for scripts.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.object.insert(key.into(), value.into());
    }

    /// Adds a line of percentiles, and the same for scripts in milliseconds.
    pub(crate) fn times(&mut self, label: &'static str, key: &str, times: Option<Percentiles>) {
        if let Some(times) = times {
            self.say(label, times.to_string());
            self.set(key, times);
        }
    }

    pub(crate) fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            return line(&Value::Object(self.object.clone()).to_string());
        }
        line(&self.title)?;
        self.lines
            .iter()
            .try_for_each(|(label, text)| line(&format!("  {label:<14}{text}")))
    }
}
