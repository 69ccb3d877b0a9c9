//! One event as JSON: what happened, decoded and in words.

use std::fmt::Write;

use serde::Serialize;

use crate::clock::Clock;
use crate::gateway::{Happening, Peer, Trace, Way};
use crate::upstream::{Event as BrokerEvent, Request};
use crate::wire;

/// The JSON of an event.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    at: f64,
    /// packet, broker, state, trouble, refused, forgotten, uplink or missed.
    event: &'static str,
    node: Option<String>,
    link: Option<String>,
    /// in (from the node), out (to the node), up (to the broker), down (from the broker).
    direction: Option<&'static str>,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    address: Option<String>,
    text: String,
    dropped: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

/// Writes one trace as JSON, as a reader of the events gets it, octets included.
pub(crate) fn describe(trace: &Trace, link: Option<&str>) -> String {
    let shown = Shown::new(trace, link, &Clock::now());
    let mut text = shown.json().unwrap_or_default();
    if let Happening::Packet { bytes, .. } = &trace.what {
        append_hex(&mut text, bytes);
    }
    text
}

impl Shown {
    /// Tells a reader what it does not see.
    pub(super) fn missed(missed: u64, text: String, clock: &Clock) -> Self {
        Self {
            at: clock.unix(clock.instant()),
            event: "missed",
            node: None,
            link: None,
            direction: None,
            kind: None,
            address: None,
            text,
            dropped: None,
            missed: Some(missed),
        }
    }

    pub(super) fn new(trace: &Trace, link: Option<&str>, clock: &Clock) -> Self {
        let mut shown = Self {
            at: clock.unix(trace.at),
            event: "",
            node: trace.node.as_ref().map(ToString::to_string),
            link: link.map(ToString::to_string),
            direction: trace.what.way().map(Way::name),
            kind: trace.what.kind(),
            address: None,
            text: String::new(),
            dropped: None,
            missed: None,
        };
        let address = |peer: &Option<Peer>| peer.as_ref().map(ToString::to_string);
        match &trace.what {
            Happening::Packet {
                peer,
                bytes,
                dropped,
                ..
            } => {
                shown.event = "packet";
                shown.address = address(peer);
                shown.dropped = dropped.map(crate::stats::Drop::words);
                match wire::decode(bytes) {
                    Ok(message) => shown.text = message.to_string(),
                    Err(error) => shown.text = format!("{} octets: {error}", bytes.len()),
                }
            }
            Happening::Request(request) => {
                shown.event = "broker";
                shown.text = request_text(request);
            }
            Happening::Event(event) => {
                shown.event = "broker";
                shown.text = event_text(event);
            }
            Happening::State { from, to, peer } => {
                shown.event = "state";
                shown.address = address(peer);
                shown.text = format!("{} -> {}", from.name(), to.name());
            }
            Happening::Trouble(trouble) => {
                shown.event = "trouble";
                shown.text = trouble.to_string();
            }
            Happening::Refused { peer, reason } => {
                shown.event = "refused";
                shown.address = Some(peer.to_string());
                shown.text = format!("CONNECT refused: {}", reason.words());
            }
            Happening::Forgotten => {
                shown.event = "forgotten";
                shown.text = "its session is over and forgotten".to_owned();
            }
            Happening::Erased => {
                shown.event = "forgotten";
                shown.text = "somebody had it forgotten".to_owned();
            }
            Happening::Broker(up) => {
                shown.event = "uplink";
                shown.text = if *up { "broker reached" } else { "broker lost" }.to_owned();
            }
        }
        shown
    }

    /// Writes a server-sent event.
    pub(super) fn write(&self, octets: Option<&[u8]>, buffer: &mut String) {
        let Some(mut json) = self.json() else {
            return;
        };
        if let Some(octets) = octets {
            append_hex(&mut json, octets);
        }
        let _ = write!(buffer, "event: {}\ndata: {json}\n\n", self.event);
    }

    fn json(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }
}

/// Adds octets to a JSON object.
fn append_hex(json: &mut String, octets: &[u8]) {
    json.truncate(json.strip_suffix('}').unwrap_or(json).len());
    json.push_str(",\"hex\":\"");
    for octet in octets {
        let _ = write!(json, "{octet:02x}");
    }
    json.push_str("\"}");
}

fn request_text(request: &Request) -> String {
    match request {
        Request::Connect(options) => {
            let clean = if options.clean_session { ", clean" } else { "" };
            let will = if options.will.is_some() { ", will" } else { "" };
            format!("CONNECT {:?}{clean}{will}", options.client_id)
        }
        Request::Publish {
            topic,
            payload,
            qos,
            retain,
            ..
        } => {
            let retain = if *retain { ", retain" } else { "" };
            let octets = payload.len();
            format!(
                "PUBLISH {}, qos {qos}{retain}, {octets} octets",
                name(topic)
            )
        }
        Request::Release { .. } => "PUBREL".to_owned(),
        Request::Subscribe { filter, qos, .. } => format!("SUBSCRIBE {}, qos {qos}", name(filter)),
        Request::Unsubscribe { filter, .. } => format!("UNSUBSCRIBE {}", name(filter)),
        Request::Acknowledge(delivery) => format!("acknowledges msg {}", delivery.packet_id),
        Request::Complete(delivery) => format!("PUBCOMP {}", delivery.packet_id),
        Request::Discard(delivery) => {
            let id = delivery.packet_id;
            format!("gives up msg {id}: the node will not have it")
        }
        Request::Postpone(delivery) => {
            format!("leaves msg {} with the broker: no room", delivery.packet_id)
        }
        Request::Recall => "fetches what was left with the broker".to_owned(),
        Request::ChangeWill(_) => "changes its Will".to_owned(),
        Request::Disconnect => "DISCONNECT".to_owned(),
        Request::Abandon => "closes without DISCONNECT: the Will fires".to_owned(),
    }
}

fn event_text(event: &BrokerEvent) -> String {
    match event {
        BrokerEvent::Connected { session_present } => {
            let kept = if *session_present {
                ", session present"
            } else {
                ""
            };
            format!("CONNACK accepted{kept}")
        }
        BrokerEvent::Refused(refusal) => refusal.words().to_owned(),
        BrokerEvent::Uplink { .. } | BrokerEvent::Unsubscribed { .. } => {
            event.name().unwrap_or_default().to_owned()
        }
        BrokerEvent::NoRoom { .. } => "no room: the store is full".to_owned(),
        BrokerEvent::Subscribed { granted, .. } => match granted {
            Some(qos) => format!("SUBACK qos {qos}"),
            None => "SUBACK refused".to_owned(),
        },
        BrokerEvent::Message(inbound) => {
            let (qos, octets) = (inbound.qos, inbound.payload.len());
            let topic = name(&inbound.topic);
            format!("PUBLISH {topic}, qos {qos}, {octets} octets")
        }
        BrokerEvent::Released(delivery) => format!("PUBREL {}", delivery.packet_id),
        BrokerEvent::Closed => "connection lost for good".to_owned(),
    }
}

/// Writes a name quoted, escaped and cut.
fn name(text: &str) -> String {
    let mut shown: String = text.chars().take(100).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    format!("{shown:?}")
}
