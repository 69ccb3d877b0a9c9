//! Results on stdout.

use std::io::Write;

use crate::failure::Failure;

/// Writes one line to stdout and flushes it.
///
/// # Errors
/// When stdout is closed or full.
pub fn line(text: &str) -> Result<(), Failure> {
    octets(text.as_bytes(), true)
}

/// Writes octets to stdout, perhaps with a line end, and flushes them.
///
/// # Errors
/// When stdout is closed or full.
pub fn octets(octets: &[u8], line_end: bool) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let mut write = || {
        out.write_all(octets)?;
        if line_end {
            out.write_all(b"\n")?;
        }
        out.flush()
    };
    write().map_err(|error| Failure::Socket(format!("cannot write to stdout: {error}")))
}
