//! The command line of the gateway.

mod cli;
mod kept;
mod ports;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use kept::StoreCommand;
use mqtt_sn_gateway::api::{HttpConfig, Reload, Server, Surroundings};
use mqtt_sn_gateway::config::{self, Config};
use mqtt_sn_gateway::daemon::{Daemon, Order, StartError};
use mqtt_sn_gateway::links::serial::probe::{SPEEDS, probe as serial_probe};
use mqtt_sn_gateway::logging::{self, LogHandle};
use mqtt_sn_gateway::management::{Management, Neighbours};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// MQTT-SN 1.2 gateway: sensor nodes over UDP and serial radio dongles to any MQTT broker.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file [without it: ./gateway.yaml, then /etc/mqtt-sn-gateway/gateway.yaml]
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway; this is what happens without a command, too
    Run,
    #[command(flatten)]
    View(cli::ViewCommand),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write man pages
    #[command(hide = true)]
    Man {
        /// Where to
        directory: PathBuf,
    },
    /// Read a configuration, say what was understood or what is wrong with it, and end
    Check {
        /// The same as --config
        file: Option<PathBuf>,
    },
    /// List the serial devices: stable paths, chips, who uses them, what they may be
    Ports,
    /// Find out what is at a serial device, and print the lines for gateway.yaml
    Probe {
        /// The device, such as /dev/serial/by-id/usb-FTDI_...
        device: PathBuf,
        /// Only this speed, instead of all usual ones
        #[arg(short, long, value_name = "BAUD")]
        baud: Option<u32>,
        /// Seconds to listen where something is heard
        #[arg(short, long, value_name = "SECONDS", default_value_t = 5)]
        listen: u64,
    },
    /// Look into what survives a restart, write it out, read it in
    Store {
        #[command(subcommand)]
        command: StoreCommand,
        /// Its directory [without it: store.path of the configuration]
        #[arg(long, value_name = "DIRECTORY", global = true)]
        path: Option<PathBuf>,
    },
}

const AFTER_HELP: &str = "\
Signals: Ctrl-C and SIGTERM say goodbye to every node and end the gateway. SIGHUP reads the \
configuration again: pre-defined topics, allow-lists and the log level change at once, the rest at \
the next start.

Exit codes: 0 ended as it was told, or the configuration is good; 1 it could not start; 2 wrong \
command line; 78 no configuration, or one with mistakes.

The environment variable RUST_LOG overrides log.level of the configuration.";

/// Exit code for a bad configuration: `EX_CONFIG` of sysexits.h, which a supervisor can tell from a
/// failure that another start may cure.
const BAD_CONFIGURATION: u8 = 78;

/// Signals, questions and changes on their way to the daemon.
const ORDERS_MAX: usize = 64;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::View(command)) => cli::run(command, arguments.config.as_deref()),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, env!("CARGO_PKG_NAME"), &mut script);
            print(&String::from_utf8_lossy(&script));
            ExitCode::SUCCESS
        }
        Some(Command::Man { directory }) => man(&directory),
        None | Some(Command::Run) => run(arguments.config.as_deref()),
        Some(Command::Check { file }) => check(file.or(arguments.config).as_deref()),
        Some(Command::Store { command, path }) => {
            kept::run(command, path, arguments.config.as_deref())
        }
        Some(Command::Ports) => {
            print(&ports::table());
            ExitCode::SUCCESS
        }
        Some(Command::Probe {
            device,
            baud,
            listen,
        }) => probe(&device, baud, listen),
    }
}

/// Runs the gateway until a signal ends it.
fn run(named: Option<&Path>) -> ExitCode {
    let (path, config) = match load(named) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let log = logging::start(&config.log);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime.map_err(StartError::from).and_then(|runtime| {
        let ended = runtime.block_on(serve(&path, config, log));
        // A thread may hang in the open() of a serial device.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(path: &Path, config: Config, log: LogHandle) -> Result<(), StartError> {
    let signals = Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        hang_up: signal(SignalKind::hangup())?,
    };
    let (orders, received) = mpsc::channel(ORDERS_MAX);
    let http = config.http.as_ref().and_then(bind_http);
    let kept = Arc::new(config.clone());
    let daemon = Daemon::bind(config)?;
    daemon.announce();
    let reload = Reload {
        path: path.to_owned(),
        log,
        orders: orders.clone(),
    };
    if let Some(server) = http {
        let (host, port) = daemon.broker_address();
        let surroundings = Surroundings {
            config: kept.clone(),
            broker: format!("{host} port {port}"),
            orders: orders.clone(),
            reload: reload.clone(),
        };
        tracing::info!(
            "http: the page and the API are at http://{}/",
            server.address()?
        );
        server.start(surroundings)?;
    }
    let management = kept.management.as_ref().map(|config| {
        let (host, port) = daemon.broker_address();
        let neighbours = Neighbours {
            config: kept.clone(),
            broker: (host.to_owned(), port),
            orders: orders.clone(),
            log: reload.log.clone(),
        };
        Management::start(config, neighbours)
    });
    let management = management.transpose()?;
    let end = async {
        signals.wait(&reload).await;
        // The broker hears it before the one in this process ends.
        if let Some(management) = management {
            management.stop().await;
        }
        let _ = orders.send(Order::ShutDown).await;
    };
    tokio::join!(daemon.run(received), end);
    Ok(())
}

/// Binds the HTTP address. A gateway that cannot be looked at is better than none.
fn bind_http(config: &HttpConfig) -> Option<Server> {
    match Server::bind(config) {
        Ok(server) => Some(server),
        Err(error) => {
            let address = config.listen;
            tracing::warn!(
                "http: cannot listen on {address}: {error}; going on without the page and the API. \
                 Set http.listen to another port, or http: off"
            );
            None
        }
    }
}

/// What the system tells the gateway.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Waits until the gateway shall end; meanwhile reads the configuration again when told to.
    async fn wait(mut self, reload: &Reload) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => break,
                _ = self.terminate.recv() => break,
                _ = self.hang_up.recv() => {
                    // The log says what was wrong.
                    let _ = reload.run().await;
                }
            }
        }
    }
}

/// Writes a man page for the program and each command.
fn man(directory: &Path) -> ExitCode {
    match clap_mangen::generate_to(Arguments::command(), directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write to {}: {error}", directory.display());
            ExitCode::FAILURE
        }
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

/// Looks for a dongle at a port and says what was found.
fn probe(device: &Path, baud: Option<u32>, listen: u64) -> ExitCode {
    let speeds = baud.map_or_else(|| SPEEDS.to_vec(), |baud| vec![baud]);
    let patience = Duration::from_secs(listen.clamp(1, 3600));
    let tell = |baud| eprintln!("trying {baud} baud ...");
    match serial_probe(device, &speeds, patience, tell) {
        Ok(Some(finding)) => {
            print(&format!("{finding}\n"));
            match finding.yaml(device) {
                Some(yaml) => {
                    print(&format!("Put this into gateway.yaml:\n\n{yaml}"));
                    ExitCode::SUCCESS
                }
                None => ExitCode::FAILURE,
            }
        }
        Ok(None) => {
            eprintln!(
                "{}: nothing heard at any speed. Let the node speak (press its reset button), or listen \
                 longer: --listen 60",
                device.display()
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            // The gateway waits for a device, this command does not.
            eprintln!("{}", error.to_string().replacen("; waiting.", ".", 1));
            ExitCode::FAILURE
        }
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
