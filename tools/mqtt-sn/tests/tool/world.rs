//! A real gateway in front of a real Mosquitto, both on free ports, both gone when a test ends.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use mqtt_sn::broker::{Broker, Delivery};
use mqtt_sn::clock;
use mqtt_sn::net::{Fleet, Trace, Verbosity};
use mqtt_sn_gateway::config::load;
use mqtt_sn_gateway::daemon::{Daemon, Order};
use mqtt_sn_gateway::gateway::LinkId;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a port that another test took in between is tried anew.
const ATTEMPTS: u32 = 5;

pub(crate) struct World {
    pub(crate) broker: Mosquitto,
    orders: tokio::sync::mpsc::Sender<Order>,
    gateway: SocketAddr,
    thread: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl World {
    /// Starts both; `settings` are lines of gateway.yaml besides `broker` and `links`.
    pub(crate) fn start(settings: &str) -> Self {
        Self::with_link("", settings)
    }

    /// Starts both with another link besides UDP, as a comma and a mapping.
    pub(crate) fn with_link(link: &str, settings: &str) -> Self {
        let broker = Mosquitto::start();
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("gateway.yaml");
        let config = format!(
            "broker: {{url: \"{}\"}}\nlinks: [{{type: udp, listen: [\"127.0.0.1:0\"], retry: 1s, \
             qos_minus_one: {{allow: [any], topics: any}}}}{link}]\n{settings}\n",
            broker.url()
        );
        std::fs::write(&file, config).expect("a file");
        let (orders, inbox) = tokio::sync::mpsc::channel(1);
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || run_gateway(&file, &sender, inbox));
        let gateway = receiver.recv().expect("the gateway starts");
        Self {
            broker,
            orders,
            gateway,
            thread: Some(thread),
            _directory: directory,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.gateway.port()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.orders.blocking_send(Order::ShutDown);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run_gateway(
    file: &Path,
    started: &mpsc::Sender<SocketAddr>,
    orders: tokio::sync::mpsc::Receiver<Order>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let daemon = Daemon::bind(load(file).expect("a valid file")).expect("free ports");
        started
            .send(daemon.link_addresses(LinkId(0))[0])
            .expect("the test waits");
        daemon.run(orders).await;
    });
}

pub(crate) struct Mosquitto {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Mosquitto {
    fn start() -> Self {
        let tried = (0..ATTEMPTS).find_map(|_| Self::try_start());
        tried.expect("mosquitto runs on a free port")
    }

    fn try_start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0")
            .ok()?
            .local_addr()
            .ok()?
            .port();
        let directory = tempfile::tempdir().ok()?;
        let file = directory.path().join("mosquitto.conf");
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"
        );
        std::fs::write(&file, config).ok()?;
        let program = match Path::new("/usr/sbin/mosquitto").exists() {
            true => "/usr/sbin/mosquitto",
            false => "mosquitto",
        };
        let mut child = Command::new(program)
            .args(["-v", "-c"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut log = BufReader::new(child.stderr.take()?);
        let mosquitto = Self {
            child,
            port,
            _directory: directory,
        };
        let mut line = String::new();
        while log.read_line(&mut line).ok()? > 0 {
            if line.contains(" running") {
                std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
                return Some(mosquitto);
            }
            line.clear();
        }
        None
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Subscribes; the subscription stands when this returns.
    pub(crate) fn listener(&self, filter: &str) -> Listener {
        let trace = Trace::new(Verbosity::Silent, None);
        let fleet = Fleet::new(trace).expect("a loop");
        let broker = Broker::connect(&self.url(), "listener", &[filter], &fleet, 0);
        Listener {
            fleet,
            broker: broker.expect("a connection"),
            heard: Vec::new(),
        }
    }

    pub(crate) fn publish(&self, topic: &str, payload: &str, qos: &str) {
        let mut command = Command::new("mosquitto_pub");
        command.args([
            "-p",
            &self.port.to_string(),
            "-t",
            topic,
            "-m",
            payload,
            "-q",
            qos,
        ]);
        assert!(command.status().expect("mosquitto_pub").success());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An MQTT client at the broker.
pub(crate) struct Listener {
    fleet: Fleet,
    broker: Broker,
    heard: Vec<String>,
}

impl Listener {
    /// Waits for so many messages and returns them sorted, as `topic payload`.
    pub(crate) fn hears(mut self, count: usize) -> Vec<String> {
        let until = clock::now() + PATIENCE;
        while self.heard.len() < count {
            assert!(clock::now() < until, "only {:?}", self.heard);
            self.fleet.turn(Some(until)).expect("a turn");
            while self.fleet.next_happening().is_some() {}
            let heard = &mut self.heard;
            let hear = |message: Delivery| {
                let payload = String::from_utf8_lossy(&message.payload);
                heard.push(format!("{} {payload}", message.topic));
            };
            self.broker.serve(hear).expect("the broker stays");
        }
        self.heard.sort_unstable();
        self.heard
    }
}
