//! A configuration in a few lines a person can check.

use std::fmt;
use std::time::Duration;

use super::value::{show_duration, show_size};
use super::{Config, LinkConfig, LogFormat};
use crate::broker::BrokerConfig;
use crate::gateway::{LinkSettings, Mode, Takeover, Uplink, UpstreamSettings};
use crate::links::serial::{Addressing, Flow, SerialConfig};
use crate::links::udp::UdpConfig;
use crate::management::ManagementConfig;
use crate::store::{DiskConfig, StoreConfig};

/// Writes what was understood, a line for each part; no password.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        let (name, id) = (&settings.name, settings.gateway_id);
        write!(f, "gateway  {name}, id {id}, ")?;
        match settings.advertise {
            Some(period) => write!(f, "advertised every {}", show_duration(period))?,
            None => f.write_str("never advertised")?,
        }
        if let Some(other) = settings.standby_for {
            write!(f, " while gateway {other} is silent")?;
        }
        writeln!(f)?;
        f.write_str("broker   ")?;
        write_broker(f, &self.broker)?;
        if let Some((user, _)) = &settings.upstream.credentials {
            write!(f, ", user {user}")?;
        }
        writeln!(f)?;
        if settings.upstream.uses_shared() {
            let reports = self.management.as_ref();
            let reported = reports.map(|reports| reports.status_topic(name));
            write_mode(f, &settings.upstream, reported)?;
        }
        if settings.upstream.uplink == Uplink::Store {
            writeln!(
                f,
                "uplink   QoS 1 and 2 acknowledged when in the store, published by {}-uplink",
                settings.name
            )?;
        } else if settings.upstream.uses_shared() && settings.keep_sessions {
            writeln!(
                f,
                "uplink   QoS 2 of nodes on shared connections acknowledged when in the store, published \
                 by {}-uplink",
                settings.name
            )?;
        }
        for (link, config) in settings.links.iter().zip(&self.links) {
            write!(f, "link     {}: ", link.name)?;
            match config {
                LinkConfig::Udp(udp) => write_udp(f, udp)?,
                LinkConfig::Serial(serial) => write_serial(f, serial)?,
            }
            write_link(f, link)?;
        }
        match settings.predefined.len() {
            0 => writeln!(f, "topics   none pre-defined")?,
            count => writeln!(f, "topics   {count} pre-defined")?,
        }
        match &settings.allowed_clients {
            None => write!(f, "clients  any")?,
            Some(patterns) => {
                let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
                write!(f, "clients  only {}", patterns.join(", "))?;
            }
        }
        writeln!(f, ", at most {}", settings.limits.sessions)?;
        match &self.store {
            StoreConfig::Memory => writeln!(f, "store    memory")?,
            StoreConfig::Disk(disk) => write_store(f, disk, settings.upstream.max_age)?,
        }
        match &self.http {
            Some(http) => writeln!(f, "http     {http}")?,
            None => writeln!(f, "http     off")?,
        }
        match &self.management {
            Some(management) => write_management(f, management, &settings.name)?,
            None => writeln!(f, "reports  off")?,
        }
        let format = match self.log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "JSON",
            LogFormat::Journald => "entries of the journal",
        };
        write!(f, "log      {} as {format}", self.log.level)
    }
}

fn write_serial(f: &mut fmt::Formatter<'_>, serial: &SerialConfig) -> fmt::Result {
    write!(f, "serial {}", serial.device)?;
    if let Some(transmit) = &serial.transmit_device {
        write!(f, " and {transmit}")?;
    }
    write!(f, ", {}", serial.framing)?;
    if !serial.device.is_remote() {
        write!(f, " at {} baud", serial.port.baud)?;
    }
    match serial.port.flow {
        Flow::None => {}
        Flow::RtsCts => f.write_str(", RTS/CTS")?,
    }
    match serial.addressing {
        Addressing::Single => f.write_str(", no forwarder"),
        Addressing::Forwarder => f.write_str(", forwarder only"),
        Addressing::Auto => Ok(()),
    }
}

fn write_udp(f: &mut fmt::Formatter<'_>, udp: &UdpConfig) -> fmt::Result {
    let listen: Vec<_> = udp.listen.iter().map(ToString::to_string).collect();
    write!(f, "UDP {}", listen.join(", "))?;
    let groups: Vec<_> = udp
        .discovery
        .iter()
        .map(|group| match &group.interface {
            Some(interface) => format!("{} on {interface}", group.address),
            None => group.address.to_string(),
        })
        .collect();
    if !groups.is_empty() {
        write!(f, ", discovery {}", groups.join(", "))?;
    }
    Ok(())
}

fn write_link(f: &mut fmt::Formatter<'_>, link: &LinkSettings) -> fmt::Result {
    write!(
        f,
        ", retry {} x {}, messages up to {}",
        show_duration(link.retry),
        link.retries,
        show_size(link.max_message)
    )?;
    match link.takeover {
        Takeover::Allow => {}
        Takeover::SameSourceIp => f.write_str(", takeover from the same IP address")?,
        Takeover::Deny => f.write_str(", no takeover")?,
    }
    if link.qos_minus_one.is_some() {
        f.write_str(", QoS -1")?;
    }
    if !link.forwarders.is_empty() {
        f.write_str(", forwarders")?;
    }
    writeln!(f)
}

fn write_management(
    f: &mut fmt::Formatter<'_>,
    management: &ManagementConfig,
    gateway: &str,
) -> fmt::Result {
    write!(
        f,
        "reports  below {}/ at the broker",
        management.base(gateway)
    )?;
    match management.stats {
        Some(period) => write!(f, ", counters every {}", show_duration(period))?,
        None => f.write_str(", no counters")?,
    }
    if management.home_assistant {
        f.write_str(", for Home Assistant")?;
    }
    if management.commands {
        f.write_str(", takes requests")?;
    }
    writeln!(f)
}

fn write_store(f: &mut fmt::Formatter<'_>, disk: &DiskConfig, max_age: Duration) -> fmt::Result {
    let max = usize::try_from(disk.max).unwrap_or(usize::MAX);
    write!(
        f,
        "store    {}, sync {}, at most {} and {}",
        disk.path.display(),
        show_duration(disk.sync),
        show_size(max),
        show_duration(max_age)
    )?;
    if disk.required {
        f.write_str(", required")?;
    }
    writeln!(f)
}

fn write_mode(
    f: &mut fmt::Formatter<'_>,
    upstream: &UpstreamSettings,
    reported: Option<String>,
) -> fmt::Result {
    let word = |mode: Mode| match mode {
        Mode::PerNode => "per-node",
        Mode::Shared => "shared",
    };
    write!(f, "mode     {}", word(upstream.mode))?;
    for (pattern, mode) in &upstream.mode_for {
        write!(f, ", {} for {pattern}", word(*mode))?;
    }
    let shared = &upstream.shared;
    write!(f, ", {} + {0} connections", shared.connections)?;
    let told = shared.status_topic.as_deref().map(str::to_owned);
    let topics: Vec<_> = reported.into_iter().chain(told).collect();
    match topics.is_empty() {
        true => writeln!(f, ", no status topic"),
        false => writeln!(f, ", status on {}", topics.join(" and ")),
    }
}

fn write_broker(f: &mut fmt::Formatter<'_>, broker: &BrokerConfig) -> fmt::Result {
    match broker {
        BrokerConfig::Embedded { listen } => write!(f, "embedded, TCP {listen}"),
        BrokerConfig::Remote { host, port } if host.contains(':') => {
            write!(f, "mqtt://[{host}]:{port}")
        }
        BrokerConfig::Remote { host, port } => write!(f, "mqtt://{host}:{port}"),
    }
}
