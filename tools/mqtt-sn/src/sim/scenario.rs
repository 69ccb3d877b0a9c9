//! The scenario file, as it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

use crate::failure::Failure;
use crate::net::Faults;

/// A scenario: who is there, what they do, what happens to them, what must come of it.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What it shows, in a sentence.
    pub(crate) about: Option<String>,
    pub(crate) gateway: Option<GatewayAddress>,
    /// Number that makes faults and random payloads repeatable.
    #[serde(default)]
    pub(crate) seed: u64,
    /// How long it runs.
    pub(crate) duration: Option<Span>,
    /// Time from the start of one node to the next.
    pub(crate) ramp: Option<Span>,
    /// Faults for every node.
    #[serde(default)]
    pub(crate) impair: Impair,
    pub(crate) groups: Vec<Group>,
    #[serde(default)]
    pub(crate) events: Vec<Event>,
    pub(crate) expect: Option<Expect>,
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatewayAddress {
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
}

/// Nodes of one kind.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) name: String,
    #[serde(default = "one", deserialize_with = "count")]
    pub(crate) count: usize,
    /// Client ids; `%i` is the number within the group. Default: the group's name and number.
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) connect: Connect,
    /// Names of pre-defined ids, so that their messages can be followed.
    #[serde(default)]
    pub(crate) topics: Vec<TopicEntry>,
    /// Faults for these nodes instead of the scenario's.
    pub(crate) impair: Option<Impair>,
    /// Done once.
    #[serde(default)]
    pub(crate) steps: Vec<StepEntry>,
    /// Done again and again.
    #[serde(default, rename = "loop")]
    pub(crate) again: Vec<StepEntry>,
}

fn one() -> usize {
    1
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let what = "a number of nodes such as 20";
    let text = deserializer.deserialize_any(ScalarText(what))?;
    text.parse()
        .map_err(|_| D::Error::custom(format!("{text:?} is not {what}")))
}

fn keep_alive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let what = "a whole number of seconds up to 65535, without a unit, such as 60";
    let text = deserializer.deserialize_any(ScalarText(what))?;
    let seconds = text.parse();
    seconds
        .map(Some)
        .map_err(|_| D::Error::custom(format!("{text:?} is not {what}")))
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connect {
    pub(crate) clean: Option<bool>,
    #[serde(default, deserialize_with = "keep_alive")]
    pub(crate) keepalive: Option<u16>,
    pub(crate) will: Option<WillEntry>,
    pub(crate) t_retry: Option<Span>,
    pub(crate) n_retry: Option<u32>,
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WillEntry {
    pub(crate) topic: String,
    #[serde(default)]
    pub(crate) payload: String,
    #[serde(default)]
    pub(crate) qos: u8,
    #[serde(default)]
    pub(crate) retain: bool,
}

/// A topic registered at the start, or the name of a pre-defined id.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopicEntry {
    pub(crate) name: Option<String>,
    pub(crate) predefined: Option<u16>,
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StepEntry {
    Connect,
    Disconnect,
    Drop,
    Move,
    Wake,
    Ping,
    Register(String),
    Publish(PublishEntry),
    Subscribe(SubscribeEntry),
    Unsubscribe(SubscribeEntry),
    Sleep(Span),
    Wait(Span),
    Will(WillEntry),
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishEntry {
    pub(crate) topic: Option<String>,
    pub(crate) short: Option<String>,
    pub(crate) predefined: Option<u16>,
    #[serde(default)]
    pub(crate) payload: String,
    #[serde(default)]
    pub(crate) qos: i8,
    #[serde(default)]
    pub(crate) retain: bool,
    pub(crate) count: Option<u32>,
    pub(crate) every: Option<Span>,
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubscribeEntry {
    pub(crate) topic: Option<String>,
    pub(crate) short: Option<String>,
    pub(crate) predefined: Option<u16>,
    #[serde(default)]
    pub(crate) qos: i8,
}

/// Something that happens to nodes at a time; names are client ids, `*` at the end fits any rest.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    pub(crate) at: Span,
    /// Vanish without DISCONNECT.
    pub(crate) kill: Option<String>,
    /// Forget everything and start again.
    pub(crate) reboot: Option<String>,
    /// Go on from another port.
    #[serde(rename = "move")]
    pub(crate) move_: Option<String>,
    /// Nothing passes between nodes and gateway for so long.
    pub(crate) pause_gateway_link: Option<Span>,
    /// An MQTT client publishes at the broker.
    pub(crate) publish: Option<BrokerPublish>,
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BrokerPublish {
    pub(crate) topic: String,
    #[serde(default)]
    pub(crate) payload: String,
    #[serde(default)]
    pub(crate) qos: u8,
}

/// What must come true: the broker where it is looked at, and figures by name.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(crate) struct Expect {
    pub(crate) broker: Option<String>,
    /// Topics on which a Will must have been published, and no others.
    pub(crate) will: Option<Vec<String>>,
    #[serde(flatten)]
    pub(crate) figures: BTreeMap<String, Wanted>,
}

/// A wanted figure as it is written: a number, or a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted(pub(crate) String);

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let what =
            "a figure such as 0, \">= 99.5%\" or 2s (topics of Wills are expected by will: [...])";
        deserializer.deserialize_any(ScalarText(what)).map(Self)
    }
}

#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Impair {
    #[serde(default)]
    loss: Share,
    #[serde(default)]
    dup: Share,
    #[serde(default)]
    reorder: Share,
    #[serde(default)]
    corrupt: Share,
    #[serde(default)]
    delay: Span,
    #[serde(default)]
    jitter: Span,
    #[serde(default)]
    mtu: usize,
}

impl Impair {
    pub(crate) fn faults(self) -> Faults {
        Faults {
            loss: self.loss.0,
            dup: self.dup.0,
            reorder: self.reorder.0,
            corrupt: self.corrupt.0,
            delay: self.delay.0,
            jitter: self.jitter.0,
            mtu: self.mtu,
        }
    }
}

/// A duration with its unit: `500ms`, `10s`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// A share in percent: `5%`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Share(f64);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text =
            deserializer.deserialize_any(ScalarText("a duration such as 500ms, 10s, 2m or 1h"))?;
        span(&text).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_any(ScalarText("a share such as 5%"))?;
        let share = crate::options::percent(&text);
        share
            .map(Self)
            .map_err(|why| D::Error::custom(format!("{text:?}: {why}")))
    }
}

/// Reads a duration with its unit, up to a year.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write 500ms, 10s, 2m or 1h");
    let at = text
        .find(|letter: char| letter.is_ascii_alphabetic())
        .ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(wrong()),
    };
    let seconds = number.trim().parse::<f64>().map_err(|_| wrong())? * factor;
    match seconds {
        0.0..=31_622_400.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(wrong()),
    }
}

/// Takes any scalar as text, so that `5`, `5.5` and `5s` are told apart by us and not by YAML.
struct ScalarText(&'static str);

impl Visitor<'_> for ScalarText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

impl Scenario {
    /// Reads a scenario file.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::Socket(format!("cannot read {}: {error}", path.display())))?;
        Self::parse(&text).map_err(|why| Failure::Usage(format!("{}: {why}", path.display())))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        serde_yaml::from_str(text).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(span("1.5h"), Ok(Duration::from_secs(5400)));
        for text in ["", "10", "s", "10 weeks", "-1s", "1e999s", "NaNs"] {
            let expected = format!("{text:?} is no duration: write 500ms, 10s, 2m or 1h");
            assert_eq!(span(text), Err(expected));
        }
    }

    #[test]
    fn the_example_of_the_manual_is_read() {
        let scenario = Scenario::parse(
            r#"
gateway: {host: 127.0.0.1, port: 10000}
seed: 42
impair: {loss: 5%, delay: 20ms, jitter: 10ms}
groups:
  - name: sleepy
    count: 20
    id: "s-%i"
    connect: {clean: false, keepalive: 120, will: {topic: "s/%i/lwt", payload: lost, retain: true}}
    topics: [{name: "s/%i/temp"}, {predefined: 7}]
    loop: [publish: {topic: "s/%i/temp", qos: 1, payload: "{{rand 15 25}}"}, sleep: 60s, wake]
  - name: button
    count: 3
    steps: [{publish: {short: b1, qos: -1, payload: "1", count: 10, every: 1s}}]
events: [{at: 120s, kill: "s-3"}, {at: 150s, pause_gateway_link: 10s}]
expect: {broker: "mqtt://localhost:1883", delivered: ">= 99.5%", duplicates_qos2: 0, will: ["s/3/lwt"], max_latency_p95: 2s}
"#,
        )
        .unwrap();
        assert_eq!(scenario.impair.faults().loss, 5.0);
        assert_eq!(scenario.groups[0].again.len(), 3);
        assert!(matches!(scenario.groups[0].again[2], StepEntry::Wake));
        let expect = scenario.expect.unwrap();
        assert_eq!(expect.figures["delivered"], Wanted(">= 99.5%".into()));
        assert_eq!(expect.figures["duplicates_qos2"], Wanted("0".into()));
    }

    #[test]
    fn mistakes_have_a_line() {
        for (text, expected) in [
            ("groups:\n  - name: a\n    colour: red\n", "colour"),
            (
                "groups:\n  - name: a\n    steps: [{sleep: 10}]\n",
                "write 500ms, 10s, 2m or 1h",
            ),
            ("groups:\n  - name: a\n    steps: [jump]\n", "jump"),
            ("impair: {loss: 120%}\ngroups: []\n", "0 to 100"),
            (
                "groups:\n  - name: a\n    connect: {keepalive: 30s}\n",
                "\"30s\" is not a whole number of seconds",
            ),
            (
                "groups:\n  - name: a\n    count: -4\n",
                "\"-4\" is not a number of nodes",
            ),
            (
                "groups: []\nexpect:\n  wills: [a]\n",
                "topics of Wills are expected by will: [...]",
            ),
        ] {
            let error = Scenario::parse(text).unwrap_err();
            assert!(
                error.contains(expected) && error.contains("line"),
                "{error}"
            );
        }
    }
}
