//! The command line of the gateway.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mqtt_sn_gateway::config::{self, Config};

/// MQTT-SN 1.2 gateway: sensor nodes over UDP and serial radio dongles to any MQTT broker.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read a configuration, say what was understood or what is wrong with it, and end
    Check {
        /// Configuration file [without it: ./gateway.yaml, then /etc/mqtt-sn-gateway/gateway.yaml]
        file: Option<PathBuf>,
    },
}

const EXIT_CODES: &str = "\
Exit codes: 0 the configuration is good; 2 wrong command line; 78 no configuration, or one with \
mistakes.";

/// Exit code for a bad configuration: `EX_CONFIG` of sysexits.h, which a supervisor can tell from a
/// failure that another start may cure.
const BAD_CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Check { file } => check(file.as_deref()),
    }
}

fn check(named: Option<&Path>) -> ExitCode {
    match load(named) {
        Ok((path, config)) => {
            print(&format!("{} is good\n{config}\n", path.display()));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// Finds and reads the configuration; says what is wrong, if anything is.
fn load(named: Option<&Path>) -> Result<(PathBuf, Config), ExitCode> {
    let found = config::locate(named).and_then(|path| {
        let config = config::load(&path)?;
        Ok((path, config))
    });
    found.map_err(|error| {
        eprintln!("{error}");
        ExitCode::from(BAD_CONFIGURATION)
    })
}

/// Writes to standard output; a reader that has gone away is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
