//! What a scenario expects, and whether it came true.

use std::fmt;

use super::scenario::span;

/// A figure of a run by name, wanted in a range.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expectation {
    pub(crate) figure: Figure,
    comparison: Comparison,
    /// A share from 0 to 1, a count, or milliseconds.
    value: f64,
}

/// What can be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Share of the publishes that arrived at the broker.
    Delivered,
    /// Publishes of QoS 1 or 2 that were acknowledged and did not arrive.
    LostAcknowledged,
    /// Publishes that arrived more than once.
    Duplicates,
    /// Publishes of QoS 2 that arrived more than once.
    DuplicatesQos2,
    /// Messages that nodes received.
    Received,
    /// Requests the gateway refused.
    Rejected,
    /// Requests the gateway left unanswered.
    NoAnswer,
    /// Messages the gateway sent to a sleeping node.
    WhileAsleep,
    /// 95 percent of the publishes arrived within this.
    MaxLatencyP95,
}

const FIGURES: [(&str, Figure); 9] = [
    ("delivered", Figure::Delivered),
    ("lost_acknowledged", Figure::LostAcknowledged),
    ("duplicates", Figure::Duplicates),
    ("duplicates_qos2", Figure::DuplicatesQos2),
    ("received", Figure::Received),
    ("rejected", Figure::Rejected),
    ("no_answer", Figure::NoAnswer),
    ("while_asleep", Figure::WhileAsleep),
    ("max_latency_p95", Figure::MaxLatencyP95),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    AtLeast,
    AtMost,
    More,
    Less,
}

/// Longer operators first, so that `>=` is not read as `>`.
const COMPARISONS: [(&str, Comparison); 6] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    ("==", Comparison::Equal),
    (">", Comparison::More),
    ("<", Comparison::Less),
    ("=", Comparison::Equal),
];

impl Expectation {
    /// Reads a wanted figure: `>= 99.5%`, `0`, `< 2s`. Without an operator a latency is an upper
    /// limit and a share a lower one.
    pub(crate) fn new(name: &str, wanted: &str) -> Result<Self, String> {
        let figure = FIGURES.iter().find(|(known, _)| *known == name);
        let Some((_, figure)) = figure else {
            let known: Vec<&str> = FIGURES.iter().map(|(known, _)| *known).collect();
            return Err(format!(
                "{name:?} cannot be expected; there are {}",
                known.join(", ")
            ));
        };
        let wanted = wanted.trim();
        let operator = COMPARISONS
            .iter()
            .find(|(sign, _)| wanted.starts_with(sign));
        let (comparison, number) = match operator {
            Some((sign, comparison)) => (*comparison, wanted[sign.len()..].trim()),
            None => (figure.usual_comparison(), wanted),
        };
        Ok(Self {
            figure: *figure,
            comparison,
            value: figure.parse(number)?,
        })
    }

    /// Reads `delivered>=0.99` as a command line has it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let at = text.find(['<', '>', '=']).ok_or_else(|| {
            format!(
                "{text:?} is no expectation: write it as 'delivered>=99%' or 'duplicates_qos2=0'"
            )
        })?;
        Self::new(text[..at].trim(), &text[at..])
    }

    pub(crate) fn is_met(&self, actual: f64) -> bool {
        match self.comparison {
            Comparison::Equal => (actual - self.value).abs() < 1e-9,
            Comparison::AtLeast => actual >= self.value,
            Comparison::AtMost => actual <= self.value,
            Comparison::More => actual > self.value,
            Comparison::Less => actual < self.value,
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = COMPARISONS
            .iter()
            .find(|(_, known)| *known == self.comparison);
        let sign = sign.map_or("", |(sign, _)| sign);
        write!(f, "{} {sign} {}", self.figure, self.figure.show(self.value))
    }
}

impl Figure {
    fn usual_comparison(self) -> Comparison {
        match self {
            Self::Delivered => Comparison::AtLeast,
            Self::MaxLatencyP95 => Comparison::AtMost,
            Self::LostAcknowledged
            | Self::Duplicates
            | Self::DuplicatesQos2
            | Self::Received
            | Self::Rejected
            | Self::NoAnswer
            | Self::WhileAsleep => Comparison::Equal,
        }
    }

    /// Whether it takes an MQTT client at the broker to know it.
    pub(crate) fn is_seen_at_broker(self) -> bool {
        match self {
            Self::Delivered
            | Self::LostAcknowledged
            | Self::Duplicates
            | Self::DuplicatesQos2
            | Self::MaxLatencyP95 => true,
            Self::Received | Self::Rejected | Self::NoAnswer | Self::WhileAsleep => false,
        }
    }

    fn parse(self, text: &str) -> Result<f64, String> {
        match self {
            Self::MaxLatencyP95 => Ok(span(text)?.as_secs_f64() * 1e3),
            Self::Delivered => match text.strip_suffix('%') {
                Some(_) => Ok(crate::options::percent(text)? / 100.0),
                None => match text.parse::<f64>() {
                    Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
                    _ => Err(format!(
                        "{self} {text:?}: it is a share such as 99% or 0.99"
                    )),
                },
            },
            Self::LostAcknowledged
            | Self::Duplicates
            | Self::DuplicatesQos2
            | Self::Received
            | Self::Rejected
            | Self::NoAnswer
            | Self::WhileAsleep => match text.parse::<u32>() {
                Ok(count) => Ok(count.into()),
                Err(_) => Err(format!("{self} {text:?}: it is a number such as 0")),
            },
        }
    }

    /// Writes a value of this figure as people do.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Delivered => format!("{} %", (value * 1e5).floor() / 1e3),
            Self::MaxLatencyP95 => format!("{value:.0} ms"),
            Self::LostAcknowledged
            | Self::Duplicates
            | Self::DuplicatesQos2
            | Self::Received
            | Self::Rejected
            | Self::NoAnswer
            | Self::WhileAsleep => format!("{value:.0}"),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = FIGURES.iter().find(|(_, figure)| figure == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_are_read_and_shown() {
        for (text, shown) in [
            ("delivered>=0.995", "delivered >= 99.5 %"),
            ("delivered >= 99.5%", "delivered >= 99.5 %"),
            ("duplicates_qos2=0", "duplicates_qos2 == 0"),
            ("received > 10", "received > 10"),
            ("max_latency_p95<=2s", "max_latency_p95 <= 2000 ms"),
        ] {
            assert_eq!(Expectation::parse(text).unwrap().to_string(), shown);
        }
        assert_eq!(
            Expectation::new("max_latency_p95", "2s")
                .unwrap()
                .to_string(),
            "max_latency_p95 <= 2000 ms"
        );
        assert_eq!(
            Expectation::new("delivered", "1").unwrap().to_string(),
            "delivered >= 100 %"
        );
    }

    #[test]
    fn unknown_figures_and_odd_values_are_explained() {
        for (text, expected) in [
            (
                "speed>1",
                "\"speed\" cannot be expected; there are delivered, ",
            ),
            ("delivered", "is no expectation"),
            ("delivered>=2", "it is a share such as 99% or 0.99"),
            ("rejected=-1", "it is a number such as 0"),
            ("max_latency_p95<=2", "is no duration"),
        ] {
            let error = Expectation::parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn comparisons_compare() {
        let met = |text: &str, actual: f64| Expectation::parse(text).unwrap().is_met(actual);
        assert!(met("delivered>=99%", 0.99) && !met("delivered>=99%", 0.98));
        assert!(met("rejected=0", 0.0) && !met("rejected=0", 1.0));
        assert!(met("rejected<2", 1.0) && !met("rejected<2", 2.0));
        assert!(met("rejected>2", 3.0) && !met("rejected>2", 2.0));
        assert!(met("rejected<=2", 2.0) && !met("rejected<=2", 3.0));
    }
}
