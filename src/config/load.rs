//! Finding the file and getting its text.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::read::parse;
use super::{Config, ConfigError};

/// Where a configuration is looked for when none is named, in this order.
pub const SEARCHED: [&str; 2] = ["gateway.yaml", "/etc/mqtt-sn-gateway/gateway.yaml"];

/// Largest file read, in octets.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No file was named and none is where they are looked for.
    #[error(
        "no configuration found: looked for ./{} and {}\n\
         Name one with --config FILE, or start from the gateway.yaml that comes with the source. \
         The smallest one is a line:\n\
         broker: {{url: \"mqtt://localhost:1883\"}}",
        SEARCHED[0],
        SEARCHED[1]
    )]
    NotFound,
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is too large to be one.
    #[error("{} is larger than {} MiB, that is no configuration", path.display(), FILE_MAX >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not text.
    #[error("{}:{line} is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// First line with a wrong octet, from 1.
        line: usize,
    },
    /// The file has mistakes.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
}

/// Returns the file named, or the first of [`SEARCHED`] that exists.
pub fn locate(named: Option<&Path>) -> Result<PathBuf, LoadError> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None => SEARCHED
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .ok_or(LoadError::NotFound),
    }
}

/// Reads and checks a configuration file.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let unreadable = |source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut octets = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_MAX + 1)
        .read_to_end(&mut octets)
        .map_err(unreadable)?;
    if octets.len() as u64 > FILE_MAX {
        return Err(LoadError::TooLarge {
            path: path.to_owned(),
        });
    }
    let text = String::from_utf8(octets).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let newlines = error.as_bytes()[..valid].iter().filter(|&&o| o == b'\n');
        LoadError::NotText {
            path: path.to_owned(),
            line: 1 + newlines.count(),
        }
    })?;
    let environment = |name: &str| std::env::var(name).ok();
    Ok(parse(path, &text, &environment)?)
}
