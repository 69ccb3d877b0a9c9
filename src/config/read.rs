//! Which keys there are, and what each one sets.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::broker::read_broker;
use super::http::read_http;
use super::link::read_links;
use super::management::read_management;
use super::problem::{ConfigError, Place, Problem};
use super::section::{Reader, Section};
use super::store::read_store;
use super::value::{
    choice, duration, expects, list, literal, name, number, size, text, truth, whole_seconds,
};
use super::yaml::{Node, parse as parse_yaml};
use super::{Config, LogConfig, LogFormat};
use crate::gateway::{Limits, SessionSettings, Settings, Uplink};
use crate::logging::is_level;
use crate::management::ManagementConfig;
use crate::store::StoreConfig;
use crate::topics::{Pattern, Predefined, is_valid_name};
use crate::wire::TopicId;

const MINUTE: Duration = Duration::from_secs(60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads the text of a configuration file. `environment` looks variables up.
pub fn parse(
    file: &Path,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigError> {
    let root = parse_yaml(text).map_err(|problem| ConfigError::new(file, text, vec![problem]))?;
    let directory = file.parent().unwrap_or(Path::new(""));
    let reader = Reader::new(directory, text, environment);
    let config = read_config(&reader, &root);
    let problems = reader.into_problems();
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::new(file, text, problems))
    }
}

fn read_config(reader: &Reader<'_>, root: &Node) -> Config {
    let mut config = Config::default();
    let settings = &mut config.settings;
    let mut file = Section::open(reader, "gateway.yaml", root);
    if let Some(section) = file.section("gateway") {
        read_gateway(section, settings);
    }
    let shared = &mut settings.upstream.shared;
    shared.client_id = settings.name.clone();
    let reports = ManagementConfig::default();
    let usual: Arc<str> = reports.status_topic(&settings.name).into();
    shared.status_topic = Some(usual.clone());
    let mut uplink = Place::START;
    if let Some(section) = file.section("broker") {
        uplink = section.place("uplink");
        read_broker(reader, section, &mut config.broker, &mut settings.upstream);
    }
    if let Some(links) = file.get("links") {
        (settings.links, config.links) = read_links(reader, links);
    }
    if let Some(section) = file.section("topics") {
        read_topics(reader, section, settings);
    }
    if let Some(section) = file.section("clients") {
        read_clients(section, settings);
    }
    if let Some(section) = file.section("limits") {
        read_limits(section, &mut settings.limits, &mut settings.session);
        settings.upstream.queue_qos0 = settings.session.queue_qos0;
        settings.upstream.queue_qos0_bytes = settings.session.queue_qos0_bytes;
    }
    if let Some(store) = file.get("store") {
        let max_age = &mut settings.upstream.max_age;
        read_store(reader, store, &mut config.store, max_age);
        settings.keep_sessions = matches!(config.store, StoreConfig::Disk(_));
    }
    if settings.upstream.uplink == Uplink::Store && config.store == StoreConfig::Memory {
        let message = "broker: uplink: store acknowledges what is on disk: \
            add store: {path: DIRECTORY}";
        reader.report(Problem::new(uplink, message));
    }
    if let Some(node) = file.get("http") {
        read_http(reader, node, &mut config.http);
    }
    if let Some(node) = file.get("management") {
        read_management(reader, node, &mut config.management);
    }
    if let Some(reports) = &config.management {
        // One of them says whether the gateway is there; the shared connection does where it was told to.
        let own = reports.status_topic(&settings.name);
        let told = |topic: &Arc<str>| !Arc::ptr_eq(topic, &usual) && **topic != *own;
        let topic = &mut settings.upstream.shared.status_topic;
        *topic = topic.take().filter(told);
    }
    if let Some(section) = file.section("log") {
        read_log(section, &mut config.log);
    }
    file.finish();
    config
}

fn read_gateway(mut section: Section<'_>, settings: &mut Settings) {
    section.set("name", &mut settings.name, name);
    section.set("id", &mut settings.gateway_id, number(1..=255));
    section.set("advertise", &mut settings.advertise, |reader, node| {
        if node.text() == Some("never") {
            return Ok(None);
        }
        whole_seconds(1..=65_535)(reader, node).map(Some)
    });
    let (own, advertise) = (settings.gateway_id, settings.advertise);
    section.set("standby_for", &mut settings.standby_for, |reader, node| {
        let other = number(1..=255)(reader, node)?;
        let message = if other == own {
            format!("standby_for: {other} is the id of this gateway itself")
        } else if advertise.is_none() {
            "standby_for: with advertise: never there is nothing to take over".into()
        } else {
            return Ok(Some(other));
        };
        Err(Problem::new(node.place, message))
    });
    section.finish();
}

fn read_topics(reader: &Reader<'_>, mut section: Section<'_>, settings: &mut Settings) {
    if let Some(node) = section.get("predefined") {
        settings.predefined = Arc::new(read_predefined(reader, node));
    }
    section.finish();
}

/// Reads client id patterns, each with its ids: `"*": {2: predef/two}`.
fn read_predefined(reader: &Reader<'_>, node: &Node) -> Predefined {
    let mut predefined = Predefined::default();
    let Some(patterns) = node.map() else {
        reader.report(Problem::new(
            node.place,
            format!(
                "predefined takes client ids with their topics, not {}",
                node.kind()
            ),
        ));
        return predefined;
    };
    let mut seen: BTreeMap<&str, &Node> = BTreeMap::new();
    for (key, value) in patterns {
        let pattern = match (key.integer(), value.text()) {
            (Some(id), Some(name)) => {
                reader.report(Problem::new(
                    key.place,
                    format!("whose topic is this? For all nodes write \"*\": {{{id}: {name}}}"),
                ));
                continue;
            }
            _ => match literal(key) {
                Ok(pattern) => pattern,
                Err(problem) => {
                    reader.report(problem.about("client id"));
                    continue;
                }
            },
        };
        if let Some(first) = seen.get(pattern) {
            reader.report(
                Problem::new(key.place, format!("\"{pattern}\" is listed twice"))
                    .related_to(first.place, "first here"),
            );
            continue;
        }
        seen.insert(pattern, key);
        predefined.insert(Pattern::new(pattern), read_ids(reader, pattern, value));
    }
    predefined
}

/// Reads the ids of one pattern: `{2: predef/two}`.
fn read_ids(reader: &Reader<'_>, pattern: &str, node: &Node) -> BTreeMap<TopicId, String> {
    let mut topics = BTreeMap::new();
    let Some(entries) = node.map() else {
        if !node.is_null() {
            let form = "takes topic ids with names, such as {2: predef/two}, not";
            let message = format!("\"{pattern}\" {form} {}", node.kind());
            reader.report(Problem::new(node.place, message));
        }
        return topics;
    };
    let mut seen: BTreeMap<u16, &Node> = BTreeMap::new();
    for (key, value) in entries {
        let entry = number(1..=65_534)(reader, key)
            .map_err(|problem| problem.about("topic id"))
            .and_then(|id: u16| Ok((id, topic_name(value)?)));
        let (id, name) = match entry {
            Ok(entry) => entry,
            Err(problem) => {
                reader.report(problem);
                continue;
            }
        };
        if let Some(first) = seen.get(&id) {
            reader.report(
                Problem::new(
                    key.place,
                    format!("topic id {id} is defined twice for \"{pattern}\""),
                )
                .related_to(first.place, "first here"),
            );
            continue;
        }
        seen.insert(id, key);
        topics.insert(TopicId(id), name.to_owned());
    }
    topics
}

/// Reads a topic name; `${client_id}` is the only thing that may be filled in.
fn topic_name(node: &Node) -> Result<&str, Problem> {
    let name = literal(node)?;
    if name.replace("${client_id}", "").contains("${") {
        return Err(Problem::new(
            node.place,
            format!("topic name '{name}': only ${{client_id}} is filled in here"),
        ));
    }
    if !is_valid_name(name) {
        return Err(Problem::new(
            node.place,
            format!("'{name}' is no topic name: 1 to 65535 octets without + and #"),
        ));
    }
    Ok(name)
}

fn read_clients(mut section: Section<'_>, settings: &mut Settings) {
    let session = &mut settings.session;
    section.set("allow", &mut settings.allowed_clients, |reader, node| {
        if node.text() == Some("any") {
            return Ok(None);
        }
        let pattern = |reader: &Reader<'_>, node: &Node| Ok(Pattern::new(&text(reader, node)?));
        list(pattern)(reader, node).map(Some)
    });
    section.set("id_max", &mut session.client_id_max, number(1..=1024));
    section.set("probe", &mut session.probe, truth);
    let idle = duration(MINUTE..=YEAR);
    section.set("idle_max", &mut session.idle_max, idle);
    let keep = duration(Duration::ZERO..=YEAR);
    section.set("keep_disconnected", &mut session.keep_disconnected, keep);
    let honour = &mut session.honour_sleep_connect;
    section.set("honour_sleep_connect", honour, truth);
    section.set("strict_sleep", &mut session.strict_sleep, truth);
    section.set("flush_max", &mut session.flush_max, number(1..=100_000));
    let attempts = &mut session.delivery_attempts;
    section.set("delivery_attempts", attempts, number(1..=1000));
    section.finish();
}

fn read_limits(mut section: Section<'_>, limits: &mut Limits, session: &mut SessionSettings) {
    section.set("clients", &mut limits.sessions, number(1..=1_000_000));
    let queued = size(1024..=1_usize.checked_shl(40).unwrap_or(usize::MAX));
    section.set("queued_bytes", &mut limits.queued_bytes, queued);
    let replies = &mut limits.stranger_replies;
    section.set("stranger_replies", replies, number(0..=1_000_000));
    let topics = &mut session.topics_max;
    section.set("topics_per_client", topics, number(1..=65_534));
    let subscriptions = &mut session.subscriptions_max;
    section.set(
        "subscriptions_per_client",
        subscriptions,
        number(1..=65_534),
    );
    let window = &mut session.uplink_window;
    section.set("uplink_window", window, number(1..=1000));
    section.set("queue", &mut session.queue, number(1..=65_535));
    section.set("queue_qos0", &mut session.queue_qos0, number(0..=65_535));
    let octets = &mut session.queue_qos0_bytes;
    section.set("queue_qos0_bytes", octets, size(0..=1 << 30));
    section.finish();
}

fn read_log(mut section: Section<'_>, log: &mut LogConfig) {
    section.set("level", &mut log.level, |reader, node| {
        let level = text(reader, node)?;
        if is_level(&level) {
            return Ok(level);
        }
        Err(expects(
            node,
            "one of error, warn, info, debug, trace, or directives such as \
             \"info,mqtt_sn_gateway::session=debug\"",
        ))
    });
    let formats = [
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
        ("journald", LogFormat::Journald),
    ];
    section.set("format", &mut log.format, choice(&formats));
    section.finish();
}
