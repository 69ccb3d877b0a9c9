//! What is wrong with a configuration file, in words a person can act on.

use std::fmt;
use std::path::{Path, PathBuf};

/// Line and column, both counted from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// One mistake and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    place: Place,
    message: String,
    related: Option<(Place, String)>,
}

/// Everything that is wrong with one configuration file.
///
/// Its `Display` is for a terminal: each problem as `file:line:column message` with the line quoted
/// below. A line that holds a password is quoted without it.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    file: PathBuf,
    text: String,
    problems: Vec<Problem>,
}

impl Place {
    /// The first character of a file.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

impl Problem {
    /// Makes a problem at a place.
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
            related: None,
        }
    }

    /// Quotes a second line, with a remark.
    pub(super) fn related_to(mut self, place: Place, remark: &str) -> Self {
        self.related = Some((place, remark.to_owned()));
        self
    }

    /// Puts the name of a key in front of the message.
    pub(super) fn about(mut self, key: &str) -> Self {
        self.message = format!("{key}: {}", self.message);
        self
    }
}

impl ConfigError {
    /// Gathers the problems of a file, in the order of its lines.
    pub(super) fn new(file: &Path, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place);
        Self {
            file: file.to_owned(),
            text: text.to_owned(),
            problems,
        }
    }

    /// Returns how many problems there are; at least 1.
    pub fn count(&self) -> usize {
        self.problems.len()
    }
}

/// Width a quoted line is cut to.
const QUOTE_MAX: usize = 120;

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let Place { line, column } = problem.place;
            write!(
                f,
                "{}:{line}:{column} {}",
                self.file.display(),
                problem.message
            )?;
            let mut marks = vec![(problem.place, "")];
            marks.extend(
                problem
                    .related
                    .iter()
                    .map(|(place, remark)| (*place, remark.as_str())),
            );
            marks.sort_by_key(|(place, _)| *place);
            let width = marks[marks.len() - 1].0.line.to_string().len().max(4);
            for (place, remark) in marks {
                let Some(line) = self.text.lines().nth(place.line - 1) else {
                    continue;
                };
                let quoted: String = conceal(line).chars().take(QUOTE_MAX).collect();
                write!(f, "\n{:>width$} | {quoted}", place.line)?;
                if place.column <= QUOTE_MAX {
                    let mark = format!("^ {remark}");
                    let indent = place.column - 1;
                    write!(f, "\n{:>width$} | {:indent$}{}", "", "", mark.trim_end())?;
                }
            }
        }
        Ok(())
    }
}

/// Makes a line fit to be printed: no password, no control characters.
fn conceal(line: &str) -> String {
    let lowercase = line.to_ascii_lowercase();
    let after_key = ["passw", "pasw", "secret", "token"]
        .iter()
        .filter_map(|word| lowercase.find(word))
        .filter_map(|start| lowercase[start..].find(':').map(|colon| start + colon + 1));
    let in_url = lowercase
        .find("://")
        .filter(|scheme| lowercase[*scheme..].contains('@'))
        .map(|scheme| scheme + 3);
    let visible = match after_key.chain(in_url).min() {
        Some(end) if !line[end..].trim().is_empty() => format!("{} ***", &line[..end]),
        _ => line.to_owned(),
    };
    visible
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Returns the known name a wrong one was probably meant to be.
pub(crate) fn nearest<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&wrong, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
