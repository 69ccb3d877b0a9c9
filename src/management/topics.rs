//! Names of the topics. What comes from a node is one level, whatever is in it.

use std::fmt::Write;

/// The topics below one base.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    base: String,
}

impl Topics {
    pub(super) fn new(base: String) -> Self {
        Self { base }
    }

    pub(super) fn status(&self) -> String {
        self.below("status")
    }

    pub(super) fn info(&self) -> String {
        self.below("info")
    }

    pub(super) fn stats(&self) -> String {
        self.below("stats")
    }

    pub(super) fn event(&self) -> String {
        self.below("event")
    }

    pub(super) fn link_status(&self, link: &str) -> String {
        format!("{}/links/{}/status", self.base, escape(link))
    }

    pub(super) fn availability(&self, client_id: &str) -> String {
        format!("{}/clients/{}/availability", self.base, escape(client_id))
    }

    pub(super) fn state(&self, client_id: &str) -> String {
        format!("{}/clients/{}/state", self.base, escape(client_id))
    }

    /// Returns the filter of every node's availability.
    pub(super) fn every_availability(&self) -> String {
        self.below("clients/+/availability")
    }

    /// Returns whose availability a topic is.
    pub(super) fn client_of(&self, topic: &str) -> Option<String> {
        let level = self
            .level(topic, "clients/")?
            .strip_suffix("/availability")?;
        unescape(level)
    }

    pub(super) fn request(&self, verb: &str) -> String {
        format!("{}/request/{verb}", self.base)
    }

    /// Returns what a request asks for.
    pub(super) fn verb_of<'a>(&self, topic: &'a str) -> Option<&'a str> {
        self.level(topic, "request/")
    }

    pub(super) fn response(&self, verb: &str) -> String {
        format!("{}/response/{verb}", self.base)
    }

    /// Returns where the packets of a node go while somebody traces it.
    pub(super) fn trace(&self, client_id: &str) -> String {
        format!("{}/trace/{}", self.base, escape(client_id))
    }

    fn below(&self, name: &str) -> String {
        format!("{}/{name}", self.base)
    }

    fn level<'a>(&self, topic: &'a str, name: &str) -> Option<&'a str> {
        topic
            .strip_prefix(&*self.base)?
            .strip_prefix('/')?
            .strip_prefix(name)
    }
}

/// Makes one topic level of any text: what would be more than a level, a wildcard, or is no character
/// for a broker becomes `%xx` by octet.
pub(super) fn escape(text: &str) -> String {
    let mut level = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '/' | '+' | '#' | '%') || c.is_control() || is_noncharacter(c) {
            for octet in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a string does not fail.
                let _ = write!(level, "%{octet:02x}");
            }
        } else {
            level.push(c);
        }
    }
    level
}

/// Undoes [`escape`]; `None` for what it never makes.
fn unescape(level: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(level.len());
    let mut rest = level.bytes();
    while let Some(octet) = rest.next() {
        if octet == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            octets.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            octets.push(octet);
        }
    }
    let text = String::from_utf8(octets).ok()?;
    (escape(&text) == level).then_some(text)
}

fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_is_one_level_and_comes_back() {
        for (text, level) in [
            ("node1", "node1"),
            ("a/b", "a%2fb"),
            ("+/#%", "%2b%2f%23%25"),
            ("b\u{7}\u{85}", "b%07%c2%85"),
            ("n\u{f6}de \u{ffff}", "n\u{f6}de %ef%bf%bf"),
        ] {
            assert_eq!(escape(text), level);
            assert_eq!(unescape(level).as_deref(), Some(text));
        }
        for foreign in ["%2", "%zz", "%41", "%2F", "%ff"] {
            assert_eq!(unescape(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_topic_tells_whose_it_is() {
        let topics = Topics::new("mqttsn/gw".to_owned());
        let topic = topics.availability("a/b");
        assert_eq!(topic, "mqttsn/gw/clients/a%2fb/availability");
        assert_eq!(topics.client_of(&topic).as_deref(), Some("a/b"));
        assert_eq!(topics.client_of("mqttsn/gw2/clients/a/availability"), None);
        assert_eq!(topics.verb_of("mqttsn/gw/request/permit"), Some("permit"));
    }
}
