//! Reading one mapping key by key.
//!
//! A section is asked for its keys one after the other, each with the place its value goes to and the
//! function that understands it; what was never asked for is an unknown key. A key that is absent
//! leaves its place as it is, so the defaults are those of the value that is filled in.

use std::cell::RefCell;
use std::path::Path;

use super::problem::{Place, Problem, nearest};
use super::yaml::Node;

/// What reading needs besides the nodes, and where problems are gathered.
pub(super) struct Reader<'a> {
    problems: RefCell<Vec<Problem>>,
    /// Looks up an environment variable.
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
    /// Directory of the file, for paths relative to it.
    pub(super) directory: &'a Path,
    text: &'a str,
}

/// A mapping that is being read.
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    title: String,
    entries: Vec<(&'a str, &'a Node, &'a Node)>,
    asked: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    /// Starts without problems.
    pub(super) fn new(
        directory: &'a Path,
        text: &'a str,
        environment: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        Self {
            problems: RefCell::default(),
            environment,
            directory,
            text,
        }
    }

    /// Whether a value is written without quotes, and is no alias of another.
    pub(super) fn is_plain(&self, node: &Node) -> bool {
        let line = self.text.lines().nth(node.place.line - 1);
        let first = line.and_then(|line| line.chars().nth(node.place.column - 1));
        first.is_some_and(|first| !matches!(first, '"' | '\'' | '*' | '&' | '!' | '|' | '>'))
    }

    /// Notes a problem and goes on.
    pub(super) fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Returns the problems found.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

impl<'a> Section<'a> {
    /// Opens a mapping; `title` says in messages which. Anything else than a mapping is reported and
    /// read as an empty one; nothing at all is an empty one.
    pub(super) fn open(reader: &'a Reader<'a>, title: impl Into<String>, node: &'a Node) -> Self {
        let mut section = Self {
            reader,
            title: title.into(),
            entries: Vec::new(),
            asked: Vec::new(),
        };
        match node.map() {
            Some(entries) => section.take_entries(entries),
            None if node.is_null() => {}
            None => {
                let glued = node.text().and_then(|text| text.split_once(':'));
                let advice = match glued.filter(|(_, value)| !value.starts_with('/')) {
                    Some((key, _)) => format!(": a space is missing after '{key}:'"),
                    None => String::new(),
                };
                let (title, kind) = (&section.title, node.kind());
                let message = format!("{title} takes keys with values, not {kind}{advice}");
                reader.report(Problem::new(node.place, message));
            }
        }
        section
    }

    /// Returns the value of a key, if it is there and not empty.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.push(key);
        self.entries
            .iter()
            .find(|(name, ..)| *name == key)
            .map(|(_, _, value)| *value)
            .filter(|node| !node.is_null())
    }

    /// Returns where the value of a key stands; the start of the file when it is absent.
    pub(super) fn place(&self, key: &str) -> Place {
        self.entries
            .iter()
            .find(|(name, ..)| *name == key)
            .map_or(Place::START, |(_, _, value)| value.place)
    }

    /// Reads a key into its place.
    pub(super) fn set<T>(
        &mut self,
        key: &'static str,
        place: &mut T,
        parse: impl FnOnce(&Reader<'a>, &Node) -> Result<T, Problem>,
    ) {
        if let Some(value) = self.read(key, parse) {
            *place = value;
        }
    }

    /// Reads a key; `None` when it is absent or wrong.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Reader<'a>, &Node) -> Result<T, Problem>,
    ) -> Option<T> {
        let node = self.get(key)?;
        match parse(self.reader, node) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.reader.report(problem.about(key));
                None
            }
        }
    }

    /// Opens a mapping below this one.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Self> {
        let node = self.get(key)?;
        Some(Self::open(self.reader, key, node))
    }

    /// Reports the keys nobody asked for.
    pub(super) fn finish(self) {
        for (name, key, _) in &self.entries {
            if self.asked.contains(name) {
                continue;
            }
            let advice = match nearest(name, self.asked.iter().copied()) {
                Some(meant) => format!("did you mean '{meant}'?"),
                None => format!("{} knows: {}", self.title, self.asked.join(", ")),
            };
            self.reader.report(Problem::new(
                key.place,
                format!("unknown key '{name}', {advice}"),
            ));
        }
    }

    fn take_entries(&mut self, entries: &'a [(Node, Node)]) {
        for (key, value) in entries {
            let Some(name) = key.text() else {
                self.reader.report(Problem::new(
                    key.place,
                    format!("{} has names as keys, not {}", self.title, key.kind()),
                ));
                continue;
            };
            if let Some((_, first, _)) = self.entries.iter().find(|(known, ..)| *known == name) {
                self.reader.report(
                    Problem::new(key.place, format!("'{name}' is set twice"))
                        .related_to(first.place, "first here"),
                );
                continue;
            }
            self.entries.push((name, key, value));
        }
    }
}
