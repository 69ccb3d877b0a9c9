//! Options that several commands share, with the letters of `mosquitto_pub` and `mosquitto_sub`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use mqtt_sn_gateway::wire::QoS;

use crate::failure::Failure;
use crate::net::{Capture, Faults, Trace, Verbosity, local_address_for, resolve};
use crate::session::{Config, Will};

/// Where the gateway is, for those who do not search for it.
#[derive(Args, Clone, Debug)]
pub struct HostOptions {
    /// Name or address of the gateway
    #[arg(
        short = 'h',
        long,
        default_value = "127.0.0.1",
        env = "MQTTSN_HOST",
        hide_env_values = true
    )]
    host: String,
    /// UDP port of the gateway
    #[arg(
        short = 'p',
        long,
        default_value_t = 1883,
        env = "MQTTSN_PORT",
        hide_env_values = true
    )]
    port: u16,
}

impl HostOptions {
    /// Looks the gateway up.
    ///
    /// # Errors
    /// When the name is unknown.
    pub fn address(&self) -> Result<SocketAddr, Failure> {
        resolve(&self.host, self.port)
    }
}

/// Where the gateway is.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Gateway")]
pub struct GatewayOptions {
    /// Name or address of the gateway; `auto` searches for one
    #[arg(
        short = 'h',
        long,
        default_value = "127.0.0.1",
        env = "MQTTSN_HOST",
        hide_env_values = true
    )]
    pub host: String,
    /// UDP port of the gateway
    #[arg(
        short = 'p',
        long,
        default_value_t = 1883,
        env = "MQTTSN_PORT",
        hide_env_values = true
    )]
    pub port: u16,
    /// Local address to send from
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
    /// Local UDP port to send from; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub cport: u16,
}

impl GatewayOptions {
    /// Finds the gateway.
    ///
    /// # Errors
    /// When the name is unknown, or `auto` finds nothing.
    pub fn address(&self) -> Result<SocketAddr, Failure> {
        if self.host == "auto" {
            return crate::command::search::first_gateway();
        }
        resolve(&self.host, self.port)
    }

    /// Returns the local address asked for.
    pub fn local(&self, gateway: SocketAddr) -> SocketAddr {
        let address = self.bind.unwrap_or_else(|| local_address_for(gateway));
        SocketAddr::new(address, self.cport)
    }
}

/// Who the node is and how patient.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Node")]
pub struct NodeOptions {
    /// Client id [default: mqtt-sn-PID]
    #[arg(short = 'i', long, value_name = "ID")]
    pub id: Option<String>,
    /// Client id is PREFIX and the process id
    #[arg(short = 'I', long, value_name = "PREFIX", conflicts_with = "id")]
    pub id_prefix: Option<String>,
    /// Keep-alive period in seconds, 0 to 65535 [default: 60, pub: 10]
    #[arg(short = 'k', long, value_name = "SECONDS")]
    pub keepalive: Option<u16>,
    /// Keep the session at the gateway and broker (CleanSession 0)
    #[arg(short = 'c', long)]
    pub disable_clean_session: bool,
    /// Seconds until a request is repeated (T_retry)
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub t_retry: Duration,
    /// How often a request is repeated (N_retry)
    #[arg(long, value_name = "TIMES", default_value_t = 3)]
    pub n_retry: u32,
    /// Speak through forwarder encapsulation as this wireless node: text, or 0xHEX
    #[arg(long, value_name = "NODE", value_parser = wireless_node_id)]
    pub wlnid: Option<WirelessNodeId>,
    /// Topic of the Will
    #[arg(long, value_name = "TOPIC")]
    pub will_topic: Option<String>,
    /// Payload of the Will
    #[arg(long, value_name = "TEXT", requires = "will_topic")]
    pub will_payload: Option<String>,
    /// Quality of service of the Will
    #[arg(long, value_name = "QOS", requires = "will_topic", value_parser = connected_qos, default_value = "0")]
    pub will_qos: QoS,
    /// The Will is retained
    #[arg(long, requires = "will_topic")]
    pub will_retain: bool,
}

/// `WirelessNodeId` of a forwarded node, at most 252 octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WirelessNodeId(pub Vec<u8>);

impl NodeOptions {
    /// Turns the options into the behaviour of a node.
    pub fn config(&self, default_keep_alive: u16) -> Config {
        let pid = std::process::id();
        let client_id = match (&self.id, &self.id_prefix) {
            (Some(id), _) => id.clone(),
            (None, Some(prefix)) => format!("{prefix}{pid}"),
            (None, None) => format!("mqtt-sn-{pid}"),
        };
        Config {
            client_id,
            keep_alive: self.keepalive.unwrap_or(default_keep_alive),
            clean_session: !self.disable_clean_session,
            will: self.will_topic.as_ref().map(|topic| Will {
                topic: topic.clone(),
                payload: self.will_payload.clone().unwrap_or_default().into(),
                qos: self.will_qos,
                retain: self.will_retain,
            }),
            retry: self.t_retry,
            retries: self.n_retry,
            window: 1,
            wireless_node_id: self.wlnid.clone().map(|node| node.0),
        }
    }
}

/// What is shown and recorded.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct WatchOptions {
    /// Show packets on stderr; twice shows their octets too
    #[arg(short = 'd', long, action = ArgAction::Count)]
    pub debug: u8,
    /// Say nothing but messages and errors
    #[arg(long)]
    pub quiet: bool,
    /// Record the packets for Wireshark
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
}

impl WatchOptions {
    /// Makes the observer asked for. Says how to read a capture file of traffic with `port`.
    ///
    /// # Errors
    /// When the capture file cannot be written.
    pub fn trace(&self, port: u16) -> Result<Trace, Failure> {
        let verbosity = match self.debug {
            0 => Verbosity::Silent,
            1 => Verbosity::Packets,
            2.. => Verbosity::Octets,
        };
        let capture = match &self.pcap {
            None => None,
            Some(path) => {
                let capture = Capture::create(path).map_err(|error| {
                    Failure::Socket(format!("cannot write {}: {error}", path.display()))
                })?;
                if !self.quiet {
                    eprintln!(
                        "mqtt-sn: read the capture with: {}",
                        Capture::hint(path, port)
                    );
                }
                Some(capture)
            }
        };
        Ok(Trace::new(verbosity, capture))
    }
}

/// The form of results.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Output")]
pub struct FormOptions {
    /// Write results as one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Faults on the way, for trying out what a bad radio does.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Bad link (both directions)")]
pub struct FaultOptions {
    /// Lose this share of datagrams
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent, hide_default_value = true)]
    pub loss: f64,
    /// Lose this share on the way to the gateway [default: as --loss]
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub loss_tx: Option<f64>,
    /// Lose this share on the way from the gateway [default: as --loss]
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub loss_rx: Option<f64>,
    /// Double this share of datagrams
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent, hide_default_value = true)]
    pub dup: f64,
    /// Hold this share back so that others overtake
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent, hide_default_value = true)]
    pub reorder: f64,
    /// Change an octet in this share
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent, hide_default_value = true)]
    pub corrupt: f64,
    /// Delay every datagram
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub delay: u32,
    /// Delay it further by up to this
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub jitter: u32,
    /// Lose datagrams longer than this
    #[arg(
        long,
        value_name = "OCTETS",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub mtu: usize,
    /// Number that makes the faults repeatable
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
}

impl FaultOptions {
    /// Returns the faults on the way to the gateway and from it.
    pub fn faults(&self) -> (Faults, Faults) {
        let both = Faults {
            loss: self.loss,
            dup: self.dup,
            reorder: self.reorder,
            corrupt: self.corrupt,
            delay: Duration::from_millis(self.delay.into()),
            jitter: Duration::from_millis(self.jitter.into()),
            mtu: self.mtu,
        };
        let with_loss = |loss: Option<f64>| Faults {
            loss: loss.unwrap_or(both.loss),
            ..both
        };
        (with_loss(self.loss_tx), with_loss(self.loss_rx))
    }
}

/// Reads a quality of service, -1 to 2.
///
/// # Errors
/// When it is none of the four.
pub fn any_qos(text: &str) -> Result<QoS, String> {
    match text {
        "-1" => Ok(QoS::MinusOne),
        _ => connected_qos(text).map_err(|_| "it is -1, 0, 1 or 2".into()),
    }
}

/// Reads a quality of service for a connected node, 0 to 2.
///
/// # Errors
/// When it is none of the three.
pub fn connected_qos(text: &str) -> Result<QoS, String> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("it is 0, 1 or 2".into()),
    }
}

/// Reads seconds, fractions allowed, up to a year.
///
/// # Errors
/// When it is no such number.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let year = 366.0 * 86_400.0;
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=year).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("it is a number of seconds, such as 10 or 0.5".into()),
    }
}

/// Reads a share in percent, with or without the sign.
///
/// # Errors
/// When it is not between 0 and 100.
pub fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
        _ => Err("it is a share in percent, 0 to 100".into()),
    }
}

/// Reads octets written in hexadecimal; blanks, colons, commas and `0x` between them are skipped.
///
/// # Errors
/// When something else is in it, or half an octet.
pub fn hex(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    for word in text.split([' ', '\t', ':', ',', '\n', '\r']) {
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let digits = digits.as_bytes();
        if digits.len() % 2 != 0 {
            return Err(format!(
                "half an octet in {word:?}: hexadecimal digits come in pairs"
            ));
        }
        for pair in digits.chunks(2) {
            let octet = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|pair| u8::from_str_radix(pair, 16).ok());
            octets.push(octet.ok_or_else(|| format!("{word:?} is not hexadecimal"))?);
        }
    }
    Ok(octets)
}

fn wireless_node_id(text: &str) -> Result<WirelessNodeId, String> {
    let octets = match text.strip_prefix("0x") {
        Some(digits) => hex(digits)?,
        None => text.as_bytes().to_vec(),
    };
    match octets.len() {
        0..=252 => Ok(WirelessNodeId(octets)),
        _ => Err("it has at most 252 octets".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_as_people_paste_it() {
        let octets = vec![0x04, 0x18, 0x00, 0x0a];
        for text in [
            "0418000a",
            "04 18 00 0A",
            "04:18:00:0a",
            "0x04,0x18, 0x00 0x0a",
        ] {
            assert_eq!(hex(text), Ok(octets.clone()), "{text:?}");
        }
        assert_eq!(hex(""), Ok(vec![]));
        assert!(hex("041").unwrap_err().contains("half an octet"));
        assert!(hex("zz").unwrap_err().contains("not hexadecimal"));
        assert!(hex("+1").unwrap_err().contains("not hexadecimal"));
        assert!(hex("é0").is_err());
    }

    #[test]
    fn shares_and_durations_have_limits() {
        assert_eq!(percent("5%"), Ok(5.0));
        assert_eq!(percent("0.5"), Ok(0.5));
        for text in ["-1", "101", "NaN", "x", ""] {
            assert!(percent(text).is_err(), "{text:?}");
        }
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for text in ["-1", "inf", "NaN", "1e99", "ten"] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_wireless_node_id_is_text_or_hexadecimal() {
        assert_eq!(wireless_node_id("0x01ff"), Ok(WirelessNodeId(vec![1, 255])));
        assert_eq!(wireless_node_id("n1"), Ok(WirelessNodeId(b"n1".to_vec())));
        assert!(wireless_node_id(&"n".repeat(253)).is_err());
    }
}
