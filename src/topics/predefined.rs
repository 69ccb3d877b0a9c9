//! Pre-defined topic ids: known to gateway and nodes without registration [S 6.7].

use std::collections::BTreeMap;
use std::fmt;

use crate::wire::TopicId;

/// Stands for the node's client id in a topic name.
const CLIENT_ID: &str = "${client_id}";

/// The pre-defined topics of all nodes: an ordered list of client id patterns, each with its ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predefined {
    rules: Vec<(Pattern, BTreeMap<TopicId, String>)>,
}

/// Which client ids a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Predefined {
    /// Adds the ids of one pattern. Where several patterns define an id for a node, a pattern
    /// without wildcards wins over one with, then the longer pattern, then the earlier.
    pub fn insert(&mut self, pattern: Pattern, topics: BTreeMap<TopicId, String>) {
        self.rules.push((pattern, topics));
        self.rules.sort_by_key(|(pattern, _)| pattern.precedence());
    }

    /// Returns the topic name an id stands for to this node; none if a client id with wildcards would
    /// make a filter of it.
    pub fn name(&self, client_id: &str, id: TopicId) -> Option<String> {
        self.rules_for(client_id)
            .find_map(|topics| topics.get(&id))
            .filter(|name| !(name.contains(CLIENT_ID) && client_id.contains(['+', '#'])))
            .map(|name| name.replace(CLIENT_ID, client_id))
    }

    /// Returns the topic name an id stands for to senders without a client id (QoS -1); none if the
    /// name needs one.
    pub fn global_name(&self, id: TopicId) -> Option<&str> {
        self.rules
            .iter()
            .find(|(pattern, _)| pattern.0 == "*")
            .and_then(|(_, topics)| topics.get(&id))
            .map(String::as_str)
            .filter(|name| !name.contains(CLIENT_ID))
    }

    /// Whether an id is pre-defined for this node.
    pub fn contains(&self, client_id: &str, id: TopicId) -> bool {
        self.rules_for(client_id)
            .any(|topics| topics.contains_key(&id))
    }

    /// Whether nothing is pre-defined for anybody.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many ids are pre-defined, over all patterns.
    pub fn len(&self) -> usize {
        self.rules.iter().map(|(_, topics)| topics.len()).sum()
    }

    fn rules_for(&self, client_id: &str) -> impl Iterator<Item = &BTreeMap<TopicId, String>> {
        self.rules
            .iter()
            .filter(move |(pattern, _)| pattern.matches(client_id))
            .map(|(_, topics)| topics)
    }
}

impl Pattern {
    /// Makes a pattern: `*` stands for any run of characters, `?` for one; the rest for itself.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether the whole client id matches.
    pub fn matches(&self, client_id: &str) -> bool {
        glob(self.0.as_bytes(), client_id.as_bytes())
    }

    fn precedence(&self) -> (bool, std::cmp::Reverse<usize>) {
        (self.0.contains(['*', '?']), std::cmp::Reverse(self.0.len()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Matches with one backtracking point, so that no pattern takes more than length times length.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&octet) if octet == b'?' || octet == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star_p, star_t)) = star else {
                    return false;
                };
                p = star_p + 1;
                t = star_t + 1;
                star = Some((star_p, t));
            }
        }
    }
    pattern[p..].iter().all(|&octet| octet == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(entries: &[(u16, &str)]) -> BTreeMap<TopicId, String> {
        entries
            .iter()
            .map(|&(id, name)| (TopicId(id), name.to_owned()))
            .collect()
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let mut predefined = Predefined::default();
        predefined.insert(Pattern::new("*"), topics(&[(1, "all"), (2, "all/two")]));
        predefined.insert(Pattern::new("node*"), topics(&[(1, "nodes/${client_id}")]));
        predefined.insert(Pattern::new("node7"), topics(&[(1, "seven")]));
        assert_eq!(
            predefined.name("node7", TopicId(1)).as_deref(),
            Some("seven")
        );
        assert_eq!(
            predefined.name("node8", TopicId(1)).as_deref(),
            Some("nodes/node8")
        );
        assert_eq!(predefined.name("other", TopicId(1)).as_deref(), Some("all"));
        assert_eq!(
            predefined.name("node7", TopicId(2)).as_deref(),
            Some("all/two")
        );
        assert_eq!(predefined.name("node7", TopicId(3)), None);
        assert_eq!(predefined.global_name(TopicId(1)), Some("all"));
    }

    #[test]
    fn a_client_id_with_wildcards_makes_no_filter_of_a_name() {
        let mut predefined = Predefined::default();
        let names = [(1, "of/${client_id}/x"), (2, "of/all")];
        predefined.insert(Pattern::new("*"), topics(&names));
        for client_id in ["+", "#", "a+b", "a/#"] {
            assert_eq!(predefined.name(client_id, TopicId(1)), None, "{client_id}");
            let of_all = predefined.name(client_id, TopicId(2));
            assert_eq!(of_all.as_deref(), Some("of/all"));
            assert!(
                predefined.contains(client_id, TopicId(1)),
                "the id is taken"
            );
        }
    }

    /// QoS -1 once published on the topic `${client_id}/x`, dollar and braces included.
    #[test]
    fn a_name_that_needs_a_client_id_is_not_for_senders_without() {
        let mut predefined = Predefined::default();
        predefined.insert(Pattern::new("*"), topics(&[(1, "${client_id}/x")]));
        assert_eq!(predefined.global_name(TopicId(1)), None);
        assert_eq!(predefined.name("n", TopicId(1)).as_deref(), Some("n/x"));
    }

    #[test]
    fn globs_match_the_whole_id() {
        let cases = [
            ("*", "", true),
            ("a*", "ab", true),
            ("a*", "ba", false),
            ("*a*b", "xaxxb", true),
            ("*a*b", "xaxxbc", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("abc", "ab", false),
            ("ab", "abc", false),
        ];
        for (pattern, id, expected) in cases {
            assert_eq!(
                Pattern::new(pattern).matches(id),
                expected,
                "{pattern} {id}"
            );
        }
    }
}
