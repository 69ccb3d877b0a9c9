//! Why a store cannot be used: what happened, where, and what to do.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::segment::VERSION;

/// A store on disk cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "store: {} is in use by another process{}; two gateways cannot share one: stop the other, or \
         give this one a store.path of its own",
        path.display(),
        owner(pid)
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Process id, as the other wrote it down.
        pid: String,
    },
    /// There is something else of that name.
    #[error("store: {} is not a directory; name one in store.path, it is made if need be", .0.display())]
    NotADirectory(PathBuf),
    /// The system refuses.
    #[error("store: cannot {action} {}: {error}{}", path.display(), advice(error))]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file was written by another version of the gateway.
    #[error(
        "store: {} has format {found}, this version reads format {VERSION}; write it out with the \
         version that made it (mqtt-sn-gateway store export FILE), move the directory away, and \
         read FILE in with this one (mqtt-sn-gateway store import FILE)",
        file.display()
    )]
    Format {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u16,
    },
    /// A file does not start as the store's files do.
    #[error(
        "store: {} is no file of the store; move it away if it is not yours to keep, or name another \
         directory in store.path",
        .0.display()
    )]
    Foreign(PathBuf),
    /// Records in the middle of the log cannot be read. Going back to the time before them would
    /// bring back what was done with long ago.
    #[error(
        "store: {} is damaged at octet {offset}, and good records follow; write out what is good \
         (mqtt-sn-gateway store export FILE), move the directory away, and read FILE in again \
         (mqtt-sn-gateway store import FILE)",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the damage starts.
        offset: u64,
    },
    /// A file in the middle of the log is not there.
    #[error(
        "store: {} is missing, though later files are there; put it back, or write out what is left \
         (mqtt-sn-gateway store export FILE), move the directory away, and read FILE in again \
         (mqtt-sn-gateway store import FILE)",
        .0.display()
    )]
    Missing(PathBuf),
}

impl OpenError {
    /// Says what was tried with what when the system refused.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io {
            action,
            path: path.to_owned(),
            error,
        }
    }
}

fn owner(pid: &str) -> String {
    match pid {
        "" => String::new(),
        pid => format!(" (pid {pid})"),
    }
}

/// Says what to do about an error of the system.
pub(super) fn advice(error: &io::Error) -> &'static str {
    if let ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem = error.kind() {
        "; let the user of this process write there, or name another directory in store.path"
    } else if let ErrorKind::StorageFull | ErrorKind::QuotaExceeded = error.kind() {
        "; make room on that disk, or name a directory on another one in store.path"
    } else {
        ""
    }
}
