//! The `store:` section.

use std::path::PathBuf;
use std::time::Duration;

use super::problem::Problem;
use super::section::{Reader, Section};
use super::value::{duration, expects, size, text, truth};
use super::yaml::Node;
use crate::store::{DiskConfig, StoreConfig};

/// Reads `memory`, or a directory and how it is used.
pub(super) fn read_store(
    reader: &Reader<'_>,
    node: &Node,
    store: &mut StoreConfig,
    max_age: &mut Duration,
) {
    if node.is_scalar() {
        match text(reader, node) {
            Ok(word) if word == "memory" => *store = StoreConfig::Memory,
            _ => reader.report(expects(node, "memory, or {path: DIRECTORY}").about("store")),
        }
        return;
    }
    let mut section = Section::open(reader, "store", node);
    let mut disk = DiskConfig::new(PathBuf::new());
    let path = section.read("path", |reader, node| {
        let path = text(reader, node)?;
        if path.is_empty() {
            return Err(expects(node, "a directory"));
        }
        Ok(reader.directory.join(path))
    });
    let has_path = section.get("path").is_some();
    let sync = duration(Duration::ZERO..=Duration::from_secs(10));
    section.set("sync", &mut disk.sync, sync);
    section.set("max", &mut disk.max, |reader, node| {
        size(1 << 20..=1 << 30)(reader, node).map(|octets| octets as u64)
    });
    let day = Duration::from_secs(24 * 3600);
    section.set(
        "max_age",
        max_age,
        duration(Duration::from_secs(1)..=365 * day),
    );
    section.set("required", &mut disk.required, truth);
    section.finish();
    if let Some(path) = path {
        disk.path = path;
        *store = StoreConfig::Disk(disk);
    } else if !has_path {
        reader.report(Problem::new(
            node.place,
            "store: path is missing, the directory to keep records in",
        ));
    }
}
