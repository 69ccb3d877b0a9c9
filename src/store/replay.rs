//! Reading the log: at the start, strictly, and for an export, whatever can be read.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

use bytes::Bytes;

use super::error::OpenError;
use super::frame::{self, Entry};
use super::log::{Index, Location};
use super::segment::{self, HEADER, Segment};

/// What an opened log told.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Every record, in the order of the keys.
    pub(super) records: Vec<Stamped>,
    /// What was cut off or could not be read, each a line for a person.
    pub(super) notes: Vec<String>,
}

/// A record with the time of its put, in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamped {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) at: u32,
}

/// Fills the index from the files. The end of a segment that is not whole is cut off; damage before
/// whole frames is an error, unless nothing newer than that segment exists.
pub(super) fn replay(directory: &Path, index: &mut Index) -> Result<Found, OpenError> {
    let ids = segment::list(directory).map_err(OpenError::io("list", directory))?;
    if let Some(gap) = ids.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        return Err(OpenError::Missing(segment::path(directory, gap[0] + 1)));
    }
    let mut found = Found::default();
    for &id in &ids {
        let file = segment::path(directory, id);
        let bytes = fs::read(&file).map_err(OpenError::io("read", &file))?;
        index.segments.push_back(Segment {
            id,
            length: 0,
            live: 0,
        });
        let mut end = 0;
        if segment::check_header(&file, &bytes)? {
            end = segment::walk(&bytes, HEADER, |offset, body| index.apply(id, offset, body));
        }
        if end < bytes.len() {
            let is_last = ids.last() == Some(&id);
            found.notes.push(cut(&file, &bytes, end, is_last)?);
        }
        if let Some(last) = index.segments.back_mut() {
            last.length = end as u64;
        }
    }
    if index.segments.back().is_some_and(|last| last.length == 0) {
        // Its header was never written; a new segment takes its place.
        index.segments.pop_back();
        if let Some(id) = ids.last() {
            let file = segment::path(directory, *id);
            fs::remove_file(&file).map_err(OpenError::io("remove", &file))?;
        }
    }
    found.records = collect(directory, index)?;
    Ok(found)
}

/// Deals with octets after the last whole frame of a segment; says what was done.
fn cut(file: &Path, bytes: &[u8], end: usize, is_last: bool) -> Result<String, OpenError> {
    let rest = bytes.len() - end;
    let mut note = format!("{}: the end is torn, {rest} octets dropped", file.display());
    if frame::find(&bytes[end + 1..]).is_some() {
        if !is_last {
            return Err(OpenError::Damaged {
                file: file.to_owned(),
                offset: end as u64,
            });
        }
        let aside = file.with_extension("damaged");
        fs::copy(file, &aside).map_err(OpenError::io("write to", &aside))?;
        note = format!(
            "{}: damaged at octet {end}; that and the {rest} octets from there on are dropped, the \
             whole file is kept as {}",
            file.display(),
            aside.display()
        );
    }
    if is_last {
        OpenOptions::new()
            .write(true)
            .open(file)
            .and_then(|file| {
                file.set_len(end as u64)?;
                file.sync_all()
            })
            .map_err(OpenError::io("shorten", file))?;
    }
    Ok(note)
}

/// Reads the records of an index, one segment after the other.
fn collect(directory: &Path, index: &Index) -> Result<Vec<Stamped>, OpenError> {
    let mut places: Vec<Location> = index.records.values().copied().collect();
    places.sort_unstable_by_key(|place| (place.segment, place.offset));
    let mut records = Vec::with_capacity(places.len());
    for places in places.chunk_by(|a, b| a.segment == b.segment) {
        let file = segment::path(directory, places[0].segment);
        let bytes = fs::read(&file).map_err(OpenError::io("read", &file))?;
        for place in places {
            let mut entry = bytes.get(place.offset as usize..).unwrap_or_default();
            if let Some(Entry::Put { at, key, value }) = frame::take_entry(&mut entry) {
                records.push(Stamped::new(at, key, value));
            }
        }
    }
    records.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Ok(records)
}

/// Reads whatever can be read, changes nothing, and takes no lock: another process may be at work.
pub(super) fn salvage(directory: &Path) -> Result<Found, OpenError> {
    // A segment may be cleaned up between listing and reading; its records are in a later one.
    for _ in 0..3 {
        match try_salvage(directory) {
            Err(OpenError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {}
            ended => return ended,
        }
    }
    try_salvage(directory)
}

fn try_salvage(directory: &Path) -> Result<Found, OpenError> {
    let mut records = BTreeMap::new();
    let mut notes = Vec::new();
    for id in segment::list(directory).map_err(OpenError::io("list", directory))? {
        let file = segment::path(directory, id);
        let bytes = fs::read(&file).map_err(OpenError::io("read", &file))?;
        let mut position = match segment::check_header(&file, &bytes)? {
            true => HEADER,
            false => 0,
        };
        loop {
            position = segment::walk(&bytes, position, |offset, body| {
                for (entry, _) in entries(id, offset, body) {
                    match entry {
                        Entry::Put { at, key, value } => {
                            let record = Stamped::new(at, key, value);
                            records.insert(record.key.clone(), record);
                        }
                        Entry::Delete { key } => {
                            records.remove(key);
                        }
                    }
                }
            });
            let rest = bytes.get(position + 1..).unwrap_or_default();
            let Some(skipped) = frame::find(rest).map(|start| start + 1) else {
                break;
            };
            let file = file.display();
            notes.push(format!(
                "{file}: {skipped} octets at {position} cannot be read"
            ));
            position += skipped;
        }
    }
    let records = records.into_values().collect();
    Ok(Found { records, notes })
}

/// Walks the entries of a frame's body, each with where it lies.
pub(super) fn entries(
    segment: u32,
    offset: usize,
    body: &[u8],
) -> impl Iterator<Item = (Entry<'_>, Location)> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let start = offset + body.len() - rest.len();
        let entry = frame::take_entry(&mut rest)?;
        let end = offset + body.len() - rest.len();
        let location = Location {
            segment,
            offset: u32::try_from(start).ok()?,
            size: u32::try_from(end - start).ok()?,
        };
        Some((entry, location))
    })
}

impl Stamped {
    fn new(at: u32, key: &[u8], value: &[u8]) -> Self {
        Self {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            at,
        }
    }
}
