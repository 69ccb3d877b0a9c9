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
        let widths: Vec<_> = (0..columns).map(width).collect();
        let most = terminal_width();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            let line: String = line.trim_end().chars().take(most).collect();
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
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
