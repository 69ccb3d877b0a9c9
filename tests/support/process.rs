//! Programs a test starts and ends itself: the gateway, and a Mosquitto of its own.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A child process whose standard error is read line by line; killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    _directory: TempDir,
}

impl Process {
    fn start(command: &mut Command, directory: TempDir) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env_remove("RUST_LOG")
            .env_remove("CARGO")
            .spawn()
            .expect("the program starts");
        let stderr = child.stderr.take().expect("a pipe");
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nobody listens any more when the test is over; the pipe is read on all the same.
                let _ = send.send(line);
            }
        });
        Self {
            child,
            lines,
            _directory: directory,
        }
    }

    /// Waits for a line that contains `text`; `None` if the process ends before.
    pub(crate) fn line(&self, text: &str) -> Option<String> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return Some(line),
                Ok(_) => {}
                Err(error) => {
                    assert!(
                        error == std::sync::mpsc::RecvTimeoutError::Disconnected,
                        "{text}"
                    );
                    return None;
                }
            }
        }
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, as kill(1) names it.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill starts").success());
    }

    /// Waits for the end; returns how it ended and what it still said.
    pub(crate) fn wait(&mut self) -> (ExitStatus, Vec<String>) {
        let mut said = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            said.push(line);
        }
        (self.child.wait().expect("it ends"), said)
    }

    /// Returns the resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect("kB")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    /// The first UDP address it listens on.
    pub(crate) address: SocketAddr,
}

impl Gateway {
    /// Starts the gateway with a configuration whose first link is UDP.
    pub(crate) fn start(yaml: &str) -> Self {
        Self::listening(Self::spawn(yaml))
    }

    /// Starts the gateway with a configuration file the test may change.
    pub(crate) fn at(file: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self::listening(Process::start(Self::command().arg(file), directory))
    }

    /// Starts the gateway by a command of the test's own.
    pub(crate) fn by(command: &mut Command) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self::listening(Process::start(command, directory))
    }

    fn listening(process: Process) -> Self {
        let listening = process.line("listening on UDP ").expect("it starts");
        let (_, addresses) = listening
            .split_once("listening on UDP ")
            .expect("addresses");
        let first = addresses.split(", ").next().expect("one");
        let address = first.parse().expect("an address");
        Self { process, address }
    }

    /// Starts the gateway on a free UDP port in front of a Mosquitto.
    pub(crate) fn before(mosquitto: &Mosquitto) -> Self {
        Self::start(&format!(
            "broker: {{url: 'mqtt://127.0.0.1:{}'}}\n\
             links: [{{type: udp, listen: ['127.0.0.1:0']}}]\n\
             topics: {{predefined: {{'*': {{2: predef/two}}}}}}\n",
            mosquitto.port
        ))
    }

    /// Starts the gateway and does not wait for anything.
    pub(crate) fn spawn(yaml: &str) -> Process {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("gateway.yaml");
        // Tests run side by side: only those that ask for it have an HTTP port, and only those see
        // topics of the gateway itself.
        let off = |key: &str| {
            if yaml.contains(key) {
                String::new()
            } else {
                format!("{key} off\n")
            }
        };
        let text = format!("{yaml}{}{}", off("http:"), off("management:"));
        std::fs::write(&file, text).expect("written");
        Process::start(Self::command().arg(file), directory)
    }

    /// Runs a command of the gateway in a directory, to its end.
    pub(crate) fn run(directory: &Path, arguments: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-sn-gateway"));
        command.current_dir(directory).args(arguments);
        let output = command.output().expect("it starts");
        assert!(output.status.success(), "{output:?}");
    }

    fn command() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-sn-gateway"));
        command.arg("--config");
        command
    }
}

/// A running Mosquitto.
pub(crate) struct Mosquitto {
    pub(crate) process: Process,
    pub(crate) port: u16,
}

impl Mosquitto {
    /// Starts a broker that lets everybody in, on a free port.
    pub(crate) fn start() -> Self {
        Self::with("allow_anonymous true")
    }

    /// Starts a broker with further lines of configuration, on a free port.
    pub(crate) fn with(lines: &str) -> Self {
        // Another process may take the port between its release and Mosquitto's start.
        let mut attempts = (0..10).filter_map(|_| Self::at(free_port(), lines));
        attempts.next().expect("Mosquitto starts")
    }

    /// Starts a broker on a given port; `None` if the port is taken.
    pub(crate) fn at(port: u16, lines: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\npersistence false\nlog_dest stderr\n\
             max_inflight_messages 0\nmax_queued_messages 0\n{lines}\n"
        );
        std::fs::write(&file, text).expect("written");
        let path = "/usr/sbin/mosquitto";
        let process = Process::start(Command::new(path).arg("-c").arg(file), directory);
        process.line(" running")?;
        Some(Self { process, port })
    }
}

/// Returns a TCP port nobody uses at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}
