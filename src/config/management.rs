//! The `management:` key: what the gateway says of itself over MQTT, or `off`.

use std::time::Duration;

use super::problem::Problem;
use super::section::{Reader, Section};
use super::value::{duration, expects, text, truth};
use super::yaml::{Node, Value};
use crate::management::ManagementConfig;
use crate::topics::is_valid_name;

/// Octets of the topics' beginning, so that there is room for what follows.
const TOPIC_MAX: usize = 1024;

/// Reads `off`, or the section.
pub(super) fn read_management(
    reader: &Reader<'_>,
    node: &Node,
    management: &mut Option<ManagementConfig>,
) {
    if node.text() == Some("off") || matches!(node.value, Value::Bool(false)) {
        *management = None;
        return;
    }
    if node.is_scalar() {
        let example = "off, or {topic: mqttsn/gateway, stats: 60s}";
        reader.report(expects(node, example).about("management"));
        return;
    }
    let mut section = Section::open(reader, "management", node);
    let mut config = ManagementConfig::default();
    if let Some(topic) = section.read("topic", |reader, node| {
        let topic = text(reader, node)?;
        let level = topic.trim_end_matches('/');
        if level.starts_with('$') || !is_valid_name(level) || level.len() > TOPIC_MAX {
            let message = format!("'{topic}' is no topic name, such as mqttsn/gateway");
            return Err(Problem::new(node.place, message));
        }
        Ok(level.into())
    }) {
        config.topic = Some(topic);
    }
    section.set("stats", &mut config.stats, |reader, node| {
        if node.text() == Some("never") {
            return Ok(None);
        }
        let bounds = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
        duration(bounds)(reader, node).map(Some)
    });
    section.set("homeassistant", &mut config.home_assistant, truth);
    section.set("commands", &mut config.commands, truth);
    section.finish();
    *management = Some(config);
}
