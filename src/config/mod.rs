//! gateway.yaml: what the gateway is told before it starts.
//!
//! A file is read into [`Config`]: the core's [`Settings`] and what the shell
//! around it needs. A key that is absent keeps the value of [`Config::default`], so the defaults live in
//! the `Default` implementations alone; the shipped gateway.yaml shows them, and a test compares the
//! two. Every mistake in a file is reported at once, with line and column.

mod broker;
mod http;
mod link;
mod load;
mod management;
mod problem;
mod read;
mod section;
mod serial;
mod store;
mod summary;
#[cfg(test)]
mod tests;
mod value;
mod yaml;

pub use load::{LoadError, SEARCHED, load, locate};
pub use problem::ConfigError;
pub(crate) use problem::nearest;
pub use read::parse;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::api::HttpConfig;
use crate::broker::BrokerConfig;
use crate::gateway::{LinkSettings, Settings};
use crate::links::serial::SerialConfig;
use crate::links::udp::UdpConfig;
use crate::management::ManagementConfig;
use crate::store::StoreConfig;

/// Everything gateway.yaml says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the core is told. `settings.links[n]` belongs to `links[n]`.
    pub settings: Settings,
    /// The sockets of each link.
    pub links: Vec<LinkConfig>,
    /// Where the broker is.
    pub broker: BrokerConfig,
    /// Where records are kept.
    pub store: StoreConfig,
    /// The page, the API and the metrics; `None` is off.
    pub http: Option<HttpConfig>,
    /// What the gateway says of itself over MQTT; `None` is nothing.
    pub management: Option<ManagementConfig>,
    /// What is logged, and how.
    pub log: LogConfig,
}

/// The part of a link only the shell cares for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkConfig {
    /// `type: udp`.
    Udp(UdpConfig),
    /// `type: serial`.
    Serial(Box<SerialConfig>),
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A level, or directives as `tracing_subscriber::EnvFilter` takes them.
    pub level: String,
    /// Form of an event.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// For machines.
    Json,
    /// Entries of systemd's journal, with fields.
    Journald,
}

impl Config {
    /// Returns the sections in which a new configuration differs from the running one beyond what
    /// [`Gateway::reload`](crate::gateway::Gateway::reload) and the logger take over.
    pub fn waits_for_restart(&self, new: &Self) -> Vec<&'static str> {
        let (old_settings, new_settings) = (&self.settings, &new.settings);
        let identity = |settings: &Settings| {
            let name = settings.name.clone();
            let announced = (settings.advertise, settings.standby_for);
            (name, settings.gateway_id, announced)
        };
        let bounds = |settings: &Settings| (settings.session.clone(), settings.limits.clone());
        let fixed = |settings: &Settings| -> Vec<LinkSettings> {
            let without_lists = |link: &LinkSettings| LinkSettings {
                forwarders: Vec::new(),
                qos_minus_one: None,
                ..link.clone()
            };
            settings.links.iter().map(without_lists).collect()
        };
        let changes = [
            ("gateway", identity(old_settings) != identity(new_settings)),
            (
                "broker",
                self.broker != new.broker || old_settings.upstream != new_settings.upstream,
            ),
            (
                "links",
                self.links != new.links || fixed(old_settings) != fixed(new_settings),
            ),
            (
                "clients and limits",
                bounds(old_settings) != bounds(new_settings),
            ),
            ("store", self.store != new.store),
            ("http", self.http != new.http),
            ("management", self.management != new.management),
            ("log.format", self.log.format != new.log.format),
        ];
        let changed = changes.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(section, _)| section).collect()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            settings: Settings {
                links: vec![LinkSettings::udp("udp")],
                ..Settings::default()
            },
            links: vec![LinkConfig::Udp(UdpConfig::default())],
            broker: BrokerConfig::default(),
            store: StoreConfig::Memory,
            http: Some(HttpConfig::default()),
            management: Some(ManagementConfig::default()),
            log: LogConfig::default(),
        }
    }
}

impl Default for UdpConfig {
    fn default() -> Self {
        let listen = [10_000, 1883].into_iter().flat_map(|port| {
            [
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            ]
        });
        Self {
            listen: listen.collect(),
            discovery: Vec::new(),
        }
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self::Embedded {
            listen: (Ipv4Addr::LOCALHOST, 1883).into(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}
