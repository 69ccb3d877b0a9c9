//! Tables that fit the terminal.

use std::fmt;
use std::io::{IsTerminal, stdout};

/// Rows under a heading, each column as wide as it must be.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heading: &[&str]) -> Self {
        let heading = heading.iter().map(|&title| title.to_owned());
        Self {
            rows: vec![heading.collect()],
        }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let most = terminal_width();
        let widths = fitted((0..columns).map(width).collect(), most);
        for row in &self.rows {
            let mut line = String::new();
            for (cell, &width) in row.iter().zip(&widths) {
                let cell = cut(cell, width);
                line.push_str(&format!("{cell:width$}{GAP}"));
            }
            let line: String = line.trim_end().chars().take(most).collect();
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// Between two columns.
const GAP: &str = "  ";
/// No column is made narrower than this.
const NARROWEST: usize = 8;

/// Takes from the widest columns until all fit.
fn fitted(mut widths: Vec<usize>, most: usize) -> Vec<usize> {
    while widths.iter().map(|width| width + GAP.len()).sum::<usize>()
        > most.saturating_add(GAP.len())
    {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => break,
        }
    }
    widths
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let kept = cell.chars().take(width.saturating_sub(1));
    kept.chain(['\u{2026}']).collect()
}

/// Breaks a text between words where the terminal ends, and begins further lines with spaces.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    wrapped_at(text, indent, terminal_width())
}

fn wrapped_at(text: &str, indent: usize, most: usize) -> String {
    let room = most.saturating_sub(indent).max(20);
    let mut shown = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            shown.push('\n');
            shown.extend(std::iter::repeat_n(' ', indent));
            used = 0;
        } else if used > 0 {
            shown.push(' ');
            used += 1;
        }
        shown.push_str(word);
        used += length;
    }
    shown
}

/// Returns the columns of the terminal; no bound where there is none.
fn terminal_width() -> usize {
    if !stdout().is_terminal() {
        return usize::MAX;
    }
    rustix::termios::tcgetwinsize(stdout()).map_or(usize::MAX, |size| match size.ws_col {
        0 => usize::MAX,
        columns => usize::from(columns),
    })
}

/// Writes seconds in the largest unit that says something.
pub(super) fn duration(seconds: f64) -> String {
    match seconds.max(0.0) as u64 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_columns_give_way() {
        assert_eq!(fitted(vec![4, 60, 20, 8], 80), [4, 42, 20, 8]);
        assert_eq!(fitted(vec![4, 60, 20, 8], usize::MAX), [4, 60, 20, 8]);
        assert_eq!(fitted(vec![9, 9, 9], 10), [8, 8, 8]);
        assert_eq!(cut("sensor-in-the-hall", 8), "sensor-\u{2026}");
        assert_eq!(cut("pump", 8), "pump");
    }

    #[test]
    fn a_long_text_goes_on_below_itself() {
        assert_eq!(
            wrapped_at("one two three four five", 2, 22),
            "one two three four\n  five"
        );
        assert_eq!(wrapped_at("one two", 2, usize::MAX), "one two");
        assert_eq!(wrapped_at("", 2, 40), "");
    }
}
