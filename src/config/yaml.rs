//! YAML text as a tree in which every value knows its line and column.
//!
//! Scalars keep the type they were written with: `010`, `on` and `1_000`, which YAML readers disagree
//! about, stay text, so that whoever wants a number or a switch there can say what is wrong with them.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_yaml::{
    DuplicateKeyPolicy, Error, Location, MessageFormatter, Options, Spanned, UserMessageFormatter,
};

use super::problem::{Place, Problem};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Line and column of its first character.
    pub(super) place: Place,
    /// The value itself.
    pub(super) value: Value,
}

/// What YAML can say.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing, or `null`, or `~`.
    Null,
    /// `true` or `false`; nothing else.
    Bool(bool),
    /// A whole number without quotes, leading zeros or underscores.
    Integer(i128),
    /// A number with a point or an exponent.
    Float(f64),
    /// Any other scalar, and whatever is quoted.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the file, keys that occur twice included.
    Map(Vec<(Node, Node)>),
}

/// Deepest nesting; the configuration needs 6, and every level costs stack.
const DEPTH_MAX: usize = 16;

/// Parses one document; an empty one is `Null`.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let options: Options = serde_yaml::options! {
        budget: serde_yaml::budget! { max_depth: DEPTH_MAX },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_yaml::from_str_with_options::<Option<Node>>(text, options) {
        Ok(Some(node)) => Ok(node),
        Ok(None) => Ok(Node {
            place: Place::START,
            value: Value::Null,
        }),
        Err(error) => Err(syntax_problem(&error, text)),
    }
}

impl Node {
    /// Whether there is no value.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// Returns a whole number.
    pub(super) fn integer(&self) -> Option<i128> {
        match self.value {
            Value::Integer(value) => Some(value),
            Value::Null
            | Value::Bool(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_) => None,
        }
    }

    /// Returns text.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::List(_)
            | Value::Map(_) => None,
        }
    }

    /// Returns the items of a list.
    pub(super) fn list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(items) => Some(items),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Map(_) => None,
        }
    }

    /// Returns the keys and values of a mapping.
    pub(super) fn map(&self) -> Option<&[(Self, Self)]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_) => None,
        }
    }

    /// Whether the value is one word or number.
    pub(super) fn is_scalar(&self) -> bool {
        !self.is_null() && self.list().is_none() && self.map().is_none()
    }

    /// Says what kind of value this is, in the words of a message.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a truth value",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Bool(value) => value.fmt(f),
            Value::Integer(value) => value.fmt(f),
            Value::Float(value) => value.fmt(f),
            Value::Text(value) => value.fmt(f),
            Value::Null | Value::List(_) | Value::Map(_) => f.write_str(self.kind()),
        }
    }
}

/// Puts the parser's complaint into our form. Where a line is indented by a tab that is the cause,
/// though the parser may only stumble over what it leads to.
fn syntax_problem(error: &Error, text: &str) -> Problem {
    let place = error.location().map_or(Place::START, Place::from);
    for (line, content) in (place.line..).zip(text.lines().skip(place.line - 1).take(2)) {
        let mut indentation = content.chars().take_while(|c| c.is_whitespace());
        if let Some(before) = indentation.position(|c| c == '\t') {
            let column = before + 1;
            let message = "a tab in the indentation: YAML wants spaces";
            return Problem::new(Place { line, column }, message);
        }
    }
    let line = text.lines().nth(place.line - 1).unwrap_or_default();
    let before = line.chars().take(place.column - 1).last();
    let message = match (before, line.chars().nth(place.column - 1)) {
        (_, Some('*')) => "what starts with * needs quotes: \"*\"".to_owned(),
        (Some('$'), Some('{')) => "text with ${...} needs quotes: \"${...}\"".to_owned(),
        _ => {
            let message = UserMessageFormatter.format_message(error.without_snippet());
            format!("not valid YAML: {message}")
        }
    };
    Problem::new(place, message)
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        let saturate = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).max(1);
        Self {
            line: saturate(location.line()),
            column: saturate(location.column()),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned {
            value, referenced, ..
        } = Spanned::deserialize(deserializer)?;
        Ok(Self {
            place: referenced.into(),
            value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: &Node) -> String {
        let Place { line, column } = node.place;
        let value = match &node.value {
            Value::Text(text) => format!("{text:?}"),
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(show).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Map(entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| format!("{} = {}", show(key), show(value)))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => node.to_string(),
        };
        format!("{line}:{column} {value}")
    }

    #[test]
    fn values_keep_their_place_and_type() {
        let node = parse("a: 010\nb: [on, true, 0x1F, -2, \"7\", 1_000]\nc:\n").expect("valid");
        assert_eq!(
            show(&node),
            "1:1 {1:1 \"a\" = 1:4 \"010\", 2:1 \"b\" = 2:4 [2:5 \"on\", 2:9 true, 2:15 31, \
             2:21 -2, 2:25 \"7\", 2:30 \"1_000\"], 3:1 \"c\" = 3:2 nothing}"
        );
    }

    #[test]
    fn keys_that_occur_twice_are_kept() {
        let node = parse("{1: a, 1: b}").expect("valid");
        assert_eq!(show(&node), "1:1 {1:2 1 = 1:5 \"a\", 1:8 1 = 1:11 \"b\"}");
    }

    #[test]
    fn an_empty_file_is_nothing() {
        for text in ["", "\n\n", "# only a comment\n", "---\n", "~"] {
            assert!(
                matches!(parse(text), Ok(node) if matches!(node.value, Value::Null)),
                "{text:?}"
            );
        }
    }
}
