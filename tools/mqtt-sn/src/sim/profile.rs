//! Fleets for those who have no scenario file yet.

use std::time::Duration;

use clap::ValueEnum;

use super::scenario::{Connect, Group, PublishEntry, Scenario, Span, StepEntry};

/// What the nodes of a fleet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Connected all the time; QoS 1
    Mains,
    /// Asleep between two messages; QoS 1
    Sleepy,
    /// Never connected; QoS -1 on the short topic b1
    Qosm1,
    /// Six of ten mains, three sleepy, one qosm1
    Mixed,
}

impl Profile {
    /// Writes the scenario of so many nodes that send one message an interval.
    pub(crate) fn scenario(self, nodes: usize, interval: Duration, ramp: Duration) -> Scenario {
        let pause = Span(interval.max(Duration::from_millis(1)));
        let group = |profile: Self, count| profile.group(count, pause);
        let groups = match self {
            Self::Mains | Self::Sleepy | Self::Qosm1 => vec![group(self, nodes)],
            Self::Mixed => {
                let (sleepy, unconnected) = (nodes * 3 / 10, nodes / 10);
                vec![
                    group(Self::Mains, nodes - sleepy - unconnected),
                    group(Self::Sleepy, sleepy),
                    group(Self::Qosm1, unconnected),
                ]
            }
        };
        Scenario {
            ramp: Some(Span(ramp)),
            groups,
            ..Scenario::default()
        }
    }

    fn group(self, count: usize, pause: Span) -> Group {
        let publish = |topic: Option<&str>, short: Option<&str>, qos| {
            StepEntry::Publish(PublishEntry {
                topic: topic.map(str::to_owned),
                short: short.map(str::to_owned),
                predefined: None,
                payload: "%c %n".into(),
                qos,
                retain: false,
                count: None,
                every: None,
            })
        };
        let (name, again) = match self {
            Self::Mains | Self::Mixed => (
                "mains",
                vec![publish(Some("sim/%c"), None, 1), StepEntry::Wait(pause)],
            ),
            Self::Sleepy => (
                "sleepy",
                vec![
                    publish(Some("sim/%c"), None, 1),
                    StepEntry::Sleep(pause),
                    StepEntry::Wake,
                ],
            ),
            Self::Qosm1 => (
                "qosm1",
                vec![publish(None, Some("b1"), -1), StepEntry::Wait(pause)],
            ),
        };
        Group {
            name: name.into(),
            count,
            id: None,
            connect: Connect::default(),
            topics: Vec::new(),
            impair: None,
            steps: Vec::new(),
            again,
        }
    }
}
