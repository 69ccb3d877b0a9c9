//! Texts with places to fill in: topics, client ids and payloads of simulated nodes.
//!
//! `%i` index of the node, `%c` its client id, `%n` number of the message, `%p` process id, `%t`
//! milliseconds since 1970, `%%` a percent sign; `{{rand 15 25}}` a random number, `{{seq}}` the
//! number of the message, `{{sine}}` a sine between -1 and 1 over 60 messages.

use std::fmt;

use crate::clock;

/// A text whose places are known to be valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Index,
    ClientId,
    Number,
    ProcessId,
    Milliseconds,
    Random(f64, f64),
    Sine,
}

/// What the places stand for.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// Index of the node.
    pub index: usize,
    /// Its client id.
    pub client_id: &'a str,
    /// Number of the message, from 0.
    pub number: u64,
}

/// Messages of one period of `{{sine}}`.
const PERIOD: f64 = 60.0;

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When a place is not known, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let (part, length) = if let Some(inner) = rest.strip_prefix("{{") {
                let (place, _) = inner
                    .split_once("}}")
                    .ok_or_else(|| format!("{rest:?} lacks its }}}}"))?;
                (Some(function(place.trim())?), place.len() + 4)
            } else if letter == '%' {
                let (part, length) = match rest.as_bytes().get(1) {
                    Some(b'i') => (Some(Part::Index), 2),
                    Some(b'c') => (Some(Part::ClientId), 2),
                    Some(b'n') => (Some(Part::Number), 2),
                    Some(b'p') => (Some(Part::ProcessId), 2),
                    Some(b't') => (Some(Part::Milliseconds), 2),
                    Some(b'%') => (None, 2),
                    _ => (None, 1),
                };
                if part.is_none() {
                    plain.push('%');
                }
                (part, length)
            } else {
                plain.push(letter);
                (None, letter.len_utf8())
            };
            if let Some(part) = part {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(part);
            }
            rest = &rest[length..];
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// Fills in the places.
    pub fn render(&self, values: Values<'_>, random: &mut fastrand::Rng) -> String {
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(&match part {
                Part::Text(plain) => plain.clone(),
                Part::Index => values.index.to_string(),
                Part::ClientId => values.client_id.to_owned(),
                Part::Number => values.number.to_string(),
                Part::ProcessId => std::process::id().to_string(),
                Part::Milliseconds => clock::since_1970().as_millis().to_string(),
                Part::Random(least, most) => {
                    format!("{:.1}", least + random.f64() * (most - least))
                }
                Part::Sine => {
                    let turns = values.number as f64 / PERIOD;
                    format!("{:.3}", (turns * std::f64::consts::TAU).sin())
                }
            });
        }
        text
    }
}

impl From<&str> for Template {
    /// Takes a text as it is, without places.
    fn from(text: &str) -> Self {
        Self {
            parts: vec![Part::Text(text.into())],
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(plain) => f.write_str(plain),
            Part::Index => f.write_str("%i"),
            Part::ClientId => f.write_str("%c"),
            Part::Number => f.write_str("%n"),
            Part::ProcessId => f.write_str("%p"),
            Part::Milliseconds => f.write_str("%t"),
            Part::Random(least, most) => write!(f, "{{{{rand {least} {most}}}}}"),
            Part::Sine => f.write_str("{{sine}}"),
        })
    }
}

fn function(place: &str) -> Result<Part, String> {
    let words: Vec<&str> = place.split_whitespace().collect();
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    match words[..] {
        ["seq"] => Ok(Part::Number),
        ["sine"] => Ok(Part::Sine),
        ["rand", least, most] => match (number(least), number(most)) {
            (Some(least), Some(most)) if least <= most => Ok(Part::Random(least, most)),
            _ => Err(format!(
                "{{{{{place}}}}}: rand takes the least and the most, such as {{{{rand 15 25}}}}"
            )),
        },
        _ => Err(format!(
            "{{{{{place}}}}} is not known: there are {{{{rand LEAST MOST}}}}, {{{{seq}}}} and {{{{sine}}}}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> String {
        let values = Values {
            index: 3,
            client_id: "s-3",
            number: 15,
        };
        let mut random = fastrand::Rng::with_seed(1);
        Template::parse(text).unwrap().render(values, &mut random)
    }

    #[test]
    fn places_are_filled_in() {
        assert_eq!(render("s/%i/%c/%n"), "s/3/s-3/15");
        assert_eq!(render("100%%, 5% %x é"), "100%, 5% %x é");
        assert_eq!(render("{{seq}} {{ sine }}"), "15 1.000");
        assert_eq!(render("{{rand 7 7}}"), "7.0");
        assert_eq!(render(""), "");
    }

    #[test]
    fn unknown_places_are_refused() {
        for (text, expected) in [
            (
                "{{random}}",
                "{{random}} is not known: there are {{rand LEAST MOST}}, {{seq}} and {{sine}}",
            ),
            (
                "{{rand 2 1}}",
                "{{rand 2 1}}: rand takes the least and the most, such as {{rand 15 25}}",
            ),
            (
                "{{rand 1 inf}}",
                "{{rand 1 inf}}: rand takes the least and the most, such as {{rand 15 25}}",
            ),
            ("a {{seq", "\"{{seq\" lacks its }}"),
        ] {
            assert_eq!(Template::parse(text), Err(expected.into()));
        }
    }
}
