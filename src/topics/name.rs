//! Rules for topic names and filters, and matching one against the other [MQTT 3.1.1, 4.7].

/// Longest topic name or filter MQTT can carry, in octets.
const MAX_OCTETS: usize = 65_535;

/// Whether a text may be published on: not empty, not too long, no U+0000, no wildcard.
pub fn is_valid_name(name: &str) -> bool {
    (1..=MAX_OCTETS).contains(&name.len())
        && !name
            .bytes()
            .any(|octet| matches!(octet, b'\0' | b'+' | b'#'))
}

/// Whether a text may be subscribed to: `+` fills a whole level, `#` a whole last level.
pub fn is_valid_filter(filter: &str) -> bool {
    if !(1..=MAX_OCTETS).contains(&filter.len()) || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let last = levels.peek().is_none();
        let valid = match level {
            "+" => true,
            "#" => last,
            other => !other.contains(['+', '#']),
        };
        if !valid {
            return false;
        }
    }
    true
}

/// Whether a valid filter matches a valid name. Names that start with `$` are not matched by a
/// filter that starts with a wildcard.
pub fn filter_matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = name.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_wildcards() {
        for name in ["a", "a/b", "/", "//", "$SYS/x", "é"] {
            assert!(is_valid_name(name), "{name:?}");
        }
        for name in ["", "a/+", "#", "a#", "a\0b"] {
            assert!(!is_valid_name(name), "{name:?}");
        }
        assert!(!is_valid_name(&"a".repeat(65_536)));
    }

    #[test]
    fn wildcards_fill_whole_levels() {
        for filter in ["#", "+", "a/#", "+/b/+", "/+", "+/", "a//#", "a"] {
            assert!(is_valid_filter(filter), "{filter:?}");
        }
        for filter in ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "a\0", "##", "++"] {
            assert!(!is_valid_filter(filter), "{filter:?}");
        }
    }

    #[test]
    fn filters_match_by_level() {
        let matching = [
            ("a/b", "a/b"),
            ("+", "a"),
            ("+/b", "a/b"),
            ("+/b", "/b"),
            ("a/+", "a/"),
            ("#", "a/b/c"),
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("a/+/c", "a//c"),
            ("$SYS/#", "$SYS/x"),
        ];
        for (filter, name) in matching {
            assert!(filter_matches(filter, name), "{filter} should match {name}");
        }
        let differing = [
            ("a/b", "a"),
            ("a", "a/b"),
            ("+", "a/b"),
            ("+", "/a"),
            ("a/+", "a"),
            ("a/#", "ab"),
            ("#", "$SYS/x"),
            ("+/x", "$SYS/x"),
        ];
        for (filter, name) in differing {
            assert!(
                !filter_matches(filter, name),
                "{filter} should not match {name}"
            );
        }
    }
}
