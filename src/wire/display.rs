//! One readable line a packet, as `tcpdump` would print it.
//!
//! Nodes choose names and payloads, so a line never holds a control character and never grows with
//! them: text is escaped and cut after [`TEXT_SHOWN`] octets, binary data after [`OCTETS_SHOWN`].

use std::fmt;

use super::packet::{Filter, Message, Packet, Publish, Topic, WillTopic};

const TEXT_SHOWN: usize = 100;
const OCTETS_SHOWN: usize = 32;

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(encapsulation) = &self.encapsulation {
            write!(f, "via node {}", Hex(encapsulation.node_id))?;
            if encapsulation.radius != 0 {
                write!(f, " radius {}", encapsulation.radius)?;
            }
            f.write_str(": ")?;
        }
        self.packet.fmt(f)
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Advertise { gw_id, duration } => {
                write!(f, " gateway {gw_id}, next in {duration} s")
            }
            Self::SearchGw { radius } => write!(f, " radius {radius}"),
            Self::GwInfo { gw_id, gw_addr: [] } => write!(f, " gateway {gw_id}"),
            Self::GwInfo { gw_id, gw_addr } => write!(f, " gateway {gw_id} at {}", Hex(gw_addr)),
            Self::Connect {
                will,
                clean_session,
                protocol_id,
                duration,
                client_id,
            } => {
                write!(f, " {} keep-alive {duration} s", Text(client_id))?;
                f.write_str(if *clean_session { ", clean" } else { "" })?;
                f.write_str(if *will { ", will" } else { "" })?;
                if *protocol_id != 1 {
                    write!(f, ", protocol {protocol_id}")?;
                }
                Ok(())
            }
            Self::ConnAck { code } | Self::WillTopicResp { code } | Self::WillMsgResp { code } => {
                write!(f, " {code}")
            }
            Self::WillTopicReq | Self::WillMsgReq | Self::PingResp => Ok(()),
            Self::WillTopic(will) | Self::WillTopicUpd(will) => fmt_will_topic(will.as_ref(), f),
            Self::WillMsg { message } | Self::WillMsgUpd { message } => {
                write!(f, " {}", Payload(message))
            }
            Self::Register {
                topic_id,
                msg_id,
                topic_name,
            } => {
                write!(f, " id {topic_id} = {}, msg {msg_id}", Text(topic_name))
            }
            Self::RegAck {
                topic_id,
                msg_id,
                code,
            }
            | Self::PubAck {
                topic_id,
                msg_id,
                code,
            } => {
                write!(f, " id {topic_id}, msg {msg_id}, {code}")
            }
            Self::Publish(publish) => fmt_publish(publish, f),
            Self::PubRec { msg_id }
            | Self::PubRel { msg_id }
            | Self::PubComp { msg_id }
            | Self::UnsubAck { msg_id } => write!(f, " msg {msg_id}"),
            Self::Subscribe {
                dup,
                qos,
                msg_id,
                filter,
            } => {
                write!(f, " {filter}, qos {qos}, msg {msg_id}")?;
                f.write_str(if *dup { ", dup" } else { "" })
            }
            Self::SubAck {
                qos,
                topic_id,
                msg_id,
                code,
            } => {
                write!(f, " id {topic_id}, qos {qos}, msg {msg_id}, {code}")
            }
            Self::Unsubscribe { msg_id, filter } => write!(f, " {filter}, msg {msg_id}"),
            Self::PingReq { client_id: "" } | Self::Disconnect { duration: None } => Ok(()),
            Self::PingReq { client_id } => write!(f, " {}", Text(client_id)),
            Self::Disconnect {
                duration: Some(seconds),
            } => write!(f, " sleeps {seconds} s"),
        }
    }
}

fn fmt_will_topic(will: Option<&WillTopic<'_>>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(WillTopic { qos, retain, topic }) = will else {
        return f.write_str(" none");
    };
    write!(f, " {}, qos {qos}", Text(topic))?;
    f.write_str(if *retain { ", retain" } else { "" })
}

fn fmt_publish(publish: &Publish<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, " {}, qos {}", publish.topic, publish.qos)?;
    if publish.msg_id.0 != 0 {
        write!(f, ", msg {}", publish.msg_id)?;
    }
    f.write_str(if publish.dup { ", dup" } else { "" })?;
    f.write_str(if publish.retain { ", retain" } else { "" })?;
    write!(f, ", {}", Payload(publish.data))
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal(id) => write!(f, "id {id}"),
            Self::Predefined(id) => write!(f, "pre-defined id {id}"),
            Self::Short(octets) => write!(f, "short \"{}\"", octets.escape_ascii()),
        }
    }
}

impl fmt::Display for Filter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => Text(name).fmt(f),
            Self::Predefined(id) => write!(f, "pre-defined id {id}"),
            Self::Short(octets) => write!(f, "short \"{}\"", octets.escape_ascii()),
        }
    }
}

/// Quoted and escaped; an ellipsis where it was cut.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut end = self.0.len().min(TEXT_SHOWN);
        while !self.0.is_char_boundary(end) {
            end -= 1;
        }
        write!(f, "{:?}{}", &self.0[..end], ellipsis(end, self.0.len()))
    }
}

/// Hexadecimal; an ellipsis where it was cut.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(OCTETS_SHOWN)];
        for octet in shown {
            write!(f, "{octet:02x}")?;
        }
        f.write_str(ellipsis(shown.len(), self.0.len()))
    }
}

/// The number of octets, then text if they look like ASCII text, else hexadecimal.
struct Payload<'a>(&'a [u8]);

impl fmt::Display for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(OCTETS_SHOWN)];
        write!(f, "{} octets", self.0.len())?;
        if shown.is_empty() {
            Ok(())
        } else if shown.iter().all(|octet| (0x20..0x7f).contains(octet)) {
            let dots = ellipsis(shown.len(), self.0.len());
            write!(f, " \"{}\"{dots}", shown.escape_ascii())
        } else {
            write!(f, " {}", Hex(self.0))
        }
    }
}

fn ellipsis(shown: usize, total: usize) -> &'static str {
    if shown < total { "..." } else { "" }
}
