//! Topic filters and what each leads to, found by the names they match.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::str::Split;

/// Most levels a filter in a [`FilterTrie`] may have; what recurses over them is bounded by it.
const LEVELS_MAX: usize = 128;

/// Filters of MQTT [MQTT 3.1.1, 4.7], each with a value.
#[derive(Debug)]
pub struct FilterTrie<V>(Level<V>);

#[derive(Debug)]
struct Level<V> {
    /// Of the filter that ends here.
    value: Option<V>,
    /// Of the filter that goes on with `#`.
    rest: Option<V>,
    /// What goes on with `+`.
    any: Option<Box<Self>>,
    named: Children<V>,
}

/// Most levels have one child, and there are many.
#[derive(Debug)]
enum Children<V> {
    None,
    One(Box<str>, Box<Level<V>>),
    Many(BTreeMap<Box<str>, Level<V>>),
}

impl<V> FilterTrie<V> {
    /// Whether a filter has more levels than can be inserted.
    pub fn is_too_deep(filter: &str) -> bool {
        filter.bytes().filter(|octet| *octet == b'/').count() >= LEVELS_MAX
    }

    /// Returns the value of a valid filter, the default if it has none yet; `None` if it is too deep.
    pub fn entry(&mut self, filter: &str) -> Option<&mut V>
    where
        V: Default,
    {
        if Self::is_too_deep(filter) {
            return None;
        }
        let mut level = &mut self.0;
        for segment in filter.split('/') {
            level = match segment {
                "#" => return Some(level.rest.get_or_insert_default()),
                "+" => level.any.get_or_insert_default(),
                name => level.named.entry(name),
            };
        }
        Some(level.value.get_or_insert_default())
    }

    /// Returns the value of a filter.
    pub fn get(&self, filter: &str) -> Option<&V> {
        let mut level = &self.0;
        for segment in filter.split('/') {
            level = match segment {
                "#" => return level.rest.as_ref(),
                "+" => level.any.as_deref()?,
                name => level.named.get(name)?,
            };
        }
        level.value.as_ref()
    }

    /// Removes a filter and returns its value.
    pub fn remove(&mut self, filter: &str) -> Option<V> {
        if Self::is_too_deep(filter) {
            return None;
        }
        self.0.remove(filter.split('/'))
    }

    /// Visits the value of every filter that matches a topic name.
    pub fn for_each_match(&self, name: &str, visit: &mut impl FnMut(&V)) {
        let mut segments = name.split('/');
        if !name.starts_with('$') {
            return self.0.for_each_match(segments, visit);
        }
        if let Some(level) = segments.next().and_then(|first| self.0.named.get(first)) {
            level.for_each_match(segments, visit);
        }
    }

    /// Visits the value of every filter that can match a name which `filter` matches, until `visit`
    /// breaks off.
    pub fn for_each_overlap(
        &self,
        filter: &str,
        visit: &mut impl FnMut(&V) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut segments = filter.split('/');
        if !filter.starts_with('$') {
            return self.0.for_each_overlap(segments, true, visit);
        }
        match segments.next().and_then(|first| self.0.named.get(first)) {
            Some(level) => level.for_each_overlap(segments, false, visit),
            None => ControlFlow::Continue(()),
        }
    }
}

impl<V> Default for FilterTrie<V> {
    fn default() -> Self {
        Self(Level::default())
    }
}

impl<V> Level<V> {
    fn is_empty(&self) -> bool {
        let nothing_named = matches!(self.named, Children::None);
        self.value.is_none() && self.rest.is_none() && self.any.is_none() && nothing_named
    }

    fn remove(&mut self, mut segments: Split<'_, char>) -> Option<V> {
        match segments.next() {
            None => self.value.take(),
            Some("#") => self.rest.take(),
            Some("+") => {
                let any = self.any.as_deref_mut()?;
                let removed = any.remove(segments);
                if any.is_empty() {
                    self.any = None;
                }
                removed
            }
            Some(name) => {
                let child = self.named.get_mut(name)?;
                let removed = child.remove(segments);
                if child.is_empty() {
                    self.named.remove(name);
                }
                removed
            }
        }
    }

    fn for_each_match(&self, mut segments: Split<'_, char>, visit: &mut impl FnMut(&V)) {
        // `a/#` matches `a`, too.
        self.rest.iter().for_each(&mut *visit);
        let Some(name) = segments.next() else {
            self.value.iter().for_each(visit);
            return;
        };
        if let Some(any) = &self.any {
            any.for_each_match(segments.clone(), visit);
        }
        if let Some(named) = self.named.get(name) {
            named.for_each_match(segments, visit);
        }
    }

    fn for_each_overlap(
        &self,
        mut segments: Split<'_, char>,
        is_root: bool,
        visit: &mut impl FnMut(&V) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        // At the root no wildcard matches a level that begins with a dollar sign.
        let hidden = |name: &str| is_root && name.starts_with('$');
        match segments.next() {
            None => {
                self.rest.iter().try_for_each(&mut *visit)?;
                self.value.iter().try_for_each(visit)
            }
            Some("#") => self.for_each(hidden, visit),
            Some("+") => {
                self.rest.iter().try_for_each(&mut *visit)?;
                if let Some(any) = &self.any {
                    any.for_each_overlap(segments.clone(), false, visit)?;
                }
                self.named.iter().try_for_each(|(name, level)| {
                    if hidden(name) {
                        return ControlFlow::Continue(());
                    }
                    level.for_each_overlap(segments.clone(), false, visit)
                })
            }
            Some(name) => {
                self.rest.iter().try_for_each(&mut *visit)?;
                if let Some(any) = &self.any {
                    any.for_each_overlap(segments.clone(), false, visit)?;
                }
                match self.named.get(name) {
                    Some(level) => level.for_each_overlap(segments, false, visit),
                    None => ControlFlow::Continue(()),
                }
            }
        }
    }

    fn for_each(
        &self,
        hidden: impl Fn(&str) -> bool,
        visit: &mut impl FnMut(&V) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.value.iter().try_for_each(&mut *visit)?;
        self.rest.iter().try_for_each(&mut *visit)?;
        if let Some(any) = &self.any {
            any.for_each(all, visit)?;
        }
        self.named.iter().try_for_each(|(name, level)| {
            if hidden(name) {
                return ControlFlow::Continue(());
            }
            level.for_each(all, visit)
        })
    }
}

/// Hides nothing.
fn all(_: &str) -> bool {
    false
}

impl<V> Default for Level<V> {
    fn default() -> Self {
        Self {
            value: None,
            rest: None,
            any: None,
            named: Children::None,
        }
    }
}

impl<V> Children<V> {
    fn get(&self, name: &str) -> Option<&Level<V>> {
        match self {
            Self::None => None,
            Self::One(only, level) => (**only == *name).then_some(level),
            Self::Many(levels) => levels.get(name),
        }
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Level<V>> {
        match self {
            Self::None => None,
            Self::One(only, level) => (**only == *name).then_some(level),
            Self::Many(levels) => levels.get_mut(name),
        }
    }

    fn entry(&mut self, name: &str) -> &mut Level<V> {
        match self {
            Self::None => *self = Self::One(name.into(), Box::default()),
            Self::One(only, _) if **only == *name => {}
            Self::One(..) => {
                let mut levels = BTreeMap::new();
                if let Self::One(only, level) = std::mem::replace(self, Self::None) {
                    levels.insert(only, *level);
                }
                *self = Self::Many(levels);
            }
            Self::Many(_) => {}
        }
        match self {
            Self::One(_, level) => level,
            Self::Many(levels) => {
                if !levels.contains_key(name) {
                    levels.insert(name.into(), Level::default());
                }
                levels.get_mut(name).expect("inserted above")
            }
            Self::None => unreachable!("given a child above"),
        }
    }

    fn remove(&mut self, name: &str) {
        match self {
            Self::None => {}
            Self::One(only, _) => {
                if **only == *name {
                    *self = Self::None;
                }
            }
            Self::Many(levels) => {
                levels.remove(name);
                if levels.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &Level<V>)> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(only, level) => (Some((&**only, &**level)), None),
            Self::Many(levels) => (None, Some(levels)),
        };
        let many = many.into_iter().flatten();
        one.into_iter()
            .chain(many.map(|(name, level)| (&**name, level)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{filter_matches, is_valid_filter, is_valid_name};
    use super::*;

    fn trie(filters: &[String]) -> FilterTrie<Vec<usize>> {
        let mut trie = FilterTrie::<Vec<usize>>::default();
        for (index, filter) in filters.iter().enumerate() {
            trie.entry(filter).expect("not deep").push(index);
        }
        trie
    }

    fn matches(trie: &FilterTrie<Vec<usize>>, name: &str) -> Vec<usize> {
        let mut found = Vec::new();
        trie.for_each_match(name, &mut |ids| found.extend(ids));
        found.sort_unstable();
        found
    }

    fn overlaps(trie: &FilterTrie<Vec<usize>>, filter: &str) -> Vec<usize> {
        let mut found = Vec::new();
        let done = trie.for_each_overlap(filter, &mut |ids| {
            found.extend(ids);
            ControlFlow::Continue(())
        });
        assert_eq!(done, ControlFlow::Continue(()));
        found.sort_unstable();
        found
    }

    /// Every name of up to four levels over a small alphabet.
    fn names() -> Vec<String> {
        let mut names = Vec::new();
        let mut longest = vec![String::new()];
        for depth in 0..4 {
            longest = longest
                .iter()
                .flat_map(|name| {
                    ["a", "b", "", "$s"].map(|level| match depth {
                        0 => level.to_owned(),
                        _ => format!("{name}/{level}"),
                    })
                })
                .collect();
            names.extend(longest.iter().filter(|name| is_valid_name(name)).cloned());
        }
        names
    }

    fn filters() -> impl Strategy<Value = Vec<String>> {
        let filter = "(a|b|\\$s|\\+|#|)(/(a|b|\\+|#|)){0,3}";
        let filter = filter.prop_filter("a filter", |text: &String| is_valid_filter(text));
        prop::collection::vec(filter, 1..8)
    }

    proptest! {
        #[test]
        fn finds_what_matches_one_by_one(filters in filters()) {
            let trie = trie(&filters);
            for name in names() {
                let one_by_one: Vec<usize> = (0..filters.len())
                    .filter(|index| filter_matches(&filters[*index], &name))
                    .collect();
                prop_assert_eq!(matches(&trie, &name), one_by_one, "{}", name);
            }
        }

        #[test]
        fn two_filters_overlap_when_a_name_matches_both(filters in filters()) {
            let trie = trie(&filters);
            for filter in &filters {
                // Also the name of no octets, which no message has but both may match.
                let common = |other: &String| {
                    let mut names = names().into_iter().chain([String::new()]);
                    names.any(|name| filter_matches(filter, &name) && filter_matches(other, &name))
                };
                let one_by_one: Vec<usize> =
                    (0..filters.len()).filter(|index| common(&filters[*index])).collect();
                prop_assert_eq!(overlaps(&trie, filter), one_by_one, "{}", filter);
            }
        }

        #[test]
        fn what_is_removed_leaves_nothing(filters in filters()) {
            let mut trie = trie(&filters);
            for filter in &filters {
                trie.remove(filter);
                prop_assert_eq!(trie.get(filter), None);
            }
            prop_assert!(trie.0.is_empty());
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "/".repeat(65_535);
        let mut trie = FilterTrie::<Vec<usize>>::default();
        assert!(trie.entry(&deep).is_none() && trie.remove(&deep).is_none());
        let deepest = "/".repeat(LEVELS_MAX - 1);
        trie.entry(&deepest).expect("just not too deep").push(1);
        trie.entry("#").expect("not deep").push(2);
        assert_eq!(matches(&trie, &deep), [2]);
        assert_eq!(matches(&trie, &deepest), [1, 2]);
        assert_eq!(overlaps(&trie, &deepest), [1, 2]);
    }
}
