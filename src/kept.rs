//! `mqtt-sn-gateway store`: what survives a restart, for people and backups.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use mqtt_sn_gateway::store::{self, DiskConfig, LineError, StoreConfig};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// List the records: age, size, key
    Ls,
    /// Write the records as JSON lines, also those of a damaged store, also while the gateway runs
    Export {
        /// Where to [without it: standard output]
        file: Option<PathBuf>,
    },
    /// Read JSON lines in, while the gateway does not run; records of the same keys are replaced
    Import {
        /// Where from [without it: standard input]
        file: Option<PathBuf>,
    },
}

/// Does something with the store of `path`, or with the one of the configuration.
pub(crate) fn run(command: StoreCommand, path: Option<PathBuf>, named: Option<&Path>) -> ExitCode {
    let disk = match path {
        Some(path) => DiskConfig::new(path),
        None => match crate::load(named).map(|(path, config)| (path, config.store)) {
            Ok((_, StoreConfig::Disk(disk))) => disk,
            Ok((path, StoreConfig::Memory)) => {
                let path = path.display();
                eprintln!("{path} has no store.path; name a directory by --path");
                return ExitCode::FAILURE;
            }
            Err(code) => return code,
        },
    };
    let done = match command {
        StoreCommand::Ls => store::list(&disk.path, &mut io::stdout().lock()),
        StoreCommand::Export { file } => export(&disk, file.as_deref()),
        StoreCommand::Import { file } => import(&disk, file.as_deref()),
    };
    match done {
        Ok(notes) if notes.is_empty() => ExitCode::SUCCESS,
        Ok(notes) => {
            for note in notes {
                eprintln!("{note}");
            }
            ExitCode::FAILURE
        }
        // A reader such as head has seen enough.
        Err(LineError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn export(disk: &DiskConfig, file: Option<&Path>) -> Result<Vec<String>, LineError> {
    let file = match file {
        Some(path) => Box::new(File::create(path)?) as Box<dyn Write>,
        None => Box::new(io::stdout().lock()),
    };
    let mut out = BufWriter::new(file);
    // What values mean, the core does not tell yet.
    let notes = store::export(&disk.path, |_| None, &mut out)?;
    out.flush()?;
    Ok(notes)
}

fn import(disk: &DiskConfig, file: Option<&Path>) -> Result<Vec<String>, LineError> {
    let mut input = match file {
        Some(path) => Box::new(BufReader::new(File::open(path)?)) as Box<dyn BufRead>,
        None => Box::new(io::stdin().lock()),
    };
    let count = store::import(&disk.path, disk.max, &mut input)?;
    eprintln!("{count} records read in");
    Ok(Vec::new())
}
