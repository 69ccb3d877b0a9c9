//! The `links:` section.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use super::LinkConfig;
use super::problem::{Place, Problem};
use super::section::{Reader, Section};
use super::serial::{missing_device, read_serial};
use super::value::{
    choice, duration, expects, list, listen, multicast_group, name, network, number, radio, size,
    text, truth,
};
use super::yaml::Node;
use crate::gateway::{GwInfoTo, LinkSettings, Network, QosMinusOne, QosMinusOneTopic, Takeover};
use crate::links::serial::{Addressing, Device};
use crate::links::udp::UdpConfig;
use crate::wire::TopicId;

/// The kinds of links; what each one has of its own is read by a function of its own.
#[derive(Clone, Copy)]
enum LinkType {
    Udp,
    Serial,
}

const LINK_TYPES: [(&str, LinkType); 2] = [("udp", LinkType::Udp), ("serial", LinkType::Serial)];

/// Most links of one gateway.
const LINKS_MAX: usize = 255;

/// Reads the list of links.
pub(super) fn read_links(reader: &Reader<'_>, node: &Node) -> (Vec<LinkSettings>, Vec<LinkConfig>) {
    let items = node.list().unwrap_or_default();
    let complaint = match node.list() {
        None => Some("a list is wanted, each link with - in front"),
        Some([]) => Some("at least one is needed, such as - {type: udp}"),
        Some(items) if items.len() > LINKS_MAX => Some("so many are not possible"),
        Some(_) => None,
    };
    if let Some(complaint) = complaint {
        reader.report(Problem::new(node.place, complaint).about("links"));
        return (Vec::new(), Vec::new());
    }
    let mut names: Vec<(Place, String)> = Vec::new();
    let mut sockets: Vec<(Place, SocketAddr)> = Vec::new();
    let mut devices: Vec<(Place, Device)> = Vec::new();
    let mut links = (Vec::new(), Vec::new());
    for node in items {
        let Some((settings, config)) = read_link(reader, node, &names) else {
            continue;
        };
        if let Some((first, _)) = names.iter().find(|(_, name)| **name == *settings.name) {
            reader.report(
                Problem::new(
                    node.place,
                    format!("two links are named '{}'", settings.name),
                )
                .related_to(*first, "first here"),
            );
        }
        names.push((node.place, settings.name.to_string()));
        match &config {
            LinkConfig::Udp(udp) => {
                for address in &udp.listen {
                    once(reader, node.place, address, "listened on", &mut sockets);
                }
            }
            LinkConfig::Serial(serial) => {
                let used = [&serial.device].into_iter().chain(&serial.transmit_device);
                for device in used.filter(|device| **device != missing_device()) {
                    once(reader, node.place, device, "used", &mut devices);
                }
            }
        }
        links.0.push(settings);
        links.1.push(config);
    }
    links
}

/// Reports what two links have in common and may not.
fn once<T: Clone + PartialEq + Display>(
    reader: &Reader<'_>,
    place: Place,
    thing: &T,
    done: &str,
    known: &mut Vec<(Place, T)>,
) {
    if let Some((first, _)) = known.iter().find(|(_, known)| known == thing) {
        reader.report(
            Problem::new(place, format!("{thing} is {done} twice"))
                .related_to(*first, "first here"),
        );
    }
    known.push((place, thing.clone()));
}

fn read_link(
    reader: &Reader<'_>,
    node: &Node,
    names: &[(Place, String)],
) -> Option<(LinkSettings, LinkConfig)> {
    let mut section = Section::open(reader, "a link", node);
    let Some(kind) = section.get("type") else {
        let known = LINK_TYPES.map(|(name, _)| name).join(", ");
        let message = format!("a link needs its type (one of {known})");
        reader.report(Problem::new(node.place, message));
        return None;
    };
    let kind = match choice(&LINK_TYPES)(reader, kind) {
        Ok(kind) => kind,
        Err(problem) => {
            reader.report(problem.about("type"));
            return None;
        }
    };
    let (mut settings, mut config) = match kind {
        LinkType::Udp => {
            let udp = read_udp(&mut section);
            let mut settings = LinkSettings::udp(&free_name("udp", names));
            settings.can_broadcast = !udp.discovery.is_empty();
            (settings, LinkConfig::Udp(udp))
        }
        LinkType::Serial => {
            let serial = read_serial(reader, node.place, &mut section);
            let name = free_name(serial.framing.name(), names);
            let mut settings = LinkSettings::serial(&name, serial.max_message);
            if serial.addressing == Addressing::Single {
                settings.forwarders.clear();
            }
            (settings, LinkConfig::Serial(Box::new(serial)))
        }
    };
    let sender = match kind {
        LinkType::Udp => network,
        LinkType::Serial => radio,
    };
    read_common(reader, &mut section, &mut settings, sender);
    if let LinkConfig::Serial(serial) = &mut config {
        serial.name = settings.name.clone();
        serial.max_message = settings.max_message;
    }
    section.finish();
    Some((settings, config))
}

/// Returns `udp`, or `udp2` if that is taken, and so on.
fn free_name(kind: &str, names: &[(Place, String)]) -> String {
    let taken = |name: &String| names.iter().any(|(_, known)| known == name);
    let numbered = (2..).map(|n| format!("{kind}{n}"));
    std::iter::once(kind.to_owned())
        .chain(numbered)
        .find(|name| !taken(name))
        .unwrap_or_default()
}

fn read_udp(section: &mut Section<'_>) -> UdpConfig {
    let mut udp = UdpConfig::default();
    section.set("listen", &mut udp.listen, |reader, node| {
        if node.list().is_some_and(<[Node]>::is_empty) {
            return Err(Problem::new(node.place, "at least one address is needed"));
        }
        Ok(list(listen)(reader, node)?.concat())
    });
    section.set("discovery", &mut udp.discovery, list(multicast_group));
    udp
}

/// Reads what every kind of link has; `sender` reads who may do what.
fn read_common(
    reader: &Reader<'_>,
    section: &mut Section<'_>,
    link: &mut LinkSettings,
    sender: fn(&Reader<'_>, &Node) -> Result<Network, Problem>,
) {
    section.set("name", &mut link.name, name);
    let largest = link.max_message;
    section.set("max_message", &mut link.max_message, size(16..=largest));
    let patience = duration(Duration::from_millis(10)..=Duration::from_secs(3600));
    section.set("retry", &mut link.retry, patience);
    section.set("retries", &mut link.retries, number(0..=100));
    let takeovers = [
        ("allow", Takeover::Allow),
        ("same-source-ip", Takeover::SameSourceIp),
        ("deny", Takeover::Deny),
    ];
    section.set("takeover", &mut link.takeover, choice(&takeovers));
    if let Some(node) = section.get("qos_minus_one") {
        link.qos_minus_one = Some(read_qos_minus_one(reader, node, sender));
    }
    section.set("forwarders", &mut link.forwarders, list(sender));
    let ways = [
        ("unicast", GwInfoTo::Unicast),
        ("broadcast", GwInfoTo::Broadcast),
        ("both", GwInfoTo::Both),
    ];
    section.set("gwinfo", &mut link.gwinfo, choice(&ways));
    if link.gwinfo != GwInfoTo::Unicast && !link.can_broadcast {
        let message = "gwinfo: there is nowhere to broadcast to, name a group under discovery";
        reader.report(Problem::new(section.place("gwinfo"), message));
    }
    let quirk = &mut link.paho_length_quirk;
    section.set("paho_length_quirk", quirk, truth);
}

fn read_qos_minus_one(
    reader: &Reader<'_>,
    node: &Node,
    sender: fn(&Reader<'_>, &Node) -> Result<Network, Problem>,
) -> QosMinusOne {
    let mut section = Section::open(reader, "qos_minus_one", node);
    let mut settings = QosMinusOne {
        allow: Vec::new(),
        topics: None,
        named_topics: false,
    };
    match section.read("allow", list(sender)) {
        Some(allow) => settings.allow = allow,
        None if section.get("allow").is_none() => {
            let message = "qos_minus_one: who may? Write allow: [\"127.0.0.0/8\"], or [any]";
            reader.report(Problem::new(node.place, message));
        }
        None => {}
    }
    section.set("topics", &mut settings.topics, |reader, node| {
        if node.text() == Some("any") {
            return Ok(None);
        }
        list(qos_minus_one_topic)(reader, node).map(Some)
    });
    section.set("named_topics", &mut settings.named_topics, truth);
    section.finish();
    settings
}

/// Reads a pre-defined id or a short topic name.
fn qos_minus_one_topic(reader: &Reader<'_>, node: &Node) -> Result<QosMinusOneTopic, Problem> {
    if node.integer().is_some() {
        let id = number(1..=65_534)(reader, node)?;
        return Ok(QosMinusOneTopic::Predefined(TopicId(id)));
    }
    let text = text(reader, node)?;
    match <[u8; 2]>::try_from(text.as_bytes()) {
        Ok(name) if !text.contains(['+', '#', '\0']) => Ok(QosMinusOneTopic::Short(name)),
        _ => Err(expects(
            node,
            "a pre-defined topic id or a short topic name of two characters",
        )),
    }
}
