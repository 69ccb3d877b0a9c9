//! Records as JSON lines, for people, backups and another machine.
//!
//! ```json
//! {"key":"session/node1","age":12,"value":"AQID"}
//! ```
//!
//! `key` is text; an octet that is none is written `\xNN` (in JSON `\\xNN`), and so is the backslash.
//! `age` is in seconds, `value` is base64. `decoded` says what a value means, for readers only.

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::{OpenError, advice};
use super::log::{Durability, Log};
use super::replay;
use super::writer::unix_time;
use super::{Op, Record};

/// Says what a value means; `None` if it has nothing to say.
pub type Decoder = fn(&Record) -> Option<serde_json::Value>;

/// Octets of records written in one frame by an import.
const FRAME: usize = 256 * 1024;

/// A store cannot be listed, written out or read in.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// There is no store.
    #[error("store: there is nothing at {0}")]
    Nothing(String),
    /// The other file fails.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line is no record.
    #[error("line {line}: {problem}; nothing was read in")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// There is not enough room.
    #[error("the records take {octets} octets, more than store.max allows; nothing was read in")]
    TooMuch {
        /// Octets of keys and values.
        octets: u64,
    },
    /// The store cannot be written.
    #[error("store: cannot write to {path}: {error}{}", advice(error))]
    Write {
        /// The directory.
        path: String,
        /// What the system says.
        error: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    #[serde(default)]
    age: u64,
    value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decoded: Option<serde_json::Value>,
}

/// Writes a line a record for people: age, octets, key. Returns what could not be read.
pub fn list(directory: &Path, out: &mut dyn Write) -> Result<Vec<String>, LineError> {
    let (records, notes) = read(directory)?;
    for record in &records {
        let (age, octets, key) = (record.age.as_secs(), record.value.len(), text(&record.key));
        writeln!(out, "{age:>8}s {octets:>7}B  {key}")?;
    }
    let octets: usize = records.iter().map(|record| record.value.len()).sum();
    writeln!(out, "{} records, {octets}B", records.len())?;
    Ok(notes)
}

/// Writes every record that can be read as a JSON line; returns what could not be read. A running
/// gateway is not disturbed.
pub fn export(
    directory: &Path,
    decoder: Decoder,
    out: &mut dyn Write,
) -> Result<Vec<String>, LineError> {
    let (records, notes) = read(directory)?;
    for record in &records {
        let line = Line {
            key: text(&record.key),
            age: record.age.as_secs(),
            value: STANDARD.encode(&record.value),
            decoded: decoder(record),
        };
        serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
    }
    Ok(notes)
}

/// Reads JSON lines into a store no gateway runs on; earlier records of the same keys are replaced.
/// Returns their number.
pub fn import(directory: &Path, max: u64, input: &mut dyn BufRead) -> Result<usize, LineError> {
    let now = unix_time();
    let mut records = Vec::new();
    let mut octets = 0;
    for (index, line) in input.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let record = parse(&line).map_err(|problem| LineError::Line {
            line: index + 1,
            problem,
        })?;
        octets += (record.key.len() + record.value.len()) as u64;
        records.push(record);
    }
    if octets > max / 4 * 3 {
        return Err(LineError::TooMuch { octets });
    }
    let (mut log, _) = Log::open(directory, max)?;
    let count = records.len();
    let mut records = records.into_iter().peekable();
    while let Some(first) = records.next() {
        // One frame has one time.
        let age = first.age;
        let mut octets = first.key.len() + first.value.len();
        let mut ops = vec![put(first)];
        while let Some(next) = records.next_if(|next| next.age == age && octets < FRAME) {
            octets += next.key.len() + next.value.len();
            ops.push(put(next));
        }
        let at = now.saturating_sub(u32::try_from(age.as_secs()).unwrap_or(u32::MAX));
        let durability = match records.peek() {
            Some(_) => Durability::Written,
            None => Durability::Synced,
        };
        log.commit(&ops, at, durability)
            .map_err(|error| LineError::Write {
                path: directory.display().to_string(),
                error,
            })?;
    }
    Ok(count)
}

fn read(directory: &Path) -> Result<(Vec<Record>, Vec<String>), LineError> {
    if !directory.exists() {
        return Err(LineError::Nothing(directory.display().to_string()));
    }
    let found = replay::salvage(directory)?;
    let now = unix_time();
    let records = found.records.into_iter();
    Ok((records.map(|one| one.at_age(now)).collect(), found.notes))
}

fn put(record: Record) -> Op {
    Op::Put {
        key: record.key,
        value: record.value,
    }
}

fn parse(line: &str) -> Result<Record, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let key = octets(&line.key).ok_or("key: write a backslash as \\\\x5c")?;
    let value = STANDARD
        .decode(&line.value)
        .map_err(|error| format!("value: {error}"))?;
    Ok(Record {
        key: key.into(),
        value: Bytes::from(value),
        age: Duration::from_secs(line.age),
    })
}

/// Writes octets so that [`octets`] gets them back and a terminal is not harmed.
fn text(key: &[u8]) -> String {
    let mut text = String::new();
    let escape = |text: &mut String, octets: &[u8]| {
        for octet in octets {
            text.push_str(&format!("\\x{octet:02x}"));
        }
    };
    for chunk in key.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || c.is_control() {
                escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

fn octets(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        octets.extend_from_slice(before.as_bytes());
        octets.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = &after[2..];
    }
    octets.extend_from_slice(rest.as_bytes());
    let escapes = text.matches("\\x").count();
    (text.matches('\\').count() == escapes).then_some(octets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_readable() {
        assert_eq!(text("session/küche".as_bytes()), "session/küche");
        assert_eq!(
            text(b"up/\x00\x01\\\xff\x1b[0m"),
            "up/\\x00\\x01\\x5c\\xff\\x1b[0m"
        );
        assert_eq!(octets("a\\"), None);
        assert_eq!(octets("a\\x1"), None);
    }

    proptest! {
        #[test]
        fn any_key_comes_back(key in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(octets(&text(&key)), Some(key));
        }
    }
}
