//! The log against a map: through restarts, clean-ups, tears and a full disk.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const MAX: u64 = 256 * 1024;

type Model = BTreeMap<Bytes, Bytes>;

#[test]
fn what_was_put_is_there_after_a_restart() {
    let directory = memory_directory();
    let path = directory.path().join("deep/store");
    let (mut log, found) = Log::open(&path, MAX).expect("opens");
    assert!(found.records.is_empty() && found.notes.is_empty());
    let ops = [put("a", "1"), put("b", "2"), put("a", "3"), delete("b")];
    log.commit(&ops, 1000, Durability::Synced).expect("written");
    let again = [put("c", ""), put("d", "4"), delete("d"), delete("never")];
    log.commit(&again, 2000, Durability::Written)
        .expect("written");
    drop(log);
    let (_log, found) = Log::open(&path, MAX).expect("opens");
    let records: Vec<_> = found.records.iter().map(|r| (&r.key[..], r.at)).collect();
    assert_eq!(records, [(&b"a"[..], 1000), (b"c", 2000)]);
    assert_eq!(found.records[0].value, "3");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Small segments, so that records are carried on and segments removed all the time.
    #[test]
    fn a_log_is_a_map(
        commits in proptest::collection::vec(
            (proptest::collection::vec((0_u8..30, 0_usize..1500, any::<bool>()), 0..12), 0_u8..10),
            1..120,
        )
    ) {
        let directory = memory_directory();
        let max = 64 * 1024;
        let mut log = Log::open(directory.path(), max).expect("opens").0;
        let mut model = Model::new();
        for (changes, what) in commits {
            let ops: Vec<Op> = changes.iter().map(|(key, length, is_put)| match is_put {
                true => put(&format!("key{key}"), &"v".repeat(*length)),
                false => delete(&format!("key{key}")),
            }).collect();
            apply(&mut model, &ops);
            let durability = if what < 5 { Durability::Synced } else { Durability::Written };
            log.commit(&ops, 1, durability).expect("written");
            if what == 0 {
                drop(log);
                let (opened, found) = Log::open(directory.path(), max).expect("opens");
                prop_assert_eq!(&contents(&found), &model);
                prop_assert!(found.notes.is_empty(), "{:?}", found.notes);
                log = opened;
            }
        }
        let salvaged = replay::salvage(directory.path()).expect("readable");
        prop_assert_eq!(contents(&salvaged), model);
    }
}

/// Records that stay, and many more that pass through, as sessions and messages do.
#[test]
fn the_size_is_bounded_whatever_passes_through() {
    let directory = memory_directory();
    let mut log = Log::open(directory.path(), MAX).expect("opens").0;
    let mut model = Model::new();
    let mut largest = 0;
    for round in 0..3000 {
        let mut ops = vec![put(&format!("message/{round:08}"), &"m".repeat(900))];
        if round < 150 {
            ops.push(put(&format!("session/{round}"), &"s".repeat(900)));
        } else {
            ops.push(delete(&format!("message/{:08}", round - 20)));
        }
        if round < 20 {
            ops.remove(0);
        }
        apply(&mut model, &ops);
        log.commit(&ops, 1, Durability::Synced).expect("written");
        let files = segment::list(directory.path()).expect("listed");
        let size: u64 = files
            .iter()
            .map(|id| fs::metadata(segment::path(directory.path(), *id)).expect("there"))
            .map(|file| file.len())
            .sum();
        assert_eq!(size, log.size());
        largest = largest.max(size);
    }
    assert!(largest <= MAX + 16 * 1024, "{largest} octets");
    drop(log);
    let (log, found) = Log::open(directory.path(), MAX).expect("opens");
    assert_eq!(contents(&found), model);
    assert_eq!(log.is_full(), log.index.live > MAX / 4 * 3);
}

#[test]
fn full_and_room_again_have_a_gap_between_them() {
    let directory = memory_directory();
    let mut log = Log::open(directory.path(), MAX).expect("opens").0;
    let value = "v".repeat(10_000);
    let mut count = 0;
    while !log.is_full() {
        log.commit(&[put(&format!("{count}"), &value)], 1, Durability::Written)
            .expect("written");
        count += 1;
    }
    assert!((19..=20).contains(&count), "{count}");
    assert!(!log.has_room());
    for gone in 0..5 {
        log.commit(&[delete(&format!("{gone}"))], 1, Durability::Written)
            .expect("written");
    }
    assert!(!log.is_full() && log.has_room());
}

/// The kernel itself refuses: new segments are /dev/full.
#[test]
fn a_full_disk_changes_nothing_and_is_left_behind() {
    static IS_FULL: AtomicBool = AtomicBool::new(false);
    fn create(directory: &Path, id: u32) -> io::Result<(Segment, File)> {
        if IS_FULL.load(Ordering::Relaxed) {
            File::create("/dev/full")?.write_all(b"?")?;
        }
        segment::create(directory, id)
    }
    let directory = memory_directory();
    let mut log = Log::open(directory.path(), MAX).expect("opens").0;
    log.create = create;
    let mut model = Model::new();
    let mut refused = 0;
    for round in 0..200 {
        IS_FULL.store(round % 10 < 3, Ordering::Relaxed);
        let ops = [put(&format!("{}", round % 40), &"v".repeat(3000))];
        match log.commit(&ops, 1, Durability::Synced) {
            Ok(()) => apply(&mut model, &ops),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull);
                refused += 1;
            }
        }
    }
    assert!(refused > 20, "{refused}");
    drop(log);
    let (_log, found) = Log::open(directory.path(), MAX).expect("opens");
    assert_eq!(contents(&found), model);
}

/// A write that fails half-way: the last segment itself has become /dev/full.
#[test]
fn a_write_that_fails_goes_to_a_new_segment() {
    let directory = memory_directory();
    let mut log = Log::open(directory.path(), MAX).expect("opens").0;
    log.commit(&[put("a", "1")], 1, Durability::Synced)
        .expect("written");
    let full = OpenOptions::new().write(true).open("/dev/full");
    log.file = full.expect("/dev/full");
    let ops = [put("b", "2"), delete("a")];
    let error = log.commit(&ops, 1, Durability::Synced).expect_err("full");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    log.commit(&ops, 1, Durability::Synced).expect("written");
    assert_eq!(log.index.segments.len(), 1, "the first one is dead");
    drop(log);
    let (_log, found) = Log::open(directory.path(), MAX).expect("opens");
    assert_eq!(contents(&found), Model::from([("b".into(), "2".into())]));
}

/// Every cut, a zeroed stretch and a flipped bit at every place of the last frames: the log opens to
/// what was safe before, nothing half, and takes new records.
#[test]
fn a_torn_end_opens_to_a_clean_prefix() {
    let Written {
        image,
        states,
        file,
    } = written();
    let start = states[states.len() - 8].0;
    let mut damaged = 0;
    for at in start..image.len() {
        let mut whole = states.iter().filter(|(end, _)| *end <= at);
        let expected = &whole.next_back().expect("some are whole").1;
        let cut = image[..at].to_vec();
        let mut zeroed = image.clone();
        let until = image.len().min(at + 512);
        zeroed[at..until].fill(0);
        let mut lost_page = image.clone();
        lost_page.truncate(until);
        lost_page[at..].fill(0);
        let mut flipped = image.clone();
        flipped[at] ^= 1 << (at % 8);
        for torn in [cut, zeroed, lost_page, flipped] {
            if torn == image {
                continue;
            }
            damaged += 1;
            let directory = memory_directory();
            fs::write(directory.path().join(&file), torn).expect("written");
            let (mut log, found) = Log::open(directory.path(), MAX).expect("opens");
            assert_eq!(&contents(&found), expected, "at {at}");
            let ops = [put("new", "record")];
            log.commit(&ops, 1, Durability::Written).expect("written");
            drop(log);
            let mut model = expected.clone();
            apply(&mut model, &ops);
            let (_log, found) = Log::open(directory.path(), MAX).expect("opens");
            assert_eq!(contents(&found), model, "at {at}");
            assert!(found.notes.is_empty(), "{:?}", found.notes);
        }
    }
    assert!(damaged > 3000, "{damaged}");
}

#[test]
fn damage_before_good_records_is_kept_aside() {
    let Written {
        mut image,
        states,
        file,
    } = written();
    let (at, before) = &states[5];
    image[at + 20] ^= 1;
    let directory = memory_directory();
    let path = directory.path().join(file);
    fs::write(&path, &image).expect("written");
    let salvaged = replay::salvage(directory.path()).expect("readable");
    assert_eq!(salvaged.notes.len(), 1, "{:?}", salvaged.notes);
    assert!(contents(&salvaged).len() >= before.len());
    let (_log, found) = Log::open(directory.path(), MAX).expect("opens");
    assert_eq!(&contents(&found), before);
    assert!(found.notes[0].contains("the whole file is kept as"));
    let aside = fs::read(path.with_extension("damaged")).expect("kept");
    assert_eq!(aside, image);
}

#[test]
fn damage_in_an_old_segment_is_no_reason_to_go_back_in_time() {
    let directory = memory_directory();
    let mut log = Log::open(directory.path(), MAX).expect("opens").0;
    for round in 0..100 {
        log.commit(
            &[put(&format!("{round}"), &"v".repeat(500))],
            1,
            Durability::Written,
        )
        .expect("written");
    }
    drop(log);
    let ids = segment::list(directory.path()).expect("listed");
    assert!(ids.len() > 3, "{ids:?}");
    let file = segment::path(directory.path(), ids[1]);
    let mut bytes = fs::read(&file).expect("read");
    bytes[100] ^= 1;
    fs::write(&file, bytes).expect("written");
    let error = Log::open(directory.path(), MAX).expect_err("damaged");
    let message = error.to_string();
    assert!(message.contains("is damaged at octet 12"), "{message}");
    assert!(message.contains("store export"), "{message}");
    let salvaged = replay::salvage(directory.path()).expect("readable");
    assert_eq!((salvaged.records.len(), salvaged.notes.len()), (99, 1));
    fs::remove_file(file).expect("removed");
    let error = Log::open(directory.path(), MAX).expect_err("a gap");
    assert!(error.to_string().contains("is missing"), "{error}");
}

#[test]
fn files_of_another_format_are_left_alone() {
    let directory = memory_directory();
    let file = segment::path(directory.path(), 1);
    drop(Log::open(directory.path(), MAX).expect("opens"));
    let mut bytes = fs::read(&file).expect("read");
    bytes[8] = 0;
    fs::write(&file, &bytes).expect("written");
    let error = Log::open(directory.path(), MAX).expect_err("another format");
    let message = error.to_string();
    assert!(
        message.contains("has format 0, this version reads format 1"),
        "{message}"
    );
    bytes[0] = b'?';
    fs::write(&file, &bytes).expect("written");
    let error = Log::open(directory.path(), MAX).expect_err("no segment");
    assert!(
        error.to_string().contains("is no file of the store"),
        "{error}"
    );
    assert_eq!(fs::read(&file).expect("read"), bytes);
    // The power failed while the file was made.
    for length in [0, 5, 11] {
        fs::write(&file, vec![0; length]).expect("written");
        drop(Log::open(directory.path(), MAX).expect("opens"));
    }
}

#[test]
fn a_directory_has_one_log() {
    let directory = memory_directory();
    let log = Log::open(directory.path(), MAX).expect("opens").0;
    let error = Log::open(directory.path(), MAX).expect_err("locked");
    let pid = format!("(pid {})", std::process::id());
    assert!(error.to_string().contains(&pid), "{error}");
    drop(log);
    Log::open(directory.path(), MAX).expect("free again");
}

#[test]
fn a_file_is_no_directory() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    for path in [file.path().to_owned(), file.path().join("below")] {
        let error = Log::open(&path, MAX).expect_err("a file");
        assert!(matches!(error, OpenError::NotADirectory(_)), "{error}");
    }
}

/// A directory on which a sync costs nothing, where there is one.
fn memory_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

/// One segment, its octets, and what it held after each commit.
struct Written {
    image: Vec<u8>,
    states: Vec<(usize, Model)>,
    file: String,
}

fn written() -> Written {
    let directory = memory_directory();
    let mut log = Log::open(directory.path(), MAX).expect("opens").0;
    let file = segment::path(directory.path(), 1);
    let mut model = Model::new();
    let mut states = vec![(HEADER, Model::new())];
    for round in 0..40 {
        let mut ops = vec![put(&format!("key{}", round % 7), &"v".repeat(round * 3))];
        if round % 3 == 0 {
            ops.push(delete(&format!("key{}", (round + 3) % 7)));
            ops.push(put("often", &round.to_string()));
        }
        apply(&mut model, &ops);
        log.commit(&ops, 1, Durability::Written).expect("written");
        let end = fs::metadata(&file).expect("there").len() as usize;
        states.push((end, model.clone()));
    }
    let image = fs::read(&file).expect("read");
    assert_eq!(states.last().map(|(end, _)| *end), Some(image.len()));
    let file = file.file_name().expect("a name").to_string_lossy().into();
    Written {
        image,
        states,
        file,
    }
}

fn put(key: &str, value: &str) -> Op {
    Op::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn delete(key: &str) -> Op {
    Op::Delete {
        key: Bytes::copy_from_slice(key.as_bytes()),
    }
}

fn apply(model: &mut Model, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Put { key, value } => {
                model.insert(key.clone(), value.clone());
            }
            Op::Delete { key } => {
                model.remove(key);
            }
            Op::Commit(_) => {}
        }
    }
}

fn contents(found: &Found) -> Model {
    let records = found.records.iter();
    records
        .map(|record| (record.key.clone(), record.value.clone()))
        .collect()
}
