//! The log: a directory of segments that are only appended to, and where in them each record lies.
//!
//! Every change is an entry, every commit one frame; the last entry of a key counts. Records that still
//! count are carried from the oldest segment to the end bit by bit, in the frames of later commits, and
//! a segment without any is removed. Oldest first means that a deletion is never removed before what it
//! deletes. Knows nothing of threads and tickets.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Op;
use super::error::OpenError;
use super::frame::{self, Entry, Frame};
use super::replay::{self, Found};
use super::segment::{self, HEADER, Segment};

/// Name of the file that keeps a second process out.
const LOCK: &str = "lock";
/// Octets of the oldest segment looked at in a commit, besides eight for each octet written.
const CLEANING_STEP: usize = 64 * 1024;

/// How far a commit goes before it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// To the kernel: survives the process.
    Written,
    /// To the disk, as far as the disk keeps its word: survives the power.
    Synced,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) size: u32,
}

/// Records by key, and how much of each segment counts.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) records: BTreeMap<Box<[u8]>, Location>,
    /// Oldest first, ids without gaps.
    pub(super) segments: VecDeque<Segment>,
    /// Octets of entries that count.
    live: u64,
}

/// An open log; the only one on its directory.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    index: Index,
    /// The last segment.
    file: File,
    /// Whether the last segment ends where the index says. Not after a failed write.
    is_sound: bool,
    /// Whether something was written after the last sync.
    is_dirty: bool,
    max: u64,
    frame: Frame,
    cleaning: Option<Cleaning>,
    /// Makes the file of a new segment.
    create: fn(&Path, u32) -> io::Result<(Segment, File)>,
    _lock: File,
}

/// The oldest segment, on its way out.
#[derive(Debug)]
struct Cleaning {
    segment: u32,
    bytes: Vec<u8>,
    /// Everything before has been carried on.
    position: usize,
}

impl Log {
    /// Opens the log of a directory that may take `max` octets; makes it if it is not there. What was
    /// being written when the power failed is cut off; [`Found`] tells of it.
    pub(super) fn open(directory: &Path, max: u64) -> Result<(Self, Found), OpenError> {
        let io = |action| OpenError::io(action, directory);
        match fs::metadata(directory) {
            Ok(found) if !found.is_dir() => {
                return Err(OpenError::NotADirectory(directory.to_owned()));
            }
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(OpenError::NotADirectory(directory.to_owned()));
            }
            Ok(_) => {}
            Err(_) => fs::create_dir_all(directory).map_err(io("make the directory"))?,
        }
        let lock = lock(directory)?;
        let mut index = Index::default();
        let found = replay::replay(directory, &mut index)?;
        let (directory, path) = (directory.to_owned(), directory);
        let file = match index.segments.back() {
            Some(last) => {
                let path = segment::path(path, last.id);
                let file = OpenOptions::new().read(true).write(true).open(&path);
                file.map_err(OpenError::io("open for writing", &path))?
            }
            None => {
                let (first, file) = segment::create(path, 1).map_err(io("write to"))?;
                index.segments.push_back(first);
                file
            }
        };
        let log = Self {
            directory,
            index,
            file,
            is_sound: true,
            is_dirty: true,
            max,
            frame: Frame::default(),
            cleaning: None,
            create: segment::create,
            _lock: lock,
        };
        Ok((log, found))
    }

    /// Whether more than three quarters of the permitted size is taken by records that count.
    pub(super) fn is_full(&self) -> bool {
        self.index.live > self.max / 4 * 3
    }

    /// Whether there is clearly room again after the log was full.
    pub(super) fn has_room(&self) -> bool {
        self.index.live < self.max / 8 * 5
    }

    /// Returns the octets of all segments.
    fn size(&self) -> u64 {
        self.index.segments.iter().map(|one| one.length).sum()
    }

    /// Appends changes as one frame, all of them or none; `at` is now, in seconds since 1970. After an
    /// error nothing has changed, and the same commit can be tried again.
    pub(super) fn commit(&mut self, ops: &[Op], at: u32, to: Durability) -> io::Result<()> {
        self.prepare_file()?;
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        let octets: usize = ops.iter().map(Op::octets).sum();
        let reached = self.carry(&mut frame, CLEANING_STEP + 8 * octets)?;
        for op in ops {
            match op {
                Op::Put { key, value } => {
                    frame.push(Entry::Put { at, key, value });
                }
                Op::Delete { key } if self.index.records.contains_key(&key[..]) => {
                    frame.push(Entry::Delete { key });
                }
                // It may have been put by an op before this one.
                Op::Delete { key } if !frame.is_empty() => {
                    frame.push(Entry::Delete { key });
                }
                Op::Delete { .. } | Op::Commit(_) => {}
            }
        }
        let written = self.write(&mut frame, to);
        self.frame = frame;
        written?;
        if let (Some(cleaning), Some(reached)) = (&mut self.cleaning, reached) {
            cleaning.position = reached;
        }
        if to == Durability::Synced {
            self.remove_dead_segments();
        }
        Ok(())
    }

    /// Writes a frame, and takes its entries into the index.
    fn write(&mut self, frame: &mut Frame, to: Durability) -> io::Result<()> {
        let Some(last) = self.index.segments.back_mut() else {
            return Err(io::Error::other("no segment"));
        };
        let (id, start) = (last.id, last.length);
        let mut written = Ok(());
        if !frame.is_empty() {
            written = self.file.write_all_at(frame.seal(), start);
            self.is_dirty = true;
        }
        if to == Durability::Synced && self.is_dirty {
            written = written.and_then(|()| self.file.sync_data());
        }
        if let Err(error) = written {
            self.is_sound = false;
            // If this fails, too, the rest is found torn at the next start.
            let _ = self.file.set_len(start);
            return Err(error);
        }
        self.is_dirty &= to == Durability::Written;
        if !frame.is_empty() {
            let bytes = frame.seal();
            last.length += bytes.len() as u64;
            let offset = usize::try_from(start).unwrap_or(usize::MAX) + frame::HEADER;
            self.index.apply(id, offset, &bytes[frame::HEADER..]);
        }
        Ok(())
    }

    /// Starts a new segment when the last one is long enough, or not to be trusted any more.
    fn prepare_file(&mut self) -> io::Result<()> {
        let Some(last) = self.index.segments.back() else {
            return Err(io::Error::other("no segment"));
        };
        let is_empty = last.length <= HEADER as u64;
        if self.is_sound && (is_empty || last.length < self.segment_size()) {
            return Ok(());
        }
        if is_empty {
            self.file.set_len(HEADER as u64)?;
        } else {
            if self.is_sound && self.is_dirty {
                self.file.sync_data()?;
            }
            let (segment, file) = (self.create)(&self.directory, last.id + 1)?;
            self.index.segments.push_back(segment);
            self.file = file;
            self.is_dirty = false;
        }
        self.is_sound = true;
        Ok(())
    }

    fn segment_size(&self) -> u64 {
        (self.max / 32).clamp(4 * 1024, 4 * 1024 * 1024)
    }

    /// Whether so much of the log is waste that cleaning it up pays, or the bound asks for it.
    fn is_wasteful(&self) -> bool {
        let segment = self.segment_size();
        let comfortable = 2 * self.index.live + 4 * segment;
        self.size() > comfortable.min(self.max.saturating_sub(2 * segment))
    }

    /// Adds records of the oldest segment to a frame; returns how far it has come in that segment.
    fn carry(&mut self, frame: &mut Frame, budget: usize) -> io::Result<Option<usize>> {
        let Some(oldest) = self.index.segments.front() else {
            return Ok(None);
        };
        if self.index.segments.len() < 2 || oldest.live == 0 || !self.is_wasteful() {
            return Ok(None);
        }
        let (id, end) = (oldest.id, oldest.length);
        if self.cleaning.as_ref().is_none_or(|c| c.segment != id) {
            self.cleaning = Some(Cleaning {
                segment: id,
                bytes: fs::read(segment::path(&self.directory, id))?,
                position: HEADER,
            });
        }
        let Some(cleaning) = &self.cleaning else {
            return Ok(None);
        };
        let mut position = cleaning.position;
        let until = position.saturating_add(budget);
        while position < until {
            let bytes = cleaning.bytes.get(position..).unwrap_or_default();
            let Some(body) = frame::body(bytes) else {
                if (position as u64) < end {
                    let file = segment::path(&self.directory, id);
                    tracing::warn!(file = %file.display(), position, "store: cannot be read back");
                    // Said once; the file stays, an export gets out of it what can be got.
                    position = usize::MAX;
                }
                break;
            };
            let offset = position + frame::HEADER;
            for (entry, location) in replay::entries(id, offset, body) {
                if let Entry::Put { key, .. } = entry
                    && self.index.records.get(key) == Some(&location)
                {
                    frame.push(entry);
                }
            }
            position = offset + body.len();
        }
        Ok(Some(position))
    }

    /// Removes the oldest segments as long as nothing in them counts. Called after a sync, when what
    /// replaced their records is safe.
    fn remove_dead_segments(&mut self) {
        while let [oldest, _, ..] = self.index.segments.make_contiguous()
            && oldest.live == 0
        {
            // A younger one must not go first: its deletions would be forgotten before what they delete.
            match fs::remove_file(segment::path(&self.directory, oldest.id)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return,
                _ => {}
            }
            if segment::sync_directory(&self.directory).is_err() {
                return;
            }
            self.index.segments.pop_front();
            self.cleaning = None;
        }
    }
}

impl Index {
    /// Takes the entries of a frame's body in; `offset` is where the body starts in the segment.
    pub(super) fn apply(&mut self, segment: u32, offset: usize, body: &[u8]) {
        for (entry, location) in replay::entries(segment, offset, body) {
            let earlier = match entry {
                Entry::Put { key, .. } => {
                    self.count(location, i64::from(location.size));
                    match self.records.get_mut(key) {
                        Some(place) => Some(std::mem::replace(place, location)),
                        None => {
                            self.records.insert(key.into(), location);
                            None
                        }
                    }
                }
                Entry::Delete { key } => self.records.remove(key),
            };
            if let Some(earlier) = earlier {
                self.count(earlier, -i64::from(earlier.size));
            }
        }
    }

    fn count(&mut self, location: Location, octets: i64) {
        self.live = self.live.saturating_add_signed(octets);
        let first = self.segments.front().map_or(0, |oldest| oldest.id);
        let place = location.segment.wrapping_sub(first) as usize;
        if let Some(segment) = self.segments.get_mut(place) {
            segment.live = segment.live.saturating_add_signed(octets);
        }
    }
}

/// Takes the directory for this process, for as long as the file is open.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(OpenError::io("write to", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Whose it is only makes the message better.
            let _ = file.read_to_string(&mut pid);
            pid.retain(|c| c.is_ascii_digit());
            let path = directory.to_owned();
            return Err(OpenError::Locked { path, pid });
        }
        Err(fs::TryLockError::Error(error)) => {
            return Err(OpenError::io("lock", &path)(error));
        }
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(OpenError::io("write to", &path))?;
    Ok(file)
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
