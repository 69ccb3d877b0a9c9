//! One file of the log: a header, then frames.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::OpenError;
use super::frame;

/// Format of the files this version writes.
pub(super) const VERSION: u16 = 1;
/// Octets before the first frame: the name of the format, its version, two octets of zero.
pub(super) const HEADER: usize = 12;

const NAME: [u8; 8] = *b"MQTTSNst";
const EXTENSION: &str = "log";
const DIGITS: usize = 10;

/// A file and how much of it counts.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: u32,
    /// Octets up to the end of the last whole frame.
    pub(super) length: u64,
    /// Octets of entries in it that count, as they lie there.
    pub(super) live: u64,
}

/// Creates the file of a new segment, and makes sure that it stays.
pub(super) fn create(directory: &Path, id: u32) -> io::Result<(Segment, File)> {
    let path = path(directory, id);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    let written = file
        .write_all_at(&header(), 0)
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_directory(directory));
    if let Err(error) = written {
        // What cannot be removed is an empty segment, which does no harm.
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    let segment = Segment {
        id,
        length: HEADER as u64,
        live: 0,
    };
    Ok((segment, file))
}

/// Returns the segments of a directory, oldest first.
pub(super) fn list(directory: &Path) -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if path.extension().is_some_and(|end| end == EXTENSION)
            && let Some(stem) = stem.filter(|stem| stem.len() == DIGITS)
            && let Ok(id) = stem.parse()
        {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Returns where a segment lies.
pub(super) fn path(directory: &Path, id: u32) -> PathBuf {
    directory.join(format!("{id:0DIGITS$}.{EXTENSION}"))
}

/// Makes sure that files made or removed are so after a power failure.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Checks the header of a segment. `Ok(false)` is a file whose writing never got so far.
pub(super) fn check_header(file: &Path, bytes: &[u8]) -> Result<bool, OpenError> {
    let Some((name, rest)) = bytes.split_first_chunk::<8>() else {
        return Ok(false);
    };
    let found = match rest.first_chunk::<4>() {
        None => return Ok(false),
        Some([low, high, ..]) => u16::from_le_bytes([*low, *high]),
    };
    if *name == NAME && found == VERSION {
        return Ok(true);
    }
    if bytes[..HEADER] == [0; HEADER] {
        return Ok(false);
    }
    let file = file.to_owned();
    Err(match *name == NAME {
        true => OpenError::Format { file, found },
        false => OpenError::Foreign(file),
    })
}

/// Walks the frames of a segment; `visit` gets the offset of each body, and the body. Returns the end
/// of the last whole frame.
pub(super) fn walk(bytes: &[u8], from: usize, mut visit: impl FnMut(usize, &[u8])) -> usize {
    let mut position = from;
    while let Some(body) = bytes.get(position..).and_then(frame::body) {
        visit(position + frame::HEADER, body);
        position += frame::HEADER + body.len();
    }
    position
}

fn header() -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&NAME);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header
}
