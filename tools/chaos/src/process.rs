//! The two programs that get killed.

use std::fs::File;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::clock::{now, sleep};

/// A program that is started again after each end; killed when dropped.
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Child,
}

impl Program {
    pub(crate) fn start(path: &Path, arguments: &[&str], log: PathBuf) -> io::Result<Self> {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let child = spawn(path, &arguments, &log)?;
        Ok(Self {
            path: path.to_owned(),
            arguments,
            log,
            child,
        })
    }

    /// Kills without a warning, as a power cut or the OOM killer would.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Asks to end, and waits for it; kills what does not end within ten seconds.
    pub(crate) fn terminate(&mut self) -> io::Result<()> {
        self.signal("TERM")?;
        let deadline = now() + Duration::from_secs(10);
        while self.child.try_wait()?.is_none() {
            if now() > deadline {
                return self.kill();
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Sends a signal, as kill(1) names it.
    pub(crate) fn signal(&self, name: &str) -> io::Result<()> {
        let pid = self.child.id().to_string();
        let mut kill = Command::new("kill");
        kill.args(["-s", name, &pid]).status().map(drop)
    }

    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.child = spawn(&self.path, &self.arguments, &self.log)?;
        Ok(())
    }

    /// Whether it has ended by itself, which it never should.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn spawn(path: &Path, arguments: &[String], log: &Path) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log).spawn()
}

pub(crate) fn free_tcp_port() -> io::Result<u16> {
    free_port(|port| TcpListener::bind(("127.0.0.1", port)).map(drop))
}

pub(crate) fn free_udp_port() -> io::Result<u16> {
    free_port(|port| UdpSocket::bind(("127.0.0.1", port)).map(drop))
}

/// Not one that the system gives to others while the program that wants it is dead.
fn free_port(bind: impl Fn(u16) -> io::Result<()>) -> io::Result<u16> {
    let mut last = Ok(());
    for _ in 0..100 {
        let port = fastrand::u16(10_000..32_000);
        last = bind(port);
        if last.is_ok() {
            return Ok(port);
        }
    }
    last.map(|()| 0)
}
