//! The `mqtt-sn` command: see the library of the same name.

use std::process::ExitCode;

use clap::Parser;
use mqtt_sn::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("mqtt-sn: {failure}");
            ExitCode::from(&failure)
        }
    }
}
