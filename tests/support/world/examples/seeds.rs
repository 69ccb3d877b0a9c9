//! Runs fleets of seeds, or the exchanges with a fault at every step, and shows what broke a rule:
//! `cargo run --release -p mqtt-sn-world --example seeds -- 0..500`, or `-- faults`.

use std::io::{self, Write};
use std::process::ExitCode;

use mqtt_sn_gateway::gateway::Mode;
use mqtt_sn_world::{Fault, Report, Transcript, run_exchanges, run_seed};

/// Of one client, unless `WHOLE` is set.
const LINES: usize = 6000;

fn main() -> io::Result<ExitCode> {
    let what = std::env::args().nth(1).unwrap_or_else(|| "0..100".into());
    if what == "faults" {
        return faults();
    }
    let (from, to) = what.split_once("..").unwrap_or((&what, &what));
    let (Ok(from), Ok(to)) = (from.parse::<u64>(), to.parse::<u64>()) else {
        writeln!(io::stderr(), "say which seeds: 0..500")?;
        return Ok(ExitCode::from(2));
    };
    let mut broken = 0;
    for seed in from..to.max(from + 1) {
        broken += u32::from(!shows(&format!("seed {seed}"), |transcript| {
            run_seed(seed, transcript)
        })?);
    }
    writeln!(io::stdout(), "{broken} seeds broke a rule")?;
    Ok(ExitCode::from(u8::from(broken > 0)))
}

fn faults() -> io::Result<ExitCode> {
    let (mut broken, mut runs) = (0, 0);
    for mode in [Mode::PerNode, Mode::Shared] {
        let (_, steps) = run_exchanges(1, mode, None, Transcript::silent());
        for fault in Fault::ALL {
            for step in 1..=steps {
                runs += 1;
                broken += u32::from(!shows(
                    &format!("{fault:?} at step {step}, {mode:?}"),
                    |transcript| run_exchanges(1, mode, Some((step, fault)), transcript).0,
                )?);
            }
        }
    }
    writeln!(io::stdout(), "{broken} of {runs} runs broke a rule")?;
    Ok(ExitCode::from(u8::from(broken > 0)))
}

/// Runs silently, and again with a transcript if a rule is broken.
fn shows(name: &str, run: impl Fn(Transcript) -> Report) -> io::Result<bool> {
    let Err(violation) = run(Transcript::silent()).outcome else {
        return Ok(true);
    };
    let mut out = io::stdout().lock();
    if std::env::var_os("QUIET").is_none() {
        let transcript = run(Transcript::recording()).transcript;
        let whole = std::env::var_os("WHOLE").is_some();
        let client = violation.client.as_deref().filter(|_| !whole);
        let lines = if whole { usize::MAX } else { LINES };
        write!(out, "{}", transcript.tail(client, lines))?;
    }
    writeln!(out, "{name}: {violation}")?;
    Ok(false)
}
