//! Log lines as entries of systemd's journal, with their values as fields of their own.
//!
//! The protocol is that of `sd_journal_send(3)`: a datagram of fields, each `NAME=value` and a line
//! feed, or, where the value is longer than a line, the name, a line feed, its length and the value.

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// What a value comes before in the journal, so that it is not taken for somebody else's.
const PREFIX: &str = "MQTTSN_";
/// Octets of a value at most: an entry has to fit into a datagram.
const VALUE_MAX: usize = 16 * 1024;

/// Sends every event to the journal. What the journal has no room for is lost: nobody waits for it.
pub(super) struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = Entry::default();
        entry.put("PRIORITY", priority(*metadata.level()));
        entry.put("SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
        entry.put(&format!("{PREFIX}TARGET"), metadata.target());
        event.record(&mut entry);
        let message = std::mem::take(&mut entry.message);
        entry.put("MESSAGE", &message);
        // There is nobody left to tell.
        let _ = self.socket.send(&entry.octets);
    }
}

/// Returns the priority of syslog(3).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

/// An entry as it is put together.
#[derive(Default)]
struct Entry {
    octets: Vec<u8>,
    /// What is read: the event's words, and its values behind them as in a line of text.
    message: String,
}

impl Entry {
    fn put(&mut self, name: &str, value: &str) {
        let value = &value.as_bytes()[..value.len().min(VALUE_MAX)];
        self.octets.extend(name.as_bytes());
        if value.contains(&b'\n') {
            self.octets.push(b'\n');
            self.octets.extend((value.len() as u64).to_le_bytes());
        } else {
            self.octets.push(b'=');
        }
        self.octets.extend(value);
        self.octets.push(b'\n');
    }

    fn note(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.insert_str(0, value);
            return;
        }
        // Writing to a string does not fail.
        let _ = write!(self.message, " {field}={value}");
        let mut name = PREFIX.to_owned();
        name.extend(field.name().chars().map(|c| match c {
            'a'..='z' => c.to_ascii_uppercase(),
            'A'..='Z' | '0'..='9' => c,
            _ => '_',
        }));
        self.put(&name, value);
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn an_event_is_an_entry_whose_values_are_fields() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        Journal::connect(&path).err().expect("nobody listens yet");
        let listener = UnixDatagram::bind(&path).expect("bound");
        let journal = Journal::connect(&path).expect("it listens");
        let subscriber = tracing_subscriber::registry().with(journal);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(node = "n1\nPRIORITY=0", seconds = 5, "asleep");
            tracing::error!(error = %"the disk is full", "stopping");
        });
        let mut buffer = [0; 1024];
        let mut next = || {
            let length = listener.recv(&mut buffer).expect("an entry");
            buffer[..length].to_vec()
        };
        let target = "MQTTSN_TARGET=mqtt_sn_gateway::logging::journal::tests\n";
        let mut expected =
            format!("PRIORITY=6\nSYSLOG_IDENTIFIER=mqtt-sn-gateway\n{target}MQTTSN_NODE\n")
                .into_bytes();
        expected.extend([13, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(b"n1\nPRIORITY=0\nMQTTSN_SECONDS=5\n");
        // A client id cannot begin a field of its own: values with line feeds are sent by length.
        let message = b"asleep node=n1\nPRIORITY=0 seconds=5";
        expected.extend(b"MESSAGE\n");
        expected.extend((message.len() as u64).to_le_bytes());
        expected.extend(message);
        expected.push(b'\n');
        assert_eq!(next(), expected);
        let text = String::from_utf8(next()).expect("text");
        assert_eq!(
            text,
            format!(
                "PRIORITY=3\nSYSLOG_IDENTIFIER=mqtt-sn-gateway\n{target}\
                 MQTTSN_ERROR=the disk is full\nMESSAGE=stopping error=the disk is full\n"
            )
        );
    }
}
