//! Tables that fit the terminal.

use std::fmt;
use std::io::{IsTerminal, stdout};

/// Rows under a heading, each column as wide as it must be.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    /// Headings that may go where there is no room for all, the first to go first.
    spare: &'static [&'static str],
}

impl Table {
    pub(super) fn new(heading: &[&str], spare: &'static [&'static str]) -> Self {
        let heading = heading.iter().map(|&title| title.to_owned());
        Self {
            rows: vec![heading.collect()],
            spare,
        }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(terminal_width()))
    }
}

impl Table {
    /// Lays the table out in so many columns of a terminal.
    fn text(&self, most: usize) -> String {
        let headings = self.rows.first().map_or(&[][..], Vec::as_slice);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let mut columns: Vec<_> = (0..headings.len())
            .map(|column| (column, width(column)))
            .collect();
        let mut left_out = Vec::new();
        for spare in self.spare {
            let wanted = columns.iter().map(|(_, width)| (*width).min(READABLE));
            if total(wanted) <= most.saturating_add(GAP.len()) {
                break;
            }
            columns.retain(|(column, _)| headings[*column] != *spare);
            left_out.push(*spare);
        }
        let widths = fitted(columns.iter().map(|(_, width)| *width).collect(), most);
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((column, _), &width) in columns.iter().zip(&widths) {
                let cell = row
                    .get(*column)
                    .map_or(String::new(), |cell| cut(cell, width));
                line.push_str(&format!("{cell:width$}{GAP}"));
            }
            text.extend(line.trim_end().chars().take(most));
            text.push('\n');
        }
        if !left_out.is_empty() {
            let hint = format!("(no room for {})", left_out.join(", "));
            text.push_str(&wrapped_at(&hint, 0, most));
            text.push('\n');
        }
        text
    }
}

/// Between two columns.
const GAP: &str = "  ";
/// No column is made narrower than this.
const NARROWEST: usize = 8;
/// What is longer may be cut before a whole column goes.
const READABLE: usize = 18;

fn total(widths: impl Iterator<Item = usize>) -> usize {
    widths.map(|width| width + GAP.len()).sum()
}

/// Takes from the widest columns until all fit.
fn fitted(mut widths: Vec<usize>, most: usize) -> Vec<usize> {
    while total(widths.iter().copied()) > most.saturating_add(GAP.len()) {
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
    fn where_room_is_short_whole_columns_go_and_are_named() {
        let mut table = Table::new(&["ID", "IN", "OUT", "ADDRESS"], &["OUT", "IN"]);
        table.row(["pump", "120", "119", "0013A200.40A01234"].map(str::to_owned));
        assert_eq!(
            table.text(80),
            "ID    IN   OUT  ADDRESS\npump  120  119  0013A200.40A01234\n"
        );
        assert_eq!(
            table.text(30),
            "ID    IN   ADDRESS\npump  120  0013A200.40A01234\n(no room for OUT)\n"
        );
        assert_eq!(
            table.text(20),
            "ID    ADDRESS\npump  0013A200.40A0\u{2026}\n(no room for OUT,\nIN)\n"
        );
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
