//! Steps as people type them.

use std::time::Duration;

use mqtt_sn_gateway::wire::QoS;

use super::{PublishStep, Step, TopicStep, WillStep};
use crate::options::{any_qos, connected_qos, seconds};
use crate::template::Template;

/// Reads one step: a verb and its words; quotes keep blanks in a word. An empty line or a comment
/// (`#` and a blank) is no step.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_line(line: &str) -> Result<Option<Step>, String> {
    let words = words(line)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((verb, rest)) = words.split_first() else {
        return Ok(None);
    };
    let step = match (*verb, rest) {
        ("#", _) => return Ok(None),
        ("connect", []) => Step::Connect,
        ("disconnect", []) => Step::Disconnect,
        ("drop", []) => Step::Drop,
        ("move" | "rst", []) => Step::Move,
        ("wake", []) => Step::Wake,
        ("ping", []) => Step::Ping,
        ("reg", [name]) => Step::Register(Template::parse(name)?),
        ("sub", [filter]) => Step::Subscribe(TopicStep::parse(filter)?, QoS::AtMostOnce),
        ("sub", [filter, qos]) => Step::Subscribe(TopicStep::parse(filter)?, connected_qos(qos)?),
        ("unsub", [filter]) => Step::Unsubscribe(TopicStep::parse(filter)?),
        ("pub", [topic, payload, options @ ..]) => {
            let (qos, retain) = publish_options(options)?;
            Step::Publish(PublishStep {
                topic: TopicStep::parse(topic)?,
                payload: Template::parse(payload)?,
                qos,
                retain,
                count: 1,
                every: Duration::ZERO,
            })
        }
        ("will", [topic, payload, options @ ..]) => {
            let (qos, retain) = publish_options(options)?;
            if qos == QoS::MinusOne {
                return Err("QoS of a Will: it is 0, 1 or 2".into());
            }
            Step::Will(WillStep {
                topic: Template::parse(topic)?,
                payload: Template::parse(payload)?,
                qos,
                retain,
            })
        }
        ("sleep", [span]) => Step::Sleep(sleep_span(seconds(span)?)?),
        ("wait", [span]) => Step::Wait(seconds(span)?),
        _ => return Err(format!("{line:?} is not understood; type help")),
    };
    Ok(Some(step))
}

/// Checks that a sleep fits the protocol: 1 to 65535 seconds.
pub(crate) fn sleep_span(span: Duration) -> Result<Duration, String> {
    match span.as_secs_f64() {
        1.0..=65_535.0 => Ok(span),
        _ => Err("a sleep lasts 1 to 65535 seconds".into()),
    }
}

fn publish_options(words: &[&str]) -> Result<(QoS, bool), String> {
    match *words {
        [] => Ok((QoS::AtMostOnce, false)),
        ["retain"] => Ok((QoS::AtMostOnce, true)),
        [qos] => Ok((any_qos(qos)?, false)),
        [qos, "retain"] => Ok((any_qos(qos)?, true)),
        _ => Err("after topic and payload come the QoS and perhaps: retain".into()),
    }
}

fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.trim().chars() {
        match quote {
            Some(mark) if letter == mark => quote = None,
            Some(_) => word.get_or_insert_default().push(letter),
            None if letter == '"' || letter == '\'' => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            None if letter.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt_sn_gateway::wire::TopicId;

    fn publish(topic: TopicStep, payload: &str, qos: QoS, retain: bool) -> Step {
        Step::Publish(PublishStep {
            topic,
            payload: payload.into(),
            qos,
            retain,
            count: 1,
            every: Duration::ZERO,
        })
    }

    #[test]
    fn lines_are_steps() {
        let name = |name: &str| TopicStep::Name(name.into());
        for (line, expected) in [
            ("connect", Step::Connect),
            ("  sleep 30 ", Step::Sleep(Duration::from_secs(30))),
            (
                "sub hello/# 2",
                Step::Subscribe(name("hello/#"), QoS::ExactlyOnce),
            ),
            ("unsub ab", Step::Unsubscribe(TopicStep::Short(*b"ab"))),
            (
                "pub a/b 'two words' 1",
                publish(name("a/b"), "two words", QoS::AtLeastOnce, false),
            ),
            (
                "pub #7 x -1 retain",
                publish(TopicStep::Predefined(TopicId(7)), "x", QoS::MinusOne, true),
            ),
            ("wait 0.5", Step::Wait(Duration::from_millis(500))),
        ] {
            assert_eq!(parse_line(line), Ok(Some(expected)), "{line}");
        }
        assert_eq!(parse_line("  "), Ok(None));
        assert_eq!(parse_line("# a comment"), Ok(None));
    }

    #[test]
    fn mistakes_are_explained() {
        for (line, expected) in [
            (
                "publish a b",
                "\"publish a b\" is not understood; type help",
            ),
            ("pub a 'b", "a quote is not closed"),
            ("pub a b 3", "it is -1, 0, 1 or 2"),
            ("sleep 0", "a sleep lasts 1 to 65535 seconds"),
            ("will a b -1", "QoS of a Will: it is 0, 1 or 2"),
            ("pub '' b", "the topic is empty"),
        ] {
            assert_eq!(parse_line(line), Err(expected.into()), "{line}");
        }
    }
}
